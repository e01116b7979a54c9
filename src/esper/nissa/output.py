"""The telemetry hub: events in from any thread, out to every sink at its own pace.

::

    emit ──append──▶ one shared sequence of events ◀──cursor── a thread ──▶ sink
                                                   ◀──cursor── a thread ──▶ sink

Emitting is an append under a lock, whatever the sinks do. A sink's thread wakes on a schedule, at a mark of its
queue, and at a commit barrier: waking it for every event would cost the emitter far more than the append.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, Self

from esper.leyline.run_info import SinkStats
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent, TrainingStartedPayload
from esper.nissa.emitters import emit_epoch_completed, emit_training_started
from esper.nissa.processes import adopt, at_exit, not_at_exit
from esper.nissa.protocol import DeliveryPolicy, Durable, EventsLostError, FunctionSink, Live, Rejected, Sink, seconds
from esper.nissa.reporting import Reporter, describe
from esper.nissa.retry import SinkBrokenError
from esper.nissa.sink_queue import SinkQueue, queues_for
from esper.nissa.waiting import Changes

__all__ = [
    "BATCH", "GRACE", "INTERVAL", "TIMEOUT", "DeliveryPolicy", "Durable", "EventsLostError", "FunctionSink", "Live",
    "Rejected", "Sink", "SinkStats", "TelemetryHub", "emit_epoch_completed", "emit_training_started",
]  # fmt: skip

INTERVAL = 0.1
"""Seconds between two looks of a sink's thread at the sequence."""
BATCH = 1_024
"""Events handed to a sink between two flushes, at most."""
TIMEOUT = 30.0
"""Seconds that flush and close wait by default."""
GRACE = 0.5
"""Seconds that a sink which keeps failing has to give up in, once `close` has waited long enough."""


