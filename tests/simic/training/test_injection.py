"""Each fault shows in the fields that are about it, in the update it strikes and in none before."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
)
from esper.simic.config import Fault, TrainingConfig
from esper.simic.training.injection import injected
from esper.simic.training.vectorized import train

if TYPE_CHECKING:
    from esper.leyline.telemetry import TelemetryEvent

SMALL: dict[str, Any] = {"episodes": 6, "envs": 2, "max_epochs": 6, "seed": 1}
TABLE = Path(__file__).parents[3] / "docs" / "modes.md"
SEEN: dict[Fault, dict[str, Callable[[Any], bool]]] = {
    "nan-grad": {"nan_grad_count": lambda n: n > 0, "grad_norm": math.isnan},
    "inf-grad": {"inf_grad_count": lambda n: n > 0, "grad_norm": lambda norm: norm == math.inf},
    "dead-layer": {"dead_layers": lambda n: n > 0, "layer_gradient_health": lambda ratios: ratios["critic.0"] == 0.0},
    "exploding-layer": {
        "exploding_layers": lambda n: n > 0,
        "layer_gradient_health": lambda ratios: ratios["heads.op"] > 100.0,
        "grad_norm": lambda norm: 1e3 < norm < math.inf,
    },
    "entropy-collapse": {
        "entropy": lambda nats: nats < 1e-3,
        "entropy_collapsed": bool,
        "head_op_entropy": lambda nats: nats["all"] < 1e-3,
    },
    "value-blowup": {"value_loss": lambda loss: loss > 1e3, "explained_variance": lambda share: share < -10.0},
    "host-divergence": {
        "val_loss": lambda loss: not math.isfinite(loss),
        "val_accuracy": math.isnan,
        "total_reward": math.isnan,
        "skipped": bool,
    },
    "skipped-batch": {"skipped": bool, "value_estimate": math.isnan},
}
"""What each fault does to the fields that the documentation names for it."""


def run(fault: Fault, **options: Any) -> list[TelemetryEvent]:
    emitted: list[TelemetryEvent] = []
    train(TrainingConfig(**(SMALL | {"inject": fault} | options)), emitted.append)
    return emitted


def values(events: Iterable[TelemetryEvent], field: str) -> list[Any]:
    """Return what a field was in the events that supplied it."""
    return [getattr(event.data, field) for event in events if field in event.data.to_dict()]


@pytest.mark.parametrize("fault", get_args(Fault))
def test_a_fault_shows_in_the_documented_fields_when_it_strikes_and_not_before(fault: Fault) -> None:
    emitted = run(fault)
    first = next(i for i, event in enumerate(emitted) if isinstance(event.data, BatchEpochCompletedPayload))
    second = next(i for i, e in enumerate(emitted[first + 1 :]) if isinstance(e.data, BatchEpochCompletedPayload))
    before, struck = emitted[:first], emitted[first + 1 :][:second]
    for field, shows in SEEN[fault].items():
        assert any(map(shows, values(struck, field))), field
        assert not any(map(shows, values(before, field))), field


def test_the_documentation_names_the_fields_that_are_looked_at() -> None:
    rows = [line.split("|") for line in TABLE.read_text().splitlines() if line.startswith("|")]
    named = {row[1].strip(" `"): set(re.findall(r"`(\w+)`", row[3])) for row in rows if len(row) == 5}
    assert {fault: set(fields) for fault, fields in SEEN.items()} == {fault: named[fault] for fault in SEEN}


@pytest.mark.parametrize("fault", ["nan-grad", "inf-grad", "host-divergence", "skipped-batch"])
def test_what_bends_no_weight_is_over_after_its_batch(fault: Fault) -> None:
    last = [event for event in run(fault) if isinstance(event.data, PPOUpdatePayload)][-1]
    assert isinstance(last.data, PPOUpdatePayload)
    assert not last.data.skipped
    assert last.severity != "error"
    assert math.isfinite(last.data.grad_norm)


def test_a_host_diverges_in_one_environment_and_everything_about_it_says_so() -> None:
    emitted = run("host-divergence")
    epochs = [event for event in emitted if isinstance(event.data, EpochCompletedPayload)]
    diverged = [event.data for event in epochs if not math.isfinite(event.data.val_loss)]  # type: ignore[union-attr]  # filtered
    assert {data.env_id for data in diverged if isinstance(data, EpochCompletedPayload)} == {0}
    for event in epochs:
        data = event.data
        assert isinstance(data, EpochCompletedPayload)
        assert math.isnan(data.val_accuracy) is not math.isfinite(data.val_loss)
    lost = [event for event in emitted if isinstance(event.data, RewardComputedPayload) and event.severity == "error"]
    assert len(lost) == len(diverged)
    assert all("no reward; not finite: total_reward" in event.message for event in lost)
    assert not any("+nan" in event.message for event in emitted)
    (update,) = [event for event in emitted if isinstance(event.data, PPOUpdatePayload) and event.data.skipped]
    assert update.severity == "error"
    assert update.message == "update 1 skipped: rewards of env 0 not finite"


def test_without_a_fault_nothing_is_touched() -> None:
    with injected(None, None, ()):  # type: ignore[arg-type]  # nobody looks at it
        pass
