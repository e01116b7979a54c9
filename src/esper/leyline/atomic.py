"""Files, and directories of them, that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_directory", "atomic_write"]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to be written; whoever reads sees the old one or the new one, also after a crash.

    The new file has the permissions that the umask leaves. A link stays, and what it leads to is replaced. What is no
    ordinary file (``/dev/stdout``, a pipe) is written directly.

    Args:
        path: the file to replace or create.

    Yields:
        The file, in binary mode.

    Raises:
        OSError: it cannot be written; the old one is still there, and nothing is left beside it.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        with target.open("wb") as file:
            yield file
        return
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _commit_entry(target.parent)


@contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a directory that appears, under its name, when everything is in it; also after a crash.

    It may also become a single file: when the block leaves nothing but a file of the name of `path`, that takes the
    name.

    Args:
        path: its name; nothing may be there. Directories above it are made.

    Yields:
        A directory beside it to write into, of another name.

    Raises:
        FileExistsError: there is something of that name.
        OSError: it cannot be written; nothing is left of it.
    """
    target = Path(os.path.abspath(path))  # noqa: PTH100 - a link is no reason to write elsewhere
    if os.path.lexists(target):
        raise FileExistsError(f"{path} exists: name another one, or remove it first")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"{target.parent} is no directory") from None
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        yield temporary
        files = [file for file in temporary.rglob("*") if file.is_file()]
        for file in files:
            _commit(file)
        if os.path.lexists(target):
            raise FileExistsError(f"{path} exists: it was made in the meantime")
        whole = temporary / target.name if files == [temporary / target.name] else temporary
        whole.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _commit_entry(target.parent)


def _commit(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _commit_entry(directory: Path) -> None:
    with suppress(OSError):  # not every file system can; the file itself is safe, its new name only after a while
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