class TelemetryHub:
    """Delivers events to sinks without making the emitter wait for them.

    Use it as a context manager, or call `close`; a hub that is left open is closed when the interpreter, or a process
    of `multiprocessing`, exits. Every loss is counted in `stats`, and the first of its kind logged as a warning of the
    logger ``esper``.

    In a forked child process the hub is closed and its sinks are left alone: they belong to the parent, which
    delivers everything emitted before the fork. Neither can a hub be pickled into another process. A process that has
    something to report opens a hub of its own.

    Args:
        sinks: where every event goes. Each is served by a thread of its own, and the hub's to close from here on.

    Raises:
        ValueError: a sink is given twice, or belongs to another hub, open or closed.
        TypeError: something is no sink, or a sink's policy none; the message says what it lacks.
    """

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._reset(tuple(sinks))
        self._finalizer: Any = None
        if self._queues:
            adopt(self, self.sinks)
            self._finalizer = at_exit(self.close)
        for queue in self._queues:
            threading.Thread(target=self._serve, args=(queue,), name=f"sink {queue.name}", daemon=True).start()

    def _reset(self, sinks: Iterable[Sink]) -> None:
        self._changes = Changes()
        self._lock = self._changes.lock
        self._reporter = Reporter()
        self._queues = queues_for(sinks, self._reporter)
        self._events: list[TelemetryEvent] = []
        self._trimmed = 0
        self._forgotten: list[list[TelemetryEvent]] = []
        self._changing = False
        self._emitted = 0
        self._after_close = 0
        self._closed = ""
        self._close_done = False
        self._look_ahead()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TelemetryHub stays in its process; open another one there")

    # ---- the emitter's side

    def emit(self, event: TelemetryEvent) -> None:
        """Give an event to every sink. Any thread may; nothing is raised for a sink's sake.

        Waits only for a `Durable` sink whose queue is full, and at most its ``max_wait`` a stall. After the hub was
        closed the event is counted as dropped, and the first one reported.

        Raises:
            TypeError: it is no event.
        """
        if not self._queues:
            return
        try:
            kind = event.data.__class__
        except AttributeError:
            raise TypeError(
                f"emit takes a TelemetryEvent, TelemetryEvent(data=…), not a {type(event).__name__}"
            ) from None
        # After one of these a run can be resumed.
        barrier = kind is BatchEpochCompletedPayload or kind is TrainingStartedPayload
        crowded: Sequence[SinkQueue] = ()
        with self._lock:
            if self._closed:
                self._after_close += 1
            else:
                try:
                    self._emitted += 1
                    self._events.append(event)
                except BaseException:
                    self._emitted = self._end  # a signal in between: what is in the sequence was emitted
                    raise
                if self._emitted < self._attention and not barrier:
                    return
                if self._changing:  # this thread interrupted itself: what it is in the middle of must not be touched
                    if barrier:
                        self._request_commits()
                    return
                crowded = self._attend(barrier=barrier)
        self._forget()
        for queue in crowded:
            self._make_room(queue)
        if self._closed and self._after_close:
            text = f"telemetry emitted {self._closed} is dropped; open another hub for it"
            self._reporter.report(text, "after close")

    def _attend(self, *, barrier: bool) -> list[SinkQueue]:
        """Wake the sinks that should wake, for a commit or for much to do; return those whose queue is too long."""
        crowded = []
        self._changing = True
        try:
            for queue in self._queues:
                if queue.set_aside:
                    queue.drop_oldest(self._end, keep=0)
                    continue
                if barrier:
                    queue.request_commit(self._end)
                elif self._end - queue.cursor >= queue.wake_mark:
                    queue.wake()
                if self._end >= queue.measure_at:
                    queue.measure(self._events[queue.cursor - self._trimmed :])
                if self._end - queue.cursor > queue.limit:
                    crowded.append(queue)
            self._trim()
            self._look_ahead()
        finally:
            self._changing = False
        return crowded

    def _make_room(self, queue: SinkQueue) -> None:
        """Wait for a sink as long as its policy says since it last made progress; then its oldest events go."""
        if self._changes.lock_is_held():  # whoever emits interrupted this hub, which cannot move until then
            return
        own_thread = queue.thread_id == threading.get_ident()
        while True:
            with self._lock:
                if self._end - queue.cursor <= queue.limit or queue.set_aside or self._close_done:
                    return
                now = time.monotonic()
                if queue.waits_until is None:
                    queue.waits_until = now + queue.max_wait
                left = 0.0 if own_thread else queue.waits_until - now
                if left <= 0:
                    self._drop(queue)
                    break
                waiter = self._changes.waiter()
            self._changes.wait(waiter, left)
        self._forget()
        lost = "is losing events" if queue.durable else "skips events"
        self._reporter.report(f"telemetry sink {queue.name!r} cannot keep up and {lost}", ("dropped", queue.name))

    def _drop(self, queue: SinkQueue) -> None:
        self._changing = True
        try:
            queue.drop_oldest(self._end, keep=queue.keep)
            self._trim()
            self._look_ahead()
        finally:
            self._changing = False

    def _request_commits(self) -> None:
        for queue in self._queues:
            queue.request_commit(self._end)

    def _can_wait(self) -> bool:
        own = threading.get_ident()
        return not self._changes.lock_is_held() and all(queue.thread_id != own for queue in self._queues)

    # ---- the shared sequence

    @property
    def _end(self) -> int:
        return self._trimmed + len(self._events)

    def _look_ahead(self) -> None:
        """Set the count at which `emit` next has to look after the sinks."""
        marks = [queue.attention for queue in self._queues if not queue.set_aside]
        self._attention = min(marks, default=self._emitted + BATCH)

    def _trim(self) -> None:
        """Forget what every sink has taken, in steps large enough to be cheap."""
        taken = min((queue.cursor for queue in self._queues if not queue.set_aside), default=self._end) - self._trimmed
        if taken >= BATCH or taken == len(self._events):
            # Kept until the lock is free: an event's finalizer may emit, when the two lines below must both be done.
            forgotten = self._events[:taken]
            del self._events[:taken]
            self._trimmed += taken
            self._forgotten.append(forgotten)

    def _forget(self) -> None:
        with contextlib.suppress(IndexError):  # another thread was faster
            while self._forgotten:
                self._forgotten.pop()

    # ---- the sinks' side

    def _serve(self, queue: SinkQueue) -> None:
        queue.thread_id = threading.get_ident()
        try:
            while not queue.finished:
                queue.wakeup.acquire(timeout=INTERVAL)
                while self._deliver(queue):
                    pass
        except BaseException as error:  # noqa: BLE001 - out of memory, say: whatever it is, nobody waits for this sink
            queue.retrying.last_error = describe(error)
            self._set_aside(queue)

    def _deliver(self, queue: SinkQueue) -> bool:
        """Deliver the next batch to a sink; say whether there is more to do at once."""
        with self._lock:
            taken_at = time.monotonic()
            batch = self._take(queue)
            position, barrier = queue.cursor, queue.commit_is_due()
            more = position < self._end
            last = bool(self._closed) and not more
        self._forget()
        try:
            rejected = queue.retrying.deliver(batch, barrier=barrier) if batch or barrier else 0
        except SinkBrokenError:
            self._set_aside(queue)
            return False
        with self._lock:
            queue.settle(delivered=len(batch) - rejected, rejected=rejected, lost=queue.retrying.take_lost())
            queue.settled_at = taken_at
            queue.committed = position if barrier else queue.committed
            self._changes.announce()
        if last:
            self._finish(queue)
        return more

    def _take(self, queue: SinkQueue) -> list[TelemetryEvent]:
        self._changing = True
        try:
            queue.awake = False
            start = queue.cursor - self._trimmed
            batch = self._events[start : start + BATCH]
            queue.take(len(batch))
            self._trim()
            self._look_ahead()
            if batch:
                queue.waits_until = None
                self._changes.announce()
        finally:
            self._changing = False
        return batch

    def _set_aside(self, queue: SinkQueue) -> None:
        self._reporter.report(
            f"telemetry sink {queue.name!r} is set aside, its events are dropped from here on: "
            f"{queue.retrying.last_error}"
        )
        with self._lock:
            queue.set_aside = True
            queue.settle(delivered=0, rejected=0, lost=queue.retrying.take_lost())
            queue.drop_oldest(self._end, keep=0)
            self._look_ahead()
            self._changes.announce()
        self._finish(queue)

    def _finish(self, queue: SinkQueue) -> None:
        clean = queue.retrying.close()
        if not clean:
            self._reporter.report(f"telemetry sink {queue.name!r} failed to close: {queue.retrying.last_error}")
        with self._lock:
            queue.settle(delivered=0, rejected=0, lost=queue.retrying.take_lost())
            queue.unclean = not clean
            queue.finished = True
            self._changes.announce()

    # ---- flush, close, accounts

    def flush(self, timeout: float | None = TIMEOUT, *, durable: bool = False) -> bool:
        """Wait until every sink has what was emitted so far and has made it as safe as it can.

        A signal handler that interrupted an `emit`, and a sink that calls this, do not wait.

        Args:
            timeout: longest wait; None or infinite for one without end. Unit: seconds.
            durable: wait for the `Durable` sinks alone, and ask after them alone.

        Returns:
            Whether that is so, but for what a sink rejected or a `Live` sink dropped. False when the time was up or a
            sink is set aside, and always once a `Durable` sink has lost an event or one was emitted after close.

        Raises:
            TypeError: the timeout is no number.
            ValueError: the timeout is negative or NaN.
        """
        limit = seconds("timeout", timeout) if self._can_wait() else 0.0
        with self._lock:
            position = self._end
            self._request_commits()
        queues = [queue for queue in self._queues if queue.durable or not durable]
        self._changes.wait_until(lambda: all(queue.done_with(position) for queue in queues), limit)
        with self._lock:
            return not self._after_close and all(queue.intact(position) for queue in queues)

    def close(self, timeout: float | None = TIMEOUT) -> bool:
        """Deliver what was emitted, flush and close every sink. Doing it again changes nothing.

        A signal handler that interrupted an `emit`, and a sink that calls this, do not wait: the sinks finish by
        themselves, at the latest when the interpreter exits.

        Args:
            timeout: longest wait; what keeps failing by then is given up, and a sink that hangs is left behind, which
                is reported. None or infinite for a wait without end. Unit: seconds.

        Returns:
            Whether every sink has everything, as for `flush`, and closed without a failure.

        Raises:
            TypeError: the timeout is no number.
            ValueError: the timeout is negative or NaN.
        """
        can_wait = self._can_wait()
        limit = seconds("timeout", timeout) if can_wait else 0.0
        with self._lock:
            self._closed = self._closed or "after the hub was closed"
            self._request_commits()
        if not self._close_done and not self._changes.wait_until(self._all_finished, limit):
            if not can_wait:
                return False
            for queue in self._queues:
                queue.retrying.give_up()
            self._changes.wait_until(self._all_finished, GRACE)
        with self._lock:
            unfinished = [] if self._close_done else [queue.name for queue in self._queues if not queue.finished]
            self._close_done = True
            intact = not self._after_close and all(queue.finished and queue.intact(self._end) for queue in self._queues)
            self._changes.announce()
        not_at_exit(self.close, self._finalizer)
        for name in unfinished:
            self._reporter.report(f"telemetry sink {name!r} does not finish and is left behind")
        return intact and not self._after_close

    def _all_finished(self) -> bool:
        return all(queue.finished for queue in self._queues)

    def stats(self) -> tuple[SinkStats, ...]:
        """Return the accounts of every sink at this instant, in the order the sinks were given."""
        with self._lock:
            for queue in self._queues:
                if queue.set_aside:
                    queue.drop_oldest(self._end, keep=0)
            return tuple(queue.stats(self._emitted, self._end, self._after_close) for queue in self._queues)

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The sinks that this hub serves and closes."""
        return tuple(queue.sink for queue in self._queues)

    def disown(self) -> None:
        """In a forked child: become a closed hub with locks and accounts of its own, and no threads."""
        self._reset(self.sinks)
        self._closed = "in a forked child process"
        self._close_done = True
        for queue in self._queues:
            queue.finished = True
