"""A listing's memory: what was read of a run is read again only when one of its files has changed.

The cache is derived and disposable. It is one file a directory that was listed, in the user's cache directory and never
among the runs. An entry counts only if all of this is as it was: the names, sizes, times of last change (``mtime`` and
``ctime``), inodes and devices of all files that say what the run came to; esper's own code; and Python. It is not made

- while a run goes on: of its files, or its silence, the answer changes with time;
- where a file changed so shortly before it was read that a second change might not show in its times;
- where a file cannot be looked at.

A cache that is damaged, or that cannot be written, is none. Two listings at once write one after the other, whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from esper.karn.listing.discover import Discovery, FoundRun, discover
from esper.karn.listing.row import RunRow, read_rows
from esper.leyline.atomic import atomic_write

__all__ = ["Listing", "cache_file", "list_runs"]

_SETTLED: Final = 3.0
"""Seconds after which a change is sure to show in a file's times: the coarsest file system counts two."""
_TIMES: Final = tuple(field.name for field in fields(RunRow) if "datetime" in str(field.type))
_Identity: TypeAlias = list[list[int | str]]
_Entries: TypeAlias = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Listing:
    """The runs below a directory."""

    rows: tuple[RunRow, ...]
    """Of each run, in natural order of their paths."""
    notes: tuple[str, ...]
    """What could not be looked into, or looked like a run and is none; and why there is no cache, if there is none."""
    n_read: int
    """Runs that were read; the others are as they were."""


def list_runs(
    root: str | os.PathLike[str],
    *,
    progress: Callable[[Iterable[FoundRun], int], Iterable[FoundRun]] | None = None,
    cache: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Listing:
    """Say what every run below a directory came to.

    Args:
        root: a directory, or a log.
        progress: is given the runs that must be read, and how many; passes them on.
        cache: the file to remember in; None for none.
        clock: seconds since the epoch; times of files are compared with it.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    found = discover(root)
    top, code, now = os.fspath(root), _code(), clock()
    cache = cache if code else None
    kept = {} if cache is None else _load(cache, code)
    entries: _Entries = {}
    unread: list[tuple[FoundRun, _Identity | None]] = []
    rows: dict[str, tuple[RunRow, ...]] = {}
    for run in found.runs:
        identity, key = _identity(run), os.path.relpath(run.path, top)
        if identity is not None and key in kept and kept[key]["identity"] == identity:
            entries[key] = kept[key]
            rows[run.path] = tuple(_row(made, run.path) for made in kept[key]["rows"])
        else:
            unread.append((run, identity))
    identities = {run.path: identity for run, identity in unread}
    waiting: Iterable[FoundRun] = [run for run, _ in unread]
    try:
        for run in waiting if progress is None or not unread else progress(waiting, len(unread)):
            rows[run.path] = read_rows(run, datetime.fromtimestamp(now, UTC))
            if _holds(identities[run.path], rows[run.path], now):
                made = [_plain(row) for row in rows[run.path]]
                entries[os.path.relpath(run.path, top)] = {"identity": identities[run.path], "rows": made}
    finally:  # what was read before Ctrl-C need not be read again
        trouble = "" if cache is None or entries == kept else _save(cache, code, entries)
    return _listing(found, rows, len(unread), trouble)


def _listing(found: Discovery, rows: dict[str, tuple[RunRow, ...]], n_read: int, trouble: str) -> Listing:
    notes = [*found.notes, *([trouble] if trouble else [])]
    return Listing(tuple(row for run in found.runs for row in rows[run.path]), tuple(notes), n_read)


def cache_file(root: str | os.PathLike[str]) -> Path | None:
    """Return where a listing of this directory, as it is spelt, is remembered; None where there is no home.

    That is below ``$XDG_CACHE_HOME``, else ``~/.cache``.
    """
    base = os.environ["XDG_CACHE_HOME"] if "XDG_CACHE_HOME" in os.environ else ""
    try:
        home = Path(base) if os.path.isabs(base) else Path.home() / ".cache"  # noqa: PTH117 - as the convention says
    except RuntimeError:
        return None
    name = hashlib.sha256(os.fsencode(os.path.realpath(root)) + b"\0" + os.fsencode(root)).hexdigest()[:24]
    return home / "esper" / f"runs-{name}.json"


def _identity(run: FoundRun) -> _Identity | None:
    """Return what changes when a file of the run does; None when that cannot be told."""
    try:
        looks = [(file, os.stat(file)) for file in run.files]  # noqa: PTH116 - thousands
    except OSError:
        return None
    return [
        [os.path.basename(file), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev]  # noqa: PTH119 - as above
        for file, s in looks
    ]


def _holds(identity: _Identity | None, rows: tuple[RunRow, ...], now: float) -> bool:
    """Whether what was read is what a file has until it looks otherwise than it did before it was read."""
    if identity is None:
        return False
    newest = max((int(time) / 1e9 for _, _, *times, _, _ in identity for time in times), default=now)
    # of a run that says it is running, only the silence may become news; once that is said, nothing can
    goes_on = any(row.status == "running" and row.verdict not in ("WATCH", "BAD") for row in rows)
    return newest + _SETTLED < now and not goes_on


def _plain(row: RunRow) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in fields(RunRow) if field.name != "run"}
    return values | {name: None if values[name] is None else values[name].isoformat() for name in _TIMES}


def _row(values: dict[str, Any], run: str) -> RunRow:
    for name in _TIMES:
        values = {**values, name: None if values[name] is None else datetime.fromisoformat(values[name])}
    return RunRow(run=run, **values)


def _code() -> str:
    """Return what changes when esper or Python does: a file of ours that was edited counts as much as an upgrade.

    Empty where that cannot be told, as in an archive.
    """
    room = Path(__file__).parent.parent.parent
    files = sorted(file for name in ("leyline", "karn") for file in (room / name).rglob("*.py*"))
    looks = [
        f"{file} {(s := file.stat()).st_size} {s.st_mtime_ns}" for file in files if "__pycache__" not in file.parts
    ]
    if not looks:
        return ""
    return hashlib.sha256("\n".join([sys.version, *looks]).encode("utf-8", "surrogateescape")).hexdigest()


def _load(cache: Path, code: str) -> _Entries:
    """Return the entries that count; none where the cache is not whole, or another esper's."""
    try:
        head, _, body = cache.read_bytes().partition(b"\n")
        if json.loads(head) != [code, hashlib.sha256(body).hexdigest()]:
            return {}
        entries: _Entries = json.loads(body)
    except (OSError, ValueError, RecursionError):
        return {}
    return entries


def _save(cache: Path, code: str, entries: _Entries) -> str:
    """Write the cache; return why it could not be written, as a sentence."""
    body = json.dumps(entries).encode()
    head = json.dumps([code, hashlib.sha256(body).hexdigest()]).encode()
    try:
        cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with atomic_write(cache) as file:
            file.write(head + b"\n" + body)
    except OSError as error:
        return f"{cache} cannot be written ({error.strerror}): the next listing reads these runs again"
    return ""
