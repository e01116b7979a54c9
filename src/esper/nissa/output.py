"""The telemetry hub: events in from any thread, out to every sink at its own pace.

::

    emit ──append──▶ one shared sequence of events ◀──cursor── a thread ──▶ sink
                                                   ◀──cursor── a thread ──▶ sink

Emitting is an append under a lock, whatever the sinks do. A sink's thread wakes on a schedule, at a mark of its
queue, and at a commit barrier: waking it for every event would cost the emitter far more than the append.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

from esper.leyline.run_info import SinkStats
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    Emit,
    EpochCompletedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.nissa.protocol import DeliveryPolicy, Durable, FunctionSink, Live, Rejected, Sink
from esper.nissa.retry import SinkBrokenError
from esper.nissa.sink_queue import SinkQueue, queues_for

__all__ = [
    "BATCH",
    "GRACE",
    "INTERVAL",
    "TIMEOUT",
    "DeliveryPolicy",
    "Durable",
    "FunctionSink",
    "Live",
    "Rejected",
    "Sink",
    "SinkStats",
    "TelemetryHub",
    "emit_epoch_completed",
    "emit_training_started",
]

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

    Use it as a context manager, or call `close`; a hub that is left open is closed when the interpreter exits.

    In a forked child process the hub is closed and its sinks are left alone: they belong to the parent, which
    delivers everything emitted before the fork. Neither can a hub be pickled into another process. A process that has
    something to report opens a hub of its own.

    Args:
        sinks: where every event goes. Each is served by a thread of its own, and the hub's to close from here on.
    """

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._reset(sinks)
        if self._queues:
            atexit.register(self.close)
            _hubs.add(self)
        for queue in self._queues:
            threading.Thread(target=self._serve, args=(queue,), name=f"sink {queue.name}", daemon=True).start()

    def _reset(self, sinks: Iterable[Sink]) -> None:
        # Re-entrant, since a signal handler or a finalizer may emit while its own thread holds the lock.
        self._lock = threading.RLock()
        self._waiters: list[threading.Lock] = []
        self._queues = queues_for(sinks)
        self._events: list[TelemetryEvent] = []
        self._trimmed = 0
        self._emitted = 0
        self._after_close = 0
        self._closed = ""
        self._close_done = False
        self._look_ahead()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TelemetryHub stays in its process; open another one there")

    # ---- the emitter's side

    def emit(self, event: TelemetryEvent) -> None:
        """Give an event to every sink. Any thread may; nothing is raised for a sink's sake.

        Waits only for a `Durable` sink whose queue is full, and at most its ``max_wait`` a stall. After the hub was
        closed the event is counted as dropped, and the first one warned about.
        """
        if not self._queues:
            return
        after_close = 0
        crowded: Sequence[SinkQueue] = ()
        with self._lock:
            if self._closed:
                after_close = self._after_close = self._after_close + 1
            else:
                try:
                    self._emitted += 1
                    self._events.append(event)
                except BaseException:
                    self._emitted = self._end  # a signal in between: what is in the sequence was emitted
                    raise
                kind = event.data.__class__
                # After one of these a run can be resumed.
                barrier = kind is BatchEpochCompletedPayload or kind is TrainingStartedPayload
                if self._emitted < self._attention and not barrier:
                    return
                crowded = self._attend(barrier=barrier)
        for queue in crowded:
            self._make_room(queue)
        if after_close == 1:
            _warn(f"telemetry emitted {self._closed} is dropped")

    def _attend(self, *, barrier: bool) -> list[SinkQueue]:
        """Wake the sinks that should wake, for a commit or for much to do; return those whose queue is too long."""
        crowded = []
        for queue in self._queues:
            if queue.set_aside:
                self._drop_oldest(queue, keep=0)
                continue
            if barrier:
                queue.request_commit(self._end)
            elif self._end - queue.cursor >= queue.wake_mark:
                queue.wake()
            if self._end - queue.cursor > queue.limit:
                crowded.append(queue)
        self._trim()
        self._look_ahead()
        return crowded

    def _make_room(self, queue: SinkQueue) -> None:
        """Wait for a sink as long as its policy says since it last made progress; then its oldest events go."""
        first_loss = False
        while True:
            with self._lock:
                if self._end - queue.cursor <= queue.limit or queue.set_aside:
                    return
                now = time.monotonic()
                if queue.waits_until is None:
                    queue.waits_until = now + queue.max_wait
                left = queue.waits_until - now
                if left <= 0:
                    self._drop_oldest(queue, keep=queue.keep)
                    self._trim()
                    self._look_ahead()
                    first_loss, queue.loss_reported = not queue.loss_reported, True
                    break
                waiter = self._waiter()
            waiter.acquire(timeout=left)
        if queue.durable and first_loss:
            _warn(f"telemetry sink {queue.name!r} cannot keep up and is losing events")

    def _drop_oldest(self, queue: SinkQueue, *, keep: int) -> None:
        excess = max(0, self._end - queue.cursor - keep)
        queue.cursor += excess
        queue.dropped += excess

    # ---- waiting for the sinks. Not with threading.Condition: a signal at the wrong moment breaks its lock.

    def _waiter(self) -> threading.Lock:
        """Return a lock that is released at the next change."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        return waiter

    def _changed(self) -> None:
        while self._waiters:
            self._waiters.pop().release()

    def _wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while True:
            with self._lock:
                left = deadline - time.monotonic()
                if condition() or left <= 0:
                    return condition()
                waiter = self._waiter()
            waiter.acquire(timeout=left)

    # ---- the shared sequence

    @property
    def _end(self) -> int:
        return self._trimmed + len(self._events)

    def _look_ahead(self) -> None:
        """Set the count at which `emit` next has to look after the sinks."""
        marks = [
            queue.cursor + (queue.limit + 1 if queue.awake else queue.wake_mark)
            for queue in self._queues
            if not queue.set_aside
        ]
        self._attention = min(marks, default=self._emitted + BATCH)

    def _trim(self) -> None:
        """Forget what every sink has taken, in steps large enough to be cheap."""
        taken = min((queue.cursor for queue in self._queues if not queue.set_aside), default=self._end) - self._trimmed
        if taken >= BATCH or taken == len(self._events):
            del self._events[:taken]
            self._trimmed += taken

    # ---- the sinks' side

    def _serve(self, queue: SinkQueue) -> None:
        while not queue.finished:
            queue.wakeup.acquire(timeout=INTERVAL)
            while self._deliver(queue):
                pass

    def _deliver(self, queue: SinkQueue) -> bool:
        """Deliver the next batch to a sink; say whether there is more to do at once."""
        with self._lock:
            taken_at = time.monotonic()
            queue.awake = False
            batch = self._take(queue)
            position, barrier = queue.cursor, queue.commit_is_due()
            more = position < self._end
            last = bool(self._closed) and not more
        try:
            rejected = queue.retrying.deliver(batch, barrier=barrier) if batch or barrier else 0
        except SinkBrokenError:
            self._set_aside(queue)
            return False
        with self._lock:
            queue.in_hand = 0
            queue.rejected += rejected
            queue.delivered += len(batch) - rejected
            queue.settled_at = taken_at
            queue.committed = position if barrier else queue.committed
            self._changed()
        if last:
            self._finish(queue)
        return more

    def _take(self, queue: SinkQueue) -> list[TelemetryEvent]:
        start = queue.cursor - self._trimmed
        batch = self._events[start : start + BATCH]
        queue.cursor += len(batch)
        queue.in_hand = len(batch)
        self._trim()
        self._look_ahead()
        if batch:
            queue.waits_until = None
            self._changed()
        return batch

    def _set_aside(self, queue: SinkQueue) -> None:
        with self._lock:
            queue.set_aside = True
            queue.dropped += queue.in_hand
            queue.in_hand = 0
            self._drop_oldest(queue, keep=0)
            self._look_ahead()
            self._changed()
        _warn(
            f"telemetry sink {queue.name!r} is set aside, its events are dropped from here on: "
            f"{queue.retrying.last_error}"
        )
        self._finish(queue)

    def _finish(self, queue: SinkQueue) -> None:
        clean = queue.retrying.close()
        if not clean:
            _warn(f"telemetry sink {queue.name!r} failed to close: {queue.retrying.last_error}")
        with self._lock:
            queue.unclean = not clean
            queue.finished = True
            self._changed()

    # ---- flush, close, accounts

    def flush(self, timeout: float = TIMEOUT) -> bool:
        """Wait until every sink has what was emitted so far and has made it as safe as it can.

        Args:
            timeout: longest wait. Unit: seconds.

        Returns:
            Whether that is so, but for what a sink rejected or a `Live` sink dropped. False when the time was up or a
            sink is set aside, and always once a `Durable` sink has lost an event or one was emitted after close.
        """
        with self._lock:
            position = self._end
            for queue in self._queues:
                queue.request_commit(position)
        self._wait_until(lambda: all(queue.done_with(position) for queue in self._queues), timeout)
        with self._lock:
            return not self._after_close and all(queue.intact(position) for queue in self._queues)

    def close(self, timeout: float = TIMEOUT) -> bool:
        """Deliver what was emitted, flush and close every sink. Doing it again changes nothing.

        Args:
            timeout: longest wait; what keeps failing by then is given up, and a sink that hangs is left behind, named
                in a warning. Unit: seconds.

        Returns:
            Whether every sink has everything, as for `flush`, and closed without a failure.
        """
        with self._lock:
            if not self._closed:
                self._closed = "after the hub was closed"
                for queue in self._queues:
                    queue.request_commit(self._end)
        if not self._close_done and not self._wait_until(self._all_finished, timeout):
            for queue in self._queues:
                queue.retrying.give_up()
            self._wait_until(self._all_finished, GRACE)
        with self._lock:
            unfinished = [] if self._close_done else [queue.name for queue in self._queues if not queue.finished]
            self._close_done = True
            intact = all(queue.finished and queue.intact(self._end) for queue in self._queues)
        atexit.unregister(self.close)
        for name in unfinished:
            _warn(f"telemetry sink {name!r} does not finish and is left behind")
        return intact

    def _all_finished(self) -> bool:
        return all(queue.finished for queue in self._queues)

    def stats(self) -> tuple[SinkStats, ...]:
        """Return the accounts of every sink at this instant, in the order the sinks were given."""
        with self._lock:
            for queue in self._queues:
                if queue.set_aside:
                    self._drop_oldest(queue, keep=0)
            return tuple(queue.stats(self._emitted, self._end, self._after_close) for queue in self._queues)

    def _disown(self) -> None:
        """In a forked child: a closed hub with locks and accounts of its own, and no threads."""
        self._reset([queue.sink for queue in self._queues])
        self._closed = "in a forked child process"
        self._close_done = True
        for queue in self._queues:
            queue.finished = True


_hubs: weakref.WeakSet[TelemetryHub] = weakref.WeakSet()


def _disown_all() -> None:
    for hub in list(_hubs):
        hub._disown()  # noqa: SLF001 - this module's own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


def _warn(text: str) -> None:
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    except Exception:  # noqa: BLE001 - a filter made it an error, and telemetry raises none
        sys.stderr.write(f"{text}\n")


def emit_training_started(emit: Emit, payload: TrainingStartedPayload, *, group_id: str = "default") -> None:
    """Emit that a run begins; every rank does, once, before its first episode."""
    message = (
        f"training on {payload.task} begins: {payload.n_episodes} episodes in {payload.n_envs} environments, "
        f"seed {payload.seed}"
    )
    emit(TelemetryEvent(data=payload, group_id=group_id, message=message))


def emit_epoch_completed(
    emit: Emit,
    *,
    env_id: int,
    inner_epoch: int,
    val_accuracy: float,
    val_loss: float,
    seeds: Mapping[str, Mapping[str, Any]] | None = None,
    group_id: str = "default",
) -> None:
    """Emit the validation result of one environment after one host epoch.

    The arguments are the fields of `EpochCompletedPayload`; ``seeds`` is left unsupplied when it is None. A loss that
    is not finite makes the event a warning.
    """
    result = (env_id, val_accuracy, val_loss, inner_epoch)
    payload = (
        EpochCompletedPayload(*result)
        if seeds is None
        else EpochCompletedPayload(*result, seeds={slot: dict(seed) for slot, seed in seeds.items()})
    )
    emit(
        TelemetryEvent(
            data=payload,
            epoch=inner_epoch,
            group_id=group_id,
            message=f"env {env_id}, epoch {inner_epoch}: validation accuracy {val_accuracy:.3f}, loss {val_loss:.4g}",
            severity="info" if math.isfinite(val_loss) else "warning",
        )
    )
