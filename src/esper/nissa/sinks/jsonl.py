"""The log: one JSON object a line, appended, committed at barriers, written by one process at a time."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

from esper.leyline.errors import PayloadError, WireError
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import decode_event, encode_event
from esper.nissa.append_only import AppendOnly, LogBrokenError, LogInUseError
from esper.nissa.protocol import DeliveryPolicy, Durable, Rejected

__all__ = ["JsonlSink", "LogBrokenError", "LogInUseError"]

_REASON_LENGTH = 1_000
"""Characters that a reason in the file of rejected events may have."""


class JsonlSink:
    """Appends every event to a file, as a line of strict JSON.

    What cannot be encoded goes to ``rejected.jsonl`` in the same directory (``rejected-rank0.jsonl`` beside
    ``events-rank0.jsonl``), one line an event: ``event_id``, ``event_type``, ``field``, ``reason``.

    A batch is written whole or not at all: on a full disk the file is cut back to its last complete line, and the
    batch waits. At a barrier the file is committed to the disk. A line that a crash tore off is moved to the file of
    rejected events when the log is opened again.

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
        self._rejected_path = self._path.with_name(
            stem.replace("events", "rejected", 1) if stem.startswith("events-") else "rejected.jsonl"
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = AppendOnly(self._path)
        self._lines: list[bytes] = []
        self._rejections: list[bytes] = []
        try:
            self._repair()
        except BaseException:
            self._file.close()
            raise

    def write(self, event: TelemetryEvent) -> None:
        """Encode the event; it reaches the file at the next flush.

        Raises:
            Rejected: the event cannot be encoded.
        """
        try:
            self._lines.append(encode_event(event).encode() + b"\n")
        except Exception as error:
            problems = error.problems if isinstance(error, PayloadError) else ()
            field = ", ".join(problem.path for problem in problems)
            self._reject(str(event.event_id), event.event_type.name, field, str(error) or repr(error))
            raise Rejected(str(error)) from error

    def flush(self, *, barrier: bool = True) -> None:
        """Write what was taken; at a barrier, commit it to the disk.

        Raises:
            OSError: nothing of what was taken is in the file, and all of it is kept for the next flush.
            LogBrokenError: the disk lost something that was in the file.
        """
        if self._rejections:
            with AppendOnly(self._rejected_path) as file:
                file.complete_last_line()
                file.append(b"".join(self._rejections))
                self._rejections.clear()
                file.commit()
        if self._lines:
            self._file.append(b"".join(self._lines))
            self._lines.clear()
        if barrier:
            self._file.commit()

    def close(self) -> None:
        """Let go of the file; whoever wants to may write it now."""
        self._file.close()

    def _reject(self, event_id: str, event_type: str, field: str, reason: str, **more: str) -> None:
        record = {"event_id": event_id, "event_type": event_type, "field": field, "reason": reason[:_REASON_LENGTH]}
        self._rejections.append(json.dumps(record | more).encode() + b"\n")

    def _repair(self) -> None:
        """Complete the last line when a crash left it without its end, or move away what is left of it."""
        torn = self._file.unfinished_line()
        if not torn:
            return
        try:
            decode_event(torn)
        except (PayloadError, WireError):
            text = torn.decode("ascii", "backslashreplace")
            self._reject("", "", "", f"torn by a crash: {self._path.name}", text=text)
            self.flush()
            self._file.cut(len(torn))
            warnings.warn(
                f"the last line of {self._path} was torn by a crash and is now in {self._rejected_path.name}",
                RuntimeWarning,
                stacklevel=3,
            )
        else:
            self._file.complete_last_line()
