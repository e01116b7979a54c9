"""One sink as the hub sees it: a position in the shared sequence, the accounts, and a lock that wakes its thread."""

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
    """One sink: its position in the shared sequence and its accounts. Touched only under the hub's lock."""

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
        self.retrying = RetryingSink(sink)

        self.cursor = 0
        self.in_hand = 0
        self.delivered = 0
        self.rejected = 0
        self.dropped = 0

        # A lock, to be released: unlike an Event it can be used by a signal handler at any moment.
        self.wakeup = threading.Lock()
        self.wakeup.acquire()
        self.awake = False
        self.commits_due: deque[int] = deque()
        self.committed = 0
        self.waits_until: float | None = None
        self.loss_reported = False
        self.settled_at = time.monotonic()
        self.set_aside = False
        self.finished = False
        self.unclean = False

    def wake(self) -> None:
        """Wake the thread, unless it is awake already."""
        if not self.awake:
            self.awake = True
            with contextlib.suppress(RuntimeError):  # released already
                self.wakeup.release()

    def request_commit(self, position: int) -> None:
        """Ask the sink to commit everything before a position in the sequence."""
        if position > self.committed and not self.finished:
            self.commits_due.append(position)
            self.wake()

    def commit_is_due(self) -> bool:
        """Whether a commit of what has been taken by now was requested; if so, it is not requested any more."""
        reached = False
        while self.commits_due and self.commits_due[0] <= self.cursor:
            self.commits_due.popleft()
            reached = True
        return reached

    def done_with(self, position: int) -> bool:
        """Whether there is nothing more to wait for before a position in the sequence."""
        return self.committed >= position or self.set_aside or self.finished

    def intact(self, position: int) -> bool:
        """Whether everything before that position is committed, and nothing was ever lost that the policy keeps."""
        return self.committed >= position and not (self.set_aside or self.unclean or (self.durable and self.dropped))

    def stats(self, emitted: int, end: int, after_close: int) -> SinkStats:
        """Return the accounts, given the emitter's side of them: events counted, in sequence, and after close."""
        queued = end - self.cursor + self.in_hand
        return SinkStats(
            name=self.name,
            durable=self.durable,
            emitted=emitted + after_close,
            delivered=self.delivered,
            rejected=self.rejected,
            dropped=self.dropped + after_close,
            queued=queued,
            lag=time.monotonic() - self.settled_at if queued else 0.0,
            set_aside=self.set_aside,
            last_error=self.retrying.last_error,
        )


def queues_for(sinks: Iterable[Sink]) -> tuple[SinkQueue, ...]:
    """Make a queue for every sink, numbering sinks of one name."""
    queues: list[SinkQueue] = []
    for sink in sinks:
        same = sum(queue.sink.name == sink.name for queue in queues)
        queues.append(SinkQueue(sink, f"{sink.name} #{same + 1}" if same else sink.name))
    return tuple(queues)
