"""The live dashboard: a process of its own that follows a run's log. Extra ``dashboard``."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from esper.karn.dashboard.app import Dashboard
    from esper.karn.verdict import Verdict
    from esper.leyline.run_info import RunInfo

__all__ = ["watch"]

_FASTEST = 1_000_000
_ENDINGS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]


def watch(
    source: str, *, speed: float | None = None, judged: Callable[[Verdict, RunInfo | None], None] | None = None
) -> int:
    """Open the dashboard on a run, until the user leaves it.

    Args:
        source: a run directory or a log, which need not exist yet; ``-`` for standard input.
        speed: play the events back at their own pace times this; None to follow what comes. Unit: 1;
            above 0, at most 1,000,000.
        judged: called with the verdict over the run, and what run.json says, again and again; None for nobody.

    Returns:
        The exit status: 0; 1 after an error of its own; 2 with a line on standard error when it cannot be opened;
        128 and the number of the signal that ended it.
    """
    if speed is not None and not 0 < speed <= _FASTEST:
        return _refuse(f"speed must be above 0 and at most {_FASTEST:,}, got {speed}")
    if sys.stdout is None or sys.stdout.closed or not sys.stdout.isatty():
        return _refuse("the dashboard needs a terminal; esper replay prints a run as text")
    try:
        import textual  # noqa: F401, PLC0415 - whoever does not watch does without
    except ModuleNotFoundError:
        return _refuse("the dashboard needs Textual: pip install 'esper-telemetry[dashboard]'")
    from esper.karn.dashboard.app import Dashboard  # noqa: PLC0415 - needs Textual
    from esper.karn.dashboard.feed import Feed, LogTail, Playback, Tap  # noqa: PLC0415 - read only to watch
    from esper.karn.dashboard.following import FollowedRun  # noqa: PLC0415 - as above
    from esper.leyline.run_directory import RunDirectory  # noqa: PLC0415 - as above

    feed: Feed
    directory = None
    if source == "-":
        if sys.stdin is None or sys.stdin.closed:
            return _refuse("standard input is closed")
        if sys.stdin.isatty():
            return _refuse("- reads events from a pipe, and standard input is the terminal")
        try:
            feed = Tap(_take_stdin(), "<stdin>")
        except OSError:
            return _refuse("no terminal to read keys from beside standard input")
    else:
        path = Path(source)
        feed = LogTail(path)
        is_log = path.is_file() or (path.suffix == ".jsonl" and not path.is_dir())  # which may be still to come
        directory = RunDirectory(path.parent if is_log else path)
    if speed is not None:
        feed = Playback(feed, speed, _now)
    app = Dashboard(FollowedRun("<stdin>" if source == "-" else source, feed, _now, directory, judged=judged))
    asyncio.run(_run(app))
    return app.return_code or 0


async def _run(app: Dashboard) -> None:
    """Run until the user leaves or a signal asks for the end; either way the terminal is left as it was found."""
    gc.set_threshold(100_000, 10, 10)  # to walk through all the events that are kept, often, took a third of the time
    loop = asyncio.get_running_loop()
    for number in _ENDINGS:
        loop.add_signal_handler(number, app.exit, None, 128 + number)
    await app.run_async()


def _now() -> datetime:
    return datetime.now(UTC)


def _refuse(why: str) -> int:
    with suppress(OSError, ValueError, AttributeError):  # gone, closed, None
        sys.stderr.write(f"esper watch: {why}\n")
    return 2


def _take_stdin() -> IO[bytes]:
    """Return what standard input was, and put the terminal in its place, for the keys."""
    terminal = os.open("/dev/tty", os.O_RDONLY)
    stream = os.fdopen(os.dup(0), "rb")
    os.dup2(terminal, 0)
    os.close(terminal)
    return stream
