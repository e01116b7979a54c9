"""One sink as the hub sees it: a place in the shared sequence, the books, and a bell to wake its thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable

from esper.leyline.run_info import SinkStats
from esper.nissa.protocol import Durable, Sink
from esper.nissa.retry import RetryingSink

__all__ = ["WAKE_MARK", "SinkQueue", "queues_for"]

WAKE_MARK = 8_192
"""Queued events that wake a sink's thread before its time."""


class SinkQueue:
    """One sink: its place in the shared sequence and its books. Touched only under the hub's lock."""

    def __init__(self, sink: Sink, name: str) -> None:
        self.sink = sink
        self.name = name
        policy = sink.policy
        self.durable = isinstance(policy, Durable)
        self.limit = policy.high_water if isinstance(policy, Durable) else policy.capacity
        self.max_wait = policy.max_wait if isinstance(policy, Durable) else 0.0
        # A live sink that cannot keep up loses an eighth of its queue at a time, so that emitting stays cheap.
        self.keep = self.limit if self.durable else self.limit - self.limit // 8
        self.wake_mark = min(WAKE_MARK, self.limit // 2 + 1)
        self.courier = RetryingSink(sink)

        self.cursor = 0
        self.in_hand = 0
        self.delivered = 0
        self.rejected = 0
        self.dropped = 0

        # A lock serves as the bell: unlike an Event it can be rung from a signal handler at any moment.
        self.bell = threading.Lock()
        self.bell.acquire()
        self.roused = False
        self.asked: deque[int] = deque()
        self.committed = 0
        self.patient_until: float | None = None
        self.loss_told = False
        self.settled_at = time.monotonic()
        self.set_aside = False
        self.finished = False
        self.unclean = False

    def rouse(self) -> None:
        """Ring the bell, unless it rings already."""
        if not self.roused:
            self.roused = True
            with contextlib.suppress(RuntimeError):  # rung already
                self.bell.release()

    def ask(self, place: int) -> None:
        """Ask the sink to commit everything before a place in the sequence."""
        if place > self.committed and not self.finished:
            self.asked.append(place)
            self.rouse()

    def is_asked(self) -> bool:
        """Whether a commit was asked for of what has been taken by now; if so, it is not asked for any more."""
        reached = False
        while self.asked and self.asked[0] <= self.cursor:
            self.asked.popleft()
            reached = True
        return reached

    def done_with(self, place: int) -> bool:
        """Whether there is nothing more to wait for before a place in the sequence."""
        return self.committed >= place or self.set_aside or self.finished

    def intact(self, place: int) -> bool:
        """Whether everything before that place is committed, and nothing was ever lost that the policy keeps."""
        return self.committed >= place and not (self.set_aside or self.unclean or (self.durable and self.dropped))

    def stats(self, emitted: int, end: int, late: int) -> SinkStats:
        """Return the books, given the emitter's side of them: events counted, in sequence, and too late."""
        queued = end - self.cursor + self.in_hand
        return SinkStats(
            name=self.name,
            durable=self.durable,
            emitted=emitted + late,
            delivered=self.delivered,
            rejected=self.rejected,
            dropped=self.dropped + late,
            queued=queued,
            lag=time.monotonic() - self.settled_at if queued else 0.0,
            set_aside=self.set_aside,
            last_error=self.courier.last_error,
        )


def queues_for(sinks: Iterable[Sink]) -> tuple[SinkQueue, ...]:
    """Make a lane for every sink, telling sinks of one name apart."""
    lanes: list[SinkQueue] = []
    for sink in sinks:
        same = sum(lane.sink.name == sink.name for lane in lanes)
        lanes.append(SinkQueue(sink, f"{sink.name} #{same + 1}" if same else sink.name))
    return tuple(lanes)
