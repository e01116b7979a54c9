"""Handing events to one sink, and trying again where that can help."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence

from esper.leyline.telemetry import TelemetryEvent
from esper.nissa.protocol import Durable, Rejected, Sink

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

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._strikes = 0
        self._given_up = threading.Event()
        self.last_error: str | None = None

    def give_up(self) -> None:
        """Give up on what fails from now on, instead of waiting for better times."""
        self._given_up.set()

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

    def close(self) -> bool:
        """Close the sink; say whether it went well."""
        try:
            self._sink.close()
        except BaseException as error:  # noqa: BLE001 - a sink's failure stays its own
            self.last_error = repr(error)
            return False
        return True

    def _taken_after_all(self, event: TelemetryEvent, failure: BaseException) -> bool:
        try:
            self._retry(lambda: self._sink.write(event), failure)
        except Rejected:
            self._strikes = 0
            return False
        except Exception as error:
            self._strikes += 1
            if self._strikes == _STRIKES or isinstance(error, OSError):
                raise SinkBrokenError from error
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
                self.last_error = str(failure) if isinstance(failure, Rejected) else repr(failure)
                failures += 1
                if isinstance(failure, OSError):
                    waits = failure.errno in _DISK_FULL and isinstance(self._sink.policy, Durable)
                    if (not waits and time.monotonic() - since > RETRY_SECONDS) or self._given_up.wait(pause):
                        raise failure
                    pause = min(2 * pause, LONGEST_PAUSE)
                elif isinstance(failure, Rejected) or not isinstance(failure, Exception) or failures == _ATTEMPTS:
                    raise failure
            try:
                return attempt()
            except BaseException as error:  # noqa: BLE001 - as above
                failure = error
