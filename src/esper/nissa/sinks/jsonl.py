"""The log: one JSON object a line, appended, committed at barriers, written by one process at a time."""

from __future__ import annotations

import os
from pathlib import Path

from esper.leyline.errors import PayloadError, WireError
from esper.leyline.lines import LONGEST_LINE
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import decode_event, encode_event, salvage
from esper.nissa.append_only import AppendOnly, LogBrokenError, LogInUseError
from esper.nissa.protocol import DeliveryPolicy, Durable, EventsLostError, Rejected
from esper.nissa.rejected_events import RejectedEvents
from esper.nissa.reporting import Reporter, describe

__all__ = ["JsonlSink", "LogBrokenError", "LogInUseError"]

_LINE_BEGINS = b'{"schema_version":'
"""How lines begin that `encode_event` makes."""


class JsonlSink:
    """Appends every event to a file, as a line of strict JSON.

    What cannot be encoded goes to ``rejected.jsonl`` in the same directory (``rejected-rank0.jsonl`` beside
    ``events-rank0.jsonl``), one line an event: ``event_id``, ``event_type``, ``field`` and ``reason``, in ``event``
    every field that could be written, and in ``unwritable`` a description of those that could not. That file is never
    in the log's way: when it cannot be written, this is reported, and the log goes on.

    A batch is written whole or not at all: on a full disk the file is cut back to its last complete line, and the
    batch waits. At a barrier the file is committed to the disk. A line that a crash tore off is moved to the file of
    rejected events when the log is opened again. What somebody else writes into the log stays there, and is reported;
    lines that somebody cut off, or that the disk did not keep, count as dropped.

    Args:
        path: the log; it is created, with its directory, or continued.
        policy: what happens when the disk cannot keep up.

    Raises:
        LogInUseError: the log has a writer already. Its lock dies with its process.
        OSError: the log cannot be written.
    """

    name = "jsonl"

    def __init__(self, path: str | os.PathLike[str], *, policy: DeliveryPolicy | None = None) -> None:
        self.policy: DeliveryPolicy = Durable() if policy is None else policy
        self._path = Path(path)
        stem = self._path.name
        rejected = self._path.with_name(
            stem.replace("events", "rejected", 1) if stem.startswith("events-") else "rejected.jsonl"
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._reporter = Reporter()
        self._file = AppendOnly(self._path, self._reporter)
        self._rejected = RejectedEvents(rejected, self._reporter)
        self._lines: list[str] = []
        self._closed = False
        # Lines in the file; those of them that a flush has acknowledged; and those that the disk has, for sure.
        self._appended = self._acknowledged = self._committed = 0
        self._line_is_whole = True
        try:
            self._repair()
        except BaseException:
            self._file.close()
            raise
        self._start = self._file.size

    def write(self, event: TelemetryEvent) -> None:
        """Encode the event; it reaches the file at the next flush.

        Raises:
            Rejected: the event cannot be encoded.
            ValueError: the sink is closed.
        """
        if self._closed:
            raise ValueError(f"{self._path} is closed")
        try:
            line = encode_event(event)
        except Exception as error:
            raise self._rejection(event, error) from error
        if len(line) > LONGEST_LINE:
            reason = f"a line of {len(line):,} bytes, and no reader takes more than {LONGEST_LINE:,}"
            self._rejected.add(event_id=event.event_id, event_type=event.event_type.name, field="data", reason=reason)
            raise Rejected(reason)
        self._lines.append(line)

    def flush(self, *, barrier: bool = True) -> None:
        """Write what was taken; at a barrier, commit it to the disk.

        Raises:
            OSError: nothing of what was taken is in the file, and all of it is kept for the next flush.
            EventsLostError: lines that earlier flushes had written are gone. What was taken is written by the next one.
            LogBrokenError: the disk lost something that was in the file, or the file is gone.
            ValueError: the sink is closed.
        """
        self._look_for_others()
        if self._lines:
            self._file.append(("\n".join(self._lines) + "\n").encode())
            self._appended += len(self._lines)
            self._lines.clear()
        if barrier:
            self._commit()
        self._acknowledged = self._appended
        self._rejected.write()

    def close(self) -> None:
        """Let go of the file; whoever wants to may write it now.

        Raises:
            EventsLostError: lines that a flush had written are gone.
        """
        try:
            if self._file.is_open:
                self._look_for_others()
                if self._acknowledged and (gone := self._file.displaced()):
                    raise EventsLostError(self._acknowledged, gone)
        finally:
            self._closed = True
            self._file.close()
            self._rejected.close()

    def _rejection(self, event: TelemetryEvent, error: Exception) -> Rejected:
        problems = error.problems if isinstance(error, PayloadError) else ()
        field = ", ".join(problem.path for problem in problems)
        reason = str(error) if isinstance(error, PayloadError) else describe(error)
        kind = event.event_type.name
        self._rejected.add(event_id=f"{event.event_id}", event_type=kind, field=field, reason=reason, **salvage(event))
        return Rejected(f"{reason} (kept in {self._rejected.path.name})")

    def _commit(self) -> None:
        try:
            self._file.commit()
        except LogBrokenError as error:
            kept = 0 if self._file.displaced() else self._committed
            lost, self._acknowledged = self._acknowledged - kept, kept
            if lost > 0:
                raise EventsLostError(lost, str(error)) from error
            raise
        self._committed = self._appended

    def _look_for_others(self) -> None:
        """Go behind what somebody else wrote into the log, and count what somebody cut off."""
        surplus = self._file.surplus()
        if surplus:
            written = self._file.accept().count(b"\n")  # lines of a write that failed behind them
            del self._lines[:written]
            self._appended += written
            self._line_is_whole = False
            found = self._appended if surplus > 0 else self._count_lines()
            lost, self._appended = self._appended - found, found
            self._acknowledged, self._committed = min(self._acknowledged, found), min(self._committed, found)
            if lost > 0:
                raise EventsLostError(lost, f"somebody cut {-surplus} bytes off {self._path}")
            self._reporter.report(
                f"somebody else wrote into {self._path}: {surplus} bytes stay, and may be invalid lines", "foreign"
            )
        if not self._line_is_whole:
            self._file.complete_last_line()
            self._line_is_whole = True

    def _count_lines(self) -> int:
        """Count the lines of this sink that are still in the file."""
        self._start = min(self._start, self._file.size)
        found = sum(line.startswith(_LINE_BEGINS) for line in self._file.lines(self._start))
        return min(found, self._appended)

    def _repair(self) -> None:
        """Complete the last line when a crash left it without its end, or move away what is left of it."""
        torn = self._file.unfinished_line()
        if not torn:
            return
        try:
            decode_event(torn)
        except (PayloadError, WireError):
            text = torn.decode("ascii", "backslashreplace")
            reason = f"torn by a crash: {self._path.name}"
            self._rejected.add(event_id="", event_type="", field="", reason=reason, text=text)
            if self._rejected.write():
                self._file.cut(len(torn))
                where = f"is now in {self._rejected.path.name}"
            else:
                self._rejected.take_back()
                self._file.complete_last_line()
                where = "stays in it, as an invalid one"
            self._reporter.report(f"the last line of {self._path} was torn by a crash and {where}")
        else:
            self._file.complete_last_line()
