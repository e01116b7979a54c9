"""A bar on a terminal while something is read; nothing where standard error is none."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from esper.commands.streams import say
from esper.karn.formatting import age, bar

__all__ = ["with_bar"]

T = TypeVar("T")
_PATIENCE = 0.3
"""Seconds before there is a bar, and between two looks at it."""


def with_bar(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass items on, and show how many of them are done.

    Args:
        items: the work.
        total: how many they are.
        what: what they are, in the plural.
    """
    if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
        yield from items
        return
    begun = shown = time.monotonic()
    try:
        for done, item in enumerate(items):
            now = time.monotonic()
            if now - shown > _PATIENCE:
                shown = now
                left = f", {age((now - begun) / done * (total - done))} left" if done else ""
                text = f"{bar(done / total, 20)} {done:,} of {total:,} {what}{left}"
                say(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            yield item
    finally:
        if shown != begun:
            say("\r\x1b[K")
