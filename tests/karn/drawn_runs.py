"""Runs drawn at random, with all that happens to logs: ranks, resumes, groups, losses, late and broken values."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from tests.builders import event

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.bounds import LIVE, Bounds
from esper.karn.snapshot import RunSnapshot
from esper.leyline.position import Shard
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)

__all__ = ["DrawnRun", "drawn_runs", "fold"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLOTS = ("a", "b")
BLUEPRINTS = ("mlp", "norm")
OPS = ("WAIT", "GERMINATE", "PRUNE")


@dataclass
class DrawnRun:
    """The shards of a run: what each process wrote, by rank."""

    shards: dict[int, list[TelemetryEvent]] = field(default_factory=dict)

    @property
    def is_sharded(self) -> bool:
        """Whether several processes wrote it."""
        return len(self.shards) > 1

    def by_time(self) -> list[tuple[Shard, TelemetryEvent]]:
        """Return the events as `read_shards` would, merged by their clocks."""
        if not self.is_sharded:
            return [(None, made) for shard in self.shards.values() for made in shard]
        keyed = []
        for rank, shard in self.shards.items():
            newest = datetime.min.replace(tzinfo=UTC)
            for at, made in enumerate(shard):
                newest = max(newest, made.timestamp)
                keyed.append((newest, rank, at, made))
        return [(rank, made) for _, rank, _, made in sorted(keyed, key=lambda one: one[:3])]

    def merged(self, rng: random.Random) -> list[tuple[Shard, TelemetryEvent]]:
        """Return the events merged at random, each shard in its own order."""
        if not self.is_sharded:
            return self.by_time()
        rest = {rank: list(shard) for rank, shard in self.shards.items()}
        merged: list[tuple[Shard, TelemetryEvent]] = []
        while rest:
            rank = rng.choice(sorted(rest))
            merged.append((rank, rest[rank].pop(0)))
            if not rest[rank]:
                del rest[rank]
        return merged


def fold(events: list[tuple[Shard, TelemetryEvent]], bounds: Bounds = LIVE) -> RunSnapshot:
    """Fold events as a reader of the log does."""
    aggregator = TelemetryAggregator(bounds)
    for shard, made in events:
        aggregator.process(made, shard)
    return aggregator.snapshot()


class _Writer:
    """Emits the events of one group, into the shard of the rank that each belongs to."""

    def __init__(self, run: DrawnRun, rng: random.Random, group_id: str, *, ids: bool, broken: float) -> None:
        self.run = run
        self.rng = rng
        self.group_id = group_id
        self.ids = ids
        self.broken = broken
        """Share of the values that are not finite."""
        self.clocks = {rank: NOON + timedelta(hours=5 * rank * rng.choice([-1, 1])) for rank in range(3)}

    def emit(self, shard: int, cls: type[TelemetryPayload], /, **fields: Any) -> None:
        self.clocks[shard] += timedelta(seconds=1)
        made = event(cls, group_id=self.group_id, timestamp=self.clocks[shard], **fields)
        self.run.shards.setdefault(shard, []).append(made)

    def value(self) -> float:
        if self.rng.random() < self.broken:
            return self.rng.choice([math.nan, math.inf, -math.inf])
        return round(self.rng.uniform(-2, 2), 3)

    def accuracy(self) -> float:
        return round(self.rng.random(), 3)


def _seed_events(writer: _Writer, rank: int, env_id: int, batch: int, epoch: int) -> None:
    rng = writer.rng
    slot = rng.choice(SLOTS)
    at: dict[str, Any] = {"env_id": env_id, "slot_id": slot, "epoch": epoch}
    if writer.ids:
        at["seed_id"] = f"{env_id}-{slot}-{batch}-{rng.randint(0, 1)}"
    match rng.randint(0, 5):
        case 0:
            writer.emit(rank, SeedGerminatedPayload, blueprint_id=rng.choice(BLUEPRINTS), params=24, **at)
            writer.emit(rank, SeedStageChangedPayload, from_stage="DORMANT", to_stage="GERMINATED", **at)
        case 1:
            writer.emit(rank, SeedStageChangedPayload, from_stage="GERMINATED", to_stage="TRAINING", **at)
        case 2:
            improvement = writer.value()
            writer.emit(rank, SeedFossilizedPayload, blueprint_id=rng.choice(BLUEPRINTS), improvement=improvement, **at)
        case 3:
            cause: dict[str, Any] = rng.choice([{}, {"auto_pruned": True}, {"auto_pruned": False}])
            writer.emit(rank, SeedPrunedPayload, reason=rng.choice(["policy", "stagnation"]), **cause, **at)
        case 4:
            configs = tuple({"seed_mask": [on], "accuracy": writer.accuracy()} for on in (False, True))
            writer.emit(
                rank, CounterfactualMatrixPayload, env_id=env_id, slot_ids=(slot,), configs=configs, epoch=epoch
            )


def _play(writer: _Writer, batch: int, n_envs: int, ranks: int, epochs: range, n_episodes: int) -> Iterator[None]:
    """Play a batch, environment by environment in each epoch; stop where the caller does."""
    for epoch in epochs:
        for env_id in range(n_envs):
            rank = env_id % ranks
            _seed_events(writer, rank, env_id, batch, epoch)
            writer.emit(rank, EpochCompletedPayload, env_id=env_id, inner_epoch=epoch, epoch=epoch,
                        val_accuracy=writer.accuracy(), val_loss=writer.value())  # fmt: skip
            writer.emit(rank, RewardComputedPayload, env_id=env_id, total_reward=writer.value(), epoch=epoch,
                        action_name=writer.rng.choice(OPS), action_confidence=writer.accuracy())  # fmt: skip
        yield
    writer.emit(0, PPOUpdatePayload, batch=batch, entropy=writer.accuracy(), kl_divergence=writer.value(),
                grad_norm=abs(writer.value()))  # fmt: skip
    writer.emit(0, AnalyticsSnapshotPayload, kind="action_distribution", action_counts={"WAIT": n_envs})
    writer.emit(0, BatchEpochCompletedPayload, episodes_completed=(batch + 1) * n_envs, batch_idx=batch, n_envs=n_envs,
                total_episodes=n_episodes, avg_accuracy=writer.accuracy(), avg_reward=writer.value())  # fmt: skip


def _fail(writer: _Writer, ranks: int) -> None:
    """Let each rank say, perhaps, why it ended."""
    for rank in range(ranks):
        if writer.rng.random() < 0.2:
            writer.emit(
                rank, AnalyticsSnapshotPayload, kind="training_failed", message=f"of rank {rank}", severity="critical"
            )


def _group(writer: _Writer, *, ranks: int, n_envs: int, max_epochs: int, n_batches: int, resumed: bool) -> None:
    def start(batch: int) -> None:
        for rank in range(ranks):
            writer.emit(
                rank, TrainingStartedPayload, n_envs=n_envs, max_epochs=max_epochs, task="digits", slot_ids=SLOTS,
                n_episodes=n_batches * n_envs, episode_id="run", world_size=ranks, rank=rank,
                start_episode=batch * n_envs,
            )  # fmt: skip

    start(0)
    batch = 0
    while batch < n_batches:
        epochs = range(1, max_epochs + 1)
        if resumed and batch and writer.rng.random() < 0.5:
            resumed = False
            broken = _play(writer, batch, n_envs, ranks, epochs, n_batches * n_envs)
            for _ in range(writer.rng.randint(0, max_epochs)):
                next(broken)
            _fail(writer, ranks)
            batch = writer.rng.randint(1, batch)
            start(batch)
        for _ in _play(writer, batch, n_envs, ranks, epochs, n_batches * n_envs):
            pass
        batch += 1
    _fail(writer, ranks)


def _foreign(writer: _Writer, n_batches: int) -> None:
    """A trainer whose environments end episodes when they like."""
    writer.emit(0, TrainingStartedPayload, n_envs=2, max_epochs=0, task="CartPole-v1", slot_ids=(), n_episodes=0)
    done = 0
    for batch in range(n_batches):
        for _ in range(writer.rng.randint(1, 12)):
            env_id = writer.rng.randint(0, 1)
            writer.emit(0, RewardComputedPayload, env_id=env_id, total_reward=writer.value(), action_name="LEFT")
        done += (played := writer.rng.randint(1, 9))
        writer.emit(0, PPOUpdatePayload, batch=batch, entropy=writer.accuracy(), kl_divergence=writer.value())
        writer.emit(0, BatchEpochCompletedPayload, episodes_completed=done, batch_idx=batch, n_envs=played,
                    total_episodes=0, avg_accuracy=math.nan, avg_reward=writer.value())  # fmt: skip


def _lose(run: DrawnRun, rng: random.Random, share: float) -> None:
    for rank, shard in run.shards.items():
        run.shards[rank] = [
            made for made in shard if isinstance(made.data, TrainingStartedPayload) or rng.random() >= share
        ]


def _delay(run: DrawnRun, rng: random.Random, share: float) -> None:
    """Let some events come a few places later: as what a worker reports one step too late."""
    for shard in run.shards.values():
        for at in range(len(shard) - 1, 0, -1):
            if rng.random() < share and not isinstance(shard[at].data, TrainingStartedPayload):
                to = min(at + rng.randint(1, 6), len(shard) - 1)
                if not any(isinstance(made.data, TrainingStartedPayload) for made in shard[at : to + 1]):
                    shard.insert(to, shard.pop(at))


@st.composite
def drawn_runs(draw: st.DrawFn) -> DrawnRun:
    """Draw the shards of a run."""
    rng = draw(st.randoms(use_true_random=False))
    run = DrawnRun()
    ranks = draw(st.sampled_from([1, 1, 2, 3]))
    for group_id in draw(st.sampled_from([("default",), ("default", "other")])):
        writer = _Writer(run, rng, group_id, ids=draw(st.booleans()), broken=draw(st.sampled_from([0.0, 0.2])))
        if ranks == 1 and draw(st.integers(0, 3)) == 0:
            _foreign(writer, draw(st.integers(1, 4)))
        else:
            _group(
                writer, ranks=ranks, n_envs=draw(st.integers(1, 3)), max_epochs=draw(st.integers(1, 4)),
                n_batches=draw(st.integers(1, 4)), resumed=draw(st.booleans()),
            )  # fmt: skip
    _delay(run, rng, draw(st.sampled_from([0.0, 0.1])))
    _lose(run, rng, draw(st.sampled_from([0.0, 0.05, 0.3])))
    return run
