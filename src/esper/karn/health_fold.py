"""What the verdict is made of, while a run is folded: for each rule how often, and the first, newest and worst event.

Its size does not depend on how long the run is. Rules with a limit are counted; what has a course (return, accuracy,
entropy) is kept as blocks. A resume takes back what it supersedes: then everything is counted anew from the updates
and batches that are kept, all of them unless there are more than two thousand.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, TypeAlias

from esper.karn.derived import return_of
from esper.karn.snapshot import Entry, History
from esper.karn.tally import HealthSnapshot, Occurrence, Tally
from esper.leyline.health import judge_update
from esper.leyline.limits import Limits, Status, real
from esper.leyline.position import env_of
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.leyline.trend import Series
from esper.leyline.typical import Typical
from esper.leyline.update_rules import UPDATE_RULES

__all__ = ["HealthFold"]

_BEFORE: Final = 5
"""Updates kept to say what changed just before a rule tripped."""
_MARKED: Final = 1 << 10
"""Batches remembered in which a host diverged or a reward was not finite."""
_SKEW: Final = timedelta(seconds=2)
"""Of one clock set back, that is not worth a word."""
_Mark: TypeAlias = Entry[EpochCompletedPayload] | Entry[RewardComputedPayload]


class HealthFold:
    """Takes a group's updates and batches, one after the other.

    Args:
        limits: of the run; fixed from here on, but for the clip ratio that its start says.
        kept: updates and batches that a resume finds again; None for all.
    """

    def __init__(self, limits: Limits, kept: int | None) -> None:
        self.limits = limits
        self.kept = kept
        self._given = limits
        self._started: TrainingStartedPayload | None = None
        self.hosts: dict[int | None, _Mark] = {}
        self.rewards: dict[int | None, _Mark] = {}
        self.failed: Entry[AnalyticsSnapshotPayload] | None = None
        self.incomplete = False
        self._begin()

    def _begin(self) -> None:
        self.rules = {rule.name: Tally() for rule in UPDATE_RULES}
        self.rules["return_finite"] = Tally()
        self.series = {name: Series() for name in ("avg_reward", "avg_accuracy", "entropy")}
        self.typical = Typical()
        self.updates = self.batches = self.set_back = self.missing = 0
        self.typical_interval: float | None = None
        self.longest_interval = 0.0
        self._ended: datetime | None = None
        self._batch: int | None = None
        self._before = deque[PPOUpdatePayload](maxlen=_BEFORE)
        self._frozen: HealthSnapshot | None = None

    def start(self, started: TrainingStartedPayload) -> None:
        """Take what the run's start says; limits that were given with another clip ratio keep it."""
        self._started, self._frozen = started, None
        if self._given.clip_ratio == Limits().clip_ratio:
            self.limits = self._given.with_clip_ratio(started.clip_ratio)
        if started.world_size <= 1 or started.rank == 0:
            self._ended = None  # it is this rank that ends batches: another's start may be read between any two

    def resume(self) -> None:
        """Go on with a run, whatever ended it."""
        self.failed, self._frozen = None, None

    def fail(self, entry: Entry[AnalyticsSnapshotPayload]) -> None:
        """Take the event that says why the run ended; of several ranks that of the lowest, in whatever order."""
        if self.failed is None or (entry.position.rank or 0) <= (self.failed.position.rank or 0):
            self.failed, self._frozen = entry, None

    def mark(self, marks: dict[int | None, _Mark], entry: _Mark) -> None:
        """Remember, in ``hosts`` or ``rewards``, what happened in a batch: of several the first, in whatever order."""
        batch = entry.position.batch
        if batch not in marks:
            marks[batch] = entry
            if len(marks) > _MARKED:
                del marks[next(iter(marks))]
        elif _order(entry) < _order(marks[batch]):
            marks[batch] = entry
        self._frozen = None

    def add_update(self, event: TelemetryEvent, update: PPOUpdatePayload, batch: int | None) -> None:
        """Judge an update."""
        self._frozen = None
        self.updates += 1
        rules, ordinal = self.rules, self.updates
        for rule, status, value, evidence in judge_update(update, self.limits, self.typical):
            if status is Status.OK:
                rules[rule.name] = rules[rule.name].after_ok()
            elif status is not Status.UNKNOWN:
                tripped = Occurrence(event, batch, ordinal, value, evidence, rule.lower_is_worse)
                rules[rule.name] = rules[rule.name].after(status, tripped, self._before)
            if rule.name == "entropy" and value is not None:
                self.series["entropy"].add(value)
        self.typical = self.typical.after(update)
        self._before.append(update)

    def add_batch(self, event: TelemetryEvent, data: BatchEpochCompletedPayload) -> None:
        """Take the end of a batch."""
        self._frozen = None
        self.batches += 1
        batch = data.batch_idx
        if return_of(data, self._started) is not None:
            self._add_return(event, data)
        self.series["avg_accuracy"].add(real(data.avg_accuracy))
        self._time(event.timestamp)
        if self._batch is not None:
            self.missing += max(batch - self._batch - 1, 0)
        self._batch = batch

    def _add_return(self, event: TelemetryEvent, data: BatchEpochCompletedPayload) -> None:
        reward, finite = real(data.avg_reward), self.rules["return_finite"]
        self.series["avg_reward"].add(reward)
        if reward - reward == 0.0:
            self.rules["return_finite"] = finite.after_ok()
        else:
            tripped = Occurrence(event, data.batch_idx, self.batches, reward, "not finite")
            self.rules["return_finite"] = finite.after(Status.BAD, tripped)

    def _time(self, ended: datetime) -> None:
        if self._ended is not None:
            took = (ended - self._ended).total_seconds()
            if ended < self._ended - _SKEW:
                self.set_back += 1
            elif took > 0:
                typical = self.typical_interval
                self.longest_interval = max(self.longest_interval, took)
                # it follows what is typical slowly, so that a pause does not become it
                self.typical_interval = took if typical is None else typical + (min(took, 2 * typical) - typical) / 10
        self._ended = ended

    def take_back(
        self,
        updates: History[Entry[PPOUpdatePayload]],
        batches: History[Entry[BatchEpochCompletedPayload]],
        episode: int,
    ) -> None:
        """Count anew from what is left after a resume.

        Args:
            updates: that are kept, oldest first.
            batches: that are kept, oldest first.
            episode: from which the resume took back.
        """
        self.hosts, self.rewards = (
            {batch: entry for batch, entry in marks.items() if not entry.position.is_from(episode)}
            for marks in (self.hosts, self.rewards)
        )
        self.incomplete = self.incomplete or (self.kept is not None and max(self.updates, self.batches) > self.kept)
        self._begin()
        for entry in updates:
            self.add_update(entry.event, entry.data, entry.position.batch)
        for ended in batches:
            self.add_batch(ended.event, ended.data)

    def freeze(self) -> HealthSnapshot:
        """Return what there is now; it costs nothing while no update or batch comes."""
        if self._frozen is None:
            self._frozen = HealthSnapshot(
                limits=self.limits,
                rules=MappingProxyType(dict(self.rules)),
                hosts=MappingProxyType({batch: entry.event for batch, entry in self.hosts.items()}),
                rewards=MappingProxyType({batch: entry.event for batch, entry in self.rewards.items()}),
                series=MappingProxyType({name: tuple(series.blocks) for name, series in self.series.items()}),
                updates=self.updates,
                batches=self.batches,
                typical_interval=self.typical_interval,
                longest_interval=self.longest_interval,
                set_back=self.set_back,
                missing=self.missing,
                failed=None if self.failed is None else self.failed.event,
                incomplete=self.incomplete,
            )
        return self._frozen


def _order(entry: _Mark) -> tuple[int, int]:
    return entry.event.epoch or 0, env_of(entry.event) or 0
