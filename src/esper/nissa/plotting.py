"""What a plotting tool wants of an event: a position on an x-axis, numbers, and whether it is text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)

__all__ = ["Plotter", "Point"]

_AS_TEXT = (
    TrainingStartedPayload,
    SeedGerminatedPayload,
    SeedStageChangedPayload,
    SeedFossilizedPayload,
    SeedPrunedPayload,
)
"""Events that happen rather than vary: written as text, not as points of a curve."""


@dataclass(frozen=True, slots=True)
class Point:
    """One event, ready to be plotted."""

    section: str
    """Name of the payload without its suffix: ``PPOUpdate``."""
    env_id: int | None
    """The environment the event is about; None when it is about all of them."""
    axis: str
    """What the steps count: ``batch``, or ``env_epoch`` for what is about one environment."""
    step: int
    """Position on that axis. An environment's epochs are counted on over its episodes."""
    numbers: dict[str, float]
    """The numbers that were supplied, by field name; those of a dict as ``field/key``. Not finite ones are kept."""
    is_text: bool
    """Whether the event is written as text, rather than as its numbers."""
    retracts_from: dict[str, int]
    """By axis, the step from which on the curves of the event's group are drawn anew, this event being a resume or the
    start of another run; empty for all other events."""


class Plotter:
    """Turns events into points. Keeps count of each environment's epochs, so every sink has one of its own."""

    def __init__(self) -> None:
        self._epochs_before = 0
        self._batches_before = 0
        self._base: dict[tuple[str, int], int] = {}
        self._newest: Counter[tuple[str, int]] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._started: set[tuple[str, int]] = set()
        """Groups and ranks that have started."""

    def point(self, event: TelemetryEvent) -> Point:
        """Return the event as a point, and count it."""
        data = event.data
        section = type(data).__name__.removesuffix("Payload")
        fields = data.to_dict()
        env_id = fields.pop("env_id", None)
        retracts_from = self._start(data, event.group_id) if isinstance(data, TrainingStartedPayload) else {}
        if isinstance(env_id, int):
            axis, step = "env_epoch", self._env_step(event, env_id)
        else:
            env_id = None
            axis, step = "batch", self._global_step(event, section)
        return Point(section, env_id, axis, step, _numbers(fields), isinstance(data, _AS_TEXT), retracts_from)

    def _start(self, data: TrainingStartedPayload, group_id: str) -> dict[str, int]:
        """Begin the curves, or go on with those of a run that is resumed; return from where on they are drawn anew."""
        rank = (group_id, data.rank)
        draws_anew = data.start_episode > 0 or rank in self._started
        self._started.add(rank)
        self._batches_before = data.start_episode // max(1, data.n_envs)
        self._epochs_before = self._batches_before * data.max_epochs
        self._base.clear()
        self._newest.clear()
        self._counts.clear()
        return {"batch": self._batches_before, "env_epoch": self._epochs_before + 1} if draws_anew else {}

    def _env_step(self, event: TelemetryEvent, env_id: int) -> int:
        env = (event.group_id, env_id)
        base = self._base.setdefault(env, self._epochs_before)
        if isinstance(event.data, EpochCompletedPayload):
            if event.data.inner_epoch <= self._newest[env]:  # a new episode, with no end of batch in between
                base = self._base[env] = base + self._newest[env]
            self._newest[env] = event.data.inner_epoch
            return base + event.data.inner_epoch
        return base + (self._newest[env] if event.epoch is None else event.epoch)

    def _global_step(self, event: TelemetryEvent, section: str) -> int:
        kind = (event.group_id, section)
        count = self._counts[kind]
        self._counts[kind] += 1
        match event.data:
            case PPOUpdatePayload(batch=batch) if "batch" in event.data.supplied:
                return batch
            case BatchEpochCompletedPayload(batch_idx=batch):
                self._end_episodes(event.group_id)
                return batch
        return self._batches_before + count

    def _end_episodes(self, group_id: str) -> None:
        for env, base in self._base.items():
            if env[0] == group_id:
                self._base[env] = base + self._newest[env]
                self._newest[env] = 0


def _numbers(fields: dict[str, object]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in fields.items():
        if isinstance(value, int | float):  # a bool is drawn as 0 and 1
            numbers[name] = float(value)
        elif isinstance(value, dict):
            numbers |= {f"{name}/{key}": number for key, number in _numbers(value).items()}
        elif isinstance(value, tuple):
            numbers |= {f"{name}/{index}": float(item) for index, item in enumerate(value) if isinstance(item, float)}
    return numbers
