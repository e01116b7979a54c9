"""Small runs on disk, of a few lines each: what a listing and a comparison read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.builders import event

from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo, RunStatus
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.leyline.wire import encode_event

__all__ = ["NOON", "evaluation", "log_of", "write_run"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def evaluation(reward: float, accuracy: float) -> Evaluation:
    """Return an evaluation in which the learnt policy did so."""
    score = PolicyScore(Estimate(reward, 0.1), Estimate(accuracy, 0.01), Estimate(accuracy, 0.01))
    return Evaluation(4, score, score, score)


def log_of(
    returns: Sequence[float],
    *,
    seed: int = 0,
    group: str = "default",
    accuracies: Sequence[float] | None = None,
    planned: int | None = None,
    n_envs: int = 4,
    **start: Any,
) -> list[TelemetryEvent]:
    """Return the events of a run that had these mean episode returns, a batch each."""
    n_episodes = len(returns) * n_envs if planned is None else planned
    events = [
        event(
            TrainingStartedPayload, timestamp=NOON, group_id=group, seed=seed, n_envs=n_envs, n_episodes=n_episodes,
            task=start.pop("task", "digits"), max_epochs=2, slot_ids=("a",), host_params=10, **start,
        )
    ]  # fmt: skip
    for at, value in enumerate(returns):
        then = NOON + timedelta(minutes=at + 1)
        common: dict[str, Any] = {"timestamp": then, "group_id": group}
        events += [
            event(kind, **common, slot_id="a", seed_id=f"s{at}", blueprint_id="mlp", epoch=1)
            for kind in (SeedGerminatedPayload, SeedFossilizedPayload)
        ]
        events.append(event(PPOUpdatePayload, **common, batch=at, entropy=1.0, kl_divergence=0.01, grad_norm=0.5))
        events.append(
            event(
                BatchEpochCompletedPayload, **common, episodes_completed=(at + 1) * n_envs, batch_idx=at, n_envs=n_envs,
                avg_reward=value, avg_accuracy=0.5 if accuracies is None else accuracies[at], total_episodes=n_episodes,
            )
        )  # fmt: skip
    return events


def write_run(
    path: Path,
    *groups: Sequence[TelemetryEvent],
    status: RunStatus | None = "completed",
    configuration: dict[str, Any] | None = None,
    score: Evaluation | None = None,
    error: str | None = None,
) -> Path:
    """Write a run directory with the events of its groups; without run.json for status None."""
    path.mkdir(parents=True, exist_ok=True)
    lines = [encode_event(each) + "\n" for group in groups for each in group]
    (path / "events.jsonl").write_text("".join(lines), encoding="utf-8")
    if status is not None:
        info = RunInfo(
            status=status,
            started=NOON,
            ended=None if status == "running" else NOON + timedelta(hours=1),
            configuration=configuration or {},
            versions={"python": "3.11"},
            evaluation=score,
            error=error,
        )
        RunDirectory(path).write_info(info)
    return path
