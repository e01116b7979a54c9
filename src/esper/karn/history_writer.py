"""The growing side of a history: what the aggregator appends to, and snapshots look at."""

from __future__ import annotations

import sys
from bisect import bisect_left
from typing import Any, Generic, TypeVar

from esper.karn.snapshot import Entry, EntryHistory, new_record
from esper.leyline.position import Position
from esper.leyline.telemetry import TelemetryEvent, TelemetryPayload

__all__ = ["HistoryWriter"]

P = TypeVar("P", bound=TelemetryPayload)
_NEVER = -1


class HistoryWriter(Generic[P]):
    """The newest events that carry one kind of payload.

    The oldest goes when the newest comes, so that as many objects die as are made: the garbage collector counts the
    difference, and at a thousand environments its walks through all that is kept would cost more than all else. Once
    a view shares the lists, they are only appended to, and left to it when they are twice as long as they need be.

    Args:
        bound: events kept; None for all.
    """

    __slots__ = ("_at", "_newest", "bound", "events", "latest", "ordered", "positions", "shared")

    def __init__(self, bound: int | None) -> None:
        self.bound = sys.maxsize if bound is None else bound
        self.events: list[TelemetryEvent] = []
        self.positions: list[Position] = []
        self._at: Position | None = None
        """Where the newest stands."""
        self.latest = _NEVER
        """The latest episode that any of them is about."""
        self.ordered = True
        """Whether they came in the order of the episodes they are about."""
        self.shared = False
        self._newest: Entry[P] | None = None

    def append(self, event: TelemetryEvent, position: Position) -> None:
        """Add an event."""
        events, positions = self.events, self.positions
        if len(events) >= self.bound:
            if not self.shared:
                del events[0], positions[0]
            elif len(events) == 2 * self.bound:
                self._keep(slice(1 - self.bound, None))
                events, positions = self.events, self.positions
        if position is not self._at:  # most share that of the one before
            self._at = position
            about = position.about
            if about is None or about < self.latest:
                self.ordered = False
            else:
                self.latest = about
        events.append(event)
        positions.append(position)
        self._newest = None

    def _keep(self, part: slice) -> None:
        self.events, self.positions, self.shared = self.events[part], self.positions[part], False

    def newest(self) -> Entry[P] | None:
        """Return the newest event with its payload and position; None before there is one."""
        if self._newest is None and self.events:
            event = self.events[-1]
            data: Any = event.data  # of the one kind, as with views
            self._newest = new_record(Entry, (data, event, self.positions[-1]))
        return self._newest

    def view(self) -> EntryHistory[P]:
        """Return what there is now; it costs the same however long that is."""
        self.shared = True
        stop = len(self.events)
        start = stop - self.bound if stop > self.bound else 0
        return EntryHistory.of(self.events, self.positions, start, stop)

    def take_back(self, episode: int) -> None:
        """Forget what is about an episode from this one on. What has had to make room does not come back."""
        if self.latest < episode:
            return
        start = max(len(self.events) - self.bound, 0)
        if self.ordered:
            self._keep(slice(start, bisect_left(self.positions, episode, lo=start, key=_about)))
        else:
            stays = [at for at in range(start, len(self.events)) if not self.positions[at].is_from(episode)]
            self.events = [self.events[at] for at in stays]
            self.positions = [self.positions[at] for at in stays]
            self.shared = False
        abouts = [position.about for position in self.positions]
        known = [about for about in abouts if about is not None]
        self.latest = max(known, default=_NEVER)
        self.ordered = len(known) == len(abouts) and known == sorted(known)
        self._at, self._newest = self.positions[-1] if self.positions else None, None


def _about(position: Position) -> int:
    assert position.about is not None
    return position.about
