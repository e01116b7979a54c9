"""The dashboard beside a run: a process of its own, which has the terminal until its user leaves it."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from esper.commands.streams import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from esper.karn.console import Console

__all__ = ["dashboard_beside"]


@contextmanager
def dashboard_beside(path: Path, console: Console | None, *, shown: bool) -> Iterator[None]:
    """Show the run in the dashboard, if asked to, until the run is over and its user leaves it."""
    if not shown:
        yield
        return
    dashboard = _Dashboard(path, console)
    try:
        yield
        dashboard.wait()
    finally:
        dashboard.end()


class _Dashboard:
    """The dashboard in a process of its own, which has the terminal until its user leaves it.

    Until then nothing else may be written there: progress is not shown, warnings are held back.
    """

    def __init__(self, path: Path, console: Console | None) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "esper", "watch", str(path)])  # noqa: S603 - ourselves
        self._over = False
        self._console = console
        if console is not None:
            console.hidden = True
        self._stderr, self._held = sys.stderr, io.StringIO()
        sys.stderr = self._held
        self._waiting = threading.Thread(target=self._give_back, name="esper-dashboard", daemon=True)
        self._waiting.start()

    def _give_back(self) -> None:
        self._process.wait()
        sys.stderr = self._stderr
        say(self._held.getvalue())
        if not self._over:
            say("dashboard closed; training goes on (Ctrl-C ends it)\n")
            if self._console is not None:
                self._console.hidden = False

    def wait(self) -> None:
        """Wait until the user leaves it: the run is over."""
        self._over = True
        self._waiting.join()

    def end(self) -> None:
        """End it, and wait until it has left the terminal as it was."""
        self._over = True
        self._process.terminate()
        self._waiting.join()
