"""The file of rejected events: beside the log, and never in its way."""

from __future__ import annotations

import json
import time
from pathlib import Path

from esper.nissa.append_only import AppendOnly, LogBrokenError, LogInUseError
from esper.nissa.reporting import Reporter

__all__ = ["RejectedEvents"]

_KEPT_BYTES = 4 * 1024 * 1024
"""What may wait in memory for a file that cannot be written."""
_REASON_LENGTH = 1_000
"""Characters that a reason may have."""
_LAST_WAIT, _PAUSE = 1.0, 0.02
"""Seconds that closing waits for another log of the directory which is writing the same file, and between attempts."""


class RejectedEvents:
    """Appends a line for each rejected event; what cannot be written is reported, and is nobody else's trouble.

    Args:
        path: the file; it is made with its first line. Several logs may share it.
        reporter: hears once that the file cannot be written.
    """

    def __init__(self, path: Path, reporter: Reporter) -> None:
        self.path = path.absolute()
        self._reporter = reporter
        self._lines: list[bytes] = []
        self._waiting = 0

    def add(self, *, event_id: str, event_type: str, field: str, reason: str, **more: object) -> None:
        """Take an event for the next `write`."""
        record = {"event_id": event_id, "event_type": event_type, "field": field, "reason": reason[:_REASON_LENGTH]}
        line = json.dumps(record | more).encode() + b"\n"
        if self._waiting + len(line) > _KEPT_BYTES and self._lines:
            self._cannot(f"more than {_KEPT_BYTES >> 20} MB of them wait")
            return
        self._lines.append(line)
        self._waiting += len(line)

    def write(self) -> bool:
        """Write what was taken; say whether nothing waits any more. Nothing is raised: it is tried again next time."""
        if not self._lines:
            return True
        try:
            with AppendOnly(self.path, self._reporter) as file:
                file.complete_last_line()
                file.append(b"".join(self._lines))
                self._forget()
                file.commit()
        except LogInUseError:
            return False
        except (OSError, LogBrokenError) as error:
            self._cannot(str(error))
        return not self._lines

    def close(self) -> None:
        """Write what still waits, as long as another log is writing the same file."""
        deadline = time.monotonic() + _LAST_WAIT
        while not self.write() and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        if self._lines:
            self._reporter.report(f"{len(self._lines)} rejected events could not be kept in {self.path}")
            self._forget()

    def take_back(self) -> None:
        """Forget what waits: it stays where it was."""
        self._forget()

    def _forget(self) -> None:
        self._lines.clear()
        self._waiting = 0

    def _cannot(self, reason: str) -> None:
        self._reporter.report(f"rejected events cannot be written to {self.path}: {reason}", "rejected file")
