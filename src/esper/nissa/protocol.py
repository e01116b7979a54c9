"""What a sink is: three methods, a name and a policy.

A third party writes one in a few lines; ``docs/sinks.md`` shows how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from esper.leyline.telemetry import TelemetryEvent

__all__ = ["Durable", "FunctionSink", "Live", "Policy", "Rejected", "Sink", "SinkStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """Lose nothing that patience can save: a full queue makes whoever emits wait for the sink."""

    max_wait: float = 5.0
    """Longest wait for a sink that makes no progress; afterwards the oldest events go. Unit: seconds; 0 or more."""
    high_water: int = 65_536
    """Events that may queue before an emitter waits. Unit: events; 1 or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Never make anybody wait: of a full queue the oldest events go, an eighth of it at a time."""

    capacity: int = 8_192
    """Events that may queue. Unit: events; 1 or more."""


Policy: TypeAlias = Durable | Live
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
    def policy(self) -> Policy:
        """What happens when this sink cannot keep up."""
        ...

    def write(self, event: TelemetryEvent) -> None:
        """Take one event; it may stay in a buffer until the next `flush`.

        Raises:
            Rejected: the event can never be taken.
            Exception: the event was not taken; it is offered again where that can help.
        """

    def flush(self, *, barrier: bool) -> None:
        """Bring what was taken to where it belongs. Called after every batch, and again when it raised.

        Only what a flush has brought home counts as delivered.

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

    def __init__(self, name: str, function: Callable[[TelemetryEvent], object], policy: Policy | None = None) -> None:
        self.name = name
        self.policy: Policy = Live() if policy is None else policy
        self._function = function

    def write(self, event: TelemetryEvent) -> None:
        """Call the function."""
        self._function(event)

    def flush(self, *, barrier: bool) -> None:
        """Do nothing: the function has seen everything."""

    def close(self) -> None:
        """Do nothing: the function owns nothing."""


@dataclass(frozen=True, slots=True)
class SinkStats:
    """The books of one sink, which balance at every instant.

    ``emitted == delivered + rejected + dropped + queued``, where the left side is counted by who emits and the right
    side by who delivers.
    """

    name: str
    """Name of the sink, with a number behind it when the hub has several of that name."""
    durable: bool
    """Whether its policy is `Durable`: anything dropped is then a loss."""
    emitted: int
    """Events the hub was given. Unit: events; 0 or more."""
    delivered: int
    """Events the sink took and flushed. Unit: events; 0 or more."""
    rejected: int
    """Events the sink can never take. Unit: events; 0 or more."""
    dropped: int
    """Events given up: the queue was full, the sink set aside, or the hub closed. Unit: events; 0 or more."""
    queued: int
    """Events still on their way. Unit: events; 0 or more."""
    lag: float
    """Everything emitted longer ago than this has left the queue. Unit: seconds; 0 or more."""
    set_aside: bool
    """Whether the sink failed and is offered nothing any more."""
    last_error: str | None
    """The newest failure of the sink; None when there was none."""
