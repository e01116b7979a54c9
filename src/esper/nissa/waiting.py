"""A lock, and waiting for what it guards to change.

Not threading.Condition: a signal that arrives while that takes its lock back leaves the lock broken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

__all__ = ["Changes"]

_LONGEST_SLEEP = 3_600.0
"""Seconds of one wait within a longer one, which the system could refuse."""


class Changes:
    """Lets threads sleep until somebody says that something has changed.

    Attributes:
        lock: guards what changes. Re-entrant, since a signal handler or a finalizer may run while its own thread holds
            it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._waiters: list[threading.Lock] = []

    def waiter(self) -> threading.Lock:
        """Return a lock that is released at the next change. Called with the lock held, as is `announce`."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        return waiter

    def wait(self, waiter: threading.Lock, timeout: float) -> None:
        """Sleep until the next change, or until the time is up, or for an hour."""
        if not waiter.acquire(timeout=min(timeout, _LONGEST_SLEEP)):
            with self.lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def announce(self) -> None:
        """Wake everybody."""
        while self._waiters:
            self._waiters.pop().release()

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Sleep until a condition holds, or the time is up; say whether it does."""
        deadline = time.monotonic() + timeout
        while True:
            with self.lock:
                left = deadline - time.monotonic()
                if condition() or left <= 0:
                    return condition()
                waiter = self.waiter()
            self.wait(waiter, left)

    def lock_is_held(self) -> bool:
        """Whether this thread holds the lock, that is, interrupted itself: nothing can change until it goes on."""
        return bool(cast("Any", self.lock)._is_owned())  # noqa: SLF001 - as threading.Condition does
