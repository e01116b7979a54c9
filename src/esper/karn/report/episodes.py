"""What is drawn of each episode: its steps in sums, since a long run has too many of them to be kept."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from esper.karn.derived import accuracy_of, contributions, reward_components
from esper.karn.report.decimation import clamped
from esper.leyline.limits import real
from esper.leyline.position import Position, env_of, epoch_of
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
    TelemetryEvent,
)

__all__ = ["Episode", "Episodes", "Spread"]


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

    def merge(self, other: Spread) -> None:
        """Take in what another has taken in."""
        self.n += other.n
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        self.not_finite += other.not_finite

    @property
    def mean(self) -> float | None:
        """The mean of what is finite; None when nothing is."""
        return self.total / self.n if self.n else None


def _spreads() -> defaultdict[str, Spread]:
    return defaultdict(Spread)


@dataclass(slots=True)
class Episode:
    """What one environment emitted that stands at one position."""

    env_id: int
    position: Position
    events: int = 0
    epoch: int = 0
    """The latest host epoch."""
    epochs: list[tuple[int, float | None, float]] = field(default_factory=list)
    """Host epoch, validation accuracy (None where not measured) and loss of each epoch."""
    rewards: Spread = field(default_factory=Spread)
    components: defaultdict[str, Spread] = field(default_factory=_spreads)
    """Over its steps; what was not supplied is not there."""
    ops: Counter[str] = field(default_factory=Counter)
    contributions: defaultdict[str, Spread] = field(default_factory=_spreads)
    """Accuracy lost without the seed of a slot, the others staying, by slot."""

    def add(self, event: TelemetryEvent) -> None:
        """Take one event in."""
        data = event.data
        self.events += 1
        self.epoch = max(self.epoch, clamped(epoch_of(event) or 0))
        if isinstance(data, EpochCompletedPayload):
            self.epochs.append((clamped(data.inner_epoch), accuracy_of(data), data.val_loss))
        elif isinstance(data, RewardComputedPayload):
            self.rewards.add(data.total_reward)
            self.ops[data.action_name] += 1
            for name, part in reward_components(data).items():
                if part is not None:
                    self.components[name].add(part)
        elif isinstance(data, CounterfactualMatrixPayload):
            for slot_id, lost in contributions(data):
                self.contributions[slot_id].add(lost)


class Episodes:
    """The episodes of one group while the log is read."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, Position], Episode] = {}
        self._newest: dict[int, Episode] = {}
        """By environment."""

    def add(self, event: TelemetryEvent, position: Position) -> None:
        """Take in an event and where it stands; what is about no single environment is passed over."""
        env_id = env_of(event)
        if env_id is None or isinstance(event.data, AnalyticsSnapshotPayload):
            return
        episode = self._newest.get(env_id)
        if episode is None or episode.position is not position:  # all events of an episode share one
            key = env_id, position
            if key not in self._found:
                self._found[key] = Episode(*key)
            episode = self._newest[env_id] = self._found[key]
        episode.add(event)

    def __iter__(self) -> Iterator[Episode]:
        return iter(self._found.values())
