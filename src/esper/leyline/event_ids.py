"""Identifiers of events: as unique as random ones, at a tenth of the cost.

An id is a UUID of version 8 (RFC 9562): 74 random bits that each process draws for itself, and a counter. The bits come
from the operating system, so a script's ``random.seed`` repeats none of them, and a forked child draws its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count

__all__ = ["new_event_id", "numbers", "text_of"]

_COUNTED = 48
"""Bits of the counter."""
_COUNTER = (1 << _COUNTED) - 1


class _Numbers:
    """The numbers of this process: what it drew, followed by the counter."""

    next: Callable[[], int]

    def draw(self) -> None:
        self.next = count(int.from_bytes(os.urandom(10), "big") << _COUNTED).__next__


numbers = _Numbers()
"""An event remembers its number, and has a text for it only once somebody asks."""


class _Heads(dict[int, str]):
    """How an id begins, by all of its number but the last byte: 256 events in a row begin alike."""

    def __missing__(self, high: int) -> str:
        bits, counted = high >> _COUNTED - 8, high & _COUNTER >> 8
        variant = 0x8 | bits >> 76 & 0x3
        first, second, third = bits & 0xFFFFFFFF, bits >> 32 & 0xFFFF, bits >> 48 & 0xFFF
        node = f"{variant:x}{bits >> 60 & 0xFFF:03x}"
        if len(self) >= _MOST_HEADS:
            self.clear()
        text = self[high] = f"{first:08x}-{second:04x}-8{third:03x}-{node}-{counted:010x}"
        return text


_heads = _Heads()
_MOST_HEADS = 64
_LAST_BYTES = [f"{byte:02x}" for byte in range(256)]


def text_of(number: int) -> str:
    """Return the id that a number stands for."""
    return _heads[number >> 8] + _LAST_BYTES[number & 0xFF]


def new_event_id() -> str:
    """Return an id that no other thread, process or machine returns."""
    return text_of(numbers.next())


numbers.draw()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=numbers.draw)
