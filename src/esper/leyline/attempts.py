"""The attempts at a run, from one start or resume to the next, and what each took back.

A resume (``start_episode`` above 0) supersedes what earlier attempts emitted about later episodes, in every shard, and
also where that is read after the resume. Each rank emits a start of its own; those of one attempt belong together.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

from esper.leyline.telemetry import TrainingStartedPayload

__all__ = ["Attempt", "Attempts"]

_REACH: Final = 64
"""Attempts looked through for the one that a rank joins."""
_BEYOND: Final = 1 << 62


@dataclass(slots=True)
class Attempt:
    """A run from one start, or resume, to the next: one TRAINING_STARTED of every rank."""

    index: int
    run: int
    resume: int
    start: TrainingStartedPayload | None
    """None where the start was lost."""
    ranks: set[int] = field(default_factory=set)

    @property
    def start_episode(self) -> int:
        """Episodes completed before it."""
        return 0 if self.start is None else self.start.start_episode

    def joins(self, start: TrainingStartedPayload) -> bool:
        """Whether a start is another rank's of this attempt."""
        mine = self.start
        return (
            mine is not None
            and start.rank not in self.ranks
            and mine.episode_id == start.episode_id
            and mine.world_size == start.world_size
            and mine.start_episode == start.start_episode
        )


class Attempts:
    """All attempts that the events of one group tell of, in the order in which they were heard of."""

    def __init__(self) -> None:
        self._all: list[Attempt] = []
        self._cuts: list[list[tuple[int, int]]] = []
        """Of each run: (resume, start_episode) of each resume that no later one reaches behind, ascending."""

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def run(self) -> int:
        """The newest run, the first being 0."""
        return self._all[-1].run if self._all else 0

    def without_start(self) -> Attempt:
        """Return the attempt of a shard whose start was lost: the first one."""
        if not self._all:
            self._all.append(Attempt(0, 0, 0, None))
            self._cuts.append([])
        return self._all[0]

    def of_start(self, start: TrainingStartedPayload, before: Attempt | None) -> Attempt:
        """Return the attempt that a start begins, or joins as another rank's.

        Args:
            start: of one rank.
            before: the attempt at which its shard was; None when the shards of all ranks come as one.
        """
        newest_first, after = slice(None, -_REACH - 1, -1), 0 if before is None else before.index + 1
        within = self._all[newest_first if before is None else slice(after, after + _REACH)]
        attempt = next((attempt for attempt in within if attempt.joins(start)), None)
        if attempt is None:
            attempt = self._next(start)
            self._all.append(attempt)
        attempt.ranks.add(start.rank)
        return attempt

    def _next(self, start: TrainingStartedPayload) -> Attempt:
        newest = self._all[-1] if self._all else None
        if newest is None or start.start_episode <= 0:
            self._cuts.append([])
            return Attempt(len(self._all), len(self._cuts) - 1, 0, start)
        resume, cuts = newest.resume + 1, self._cuts[newest.run]
        while cuts and cuts[-1][1] >= start.start_episode:
            cuts.pop()
        cuts.append((resume, start.start_episode))
        return Attempt(newest.index + 1, newest.run, resume, start)

    def superseded_from(self, resume: int, run: int) -> int | None:
        """Return from which episode on the resumes of a run after one take back; None when none does."""
        cuts = self._cuts[run] if run < len(self._cuts) else []
        at = bisect_right(cuts, (resume, _BEYOND))
        return cuts[at][1] if at < len(cuts) else None
