"""What a sink is: three methods, a name and a policy.

A third party writes one in a few lines; ``docs/sinks.md`` shows how.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Protocol, TypeAlias

from esper.leyline.telemetry import TelemetryEvent

__all__ = ["DeliveryPolicy", "Durable", "EventsLostError", "FunctionSink", "Live", "Rejected", "Sink", "seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """Lose nothing that waiting can save: a full queue makes whoever emits wait for the sink."""

    max_wait: float = 5.0
    """Longest wait for a sink that makes no progress; afterwards the oldest events go.

    Unit: seconds; 0 or more, infinite for a wait without end.
    """
    high_water: int = 65_536
    """Events that may queue before an emitter waits. Unit: events; 1 or more."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_wait", seconds("max_wait", self.max_wait))
        object.__setattr__(self, "high_water", _count("high_water", self.high_water))


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Never make anybody wait: of a full queue the oldest events go, an eighth of it at a time."""

    capacity: int = 8_192
    """Events that may queue. Unit: events; 1 or more."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "capacity", _count("capacity", self.capacity))


DeliveryPolicy: TypeAlias = Durable | Live
"""What happens when a sink cannot keep up. Either way every event lost is counted."""


class Rejected(Exception):  # noqa: N818 - what happened to the event, not a fault of the sink
    """Raised by `Sink.write` to refuse an event for good: it is counted as rejected and not offered again."""


class EventsLostError(Exception):
    """Raised by `Sink.flush` or `Sink.close`: events that counted as delivered are gone after all.

    They count as dropped from then on, and `Sink.flush` is called again.

    Attributes:
        count: how many. Unit: events; 1 or more.
    """

    def __init__(self, count: int, reason: str) -> None:
        super().__init__(count, reason)
        self.count = count

    def __str__(self) -> str:
        return f"{self.args[1]}"


class Sink(Protocol):
    """Where events go.

    The hub calls a sink from one thread of its own, never from two at once, so a sink needs no lock and may block:
    it delays neither the training nor another sink.
    """

    @property
    def name(self) -> str:
        """What warnings and statistics call this sink."""
        ...

    @property
    def policy(self) -> DeliveryPolicy:
        """What happens when this sink cannot keep up."""
        ...

    def write(self, event: TelemetryEvent) -> None:
        """Take one event; it may stay in a buffer until the next `flush`.

        Raises:
            Rejected: the event can never be taken.
            Exception: the event was not taken; it is offered again where that can help.
        """

    def flush(self, *, barrier: bool) -> None:
        """Deliver what was taken. Called after every batch, and again when it raised.

        Only what a flush has delivered counts as delivered.

        Args:
            barrier: what was taken must survive a crash of the machine, as far as this sink can see to it.
        """

    def close(self) -> None:
        """Release what the sink holds. Called once, after the last flush."""


class FunctionSink:
    """A sink of a plain function, called with every event on the sink's own thread.

    Args:
        name: what warnings and statistics call it.
        function: takes an event; may raise `Rejected`.
        policy: what happens when the function is slow.
    """

    def __init__(
        self, name: str, function: Callable[[TelemetryEvent], object], policy: DeliveryPolicy | None = None
    ) -> None:
        self.name = name
        self.policy: DeliveryPolicy = Live() if policy is None else policy
        self._function = function

    def write(self, event: TelemetryEvent) -> None:
        """Call the function."""
        self._function(event)

    def flush(self, *, barrier: bool) -> None:
        """Do nothing: the function has seen everything."""

    def close(self) -> None:
        """Do nothing: the function owns nothing."""


def seconds(name: str, value: object) -> float:
    """Return a duration as a float; None is one without end.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative or NaN.
    """
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a number of seconds, not {type(value).__name__}")
    duration = float(value)
    if not duration >= 0:
        raise ValueError(f"{name} is a number of seconds, 0 or more, not {duration}")
    return duration


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is a number of events, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} is a number of events, 1 or more, not {value}")
    return int(value)
