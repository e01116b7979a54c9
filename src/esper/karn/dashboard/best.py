"""The best episode of a run, and what grew in it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from esper.karn.derived import accuracy_of
from esper.karn.formatting import is_finite
from esper.karn.snapshot import Entry, SeedOutcome, SeedRecord
from esper.leyline.limits import real
from esper.leyline.telemetry import (
    EpochCompletedPayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedPrunedPayload,
    TelemetryEvent,
)

if TYPE_CHECKING:
    from esper.leyline.position import Position

__all__ = ["BestEpisodes", "Episode"]

_KEPT: Final = 256
"""Episodes that were the best when they ended, so that a resume can take back the newest of them."""


@dataclass(slots=True)
class Episode:
    """One episode of one environment."""

    env_id: int
    position: Position
    total: float = 0.0
    """The sum of its rewards so far: its return, when it has ended."""
    steps: int = 0
    accuracy: float | None = None
    """Newest validation accuracy; None when it was not measured."""
    seeds: list[SeedRecord] = field(default_factory=list)
    """Seeds that ended in it, in the order of their ends."""

    @property
    def kept(self) -> list[SeedRecord]:
        """The seeds that were fossilized."""
        return [
            seed
            for seed in self.seeds
            if seed.outcome is not None and isinstance(seed.outcome.data, SeedFossilizedPayload)
        ]


class BestEpisodes:
    """Finds the episode with the highest return, among those of which every step is in the log."""

    def __init__(self) -> None:
        self.steps = 0
        """Of an episode; 0 while that is unknown, and then there is no best one."""
        self._running: dict[int, Episode] = {}
        self._best: deque[Episode] = deque(maxlen=_KEPT)

    @property
    def best(self) -> Episode | None:
        """The best so far, the first of equals; None before one has ended."""
        return self._best[-1] if self._best else None

    def add(self, event: TelemetryEvent, position: Position) -> None:
        """Take in an event of an environment; others are ignored."""
        data = event.data
        if isinstance(data, RewardComputedPayload):
            episode = self._episode(data.env_id, position)
            episode.total += real(data.total_reward)
            episode.steps += 1
            if episode.steps == self.steps:
                self._end(episode)
        elif isinstance(data, EpochCompletedPayload):
            self._episode(data.env_id, position).accuracy = accuracy_of(data)
        elif isinstance(data, SeedFossilizedPayload | SeedPrunedPayload):
            end: SeedOutcome = Entry(data, event, position)
            self._episode(data.env_id, position).seeds.append(SeedRecord(event.seed_id, position, outcome=end))

    def _episode(self, env_id: int, position: Position) -> Episode:
        running = self._running.get(env_id)
        if running is None or (running.position is not position and running.position != position):
            running = self._running[env_id] = Episode(env_id, position)
        return running

    def _end(self, episode: Episode) -> None:
        if episode.position.episode is None or not is_finite(episode.total):
            return
        if self.best is None or episode.total > self.best.total:
            self._best.append(episode)

    def take_back(self, episode: int) -> None:
        """Forget what is about an episode from this one on."""
        self._running = {}
        stays = [one for one in self._best if not one.position.is_from(episode)]
        self._best = deque(stays, maxlen=_KEPT)
