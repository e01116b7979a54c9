"""A bar on a terminal for what takes a while and says now and then how much of it is done."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from esper.commands.streams import redraw
from esper.karn.formatting import age, bar

__all__ = ["progress_bar", "with_bar"]

T = TypeVar("T")
_PATIENCE = 0.3
"""Seconds before there is a bar, and between two looks at it."""


@contextmanager
def progress_bar(total: int, what: str) -> Iterator[Callable[[int], None] | None]:
    """Show how much is done while the block runs, where standard error is a terminal.

    Args:
        total: how much there is; 0 where nobody knows.
        what: what is counted, in the plural.

    Yields:
        What to call with how much more is done; None where nobody looks.
    """
    if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
        yield None
        return
    begun = shown = time.monotonic()
    done = 0

    def advance(more: int) -> None:
        nonlocal done, shown
        done += more
        now = time.monotonic()
        if now - shown > _PATIENCE:
            shown = now
            text = f"{done:,} {what}"
            if total:
                share = min(done / total, 1.0)
                left = age((now - begun) / share * (1 - share))
                text = f"{bar(share, 20)} {done:,} of {total:,} {what}, {left} left"
            redraw(text[: shutil.get_terminal_size().columns - 1])

    try:
        yield advance
    finally:
        if shown != begun:
            redraw("")


def with_bar(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass items on, and show how many of them are done.

    Args:
        items: the work.
        total: how many they are.
        what: what they are, in the plural.
    """
    with progress_bar(total, what) as advance:
        for item in items:
            yield item
            if advance is not None:
                advance(1)
