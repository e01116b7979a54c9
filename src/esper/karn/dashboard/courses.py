"""How a run went from its beginning, at constant memory: of neighbouring updates the lowest and the highest stay.

A view that keeps the newest thousands forgets the rest, and one that takes means loses a spike. Here every update and
every batch is in one of at most `MOST` stretches, each of which holds the extremes of each quantity and counts what is
not finite; when there are too many, neighbours become one. So one spike among any number of updates is still there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from esper.karn.dashboard.best import BestEpisodes
from esper.karn.derived import accuracy_of, return_of
from esper.leyline.limits import real
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.leyline.typical import value_of

if TYPE_CHECKING:
    from esper.karn.snapshot import GroupSnapshot
    from esper.leyline.position import Position

__all__ = ["BATCH_FIELDS", "MOST", "UPDATE_FIELDS", "Course", "Courses", "Extent", "Stretch", "merged"]

MOST: Final = 2048
"""Stretches kept of a run; half of it at least, which is more than any terminal has dots."""
BATCH_FIELDS: Final = ("avg_reward", "avg_accuracy")
UPDATE_FIELDS: Final = (
    "kl_divergence",
    "entropy",
    "explained_variance",
    "grad_norm",
    "clip_fraction",
    "value_loss",
    "policy_loss",
    "ratio_max",
    "nan_grad_count",
    "inf_grad_count",
    "dead_layers",
    "exploding_layers",
    "lr",
    "update_time_ms",
)
"""What has a chart, in the order of the screen."""


class Extent(NamedTuple):
    """What a stretch says of one quantity."""

    low: float | None
    """The lowest finite value; None without one."""
    high: float | None
    not_finite: int
    """Values that are not. Unit: updates, or batches; 0 or more."""
    above: bool
    """Whether one of those was infinity."""


_NOTHING: Final = Extent(None, None, 0, above=False)


def _extent(value: float | None) -> Extent:
    if value is None:
        return _NOTHING
    value = real(value)
    return Extent(value, value, 0, above=False) if math.isfinite(value) else Extent(None, None, 1, above=value > 0)


def merged(extents: Iterable[Extent]) -> Extent:
    """Return what several neighbours say together."""
    several = tuple(extents)
    lows = [one.low for one in several if one.low is not None]
    highs = [one.high for one in several if one.high is not None]
    count = sum(one.not_finite for one in several)
    return Extent(min(lows, default=None), max(highs, default=None), count, any(one.above for one in several))


class Stretch(NamedTuple):
    """Neighbouring updates, or batches."""

    batch: int | None
    """Of the first of them."""
    about: int | None
    """The episode that the first is about; None when unknown."""
    n: int
    """How many."""
    extents: tuple[Extent, ...]
    """In the order of the fields."""


class Course:
    """Some quantities of a run, from its beginning."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self.per = 1
        """Items of a stretch; the last may have fewer."""
        self.stretches: list[Stretch] = []
        self.version = 0
        """Changes whenever anything does."""
        self.last_batch: int | None = None
        self._whole: dict[str, tuple[int, Extent]] = {}

    def add(self, values: Sequence[float | None], batch: int | None, about: int | None) -> None:
        """Take in the next update or batch."""
        self.version += 1
        self.last_batch = batch
        extents = tuple(map(_extent, values))
        last = self.stretches[-1] if self.stretches else None
        if last is None or last.n == self.per:
            self.stretches.append(Stretch(batch, about, 1, extents))
        else:
            self.stretches[-1] = _joined(last, Stretch(batch, about, 1, extents))
        if len(self.stretches) > MOST:
            pairs = [self.stretches[at : at + 2] for at in range(0, len(self.stretches), 2)]
            self.stretches = [_joined(*pair) if len(pair) > 1 else pair[0] for pair in pairs]
            self.per *= 2

    def extents(self, field: str) -> list[Extent]:
        """Return what each stretch says of a quantity, the oldest first."""
        at = self.fields.index(field)
        return [stretch.extents[at] for stretch in self.stretches]

    def whole(self, field: str) -> Extent:
        """Return what the whole run says of a quantity."""
        if field not in self._whole or self._whole[field][0] != self.version:
            self._whole[field] = self.version, merged(self.extents(field))
        return self._whole[field][1]

    def take_back(self, episode: int) -> int | None:
        """Forget what is about an episode from this one on.

        A stretch with episodes on both sides goes as a whole. Returns the episode from which on whoever still has the
        items must give them again; None where nothing else was forgotten. Where nobody has them any more, as many as a
        stretch holds are missing: less than a thousandth of the run.
        """
        self.version += 1
        while self.stretches and _is_from(self.stretches[-1].about, episode):
            self.stretches.pop()
        again = self.stretches.pop().about if self.stretches and self.per > 1 else None
        self.last_batch = self.stretches[-1].batch if self.stretches else None
        return again


def _is_from(about: int | None, episode: int) -> bool:
    return about is not None and about >= episode


def _joined(first: Stretch, second: Stretch) -> Stretch:
    extents = tuple(map(merged, zip(first.extents, second.extents, strict=True)))
    return Stretch(first.batch, first.about, first.n + second.n, extents)


class Courses:
    """How one arm of a run went."""

    def __init__(self) -> None:
        self._begin(0)

    def _begin(self, run: int) -> None:
        self.run, self.resume = run, 0
        self.updates, self.batches = Course(UPDATE_FIELDS), Course(BATCH_FIELDS)
        self.best = BestEpisodes()
        self._started: TrainingStartedPayload | None = None

    def add(self, event: TelemetryEvent, position: Position, kept: Callable[[], GroupSnapshot]) -> None:
        """Take in an event that was folded.

        Args:
            event: any of the arm.
            position: where it stands.
            kept: asked, after a resume, for what the fold keeps of the arm.
        """
        data = event.data
        if position.run != self.run:
            self._begin(position.run)
        if isinstance(data, PPOUpdatePayload):
            self._add_update(data, position)
        elif isinstance(data, BatchEpochCompletedPayload):
            self._add_batch(data, position)
        elif isinstance(data, TrainingStartedPayload):
            self._started, self.best.steps = data, data.max_epochs
            if position.resume != self.resume:
                self.resume = position.resume
                self._take_back(data.start_episode, kept())
        else:
            self.best.add(event, position)

    def _add_update(self, data: PPOUpdatePayload, position: Position) -> None:
        self.updates.add([value_of(data, field) for field in UPDATE_FIELDS], position.batch, position.about)

    def _add_batch(self, data: BatchEpochCompletedPayload, position: Position) -> None:
        self.batches.add([return_of(data, self._started), accuracy_of(data)], data.batch_idx, position.about)

    def _take_back(self, episode: int, kept: GroupSnapshot) -> None:
        self.best.take_back(episode)
        again = self.updates.take_back(episode)
        for update in kept.ppo if again is not None else ():
            if _is_from(update.position.about, again or 0):
                self._add_update(update.data, update.position)
        again = self.batches.take_back(episode)
        for batch in kept.batches if again is not None else ():
            if _is_from(batch.position.about, again or 0):
                self._add_batch(batch.data, batch.position)
