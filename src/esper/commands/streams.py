"""Standard streams, which may be closed, full, or nobody's: what cannot be said there ends nothing."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from esper.leyline.printable import printable, printable_lines

__all__ = ["give_up_broken_streams", "redraw", "say", "show", "take_closed_descriptors"]


def say(text: str) -> None:
    """Write to standard error, if there is one that takes it."""
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, None
        sys.stderr.write(printable_lines(text))
        sys.stderr.flush()


def redraw(text: str) -> None:
    """Put a text in the place of the line where a terminal's cursor stands, on standard error; nothing clears it."""
    with suppress(OSError, ValueError, AttributeError):  # as above
        sys.stderr.write(f"\r\x1b[K{printable(text)}")
        sys.stderr.flush()


def show(text: str) -> None:
    """Write a result to standard output; that its reader has gone, or was never there, is no error.

    Raises:
        OSError: it cannot be written, as on a full disk.
    """
    if sys.stdout is not None and not sys.stdout.closed:
        with suppress(BrokenPipeError):
            sys.stdout.write(printable_lines(text))
            sys.stdout.flush()


def take_closed_descriptors() -> None:
    """Put the null device where a standard stream was closed: the next file would get its number, and what is said."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free


def give_up_broken_streams() -> None:
    """Put the null device where a stream is broken, lest the interpreter's last flush changes the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
