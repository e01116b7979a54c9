"""A run directory that is made of events from elsewhere: valid lines in its log, and what is no event beside it."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import encode_event

__all__ = ["SET_ASIDE", "RunWriter"]

SET_ASIDE: Final = "set-aside.jsonl"
"""Beside the log: the lines that are no events, as they came."""


class RunWriter:
    """Writes events that are known to be right, without a hub: nobody waits for it.

    Args:
        directory: where the run goes; it must be there and empty.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = RunDirectory(directory)
        self._stack = ExitStack()
        self._files: dict[str, BinaryIO] = {}
        self.events: Counter[str] = Counter()
        """How many were written, by type."""
        self.set_aside = 0
        """Lines that are no events."""
        self._first: datetime | None = None
        self._last: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write(self, event: TelemetryEvent, file: str = "events.jsonl") -> None:
        """Append an event to a log of the run.

        Raises:
            PayloadError: it cannot be written.
        """
        self._file(file).write(f"{encode_event(event)}\n".encode("ascii"))
        self.events[event.event_type.name] += 1
        self._first = event.timestamp if self._first is None else min(self._first, event.timestamp)
        self._last = event.timestamp if self._last is None else max(self._last, event.timestamp)

    def put_aside(self, line: bytes) -> None:
        """Keep a line that is no event as it is."""
        self._file(SET_ASIDE).write(line if line.endswith(b"\n") else line + b"\n")
        self.set_aside += 1

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = self._stack.enter_context((self._directory.path / name).open("wb"))
        return self._files[name]

    def finish(self, imported: dict[str, Any], versions: dict[str, str], info: RunInfo | None = None) -> None:
        """Write run.json, which says that the run was imported.

        Args:
            imported: from where, and what became of it; under ``imported`` in the configuration.
            versions: of what wrote this, where nothing else is known.
            info: what the run said itself; None where it said nothing.
        """
        assert self._first is not None  # nobody finishes a run of no event
        known = info or RunInfo(
            status="completed", started=self._first, ended=self._last, configuration={}, versions=versions
        )
        configuration = {**known.configuration, "imported": imported}
        self._directory.write_info(replace(known, configuration=configuration))
