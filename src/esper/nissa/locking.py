"""One writer a file, by a lock that dies with its process: flock, or what Windows has in its place."""

from __future__ import annotations

import errno
import os
from types import ModuleType
from typing import Any

__all__ = ["lock"]

_fcntl: ModuleType | None
_msvcrt: Any
try:
    import fcntl as _fcntl
except ImportError:  # not a POSIX system
    _fcntl = None
try:
    import msvcrt as _msvcrt
except ImportError:  # not Windows
    _msvcrt = None

_LOCKED_BYTE = (1 << 31) - 1
"""The last one that msvcrt can name. Its locks bind readers, too: of a log of 2 GiB they could not read this byte."""
_TAKEN = frozenset({errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK)})


def lock(descriptor: int) -> None:
    """Lock an open file for this process alone, until it is closed.

    Raises:
        BlockingIOError: somebody has it locked.
        OSError: this system, or this file system, has no locks.
    """
    if _fcntl is not None:
        _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    elif _msvcrt is not None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)  # what is appended goes to the end all the same
        try:
            _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in _TAKEN:
                raise BlockingIOError(errno.EAGAIN, "locked") from None
            raise
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        raise OSError(errno.ENOSYS, "not on this system")
