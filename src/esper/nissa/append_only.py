"""A file that only grows, by whole writes, under one process's hands: what the file sinks stand on."""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from pathlib import Path
from typing import Self

__all__ = ["AppendOnly", "LogBrokenError", "LogInUseError"]


class LogInUseError(OSError):
    """Another sink, here or in another process, is writing this log."""


class LogBrokenError(RuntimeError):
    """The disk failed to keep what it was given; nothing more can be promised about this log."""


class AppendOnly:
    """A locked file that grows by whole writes: one that fails leaves nothing behind.

    Args:
        path: the file; it is created or continued.

    Raises:
        LogInUseError: somebody has the file open in this way already. The lock dies with its process.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._release = weakref.finalize(self, os.close, self._descriptor)
        self._release.atexit = False  # a hub that was left open still writes then
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise LogInUseError(errno.EAGAIN, "another run is writing this log", str(path)) from None
        self._size = os.fstat(self._descriptor).st_size
        self._entry_on_disk = False
        self._lost = ""
        _open_files.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OSError: none of it is in the file.
        """
        self.cut(0)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, memoryview(data)[written:])
        except OSError as error:
            self.cut(0)
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self._size += len(data)

    def cut(self, length: int) -> None:
        """Remove the last bytes, and whatever a write that failed has left behind them."""
        if length or os.fstat(self._descriptor).st_size > self._size:
            os.ftruncate(self._descriptor, self._size - length)
            self._size -= length

    def commit(self) -> None:
        """Return when the disk has everything.

        Raises:
            LogBrokenError: the disk refused, now or before.
            FileNotFoundError: the file was deleted.
        """
        if self._lost:
            raise LogBrokenError(self._lost)
        if not os.fstat(self._descriptor).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the log was deleted while it was written", str(self._path))
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            # The kernel forgets such a failure: the next fsync would report success for what never reached the disk.
            self._lost = f"{self._path}: {error.strerror}"
            raise LogBrokenError(self._lost) from error
        if not self._entry_on_disk:
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
            self._entry_on_disk = True

    def unfinished_line(self) -> bytes:
        """Return what follows the last line end."""
        tail, start, length = b"", self._size, 4_096
        while start and b"\n" not in tail:
            length = min(start, 2 * length)
            start -= length
            tail = os.pread(self._descriptor, length, start) + tail
        return tail[tail.rfind(b"\n") + 1 :]

    def complete_last_line(self) -> None:
        """Write the line end that a crash cut off."""
        if self.unfinished_line():
            self.append(b"\n")

    def close(self) -> None:
        """Let go of the file; doing it again changes nothing."""
        self._release()


_open_files: weakref.WeakSet[AppendOnly] = weakref.WeakSet()


def _let_go() -> None:
    # A forked child that kept its copies open would keep the locks of a parent that died.
    for file in list(_open_files):
        file.close()


os.register_at_fork(after_in_child=_let_go)
