"""A file that only grows, by whole writes, under one process's hands: what the file sinks stand on."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import weakref
from pathlib import Path
from typing import Self

from esper.nissa.locking import lock
from esper.nissa.reporting import Reporter

__all__ = ["AppendOnly", "LogBrokenError", "LogInUseError"]

_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS})
"""What fsync says where the file system has no such thing: a promise less, and nothing lost."""
_REFUSED = _UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EBADF, errno.EISDIR}
"""The same of a directory."""


class LogInUseError(OSError):
    """Another sink, here or in another process, is writing this log."""


class LogBrokenError(RuntimeError):
    """What was given to the disk is not there; nothing more can be promised about this log."""


class AppendOnly:
    """A locked file that grows by whole writes: one that fails leaves nothing behind.

    Args:
        path: the file; it is created or continued.
        reporter: hears once what the file system cannot give.

    Raises:
        LogInUseError: somebody has the file open in this way already. The lock dies with its process.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, reporter: Reporter) -> None:
        self._path = path
        self._absolute = path.absolute()  # the working directory may change
        self._reporter = reporter
        self._descriptor = _open_for_appending(path)
        self._release = weakref.finalize(self, os.close, self._descriptor)
        self._release.atexit = False  # a hub that was left open still writes then
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self._regular = stat.S_ISREG(status.st_mode)
        try:
            self._lock()
        except LogInUseError:
            self._release()
            raise
        self._size = os.fstat(self._descriptor).st_size  # now that nobody else writes
        self._partial = b""
        self._entry_on_disk = False
        self._broken = ""
        _open_files.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is still ours."""
        return self._release.alive

    @property
    def size(self) -> int:
        """Bytes of the file, as far as they are known to be whole. Unit: bytes."""
        return self._size

    def append(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OSError: none of it counts as written; the next call has to begin with the same bytes.
            ValueError: the file is closed.
        """
        self._check_open()
        with contextlib.suppress(OSError):
            self._cut_partial()
        written = len(self._partial) if data.startswith(self._partial) else 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, memoryview(data)[written:])
        except BaseException as error:
            self._partial = data[:written]
            with contextlib.suppress(OSError):
                self._cut_partial()
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(self._path)) from None
            raise
        self._size += len(data)
        self._partial = b""

    def surplus(self) -> int:
        """Return how many bytes the file has that are not ours; negative when some of ours are gone."""
        self._check_open()
        if not self._regular:
            return 0
        return os.fstat(self._descriptor).st_size - self._size - len(self._partial)

    def accept(self) -> bytes:
        """Take the file as it is, whoever made it so; return what a write that failed has left in it."""
        self._size = os.fstat(self._descriptor).st_size
        partial, self._partial = self._partial, b""
        return partial

    def displaced(self) -> str:
        """Say why the file is not where it was opened; empty when it is."""
        if not self._regular:
            return ""
        try:
            there = self._absolute.stat()
        except (FileNotFoundError, NotADirectoryError):
            gone = "deleted" if not os.fstat(self._descriptor).st_nlink else "renamed"
            return f"{self._path} was {gone} while it was written"
        except OSError:
            return ""  # nobody knows
        ours = os.fstat(self._descriptor)
        # Some network file systems change an inode's number; the size shows that it is another file.
        same = (there.st_dev, there.st_ino) == self._identity or (ours.st_nlink and there.st_size == ours.st_size)
        return "" if same else f"{self._path} was replaced by another file while it was written"

    def cut(self, length: int) -> None:
        """Remove the last bytes."""
        os.ftruncate(self._descriptor, self._size - length)
        self._size -= length

    def commit(self) -> None:
        """Return when the disk has everything.

        Raises:
            LogBrokenError: the disk refused, now or before, or the file is not there any more.
            ValueError: the file is closed.
        """
        self._check_open()
        self._broken = self._broken or self.displaced()
        if self._broken:
            raise LogBrokenError(self._broken)
        try:
            os.fsync(self._descriptor)
            if not self._entry_on_disk:
                self._commit_entry()
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                # The kernel forgets such a failure: the next fsync would succeed for what never reached the disk.
                self._broken = f"{self._path}: {error.strerror}"
                raise LogBrokenError(self._broken) from error
            self._lacks("a commit to the disk", error, "events may be lost when the machine crashes")

    def unfinished_line(self) -> bytes:
        """Return what follows the last line end."""
        tail, start, length = b"", self._size, 4_096
        while start and b"\n" not in tail:
            length = min(start, 2 * length)
            start -= length
            os.lseek(self._descriptor, start, os.SEEK_SET)  # Windows has no pread
            tail = os.read(self._descriptor, length) + tail
        return tail[tail.rfind(b"\n") + 1 :]

    def lines(self, start: int) -> list[bytes]:
        """Return the whole lines from a position on."""
        with open(os.dup(self._descriptor), "rb") as file:  # noqa: PTH123 - a descriptor has no path
            file.seek(start)
            return [line for line in file if line.endswith(b"\n")]

    def complete_last_line(self) -> None:
        """Write the line end that a crash, or somebody else, left out."""
        if self.unfinished_line():
            self.append(b"\n")

    def close(self) -> None:
        """Let go of the file; doing it again changes nothing."""
        if self.is_open:
            with contextlib.suppress(OSError):
                self._cut_partial()
            self._release()

    def _check_open(self) -> None:
        if not self.is_open:
            raise ValueError(f"{self._path} is closed")

    def _cut_partial(self) -> None:
        if self._partial and not self.surplus():
            os.ftruncate(self._descriptor, self._size)
            self._partial = b""

    def _lock(self) -> None:
        in_use = LogInUseError(errno.EAGAIN, "another run is writing this log", str(self._path))
        if any(file.is_open and file._identity == self._identity for file in list(_open_files)):  # noqa: SLF001
            raise in_use
        try:
            lock(self._descriptor)
        except BlockingIOError:
            raise in_use from None
        except OSError as error:
            self._lacks("a lock", error, "nothing stops another process from writing it")

    def _commit_entry(self) -> None:
        entry, consequence = "a commit of its directory", "a crash of the machine may lose the whole file"
        try:
            directory = os.open(self._absolute.parent, os.O_RDONLY)
        except OSError as error:  # too many open files, say: the next commit tries again
            self._lacks(entry, error, consequence)
            return
        try:
            os.fsync(directory)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._lacks(entry, error, consequence)
        finally:
            os.close(directory)
        self._entry_on_disk = True

    def _lacks(self, what: str, error: OSError, consequence: str) -> None:
        self._reporter.report(f"{self._path} gets no {what.partition(' ')[2]} ({error.strerror}): {consequence}", what)


def _open_for_appending(path: Path) -> int:
    """Open a file, but never in place of a standard stream that was closed: what is printed would stand in the log."""
    taken = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)]
    try:
        while taken[-1] <= _STANDARD_ERROR:
            taken.append(os.dup(taken[-1]))
        return taken.pop()
    finally:
        for descriptor in taken:
            os.close(descriptor)


_STANDARD_ERROR = 2


_open_files: weakref.WeakSet[AppendOnly] = weakref.WeakSet()


def _let_go() -> None:
    # A forked child that kept its copies open would keep the locks of a parent that died.
    for file in list(_open_files):
        file._release()  # noqa: SLF001 - without cutting anything: the file is the parent's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
