"""What is counted over a whole run, so that a resume can take back what it supersedes."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from typing import Final

from esper.karn.bounds import Room
from esper.karn.snapshot import Ending
from esper.leyline.position import Position

__all__ = ["ENDINGS", "EpisodeCounts", "Totals"]

ENDINGS: Final = {
    Ending.FOSSILIZED: 1,
    Ending.PRUNED_BY_POLICY: 2,
    Ending.PRUNED_BY_RULE: 3,
    Ending.PRUNED: 4,
}
"""Where `LifecycleTotals` counts what became of a seed; germinations are counted first."""


class EpisodeCounts:
    """What was counted over one episode: so that a resume can take it back."""

    __slots__ = ("actions", "events", "lifecycle")

    def __init__(self) -> None:
        self.events = 0
        self.actions: defaultdict[str, int] = defaultdict(int)
        self.lifecycle: list[tuple[str | None, int]] = []
        """Blueprint and column of everything that was counted."""


class Totals:
    """What is counted over a whole run: in all, and by episode as far back as a resume can reach.

    Args:
        reach: episodes kept; None for all.
        room: for the names of actions and blueprints.
    """

    def __init__(self, reach: int | None, room: Room) -> None:
        self.reach = reach
        self.room = room
        self._forget()

    def _forget(self) -> None:
        room = self.room

        def no_action() -> int:
            room.take()
            return 0

        def no_seed() -> list[int]:
            room.take()
            return [0] * (1 + len(ENDINGS))

        self.counted_from = 0
        self.actions = defaultdict[str, int](no_action)
        self.lifecycle = defaultdict[str | None, list[int]](no_seed)
        self.episodes: dict[int, EpisodeCounts] = {}
        self.order: list[int] = []
        """The same episodes, ascending."""
        self.forgotten = -1
        """The latest of them that there is no room for any more."""

    def at(self, position: Position) -> EpisodeCounts | None:
        """Return the counts of an episode; None where that is unknown, or too long ago."""
        about = position.about
        if about in self.episodes:
            return self.episodes[about]
        if about is None or about <= self.forgotten:
            return None
        counts = self.episodes[about] = EpisodeCounts()
        insort(self.order, about)
        if self.reach is not None and len(self.order) > self.reach:
            self.forgotten = self.order.pop(0)
            del self.episodes[self.forgotten]
        return counts

    def add_action(self, name: str, counts: EpisodeCounts | None) -> None:
        """Count an action that was carried out."""
        self.actions[name] += 1
        if counts is not None:
            counts.actions[name] += 1

    def add_seed(self, blueprint_id: str | None, column: int, counts: EpisodeCounts | None) -> None:
        """Count what became of a seed, in a column of `LifecycleTotals`."""
        self.lifecycle[blueprint_id][column] += 1
        if counts is not None:
            counts.lifecycle.append((blueprint_id, column))

    def take_back(self, episode: int) -> int:
        """Take back what was counted from an episode on, and return how many events that were."""
        superseded = 0
        while self.order and self.order[-1] >= episode:
            counts = self.episodes.pop(self.order.pop())
            superseded += counts.events
            self._subtract(counts)
        if episode <= self.forgotten:
            self.begin(episode)
        return superseded

    def _subtract(self, counts: EpisodeCounts) -> None:
        for name, count in counts.actions.items():
            self.actions[name] -= count
            if not self.actions[name]:
                del self.actions[name]
                self.room.left += 1
        for blueprint_id, column in counts.lifecycle:
            totals = self.lifecycle[blueprint_id]
            totals[column] -= 1
            if not any(totals):
                del self.lifecycle[blueprint_id]
                self.room.left += 1

    def begin(self, episode: int) -> None:
        """Begin the totals here: what led up to this episode is not, or no longer, known."""
        self.clear()
        self.counted_from = episode

    def clear(self) -> None:
        """Forget everything, and leave room for it."""
        self.room.left += len(self.actions) + len(self.lifecycle)
        self._forget()
