"""What the rules of health found in a run: for each how often, and the first, newest and worst event; frozen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from esper.leyline.limits import Limits, Status
from esper.leyline.payload import compile_init
from esper.leyline.telemetry import PPOUpdatePayload, TelemetryEvent
from esper.leyline.trend import Block

__all__ = ["RECENT", "HealthSnapshot", "Occurrence", "Tally", "Trips"]

RECENT: Final = 10
"""Newest updates, or batches, that decide whether something is over."""
_MASK: Final = (1 << RECENT) - 1


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A rule that tripped, once."""

    event: TelemetryEvent
    batch: int | None
    """Batch in which it did; None when unknown. Unit: index; 0 or more."""
    ordinal: int
    """Updates, or batches, up to and including it. Unit: 1; 1 or more."""
    value: float | None
    evidence: str
    lower_is_worse: bool = False


@dataclass(frozen=True, slots=True)
class Trips:
    """How often a rule tripped at one level or a graver one."""

    count: int = 0
    recent: int = 0
    """Bits, the newest lowest: of the newest updates, which tripped."""
    first: Occurrence | None = None
    newest: Occurrence | None = None
    extreme: Occurrence | None = None
    """With the worst value: the one furthest from 0, or the lowest; not finite beats all."""
    before: tuple[PPOUpdatePayload, ...] = ()
    """The updates before the first, oldest first."""

    def after(self, tripped: Occurrence | None, before: Iterable[PPOUpdatePayload] = ()) -> Trips:
        """Return what it is after the next update, which may not have tripped."""
        if tripped is None and not self.recent:
            return self
        recent = (self.recent << 1 | (tripped is not None)) & _MASK
        if tripped is None:
            return Trips(self.count, recent, self.first, self.newest, self.extreme, self.before)
        extreme = tripped if self.extreme is None or _size(tripped) > _size(self.extreme) else self.extreme
        if self.first is None:
            return Trips(1, recent, tripped, tripped, extreme, tuple(before))
        return Trips(self.count + 1, recent, self.first, tripped, extreme, self.before)

    def recently(self, newest: int) -> int:
        """Return how many of so many newest tripped."""
        return (self.recent & ((1 << newest) - 1)).bit_count()


def _size(tripped: Occurrence) -> float:
    value = tripped.value
    if value is None or value != value:  # noqa: PLR0124 - NaN is none other
        return math.inf
    return -value if tripped.lower_is_worse and math.isfinite(value) else abs(value)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a rule found in a run."""

    judged: int = 0
    """Updates, or batches, that it could judge."""
    watch: Trips = Trips()
    """WATCH or BAD."""
    bad: Trips = Trips()

    def after(self, status: Status, tripped: Occurrence, before: Iterable[PPOUpdatePayload] = ()) -> Tally:
        """Return what it is after an update that tripped it, at WATCH or BAD."""
        bad = self.bad.after(tripped if status is Status.BAD else None, before)
        return Tally(self.judged + 1, self.watch.after(tripped, before), bad)

    def after_ok(self) -> Tally:
        """Return what it is after an update that did not."""
        return Tally(self.judged + 1, self.watch.after(None), self.bad.after(None))


for each in (Occurrence, Trips, Tally):  # one of each a rule and update
    compile_init(each)


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """What the rules found in a run so far."""

    limits: Limits
    rules: Mapping[str, Tally]
    """By the name of a rule: over updates, ``return_finite`` over batches."""
    hosts: Mapping[int | None, TelemetryEvent]
    """By batch, the first epoch in it of a host that diverged; of a thousand batches at most."""
    rewards: Mapping[int | None, TelemetryEvent]
    """By batch, the first reward in it that was not finite; of a thousand batches at most."""
    series: Mapping[str, tuple[Block, ...]]
    """Of ``avg_reward``, ``avg_accuracy`` and ``entropy``."""
    updates: int
    """Updates that were folded. Unit: updates; 0 or more."""
    batches: int
    """Batches that were folded. Unit: batches; 0 or more."""
    typical_interval: float | None
    """Between batches; None before there are two. Unit: seconds."""
    longest_interval: float
    """Unit: seconds; 0 or more."""
    set_back: int
    """Batches that ended before the batch before them, by their clock. Unit: batches; 0 or more."""
    missing: int
    """Batches that the log skips. Unit: batches; 0 or more."""
    failed: TelemetryEvent | None
    """The event that says why the run ended."""
    incomplete: bool
    """Whether what lies longer ago than the newest two thousand updates is missing, since a resume took some back."""
