"""Logs read side by side, each by one process, because nearly all of an export is reading."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from typing import Any, Final

from esper.karn.export.spooled_log import SpooledLog, spool
from esper.karn.folding import RARELY
from esper.leyline.wire import log_files

__all__ = ["spooled_logs"]

_WORTH_IT: Final = 16 << 20
"""Bytes of logs that take longer to read than a process to start."""
_LOOK: Final = 0.1
"""Seconds between two looks at how far the others are."""
_read: Any = None
"""In a process that reads: the count of lines, which all share."""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def spooled_logs(
    sources: Sequence[str], directory: Path, flat: bool, processes: int | None, progress: Callable[[int], None] | None
) -> Iterator[Iterator[SpooledLog]]:
    """Read logs, and give them in order.

    Args:
        sources: run directories, log files or ``-``.
        directory: where what was read is put aside; each log has to be removed by who took it.
        flat: whether containers stand as JSON text.
        processes: how many read; None for as many as are worth it.
        progress: called with how many lines were read since.

    Yields:
        The logs, each when it was read to its end.

    Raises:
        FileNotFoundError: there is no log.
    """
    size = sum(path.stat().st_size for source in sources if source != "-" for path in log_files(source))
    if processes is None:
        processes = min(len(sources), _cores())
        processes = 1 if size < _WORTH_IT or "-" in sources else processes
    places = [(source, directory / str(number)) for number, source in enumerate(sources)]
    if processes <= 1:
        yield (_spool(source, place, flat, progress) for source, place in places)
        return
    context = multiprocessing.get_context("spawn")  # forked, it would have Arrow's threads' locks and not the threads
    lines = context.Value("q", 0)
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(lines,))
    try:
        # Few at a time, since what was read lies on the disk until it is written.
        yield _in_order(pool, places, flat, processes, _Watch(lines, progress))
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, places: Sequence[tuple[str, Path]], flat: bool, ahead: int, watch: _Watch
) -> Iterator[SpooledLog]:
    pending: list[Future[SpooledLog]] = []
    rest = iter(places)
    for _ in places:
        while len(pending) <= ahead and (following := next(rest, None)) is not None:
            pending.append(pool.submit(_spool_in_process, *following, flat))
        future = pending.pop(0)
        while not future.done():
            wait([future], timeout=_LOOK)
            watch.look()
        watch.look()
        try:
            yield future.result()
        except BrokenProcessPool:
            raise OSError("a process that read a log was ended from outside: is there enough memory?") from None


class _Watch:
    """Tells the caller what the processes have counted."""

    def __init__(self, lines: Any, progress: Callable[[int], None] | None) -> None:
        self._lines = lines
        self._told = 0
        self._progress = progress

    def look(self) -> None:
        now = self._lines.value
        if self._progress is not None and now > self._told:
            self._progress(now - self._told)
            self._told = now


def _begin(lines: Any) -> None:
    global _read  # noqa: PLW0603 - a process is given it once
    _read = lines
    gc.set_threshold(*RARELY)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it, which ends it
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Outlive the one that started it by nothing: nobody would take what was read."""
    connection.wait([parent])
    os._exit(1)


def _count(lines: int) -> None:
    with _read.get_lock():
        _read.value += lines


def _spool_in_process(source: str, directory: Path, flat: bool) -> SpooledLog:
    return _spool(source, directory, flat, _count)


def _spool(source: str, directory: Path, flat: bool, progress: Callable[[int], None] | None) -> SpooledLog:
    directory.mkdir()
    return spool(source, directory, flat=flat, progress=progress)
