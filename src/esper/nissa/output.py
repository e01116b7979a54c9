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
"""Seconds that flush and close wait unless told otherwise."""
GRACE = 0.5
"""Seconds that a sink which keeps failing has to give up in, once `close` has waited long enough."""


class TelemetryHub:
    """Delivers events to sinks without making the emitter wait for them.

    Use it as a context manager, or call `close`; a hub that is left open is closed when the interpreter exits.

    In a forked child process the hub is closed and its sinks are left alone: they belong to the parent, which
    delivers everything emitted before the fork. Neither can a hub be pickled into another process. A process that has
    something to tell opens a hub of its own.

    Args:
        sinks: where every event goes. Each is served by a thread of its own, and the hub's to close from here on.
    """

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._reset(sinks)
        if self._queues:
            atexit.register(self.close)
            _hubs.add(self)
        for lane in self._queues:
            threading.Thread(target=self._serve, args=(lane,), name=f"sink {lane.name}", daemon=True).start()

    def _reset(self, sinks: Iterable[Sink]) -> None:
        # Re-entrant, since a signal handler or a finalizer may emit while its own thread holds the lock.
        self._lock = threading.RLock()
        self._bells: list[threading.Lock] = []
        self._queues = queues_for(sinks)
        self._events: list[TelemetryEvent] = []
        self._trimmed = 0
        self._emitted = 0
        self._late = 0
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
        late = 0
        crowded: Sequence[SinkQueue] = ()
        with self._lock:
            if self._closed:
                late = self._late = self._late + 1
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
        for lane in crowded:
            self._make_room(lane)
        if late == 1:
            _warn(f"telemetry emitted {self._closed} is dropped")

    def _attend(self, *, barrier: bool) -> list[SinkQueue]:
        """Wake the sinks that should wake, for a commit or for much to do; return those whose queue is too long."""
        crowded = []
        for lane in self._queues:
            if lane.set_aside:
                self._drop_oldest(lane, keep=0)
                continue
            if barrier:
                lane.ask(self._end)
            elif self._end - lane.cursor >= lane.wake_mark:
                lane.rouse()
            if self._end - lane.cursor > lane.limit:
                crowded.append(lane)
        self._trim()
        self._look_ahead()
        return crowded

    def _make_room(self, lane: SinkQueue) -> None:
        """Wait for a sink as long as its policy says since it last made progress; then its oldest events go."""
        first_loss = False
        while True:
            with self._lock:
                if self._end - lane.cursor <= lane.limit or lane.set_aside:
                    return
                now = time.monotonic()
                if lane.patient_until is None:
                    lane.patient_until = now + lane.max_wait
                patience = lane.patient_until - now
                if patience <= 0:
                    self._drop_oldest(lane, keep=lane.keep)
                    self._trim()
                    self._look_ahead()
                    first_loss, lane.loss_told = not lane.loss_told, True
                    break
                bell = self._bell()
            bell.acquire(timeout=patience)
        if lane.durable and first_loss:
            _warn(f"telemetry sink {lane.name!r} cannot keep up and is losing events")

    def _drop_oldest(self, lane: SinkQueue, *, keep: int) -> None:
        excess = max(0, self._end - lane.cursor - keep)
        lane.cursor += excess
        lane.dropped += excess

    # ---- waiting for the sinks. Not with threading.Condition: a signal at the wrong moment breaks its lock.

    def _bell(self) -> threading.Lock:
        """Return a lock that is released at the next change."""
        bell = threading.Lock()
        bell.acquire()
        self._bells.append(bell)
        return bell

    def _changed(self) -> None:
        while self._bells:
            self._bells.pop().release()

    def _wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while True:
            with self._lock:
                left = deadline - time.monotonic()
                if condition() or left <= 0:
                    return condition()
                bell = self._bell()
            bell.acquire(timeout=left)

    # ---- the shared sequence

    @property
    def _end(self) -> int:
        return self._trimmed + len(self._events)

    def _look_ahead(self) -> None:
        """Set the count at which `emit` next has to look after the sinks."""
        marks = [
            lane.cursor + (lane.limit + 1 if lane.roused else lane.wake_mark)
            for lane in self._queues
            if not lane.set_aside
        ]
        self._attention = min(marks, default=self._emitted + BATCH)

    def _trim(self) -> None:
        """Forget what every sink has taken, in steps large enough to be cheap."""
        taken = min((lane.cursor for lane in self._queues if not lane.set_aside), default=self._end) - self._trimmed
        if taken >= BATCH or taken == len(self._events):
            del self._events[:taken]
            self._trimmed += taken

    # ---- the sinks' side

    def _serve(self, lane: SinkQueue) -> None:
        while not lane.finished:
            lane.bell.acquire(timeout=INTERVAL)
            while self._deliver(lane):
                pass

    def _deliver(self, lane: SinkQueue) -> bool:
        """Deliver the next batch to a sink; tell whether there is more to do at once."""
        with self._lock:
            taken_at = time.monotonic()
            lane.roused = False
            batch = self._take(lane)
            place, barrier = lane.cursor, lane.is_asked()
            more = place < self._end
            last = bool(self._closed) and not more
        try:
            rejected = lane.courier.deliver(batch, barrier=barrier) if batch or barrier else 0
        except SinkBrokenError:
            self._set_aside(lane)
            return False
        with self._lock:
            lane.in_hand = 0
            lane.rejected += rejected
            lane.delivered += len(batch) - rejected
            lane.settled_at = taken_at
            lane.committed = place if barrier else lane.committed
            self._changed()
        if last:
            self._finish(lane)
        return more

    def _take(self, lane: SinkQueue) -> list[TelemetryEvent]:
        start = lane.cursor - self._trimmed
        batch = self._events[start : start + BATCH]
        lane.cursor += len(batch)
        lane.in_hand = len(batch)
        self._trim()
        self._look_ahead()
        if batch:
            lane.patient_until = None
            self._changed()
        return batch

    def _set_aside(self, lane: SinkQueue) -> None:
        with self._lock:
            lane.set_aside = True
            lane.dropped += lane.in_hand
            lane.in_hand = 0
            self._drop_oldest(lane, keep=0)
            self._look_ahead()
            self._changed()
        _warn(
            f"telemetry sink {lane.name!r} is set aside, its events are dropped from here on: {lane.courier.last_error}"
        )
        self._finish(lane)

    def _finish(self, lane: SinkQueue) -> None:
        clean = lane.courier.close()
        if not clean:
            _warn(f"telemetry sink {lane.name!r} failed to close: {lane.courier.last_error}")
        with self._lock:
            lane.unclean = not clean
            lane.finished = True
            self._changed()

    # ---- flush, close, books

    def flush(self, timeout: float = TIMEOUT) -> bool:
        """Wait until every sink has what was emitted so far and has made it as safe as it can.

        Args:
            timeout: longest wait. Unit: seconds.

        Returns:
            Whether that is so, but for what a sink rejected or a `Live` sink dropped. False when the time was up or a
            sink is set aside, and always once a `Durable` sink has lost an event or one was emitted too late.
        """
        with self._lock:
            place = self._end
            for lane in self._queues:
                lane.ask(place)
        self._wait_until(lambda: all(lane.done_with(place) for lane in self._queues), timeout)
        with self._lock:
            return not self._late and all(lane.intact(place) for lane in self._queues)

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
                for lane in self._queues:
                    lane.ask(self._end)
        if not self._close_done and not self._wait_until(self._all_finished, timeout):
            for lane in self._queues:
                lane.courier.hurry()
            self._wait_until(self._all_finished, GRACE)
        with self._lock:
            unfinished = [] if self._close_done else [lane.name for lane in self._queues if not lane.finished]
            self._close_done = True
            intact = all(lane.finished and lane.intact(self._end) for lane in self._queues)
        atexit.unregister(self.close)
        for name in unfinished:
            _warn(f"telemetry sink {name!r} does not finish and is left behind")
        return intact

    def _all_finished(self) -> bool:
        return all(lane.finished for lane in self._queues)

    def stats(self) -> tuple[SinkStats, ...]:
        """Return the books of every sink at this instant, in the order the sinks were given."""
        with self._lock:
            for lane in self._queues:
                if lane.set_aside:
                    self._drop_oldest(lane, keep=0)
            return tuple(lane.stats(self._emitted, self._end, self._late) for lane in self._queues)

    def _disown(self) -> None:
        """In a forked child: a closed hub with locks and books of its own, and no threads."""
        self._reset([lane.sink for lane in self._queues])
        self._closed = "in a forked child process"
        self._close_done = True
        for lane in self._queues:
            lane.finished = True


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
    """Tell that a run begins; every rank does, once, before its first episode."""
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
    """Tell the validation result of one environment after one host epoch.

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
