"""One arm of a run over its whole length, on the axis that the plots share.

Nothing is decided here: where events stand and what is superseded, says the position that the fold gave them; which
seed is which, and what came of the batches, the snapshot. They are put side by side by the batch they stand in.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from esper.karn.absence import supplied_number
from esper.karn.report.decimation import clamped
from esper.karn.report.episodes import Episode, Spread
from esper.karn.snapshot import GroupSnapshot, SeedRecord
from esper.leyline.limits import real
from esper.leyline.position import Position
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    SeedPrunedPayload,
)

__all__ = ["ArmSeries", "Batch", "SeedLife"]

_Settle: TypeAlias = Callable[[Position], Position | None]
_ENDED: Final = {SeedStage.PRUNED.name, SeedStage.EMBARGOED.name, SeedStage.DORMANT.name}


@dataclass(frozen=True, slots=True)
class SeedLife:
    """A seed on the axis of its episode: times are host epochs completed since that began."""

    slot_id: str
    env_id: int
    seed: SeedRecord
    stages: Sequence[tuple[float, str]]
    """When each stage was entered, until it left the slot."""
    ended: float | None
    """When it was pruned; None for a seed that stayed until its episode ended."""


def _life(env_id: int, slot_id: str, seed: SeedRecord) -> SeedLife:
    stages: list[tuple[float, str]] = []
    ended: float | None = None
    for entry in seed.stages:
        spent = supplied_number(entry.data, "epochs_in_stage")
        began = stages[-1][0] if stages else 0.0
        if stages and spent is not None:
            at = began + real(spent)
        else:
            at = began if entry.event.epoch is None else _completed_before(entry.event.epoch)
        if entry.data.to_stage in _ENDED:
            ended = at
            break
        stages.append((at, entry.data.to_stage))
    outcome = seed.outcome
    if ended is None and outcome is not None and isinstance(outcome.data, SeedPrunedPayload):
        ended = None if outcome.event.epoch is None else _completed_before(outcome.event.epoch)
    return SeedLife(slot_id, env_id, seed, stages, ended)


def _completed_before(epoch: int) -> float:
    return max(0.0, clamped(epoch) - 1.0)


@dataclass(slots=True)
class Batch:
    """What stands in one batch."""

    start: int
    """Episodes completed before it."""
    end: int
    """Episodes completed when it ended, or would have."""
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
    contributions: dict[str, Spread] = field(default_factory=lambda: defaultdict(Spread))
    seeds: list[SeedLife] = field(default_factory=list)

    def add(self, episode: Episode) -> None:
        """Take in an episode."""
        self.epoch = max(self.epoch, episode.epoch)
        for epoch, accuracy, loss in episode.epochs:
            if accuracy is not None:
                self.accuracy[epoch].add(accuracy)
            self.loss[epoch].add(loss)
        if episode.ops:
            self.returns[episode.env_id].merge(episode.rewards)
            self.ops.update(episode.ops)
        for name, spread in episode.components.items():
            self.components[name].merge(spread)
        for slot_id, spread in episode.contributions.items():
            self.contributions[slot_id].merge(spread)


class ArmSeries:
    """The newest run of one A/B group of a log, batch by batch.

    Args:
        group: the group, folded with all of its batches and seeds.
        episodes: what was emitted of each of its episodes, taken back or not.
        settle: says what is known of a place now that the log is read; None when it was taken back.
    """

    def __init__(self, group: GroupSnapshot, episodes: Iterable[Episode], settle: _Settle) -> None:
        episodes = [episode for episode in episodes if settle(episode.position) is not None]
        self._settle = settle
        start = group.started
        configured = (0, 0) if start is None else (clamped(start.data.max_epochs), clamped(start.data.n_envs))
        self.max_epochs = max([configured[0], *(episode.epoch for episode in episodes)])
        """Longest episode known: configured, or seen."""
        self.n_envs = max(configured[1], len(group.envs))
        """Environments known: configured, or seen."""
        self.seeds: list[SeedLife] = []
        """All of them, also those of unknown place."""
        self.unplaced = 0
        """Events of environments that stand in no known batch."""
        self._unplaced_updates: list[PPOUpdatePayload] = []
        self._batches: dict[int, list[Batch]] = {}
        for entry in group.batches:
            self._completed(entry.position, entry.data)
        self._add_updates(group)
        for distribution in group.action_distributions:
            if (batch := self._batch(distribution.position)) is not None:
                batch.action_counts = distribution.data
        for episode in episodes:
            if (batch := self._batch(episode.position)) is not None:
                batch.add(episode)
            else:
                self.unplaced += episode.events
        self._add_seeds(group)
        self._lives: defaultdict[str | None, list[SeedLife]] = defaultdict(list)
        for life in self.seeds:
            self._lives[life.seed.blueprint_id or None].append(life)
        self.batches = list(self._in_order())
        """In the order of the axis."""
        counts = [n for batch in self.batches for n in _steps_of(batch)]
        self._decisions = max(counts, default=0)

    def lives_of(self, blueprint: str | None) -> list[SeedLife]:
        """Return the seeds of a blueprint; None for those whose blueprint is not known."""
        return self._lives[blueprint]

    def _completed(self, position: Position, data: BatchEpochCompletedPayload) -> None:
        assert position.episodes is not None
        start, end = clamped(position.episodes), clamped(data.episodes_completed)
        self._batches.setdefault(start, []).append(Batch(start, end, completed=data))

    def _batch(self, position: Position) -> Batch | None:
        """Return the batch of a position, which is new where nothing else of it is in the log; None when unknown."""
        settled = self._settle(position)
        if settled is None or settled.episodes is None:
            return None
        start = clamped(settled.episodes)
        if start not in self._batches:
            self._batches[start] = [Batch(start, start + self.n_envs)]
        return self._batches[start][0]

    def _add_updates(self, group: GroupSnapshot) -> None:
        by_index = {entry.data.batch_idx: entry.position for entry in group.batches}
        for entry in group.ppo:
            position = entry.position
            if position.episodes is None and position.batch in by_index:
                position = by_index[position.batch]
            batch = self._batch(position)
            (self._unplaced_updates if batch is None else batch.updates).append(entry.data)

    def _add_seeds(self, group: GroupSnapshot) -> None:
        for env_id, env in group.envs.items():
            for slot_id, slot in env.slots.items():
                for seed in slot.seeds:
                    life = _life(env_id, slot_id, seed)
                    self.seeds.append(life)
                    if (batch := self._batch(seed.position)) is not None:
                        batch.seeds.append(life)

    def _in_order(self) -> Iterator[Batch]:
        """Yield the batches; one that was not completed ends where the next begins, at the latest."""
        starts = sorted(self._batches)
        for start, following in zip(starts, [*starts[1:], math.inf], strict=False):
            for batch in self._batches[start]:
                if batch.completed is None:
                    batch.end = int(min(batch.end, following))
                yield batch

    @property
    def completed(self) -> list[tuple[int, BatchEpochCompletedPayload, Batch]]:
        """The completed batches, with the episodes completed at their end, ascending."""
        ends = [(batch.end, batch.completed, batch) for batch in self.batches if batch.completed]
        return sorted(ends, key=lambda one: one[0])

    def position(self, batch: Batch, epoch: float) -> float:
        """Return when an epoch of a batch ended, in episodes completed over all environments.

        All environments play side by side, so a batch advances by all of its episodes at once.
        """
        return batch.start + (batch.end - batch.start) * min(1.0, epoch / (self.max_epochs or 1))

    def reach(self, batch: Batch) -> int:
        """Return up to which host epoch a batch is known: one that broke off has not been played to its end."""
        return self.max_epochs if batch.completed or batch is not self.batches[-1] else batch.epoch

    def is_whole(self, batch: Batch) -> bool:
        """Return whether every environment emitted every reward of a completed batch, so that sums mean something."""
        counts = _steps_of(batch)
        n_envs = batch.completed.n_envs if batch.completed else math.inf
        return len(counts) >= n_envs and min(counts, default=0) == self._decisions

    @property
    def span(self) -> tuple[float, float]:
        """Where the run begins and ends on the axis that `position` and `updates` share."""
        ends = [self.position(batch, self.reach(batch)) for batch in self.batches if batch.ops or batch.loss]
        ends += [float(episodes) for episodes, _, _ in self.completed] + [x for x, _ in self.updates()]
        start = float(self.batches[0].start) if self.batches else 0.0
        return start, max(ends, default=start)

    def updates(self) -> list[tuple[float, PPOUpdatePayload]]:
        """Return every PPO update with its time: the end of its batch, or in equal parts when there were several.

        One of unknown batch came before the first that is known. A log without any batch counts in updates.
        """
        begin, width = (float(self.batches[0].start), 0) if self.batches else (0.0, 1)
        points = [(begin + width * i, update) for i, update in enumerate(self._unplaced_updates, 1)]
        points += [
            (batch.start + (batch.end - batch.start) * i / len(batch.updates), update)
            for batch in self.batches
            for i, update in enumerate(batch.updates, 1)
        ]
        return sorted(points, key=lambda point: point[0])


def _steps_of(batch: Batch) -> list[int]:
    return [steps.n + steps.not_finite for steps in batch.returns.values()]
