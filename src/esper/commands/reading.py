"""What a command that reads whole logs does around it."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["reading_logs"]


@contextmanager
def reading_logs() -> Iterator[None]:
    """Let SIGTERM end the block, or the function, as Ctrl-C does: what it has begun is cleaned away.

    Garbage is collected rarely in it, which takes a quarter less time where much of a log is kept.
    """
    from esper.karn.folding import RARELY  # noqa: PLC0415 - the parser of arguments needs none of it

    thresholds = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        with _ended_by_sigterm():
            yield
    finally:
        gc.set_threshold(*thresholds)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
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
