"""What a plotting tool wants of an event: a position on an x-axis, numbers, and whether it is text."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from esper.leyline.payload import is_optional
from esper.leyline.position import Position, Positions, env_of, epoch_of
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryPayload,
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


class Point(NamedTuple):
    """One event, ready to be plotted."""

    section: str
    """Name of the payload without its suffix: ``PPOUpdate``."""
    env_id: int | None
    """The environment the event is about; None when it is about all of them."""
    axis: str
    """What the steps count: ``batch``, or ``env_epoch`` for what is about one environment."""
    step: int | None
    """Position on that axis; an environment's epochs are counted on over its episodes. None where that is unknown:
    the event is not drawn."""
    numbers: dict[str, float]
    """The numbers that were supplied, by field name; those of a dict as ``field/key``. Not finite ones are kept. Empty
    where the event is written as text."""
    is_text: bool
    """Whether the event is written as text, rather than as its numbers."""
    retracts_from: int | None
    """From this step on its environment's curves, or the global ones, are drawn anew: this is the first of them since a
    resume, or the start of another run. None for all other events."""
    begun_anew: int
    """How often that has happened to its group."""


class Plotter:
    """Turns events into points. It follows where events stand, so every sink has one of its own."""

    def __init__(self) -> None:
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)

    def point(self, event: TelemetryEvent) -> Point:
        """Return the event as a point, and count it."""
        data = event.data
        env_id = env_of(event)
        group = self._groups[event.group_id]
        step, retracts_from = group.place(event, env_id)
        is_text = isinstance(data, _AS_TEXT)
        return Point(
            section=type(data).__name__.removesuffix("Payload"),
            env_id=env_id,
            axis="batch" if env_id is None else "env_epoch",
            step=step,
            numbers={} if is_text else _numbers(data),
            is_text=is_text,
            retracts_from=retracts_from,
            begun_anew=group.begun_anew,
        )


@dataclass(slots=True)
class _Curve:
    """How far the curves of one environment, or the global ones, are since the newest start."""

    begun: int = 0
    """Epochs of earlier episodes."""
    newest: int = 0
    """The newest epoch of the present one."""
    position: Position | None = None
    """Where that stands."""
    drawn: bool = False


class _Group:
    """Where the curves of one A/B group are."""

    def __init__(self) -> None:
        self.positions = Positions()
        self.attempt: tuple[int, int] | None = None
        self.begun_anew = 0
        self.started = False
        self._begin(0, 0, 0, 0)

    def _begin(self, cut: int, batches: int, width: int, max_epochs: int) -> None:
        self.cut = cut
        """Episodes completed before the newest start."""
        self.batches = batches
        self.width = width
        self.max_epochs = max_epochs
        self.ended = False
        self.curves: defaultdict[int | None, _Curve] = defaultdict(self._curve)
        self.counts = Counter[type]()

    def _curve(self) -> _Curve:
        return _Curve(self.batches * self.max_epochs)

    def place(self, event: TelemetryEvent, env_id: int | None) -> tuple[int | None, int | None]:
        """Return the step of the next event, and from where on its curves are drawn anew with it."""
        position = self.positions.locate(event)
        if isinstance(event.data, TrainingStartedPayload):
            self._start(event.data, position)
        elif self.attempt is None:
            self.attempt = position.run, position.resume
        curve = self.curves[env_id]
        step = self._global_step(event, position) if env_id is None else self._env_step(curve, event, position)
        if step is None:
            return None, None
        first, curve.drawn = not curve.drawn, True
        return step, self._retracted(env_id, step) if first and self.begun_anew else None

    def _start(self, data: TrainingStartedPayload, position: Position) -> None:
        """Begin the curves, or go on with those of a run that is resumed."""
        attempt = position.run, position.resume
        if attempt != self.attempt or not self.started:  # else it is another rank's
            self.begun_anew += self.attempt not in {None, attempt} or data.start_episode > 0
            self.attempt, self.started = attempt, True
            batches = data.start_episode // max(1, data.n_envs) if position.batch is None else position.batch
            self._begin(data.start_episode, batches, data.n_envs, data.max_epochs)

    def _retracted(self, env_id: int | None, step: int) -> int:
        """Return the first step that was superseded; where that is unknown, the one that is drawn now."""
        if self.width <= 0 or self.max_epochs <= 0:
            return step
        if env_id is None:
            return self.cut // self.width
        return max(-((env_id - self.cut) // self.width), 0) * self.max_epochs + 1

    def _env_step(self, curve: _Curve, event: TelemetryEvent, position: Position) -> int | None:
        epoch = epoch_of(event)
        if position.episode is not None and position.batch is not None:
            if position != curve.position:
                curve.position, curve.begun, curve.newest = position, position.batch * self.max_epochs, 0
        elif position.batch is None and self.width > 0 and self.max_epochs > 0:
            return None
        elif isinstance(event.data, EpochCompletedPayload) and event.data.inner_epoch <= curve.newest:
            curve.begun, curve.newest = curve.begun + curve.newest, 0  # a new episode, with no end of batch in between
        if epoch is None:
            return curve.begun + curve.newest
        if isinstance(event.data, EpochCompletedPayload):
            curve.newest = epoch
        return curve.begun + epoch

    def _global_step(self, event: TelemetryEvent, position: Position) -> int | None:
        """Return the batch; where nothing says which, how many of the kind came before."""
        data = event.data
        if isinstance(data, TrainingStartedPayload):
            return self.batches
        if isinstance(data, BatchEpochCompletedPayload):
            self._end_episodes()
        count = self.counts[type(data)]
        self.counts[type(data)] += 1
        named = self.ended or not isinstance(data, PPOUpdatePayload) or "batch" in data.supplied
        return position.batch if named and position.batch is not None else self.batches + count

    def _end_episodes(self) -> None:
        """Begin another episode of each environment of which nothing else says when it does."""
        self.ended = True
        for curve in self.curves.values():
            if curve.position is None:
                curve.begun, curve.newest = curve.begun + curve.newest, 0


def _numbers(data: TelemetryPayload) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name in _drawn(type(data), data.supplied):  # type: ignore[arg-type]  # classes are hashable
        value = getattr(data, name)
        if value.__class__ is float:  # most are
            numbers[name] = value
        else:
            _add(numbers, name, value)
    return numbers


@lru_cache(maxsize=4096)
def _drawn(payload: type[TelemetryPayload], supplied: frozenset[str]) -> list[str]:
    """Return the fields that a payload's maker supplied, but for the one that says whose curves they are."""
    fields = [field for field in dataclasses.fields(payload) if field.name != "env_id"]
    return [field.name for field in fields if not is_optional(field) or field.name in supplied]


def _add(numbers: dict[str, float], name: str, value: object) -> None:
    if isinstance(value, (int, float)):  # a bool is drawn as 0 and 1
        numbers[name] = float(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _add(numbers, f"{name}/{key}", item)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            if isinstance(item, (int, float)):
                numbers[f"{name}/{index}"] = float(item)
