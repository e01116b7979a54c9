"""Standard streams, which may be closed, full, or nobody's: what cannot be said there ends nothing."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = ["give_up_broken_streams", "say", "show"]


def say(text: str) -> None:
    """Write to standard error, if there is one that takes it."""
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, None
        sys.stderr.write(text)
        sys.stderr.flush()


def show(text: str) -> None:
    """Write a result to standard output; that its reader has gone, or was never there, is no error.

    Raises:
        OSError: it cannot be written, as on a full disk.
    """
    if sys.stdout is not None and not sys.stdout.closed:
        with suppress(BrokenPipeError):
            sys.stdout.write(text)
            sys.stdout.flush()


def give_up_broken_streams() -> None:
    """Put the null device where a stream is broken, lest the interpreter's last flush changes the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
