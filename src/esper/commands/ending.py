"""A command that SIGTERM ends as Ctrl-C does: what it has begun is cleaned away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["cleanly_ended"]


@contextmanager
def cleanly_ended() -> Iterator[None]:
    """Let SIGTERM leave the block, or the function, with the exit status of a process that it ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
