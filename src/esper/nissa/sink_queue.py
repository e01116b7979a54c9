"""One sink as the hub sees it: a position in the shared sequence, the accounts, and a lock that wakes its thread."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import attrgetter
from types import NoneType

from esper.leyline.run_info import SinkStats
from esper.leyline.telemetry import TelemetryEvent, TelemetryPayload
from esper.nissa.protocol import Durable, Live, Sink
from esper.nissa.reporting import Reporter
from esper.nissa.retry import RetryingSink

__all__ = ["QUEUE_BYTES", "WAKE_MARK", "SinkQueue", "queues_for"]

WAKE_MARK = 8_192
"""Queued events that wake a sink's thread before its time."""
QUEUE_BYTES = 256 * 1024 * 1024
"""What the events of a queue may hold in memory, about, whatever their number."""
_MEASURE_MARK = 128
"""Queued events from which on their size is estimated, anew whenever there are four times as many."""
_SAMPLE, _EVERY = 4, 1_024
"""Events measured for an estimate, and one more for every so many that queue."""


class SinkQueue:
    """One sink: its position in the shared sequence and its accounts. Touched only under the hub's lock."""

    def __init__(self, sink: Sink, name: str, reporter: Reporter) -> None:
        self.sink = sink
        self.name = name
        policy = sink.policy
        if not isinstance(policy, Durable | Live):
            raise TypeError(f"the policy of sink {name!r} is Durable(…) or Live(…), not {type(policy).__name__}")
        self.durable = isinstance(policy, Durable)
        self._capacity = policy.high_water if isinstance(policy, Durable) else policy.capacity
        self.max_wait = policy.max_wait if isinstance(policy, Durable) else 0.0
        self.limit = self._capacity
        self.wake_mark = min(WAKE_MARK, self._capacity // 2 + 1)
        self.measure_at = _MEASURE_MARK
        self.retrying = RetryingSink(sink, name, reporter, durable=self.durable)
        self.thread_id: int | None = None

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
        self.settled_at = time.monotonic()
        self.set_aside = False
        self.finished = False
        self.unclean = False

    @property
    def keep(self) -> int:
        """What stays of a queue that is too long.

        A live sink that cannot keep up loses an eighth of its queue at a time, so that emitting stays cheap.
        """
        return self.limit if self.durable else self.limit - self.limit // 8

    @property
    def attention(self) -> int:
        """Position in the sequence at which the emitter has to look after this queue."""
        mark = min(self.cursor + self.limit + 1, self.measure_at)
        return mark if self.awake else min(mark, self.cursor + self.wake_mark)

    def take(self, count: int) -> None:
        """Count events as handed to the sink."""
        self.cursor += count
        self.in_hand = count
        self.measure_at = self.cursor + _MEASURE_MARK

    def settle(self, *, delivered: int, rejected: int, lost: int) -> None:
        """Count what became of the events in hand, and how many were lost that had counted as delivered."""
        lost = min(lost, self.delivered + delivered)  # a sink may claim anything
        dropped = self.in_hand - delivered - rejected + lost
        # Nothing can interrupt plain assignments without a call among them.
        self.in_hand = 0
        self.rejected += rejected
        self.delivered += delivered - lost
        self.dropped += dropped

    def drop_oldest(self, end: int, *, keep: int) -> None:
        """Give up the oldest events of a sequence that ends there, but for so many."""
        excess = end - self.cursor - keep
        if excess > 0:  # nothing can interrupt this: there is no call in it
            self.cursor += excess
            self.dropped += excess

    def measure(self, queued: Sequence[TelemetryEvent]) -> None:
        """Estimate from a sample what the queued events hold, and lower the limit on their number accordingly."""
        sample = queued[:: len(queued) // (_SAMPLE + len(queued) // _EVERY) + 1]
        mean = sum(map(_bytes_held, sample)) // max(1, len(sample)) + 1
        self.limit = max(1, min(self._capacity, QUEUE_BYTES // mean))
        self.measure_at = self.cursor + max(2 * _MEASURE_MARK, 4 * len(queued))

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


def queues_for(sinks: Iterable[Sink], reporter: Reporter) -> tuple[SinkQueue, ...]:
    """Make a queue for every sink, numbering sinks of one name."""
    queues: list[SinkQueue] = []
    for sink in sinks:
        _refuse_what_is_no_sink(sink)
        same = sum(queue.sink.name == sink.name for queue in queues)
        queues.append(SinkQueue(sink, f"{sink.name} #{same + 1}" if same else f"{sink.name}", reporter))
    return tuple(queues)


def _refuse_what_is_no_sink(sink: object) -> None:
    if isinstance(sink, type):
        raise TypeError(f"a sink is an object: {sink.__name__}(…), not the class {sink.__name__}")
    lacking = [name for name in ("name", "policy", "write", "flush", "close") if not hasattr(sink, name)]
    if lacking and callable(sink):
        raise TypeError("a function is made a sink by FunctionSink(name, function)")
    if lacking:
        raise TypeError(f"{type(sink).__name__} is no sink: it has no {', '.join(lacking)}")


_EVENT_BYTES = 1_500
"""What an event holds besides texts and containers."""
_ITEM_BYTES = 32
_LOOKED_AT = 64
"""Items of a container that stand for all of them."""
_DEPTH = 4
_SMALL = frozenset({float, int, bool, NoneType})
_fields_of: dict[type[TelemetryPayload], Callable[[TelemetryPayload], tuple[object, ...]]] = {}


def _bytes_held(event: TelemetryEvent) -> int:
    """Estimate what an event holds in memory, without running anybody else's code."""
    kind = event.data.__class__
    if kind not in _fields_of:
        # Twice the first name, so that even one field comes as a tuple.
        names = [field.name for field in dataclasses.fields(kind)]
        _fields_of[kind] = attrgetter(*names, names[0])
    held = _EVENT_BYTES + _size(event.message, 0)
    for value in _fields_of[kind](event.data):
        if value.__class__ not in _SMALL:
            held += _size(value, 0)
    return held


def _size(value: object, depth: int) -> int:
    if isinstance(value, str | bytes):
        return len(value) + _ITEM_BYTES
    if depth == _DEPTH or not isinstance(value, dict | list | tuple):
        return _ITEM_BYTES
    items = dict.values(value) if isinstance(value, dict) else value
    looked_at = [_size(item, depth + 1) for item in islice(items, _LOOKED_AT)]
    return _ITEM_BYTES + sum(looked_at) * len(items) // max(1, len(looked_at))
