"""The single-file PPO of the documentation: fifteen lines are telemetry, and they change nothing."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from esper.leyline import (
    BatchEpochCompletedPayload,
    InvalidRecord,
    PPOUpdatePayload,
    TelemetryEvent,
    TrainingStartedPayload,
    read_events,
)
from esper.simic.determinism import one_thread

PAGE = Path(__file__).parents[2] / "docs" / "cleanrl.md"
P = TypeVar("P")


def scripts(env_id: str) -> tuple[list[str], list[str]]:
    """Return the page's script for an environment, with telemetry and without."""
    found = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found
    lines = found.group(1).replace("CartPole-v1", env_id).splitlines()
    return lines, [line for line in lines if "  # +" not in line]


def execute(lines: list[str]) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "script"}
    with one_thread():
        exec(compile("\n".join(lines), str(PAGE), "exec", dont_inherit=True), names)
    return names


def of(events: list[TelemetryEvent], kind: type[P]) -> list[P]:
    return [event.data for event in events if isinstance(event.data, kind)]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_at_most_fifteen_lines_record_every_update_and_the_weights_are_the_same_without_them(
    env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with_telemetry, plain = scripts(env_id)
    assert 0 < len(with_telemetry) - len(plain) <= 15
    assert not any(word in line for line in plain for word in ("esper", "recorder", "run.emit"))

    without = execute(plain)
    assert not (tmp_path / "runs").exists()
    norms: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        norms.append(float(norm := clip(*args, **kwargs)))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    recorded = execute(with_telemetry)
    for one, other in zip(without["agent"].parameters(), recorded["agent"].parameters(), strict=True):
        assert torch.equal(one, other)

    records = list(read_events(tmp_path / "runs" / "cleanrl"))
    assert not [record for record in records if isinstance(record, InvalidRecord)]
    assert not (tmp_path / "runs" / "cleanrl" / "rejected.jsonl").exists(), "np.mean is a number"
    events = [record for record in records if isinstance(record, TelemetryEvent)]
    assert [started.task for started in of(events, TrainingStartedPayload)] == [env_id]
    updates = of(events, PPOUpdatePayload)
    assert [update.batch for update in updates] == [0, 1, 2]
    for number, update in enumerate(updates):
        taken = norms[16 * number : 16 * (number + 1)]
        assert update.grad_norm == pytest.approx(sum(taken) / 16, rel=1e-5)
        assert update.inner_epoch == 4
        assert math.isfinite(update.policy_loss + update.kl_divergence + (update.explained_variance or 0.0))
        assert "entropy_collapsed" not in update.supplied
    batches = of(events, BatchEpochCompletedPayload)
    assert batches
    assert batches[-1].episodes_completed == sum(batch.n_envs for batch in batches) == recorded["episodes"]
    assert all(math.isnan(batch.avg_accuracy) for batch in batches)
    assert json.loads((tmp_path / "runs" / "cleanrl" / "run.json").read_text())["status"] == "completed"
