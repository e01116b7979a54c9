"""Signals that ask a run to end: the first winds it up, the second is answered, the third ends it at once.

Only the main thread of a process can be asked; elsewhere, and where a handler of somebody else's is in place or the
signal is ignored (``nohup``), nothing is changed.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

__all__ = ["SECONDS_TO_END", "Stopped", "stoppable"]

SECONDS_TO_END = 10.0
"""Seconds that a run has to wind up after the first signal; then the process ends all the same."""


class Stopped(SystemExit):
    """A signal asked for the end; uncaught it ends the process with 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.exit_status = 128 + number


class _Interrupted(Stopped, KeyboardInterrupt):
    """SIGINT, for code that expects a KeyboardInterrupt."""


@contextmanager
def stoppable(
    on_first: Callable[[], object] = lambda: None, on_last: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `Stopped`.

    Within another one it only adds its calls.

    Args:
        on_first: called before anything else, in the signal handler.
        on_last: called before the process is ended because winding up took too long, in a thread of its own.
    """
    outer = next(iter(_active), None)
    stopping = outer or _Stopping()
    calls = (on_first, on_last)
    stopping.calls.append(calls)
    try:
        if outer is None:
            stopping.install()
        yield
    finally:
        if outer is None:
            stopping.restore()
        stopping.calls.remove(calls)


class _Stopping:
    """What has been asked of this process so far."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[[], object], Callable[[], object]]] = []
        self._count = 0
        self._over = False
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = _replaceable()
            _active.append(self)
            for number in self._before:
                signal.signal(number, self._handle)

    def restore(self) -> None:
        self._over = True
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self in _active:
            _active.remove(self)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            with suppress(RuntimeError):  # without a thread only the third signal ends it
                # Not threading.Thread: the signal may have come while this thread held one of its locks.
                _thread.start_new_thread(self._end_later, (128 + number,))
            for on_first, _ in self.calls:
                on_first()
            raise _Interrupted(number) if number == signal.SIGINT else Stopped(number)
        if self._count > 2:  # noqa: PLR2004 - the third
            os._exit(128 + number)
        name = signal.Signals(number).name
        with suppress(OSError):
            os.write(2, f"esper: {name} again: the run is being wound up; once more ends it at once\n".encode())

    def _end_later(self, status: int) -> None:
        deadline = time.monotonic() + SECONDS_TO_END
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if self._over:
                return
        try:
            for _, on_last in self.calls:
                on_last()
        finally:
            os._exit(status)


_active: list[_Stopping] = []


def _replaceable() -> dict[int, Any]:
    """Return the handlers of the signals that nobody else cares for; Python's own count as nobody's."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    return {n: h for n, h in handlers.items() if h in (signal.SIG_DFL, signal.default_int_handler)}
