"""Handing events to one sink, and trying again where that can help."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Hashable, Sequence

from esper.leyline.errors import PayloadError
from esper.leyline.telemetry import TelemetryEvent
from esper.nissa.protocol import EventsLostError, Rejected, Sink
from esper.nissa.reporting import Reporter, describe

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "RETRY_SECONDS", "RetryingSink", "SinkBrokenError"]

_ATTEMPTS = 3
"""How often one thing is tried when it fails for no passing reason."""
_STRIKES = 10
"""Events in a row that a sink may fail on before it is set aside."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
"""Seconds between attempts while the system refuses; doubled each time."""
RETRY_SECONDS = 10.0
"""Seconds that the system may refuse (a lost connection) before the sink is set aside."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a durable sink is given all the time it needs for: somebody will make room."""


class SinkBrokenError(Exception):
    """A sink failed in a way that no further attempt will mend."""


class RetryingSink:
    """Delivers batches to one sink.

    An `OSError` is the system's and may pass: the write is tried again, ever more slowly. Any other exception is
    taken for the event's fault, and after a few attempts the event is rejected; when that happens to many in a row it
    was the sink's fault after all.

    Attributes:
        last_error: the newest failure, as text; read by other threads.
    """

    def __init__(self, sink: Sink, name: str, reporter: Reporter, *, durable: bool) -> None:
        self._sink = sink
        self._name = name
        self._durable = durable
        self._reporter = reporter
        self._strikes = 0
        self._lost = 0
        # Held until there is no more time. A lock, as an Event may be found half set by a signal handler.
        self._time_left = threading.Lock()
        self._time_left.acquire()
        self.last_error: str | None = None

    def give_up(self) -> None:
        """Give up on what fails from now on, instead of waiting for better times."""
        with contextlib.suppress(RuntimeError):  # released already
            self._time_left.release()

    def deliver(self, events: Sequence[TelemetryEvent], *, barrier: bool) -> int:
        """Hand over a batch and flush it.

        Returns:
            How many of the events the sink rejected; all others are delivered.

        Raises:
            SinkBrokenError: the sink is beyond hope; none of the batch counts as delivered.
        """
        write, rejected = self._sink.write, 0
        for event in events:
            try:
                write(event)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it stays the sink's own affair
                rejected += not self._taken_after_all(event, error)
            else:
                self._strikes = 0
        try:
            self._retry(lambda: self._sink.flush(barrier=barrier))
        except BaseException as error:
            raise SinkBrokenError from error
        return rejected

    def take_lost(self) -> int:
        """Return how many events that had counted as delivered turned out to be lost since this was last asked."""
        lost, self._lost = self._lost, 0
        return lost

    def close(self) -> bool:
        """Close the sink; say whether it went well."""
        try:
            self._sink.close()
        except BaseException as error:  # noqa: BLE001 - a sink's failure stays its own
            self._note(error)
            return False
        return True

    def _taken_after_all(self, event: TelemetryEvent, failure: BaseException) -> bool:
        try:
            self._retry(lambda: self._sink.write(event), failure)
        except Rejected as error:
            self._strikes = 0
            self._report_rejected(event, error)
            return False
        except Exception as error:
            self._strikes += 1
            if self._strikes == _STRIKES or isinstance(error, OSError):
                raise SinkBrokenError from error
            self._report_rejected(event, error)
            return False
        except BaseException as error:
            raise SinkBrokenError from error
        self._strikes = 0
        return True

    def _retry(self, attempt: Callable[[], None], failure: BaseException | None = None) -> None:
        """Try until it works, or raise the failure that is final."""
        failures, pause, since = 0, FIRST_PAUSE, time.monotonic()
        while True:
            if failure is not None:
                self._note(failure)
                failures += 1
                if isinstance(failure, OSError):
                    waits = self._durable and failure.errno in _DISK_FULL
                    if (not waits and time.monotonic() - since > RETRY_SECONDS) or self._no_time_left(pause):
                        raise failure
                    pause = min(2 * pause, LONGEST_PAUSE)
                elif isinstance(failure, Rejected) or not isinstance(failure, Exception) or failures == _ATTEMPTS:
                    raise failure
            try:
                return attempt()
            except BaseException as error:  # noqa: BLE001 - as above
                failure = error

    def _no_time_left(self, pause: float) -> bool:
        if not self._time_left.acquire(timeout=pause):
            return False
        self._time_left.release()
        return True

    def _note(self, failure: BaseException) -> None:
        self.last_error = _words(failure)
        if isinstance(failure, EventsLostError):
            self._lost += failure.count
            self._reporter.report(
                f"telemetry sink {self._name!r} lost {failure.count} events that it had delivered: {self.last_error}",
                ("lost", self._name),
            )

    def _report_rejected(self, event: TelemetryEvent, error: Exception) -> None:
        what = type(event.data).__name__.removesuffix("Payload")
        self._reporter.report(
            f"telemetry sink {self._name!r} rejects an event of {what}: {_words(error)}; others like it are counted",
            ("rejected", self._name, what, _kind(error)),
        )


def _words(error: BaseException) -> str:
    if isinstance(error, Rejected | EventsLostError):
        with contextlib.suppress(Exception):  # a subclass may do anything
            return str(error)
    return describe(error)


def _kind(error: Exception) -> Hashable:
    """What makes two refusals one kind: the fields, without keys and indices, and the types that came instead."""
    cause = error.__cause__ or error
    if isinstance(cause, PayloadError):
        return tuple((problem.path.partition("[")[0], problem.actual.partition(" ")[0]) for problem in cause.problems)
    return type(cause).__name__
