"""What a sink is: three methods, a name and a policy.

A third party writes one in a few lines; ``docs/sinks.md`` shows how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from esper.leyline.telemetry import TelemetryEvent

__all__ = ["DeliveryPolicy", "Durable", "FunctionSink", "Live", "Rejected", "Sink"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """Lose nothing that waiting can save: a full queue makes whoever emits wait for the sink."""

    max_wait: float = 5.0
    """Longest wait for a sink that makes no progress; afterwards the oldest events go. Unit: seconds; 0 or more."""
    high_water: int = 65_536
    """Events that may queue before an emitter waits. Unit: events; 1 or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Never make anybody wait: of a full queue the oldest events go, an eighth of it at a time."""

    capacity: int = 8_192
    """Events that may queue. Unit: events; 1 or more."""


DeliveryPolicy: TypeAlias = Durable | Live
"""What happens when a sink cannot keep up. Either way every event lost is counted."""


class Rejected(Exception):  # noqa: N818 - what happened to the event, not a fault of the sink
    """Raised by `Sink.write` to refuse an event for good: it is counted as rejected and not offered again."""


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
