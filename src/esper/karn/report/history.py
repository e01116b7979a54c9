"""One arm of a run over its whole length, folded from events into what the plots draw.

The unit is the *batch*: all events between two BATCH_EPOCH_COMPLETED, in which every environment plays one episode.
Memory grows with batches, not with events.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TypeAlias

from esper.karn.formatting import real
from esper.karn.report.decimation import clamped, measured_value
from esper.leyline.stages import SeedStage
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
    TrainingStartedPayload,
)

__all__ = ["COMPONENTS", "ArmSeries", "Batch", "SeedLife", "Spread", "accuracies"]

COMPONENTS = (
    "base_acc_delta", "bounded_attribution", "stage_bonus", "fossilize_terminal_bonus", "compute_rent",
    "alpha_shock", "ratio_penalty", "blending_warning", "holding_warning",
)  # fmt: skip
"""The contributions that add up to ``total_reward``."""

_SeedPayload: TypeAlias = SeedGerminatedPayload | SeedStageChangedPayload | SeedFossilizedPayload | SeedPrunedPayload
_ENDED = {SeedStage.PRUNED.name, SeedStage.EMBARGOED.name, SeedStage.DORMANT.name}


@dataclass(slots=True)
class Spread:
    """Sum and extremes of the values added; what is not finite is counted apart."""

    n: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    not_finite: int = 0

    def add(self, value: float) -> None:
        """Take one value in."""
        value = real(value)
        if not math.isfinite(value):
            self.not_finite += 1
            return
        self.n += 1
        self.total += value
        self.low = min(self.low, value)
        self.high = max(self.high, value)

    @property
    def mean(self) -> float | None:
        """The mean of what is finite; None when nothing is."""
        return self.total / self.n if self.n else None


@dataclass(slots=True)
class SeedLife:
    """One seed as far as events describe it. Times are host epochs since the start of its episode."""

    env_id: int
    slot_id: str
    seed_id: str | None
    germinated: SeedGerminatedPayload | None = None
    stages: list[tuple[float, str]] = field(default_factory=list)
    """When each stage was entered."""
    outcome: SeedFossilizedPayload | SeedPrunedPayload | None = None
    ended: float | None = None
    """When it was pruned; None for a seed that stayed until its episode ended."""

    @property
    def blueprint_id(self) -> str | None:
        """The blueprint, from whichever event names it; None when none does."""
        if self.germinated is not None:
            return self.germinated.blueprint_id
        return None if self.outcome is None else self.outcome.blueprint_id

    def add(self, data: _SeedPayload, epoch: float) -> None:
        """Take one event of this seed in.

        Args:
            data: the event's payload.
            epoch: host epochs of the episode completed before it.
        """
        if isinstance(data, SeedGerminatedPayload):
            self.germinated = data
        elif isinstance(data, SeedStageChangedPayload):
            self._enter(data, epoch)
        else:
            self.outcome = data

    def _enter(self, data: SeedStageChangedPayload, epoch: float) -> None:
        if self.ended is not None:
            return  # the slot's rest after a prune is no part of a seed's life
        spent = measured_value(data, "epochs_in_stage")
        if self.stages and spent is not None:
            epoch = self.stages[-1][0] + spent
        if data.to_stage in _ENDED:
            self.ended = epoch
        else:
            self.stages.append((epoch, data.to_stage))


@dataclass(slots=True)
class Batch:
    """The events of one batch."""

    start: int | None = None
    """Episodes completed before it; None while no event says."""
    epoch: int = 0
    """The latest host epoch of any environment."""
    completed: BatchEpochCompletedPayload | None = None
    updates: list[PPOUpdatePayload] = field(default_factory=list)
    action_counts: AnalyticsSnapshotPayload | None = None
    accuracy: dict[int, Spread] = field(default_factory=lambda: defaultdict(Spread))
    """Over environments, by host epoch of the episode."""
    loss: dict[int, Spread] = field(default_factory=lambda: defaultdict(Spread))
    returns: dict[int, Spread] = field(default_factory=lambda: defaultdict(Spread))
    """Rewards of the steps of each environment."""
    components: dict[str, Spread] = field(default_factory=lambda: defaultdict(Spread))
    """Over all steps of all environments; what was not supplied is not there."""
    ops: Counter[str] = field(default_factory=Counter)
    seeds: list[SeedLife] = field(default_factory=list)
    contributions: dict[str, Spread] = field(default_factory=lambda: defaultdict(Spread))
    """Accuracy lost without the seed of a slot, the others staying, by slot."""
    matrices: dict[int, tuple[CounterfactualMatrixPayload, int | None]] = field(default_factory=dict)
    """The newest ablation of each environment, with its host epoch."""

    @property
    def n_steps(self) -> int:
        """Decisions recorded, over all environments."""
        return self.ops.total()


@dataclass(slots=True)
class _Env:
    """Where an environment stands: how many batches beyond the present one, and at which host epoch."""

    ahead: int = 0
    epoch: int = 0


class ArmSeries:
    """The newest run of one A/B group of a log.

    A shard of another rank may be in the next episode before rank 0 has completed the batch: an
    environment whose host epoch starts over is in the next batch already.
    """

    def __init__(self) -> None:
        self.batches = [Batch()]
        self.max_epochs = 0
        """Longest episode known: configured, or seen."""
        self.n_envs = 0
        """Environments known: configured, or seen."""
        self._decisions = 0
        self._present = 0
        self._envs: dict[int, _Env] = defaultdict(_Env)

    @property
    def completed(self) -> list[tuple[int, BatchEpochCompletedPayload, Batch]]:
        """The completed batches, with the episodes completed at their end."""
        return [
            (clamped(batch.completed.episodes_completed), batch.completed, batch)
            for batch in self.batches
            if batch.completed
        ]

    def position(self, batch: Batch, epoch: float) -> float:
        """Return when an epoch of a batch ended, in episodes completed over all environments.

        All environments play side by side, so a batch advances by all of its episodes at once.
        """
        start = self._start_of(batch)
        return start + self._width(batch) * min(1.0, epoch / (self.max_epochs or 1))

    def reach(self, batch: Batch) -> int:
        """Return up to which host epoch a batch is known: one that broke off has not been played to its end."""
        return self.max_epochs if batch.completed or batch is not self.batches[-1] else batch.epoch

    def is_whole(self, batch: Batch) -> bool:
        """Return whether every environment emitted every reward of a completed batch, so that sums mean something."""
        counts = [steps.n + steps.not_finite for steps in batch.returns.values()]
        n_envs = batch.completed.n_envs if batch.completed else math.inf
        return len(counts) >= n_envs and min(counts, default=0) == self._decisions

    @property
    def span(self) -> tuple[float, float]:
        """Where the run begins and ends on the axis that `position` and `updates` share."""
        ends = [self.position(batch, self.reach(batch)) for batch in self.batches if batch.n_steps or batch.accuracy]
        ends += [float(episodes) for episodes, _, _ in self.completed] + [x for x, _ in self.updates()]
        start = float(self._start_of(self.batches[0]))
        return start, max(ends, default=start)

    def updates(self) -> list[tuple[float, PPOUpdatePayload]]:
        """Return every PPO update with its time: the end of its batch, or in equal parts when there were several.

        A log without any environment counts in updates.
        """
        points = []
        for batch in self.batches:
            start, width = self._start_of(batch), self._width(batch)
            if not batch.completed and not self.n_envs:
                width = len(batch.updates)
            points += [(start + width * i / len(batch.updates), update) for i, update in enumerate(batch.updates, 1)]
        return points

    def resume(self, start_episode: int) -> None:
        """Supersede the batches that a resume runs again."""
        ends = [episodes for episodes, _, _ in self.completed if episodes <= start_episode]
        self.batches = [
            batch for batch in self.batches if batch.completed and self._start_of(batch) < max(ends, default=0)
        ]
        self.batches.append(Batch(start=start_episode))
        self._present = len(self.batches) - 1
        self._envs.clear()

    def add(self, event: TelemetryEvent) -> None:
        """Take one event in."""
        data = event.data
        if isinstance(data, TrainingStartedPayload):
            self._start(data)
        elif isinstance(data, BatchEpochCompletedPayload):
            self._complete(data)
        elif isinstance(data, PPOUpdatePayload):
            self._batch_of_update(data).updates.append(data)
        elif isinstance(data, AnalyticsSnapshotPayload):
            if data.kind == "action_distribution":
                self.batches[self._present].action_counts = data
        else:
            self._add_env(event, data)

    def _start(self, data: TrainingStartedPayload) -> None:
        self.max_epochs = max(self.max_epochs, clamped(data.max_epochs))
        self.n_envs = max(self.n_envs, clamped(data.n_envs))
        if len(self.batches) == 1 and self.batches[0].completed is None:
            self.batches[0].start = clamped(data.start_episode)

    def _complete(self, data: BatchEpochCompletedPayload) -> None:
        if self._is_out_of_order(data):
            self._present += 1
            for env in self._envs.values():
                env.ahead = 0
        batch = self.batches[self._present]
        batch.completed = data
        end = clamped(data.episodes_completed)
        if batch.start is None or batch.start >= end:
            batch.start = end - clamped(data.n_envs)
        self._present += 1
        if self._present == len(self.batches):
            self.batches.append(Batch())
        self.batches[self._present].start = end
        for env in self._envs.values():
            env.epoch = env.epoch if env.ahead else 0
            env.ahead = 0

    def _is_out_of_order(self, data: BatchEpochCompletedPayload) -> bool:
        """Return whether the end of the present batch was lost, and this is the end of the next."""
        before = self.batches[self._present - 1].completed if self._present else None
        skips = before is not None and data.batch_idx > before.batch_idx + 1
        return skips and bool(self._envs) and all(env.ahead for env in self._envs.values())

    def _batch_of_update(self, data: PPOUpdatePayload) -> Batch:
        """Return the batch an update learnt from, which may have been completed before it."""
        present = self.batches[self._present]
        if self._present and "batch" in data.supplied:
            before = self.batches[self._present - 1]
            if before.completed is not None and before.completed.batch_idx == data.batch:
                return before
        return present

    def _add_env(
        self,
        event: TelemetryEvent,
        data: EpochCompletedPayload | RewardComputedPayload | CounterfactualMatrixPayload | _SeedPayload,
    ) -> None:
        env = self._envs[data.env_id]
        epoch = data.inner_epoch if isinstance(data, EpochCompletedPayload) else event.epoch
        if epoch is not None:
            if epoch < env.epoch and not env.ahead:
                env.ahead = 1
            env.epoch = clamped(epoch)
        self.n_envs = max(self.n_envs, len(self._envs))
        self.max_epochs = max(self.max_epochs, env.epoch)
        if self._present + env.ahead == len(self.batches):
            self.batches.append(Batch())
        batch = self.batches[self._present + env.ahead]
        batch.epoch = max(batch.epoch, env.epoch)
        if isinstance(data, RewardComputedPayload):
            _add_reward(batch, data)
            steps = batch.returns[data.env_id]
            self._decisions = max(self._decisions, steps.n + steps.not_finite)
        elif isinstance(data, EpochCompletedPayload):
            batch.accuracy[env.epoch].add(data.val_accuracy)
            batch.loss[env.epoch].add(data.val_loss)
        elif isinstance(data, CounterfactualMatrixPayload):
            _add_matrix(batch, data, event.epoch)
        else:
            _seed_of(batch, event, data).add(data, max(0.0, env.epoch - 1))

    def _start_of(self, batch: Batch) -> int:
        """Return the episodes completed before a batch; one that runs ahead follows the batch before it."""
        if batch.start is not None:
            return batch.start
        if batch is self.batches[0]:
            return 0
        before = self.batches[-2]
        return self._start_of(before) + self._width(before)

    def _width(self, batch: Batch) -> int:
        if batch.completed is not None:
            return clamped(batch.completed.episodes_completed) - self._start_of(batch)
        return self.n_envs


def _add_reward(batch: Batch, data: RewardComputedPayload) -> None:
    batch.returns[data.env_id].add(data.total_reward)
    batch.ops[data.action_name] += 1
    for name in COMPONENTS:
        part = measured_value(data, name)
        if part is not None:
            batch.components[name].add(part)


def _add_matrix(batch: Batch, data: CounterfactualMatrixPayload, epoch: int | None) -> None:
    batch.matrices[data.env_id] = data, epoch
    by_mask = accuracies(data)
    everything = (True,) * len(data.slot_ids)
    for i, slot_id in enumerate(data.slot_ids):
        without = (*everything[:i], False, *everything[i + 1 :])
        if everything in by_mask and without in by_mask:
            batch.contributions[slot_id].add(by_mask[everything] - by_mask[without])


def accuracies(data: CounterfactualMatrixPayload) -> dict[tuple[bool, ...], float]:
    """Return the accuracy of each configuration by its mask; what is not of the documented form is left out."""
    found: dict[tuple[bool, ...], float] = {}
    for config in data.configs:
        if {"seed_mask", "accuracy"} <= config.keys():
            mask, accuracy = config["seed_mask"], config["accuracy"]
            if isinstance(mask, list | tuple) and isinstance(accuracy, int | float) and len(mask) == len(data.slot_ids):
                found[tuple(map(bool, mask))] = real(accuracy)
    return found


def _seed_of(batch: Batch, event: TelemetryEvent, data: _SeedPayload) -> SeedLife:
    """Return the seed that an event is about: the one it names, else the newest of its slot."""
    for seed in reversed(batch.seeds):
        if (seed.env_id, seed.slot_id) != (data.env_id, data.slot_id):
            continue
        begins = isinstance(data, SeedGerminatedPayload) and (seed.germinated is not None or seed.outcome is not None)
        if not begins and (event.seed_id is None or event.seed_id == seed.seed_id):
            return seed
    seed = SeedLife(data.env_id, data.slot_id, event.seed_id)
    batch.seeds.append(seed)
    return seed
