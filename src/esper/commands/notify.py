"""Telling somebody how a run is: a command of the user's own, given the verdict as JSON, never in the way."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final, Literal, TextIO, TypeAlias

from esper.commands.streams import say
from esper.karn.verdict_json import recorded
from esper.leyline.limits import Status
from esper.leyline.strict_json import to_json

if TYPE_CHECKING:
    from esper.karn.verdict import Verdict
    from esper.leyline.run_info import RunInfo, RunStatus

__all__ = ["Notifier", "Reason"]

Reason: TypeAlias = Literal["bad", "end", "crash"]
_PATIENCE: Final = 30.0
"""Seconds that a command may take before it is ended."""
_LAST: Final = 10.0
"""Seconds that the end of a run waits for a command that is still at it."""


@dataclass(slots=True)
class Notifier:
    """Runs a command when a run goes BAD, ends or crashes: each in a thread of its own, at most one at a time.

    The command reads from its standard input an object with ``run``, ``reason`` (``bad``, ``end`` or ``crash``) and
    what run.json keeps of a verdict. What it prints is not shown; that it failed is said once.
    """

    command: str
    """For the shell."""
    run: str
    """The run, as the user would name it."""
    terminal: TextIO | None = None
    """Where the bell is rung; None for nowhere."""
    _was: Status = Status.UNKNOWN
    _ended: RunStatus | None = None
    _looked: bool = False
    _failed: bool = False
    _busy: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def look(self, verdict: Verdict, info: RunInfo | None = None) -> None:
        """Tell what has changed since the last look: that a run went BAD, or that it ended.

        Args:
            verdict: the present one.
            info: what run.json says; None to leave ends to `end`.
        """
        if verdict.status is Status.BAD and self._was is not Status.BAD:
            self._tell("bad", verdict)
        self._was = verdict.status
        status = None if info is None or info.status == "running" else info.status
        if status is not None and self._ended is None:
            self._ended = status
            if self._looked:  # a run that had ended before anybody looked is no news
                self._tell("crash" if status == "failed" else "end", verdict)
        self._looked = True

    def end(self, verdict: Verdict, *, crashed: bool) -> None:
        """Tell that the run is over, and wait a little for commands that are still at it."""
        self._tell("crash" if crashed else "end", verdict)
        for thread in self._threads:
            thread.join(_LAST)

    def _tell(self, reason: Reason, verdict: Verdict) -> None:
        with suppress(OSError, ValueError):  # gone, closed
            if self.terminal is not None and self.terminal.isatty():
                self.terminal.write("\a")
                self.terminal.flush()
        message = json.dumps({"run": self.run, "reason": reason, **_fields(verdict)}, allow_nan=False)
        thread = threading.Thread(target=self._run, args=(message,), name="esper-notify", daemon=True)
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()

    def _run(self, message: str) -> None:
        with self._busy:
            try:
                with TemporaryFile() as said:  # not a pipe, which what the command leaves running would hold open
                    done = subprocess.run(  # noqa: S602 - the user's own command, for the user's own shell
                        self.command,
                        shell=True,
                        input=message.encode(),
                        stdout=subprocess.DEVNULL,
                        stderr=said,
                        timeout=_PATIENCE,
                        check=False,
                    )
                    said.seek(0)
                    why = f"status {done.returncode}: {said.read(800).decode(errors='replace').strip()[:200]}"
                well = done.returncode == 0
            except (OSError, subprocess.SubprocessError) as error:
                well, why = False, str(error)
        if not well and not self._failed:
            self._failed = True
            say(f"esper: warning: --notify: {why}\n")


def _fields(verdict: Verdict) -> dict[str, object]:
    fields = to_json(recorded(verdict))
    assert isinstance(fields, dict)
    return dict(fields)
