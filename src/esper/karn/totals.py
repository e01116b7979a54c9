"""What is counted over a whole run, so that a resume can take back what it supersedes."""

from __future__ import annotations

from bisect import insort
from typing import Final

from esper.karn.bounds import Room
from esper.karn.snapshot import Ending, LifecycleTotals
from esper.leyline.position import Position

__all__ = ["ENDINGS", "BatchCounts", "Totals"]

ENDINGS: Final = {
    Ending.FOSSILIZED: 1,
    Ending.PRUNED_BY_POLICY: 2,
    Ending.PRUNED_BY_RULE: 3,
    Ending.PRUNED: 4,
}
"""Where `LifecycleTotals` counts what became of a seed; germinations are counted first."""


class BatchCounts:
    """What was counted over one batch: so that a resume can take it back."""

    __slots__ = ("actions", "end", "events", "lifecycle", "starts")

    def __init__(self) -> None:
        self.events = 0
        self.starts = 0
        """Of these, starts, which say nothing about the batch."""
        self.end: int | None = None
        """Episodes completed at the end of the batch; None while unknown."""
        self.actions: dict[str, int] = {}
        self.lifecycle: list[tuple[str | None, int]] = []
        """Blueprint and column of everything that was counted."""


class Totals:
    """What is counted over a whole run: in all, and by batch as far back as a resume can reach."""

    def __init__(self, reach: int | None, room: Room) -> None:
        self.reach = reach
        self.room = room
        self.counted_from = 0
        self.actions: dict[str, int] = {}
        self.lifecycle: dict[str | None, list[int]] = {}
        self.batches: dict[int, BatchCounts] = {}
        """By the episodes completed before each."""
        self.order: list[int] = []
        """The same episodes, ascending."""
        self.forgotten = -1
        """The latest of them that there is no room for any more."""
        self.newest = -1
        """The batch of the newest event, with its counts: most are about the same."""
        self.newest_counts: BatchCounts | None = None

    def at(self, position: Position) -> BatchCounts | None:
        """Return the counts of a batch; None where the batch is unknown, or too long ago."""
        episodes = position.episodes
        if episodes is None:
            return None
        if episodes == self.newest:
            return self.newest_counts
        if episodes <= self.forgotten:
            return None
        if episodes not in self.batches:
            self.batches[episodes] = BatchCounts()
            insort(self.order, episodes)
            if self.reach is not None and len(self.order) > self.reach:
                self.forgotten = self.order.pop(0)
                del self.batches[self.forgotten]
        if episodes not in self.batches:
            return None
        self.newest, self.newest_counts = episodes, self.batches[episodes]
        return self.newest_counts

    def add_action(self, name: str, counts: BatchCounts | None) -> None:
        """Count an action that was carried out."""
        if name in self.actions:
            self.actions[name] += 1
        else:
            self.room.take()
            self.actions[name] = 1
        if counts is not None:
            of_batch = counts.actions
            of_batch[name] = of_batch[name] + 1 if name in of_batch else 1

    def add_seed(self, blueprint_id: str | None, column: int, counts: BatchCounts | None) -> None:
        """Count what became of a seed, in a column of `LifecycleTotals`."""
        if blueprint_id not in self.lifecycle:
            self.room.take()
            self.lifecycle[blueprint_id] = [0] * len(LifecycleTotals.__slots__)
        self.lifecycle[blueprint_id][column] += 1
        if counts is not None:
            counts.lifecycle.append((blueprint_id, column))

    def take_back(self, episode: int, width: int) -> int:
        """Take back what was counted from an episode on, and return how many events that were.

        Args:
            episode: the first that is taken back.
            width: episodes of a batch; 0 when unknown.
        """
        superseded = 0
        self.newest, self.newest_counts = -1, None
        while self.order and self.order[-1] >= episode:
            counts = self.batches.pop(self.order.pop())
            superseded += counts.events
            self._subtract(counts)
        if not self._ends_at(episode, width):
            self.begin(episode)
        return superseded

    def _ends_at(self, episode: int, width: int) -> bool:
        """Whether the newest batch that is left is known to have ended where this episode begins."""
        for episodes in reversed(self.order):
            counts = self.batches[episodes]
            if counts.events > counts.starts:
                return (episodes + width if counts.end is None else counts.end) == episode
        if self.forgotten >= 0:
            return self.forgotten + width == episode
        return episode == self.counted_from

    def _subtract(self, counts: BatchCounts) -> None:
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
        self.actions, self.lifecycle, self.batches, self.order = {}, {}, {}, []
        self.counted_from, self.forgotten = 0, -1
        self.newest, self.newest_counts = -1, None
