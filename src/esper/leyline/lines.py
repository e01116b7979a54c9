"""The lines of a log that anybody may have written: bounded in length, and in the files that are open at once."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["LONGEST_LINE", "has_end", "longest_line", "open_file", "open_log", "read_lines_of", "read_small"]

LONGEST_LINE: Final = 1 << 27
"""What a reader takes for one line, since memory has an end and a device or an enemy's line has none. Unit: bytes."""
_MOST_OPEN: Final = 64
"""Files that are held open together: a process may have a few hundred, and a run thousands of shards."""
_PIECE: Final = 1 << 14
"""Bytes that are read of a file each time it is opened, where there are more of them."""


def open_log(path: Path, *, together: int = 1) -> IO[bytes]:
    """Open a file of which this many are read together; where they are too many, it is open only while it is read.

    Raises:
        OSError: it cannot be opened.
    """
    return path.open("rb") if together <= _MOST_OPEN else io.BufferedReader(_Reopened(path), _PIECE)


def read_lines_of(stream: IO[str] | IO[bytes]) -> Iterator[str | bytes]:
    """Yield every line, with its end; of one that is longer than `LONGEST_LINE` a beginning that is.

    Behind such a line reading goes on only where the stream surely ends (`has_end`).

    Raises:
        OSError: it cannot be read, or is a device that is no terminal.
    """
    _refuse_device(stream)
    end = stream.read(0)
    lines: Iterator[Any] = iter(partial(stream.readline, LONGEST_LINE + 1), end)
    for line in lines:
        yield line
        rest = line
        while len(rest) >= LONGEST_LINE and rest[-1:] not in (b"\n", "\n"):
            if not has_end(stream):
                return
            rest = stream.readline(LONGEST_LINE)


def has_end(stream: IO[str] | IO[bytes]) -> bool:
    """Whether a stream surely ends: a file does, and what is in memory; a pipe may not."""
    status = _status(stream)
    return status is None or stat.S_ISREG(status.st_mode)


def longest_line(path: Path) -> int:
    """Return how many bytes the longest line of a file has, at constant memory."""
    longest = unfinished = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            first, *others = map(len, piece.split(b"\n"))
            longest, unfinished = (
                max(longest, unfinished + first, *others),
                others[-1] if others else unfinished + first,
            )
    return longest


def open_file(path: Path) -> IO[bytes]:
    """Open an ordinary file; a pipe that nobody writes to would be waited for, and a device has no end.

    Raises:
        OSError: it cannot be opened, or is none.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "no ordinary file", str(path))
    return open(descriptor, "rb")  # noqa: PTH123 - the caller's to close


def read_small(path: Path) -> bytes:
    """Return the content of a file that is read whole: an ordinary one, and none larger than `LONGEST_LINE`.

    Raises:
        OSError: it cannot be read, is no ordinary file, which might have no end, or is too large.
    """
    with open_file(path) as file:
        content = file.read(LONGEST_LINE + 1)
    if len(content) > LONGEST_LINE:
        raise OSError(errno.EFBIG, f"more than {LONGEST_LINE >> 20} MiB", str(path))
    return content


class _Reopened(io.RawIOBase):
    """A file that is open only while it is read."""

    def __init__(self, path: Path) -> None:
        path.open("rb").close()
        self._path = path
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._position)
            length = file.readinto(buffer) or 0
        self._position += length
        return length


def _status(stream: IO[str] | IO[bytes]) -> os.stat_result | None:
    try:
        return os.fstat(stream.fileno())
    except (OSError, AttributeError):
        return None  # it is in memory, or somebody's own


def _refuse_device(stream: IO[str] | IO[bytes]) -> None:
    status = _status(stream)
    if status is None or not stat.S_ISCHR(status.st_mode) or stream.isatty():
        return
    if status.st_rdev != os.stat(os.devnull).st_rdev:  # noqa: PTH116 - of a name, not of a path
        raise OSError(errno.ENODEV, "a device is no log", str(stream.name))
