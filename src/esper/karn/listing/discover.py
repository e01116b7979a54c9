"""Every run below a directory: run directories, however deep, and logs that lie about on their own.

A directory is a run when it holds ``run.json`` or a log of ours; what is below it is looked through as well. Any other
file that ends in ``.jsonl`` is a log when its beginning has the mark of one, and is named when it is none. What cannot
be looked into is named, too. Links are followed; each directory is visited once, under its own name before a link's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from esper.leyline.printable import printable

__all__ = ["Discovery", "FoundRun", "discover", "natural"]

_SHARD: Final = re.compile(r"events(-rank.*)?\.jsonl")
_REJECTED: Final = re.compile(r"rejected.*\.jsonl")
_MARK: Final = b'"schema_version"'
_LOOKED_AT: Final = 1 << 16
"""Bytes at the beginning of a file in which a line of a log has to stand."""


@dataclass(frozen=True, slots=True)
class FoundRun:
    """Where a run is."""

    path: str
    """Its directory, or its log where that stands alone; as it can be given to other commands."""
    files: tuple[str, ...]
    """All files that say what it came to; 1 or more."""


@dataclass(slots=True)
class Discovery:
    """What was found below a directory."""

    runs: list[FoundRun] = field(default_factory=list)
    """In natural order of their paths."""
    notes: list[str] = field(default_factory=list)
    """What is no run though it may look like one, and what could not be looked into: a sentence each."""


def discover(root: str | os.PathLike[str]) -> Discovery:
    """Find the runs below a directory; a log is found itself.

    Raises:
        FileNotFoundError: there is no such directory or file.
    """
    top = os.fspath(root)
    if not Path(top).exists():
        raise FileNotFoundError(f"no such directory: {top}")
    found, others = Discovery(), list[str]()
    if not Path(top).is_dir():
        found.runs.append(FoundRun(top, (top,)))
        return found
    visited, links = set[str](), [top]
    while links:
        link = links.pop(0)
        for directory, names, linked in _walk(link, visited, found.notes):
            links += linked
            others += _take(directory, names, found)
    found.runs.sort(key=lambda run: natural(run.path))
    if others:
        more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
        found.notes.append(f"not a log of esper: {printable(others[0])}{more}")
    return found


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts ``seed-2`` before ``seed-10``, and keeps ``0.03`` apart from ``0.003``."""
    parts = re.split(r"(\d+)", text)
    return [(int(part[-300:]), part) if at % 2 else (0, part) for at, part in enumerate(parts)]


def _walk(top: str, visited: set[str], notes: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each directory that was not visited yet, with its files and with the links in it that lead to others."""

    def unreadable(error: OSError) -> None:
        notes.append(printable(f"{error.filename}: {error.strerror}"))

    for directory, below, names in os.walk(top, onerror=unreadable):
        real = os.path.realpath(directory)
        if real in visited:
            below.clear()
            continue
        visited.add(real)
        links = [name for name in below if os.path.islink(os.path.join(directory, name))]  # noqa: PTH118, PTH114 - many
        yield directory, names, [os.path.join(directory, name) for name in sorted(links)]  # noqa: PTH118


def _take(directory: str, names: list[str], found: Discovery) -> list[str]:
    """Note the runs that a directory holds; return the files that could have been logs and are none."""
    base = "" if directory == "." else directory
    ours = sorted(name for name in names if name == "run.json" or _SHARD.fullmatch(name) or _REJECTED.fullmatch(name))
    is_run = any(not _REJECTED.fullmatch(name) for name in ours)
    if is_run:
        found.runs.append(FoundRun(directory, tuple(os.path.join(base, name) for name in ours)))  # noqa: PTH118
    others = []
    for name in sorted(names):
        if name.endswith(".jsonl") and (name not in ours or not is_run):
            file = os.path.join(base, name)  # noqa: PTH118
            try:
                is_log = _is_log(file)
            except OSError as error:
                found.notes.append(printable(f"{file}: {error.strerror}"))
                continue
            if is_log:
                found.runs.append(FoundRun(file, (file,)))
            else:
                others.append(file)
    return others


def _is_log(file: str) -> bool:
    """Whether a file begins as a log does; a pipe or a device is not opened, as it might never answer."""
    path = Path(file)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return _MARK in stream.read(_LOOKED_AT)
