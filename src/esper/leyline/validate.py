"""Lists every line of a log that is not an event, the way a compiler lists errors."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeAlias

from esper.leyline.doubtful import doubtful
from esper.leyline.errors import FieldProblem
from esper.leyline.invalid_lines import InvalidLines
from esper.leyline.lines import LONGEST_LINE, open_file, read_lines_of
from esper.leyline.printable import printable
from esper.leyline.strict_json import json_text
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.usual_lines import UsualLines
from esper.leyline.wire import InvalidRecord, log_files, read_as

__all__ = ["rejected_events", "rejected_records", "validate"]

_LOGGER = logging.getLogger("esper")
_Doubts: TypeAlias = dict[tuple[str, str], tuple[int, tuple[str, FieldProblem]]]
"""By payload and field: how many values are doubtful, and where the first is."""
_LONGEST_PART = 2_000
"""Characters of what is said about a rejected event."""
_HELD = 1_000
"""Lines of a log that are held back until it is known whether it is one: another program's is summed up."""


def validate(sources: Sequence[str], *, as_json: bool, strict: bool = False, out: TextIO | None) -> int:
    """Read logs and print ``file:line: kind: reason`` for each line that is not an event, then a summary.

    A log without a single event is summed up by kinds. Of a run directory, the events that could not be written are
    listed too, with the reason. A value that is hardly true (`esper.leyline.doubtful`) is a note, one for each field.

    Args:
        sources: log files, run directories, or ``-`` for standard input.
        as_json: print one JSON object a line instead: each invalid line with its text, the summary last.
        strict: whether a doubtful value is an error.
        out: where to print; None for nowhere.

    Returns:
        The exit status: 0 when every line is an event, 1 when one is not, an event was rejected, there is none or, if
        strict, a value is doubtful, 2 when a source cannot be read.
    """
    findings = _Findings(as_json=as_json, strict=strict, out=out)
    for source in sources:
        findings.look_at(source)
    return findings.finish()


class _Findings:
    def __init__(self, *, as_json: bool, strict: bool, out: TextIO | None) -> None:
        self._as_json = as_json
        self._strict = strict
        self._doubtful = 0
        self._out = out
        self._usual = UsualLines()
        self._events = 0
        self._without_events = False
        self._invalid: Counter[str] = Counter()
        self._rejected = 0
        self._unreadable: dict[str, str] = {}

    def look_at(self, source: str) -> None:
        before = self._events
        lines, held = InvalidLines(), list[InvalidRecord]()
        doubts: _Doubts = {}
        for name, line, record in self._records(source):
            if not isinstance(record, InvalidRecord):
                self._events += 1
                if record is not None:
                    _count_doubts(doubts, record, f"{name}:{line}")
                while held:
                    self._show(held.pop(0))
                continue
            self._invalid[record.kind] += 1
            lines.add(record)
            if self._as_json or self._events > before:
                self._show(record)
            elif len(held) < _HELD:
                held.append(dataclasses.replace(record, text=""))  # of which only the reason is shown
        if source in self._unreadable:
            self._say(f"{source}: cannot be read: {self._unreadable[source]}")
        elif self._events == before:
            self._without_events = True
            self._say(str(lines.no_events(source)))
        self._show_doubts(doubts)
        for text in rejected_events(Path(source)) if source != "-" else ():
            self._rejected += 1
            self._say(text)

    def _show_doubts(self, doubts: _Doubts) -> None:
        for count, (where, problem) in doubts.values():
            self._doubtful += count
            more = f" ({count - 1:,} more of this field)" if count > 1 else ""
            self._say(f"{where}: {'doubtful' if self._strict else 'note'}: {problem}{more}")

    def finish(self) -> int:
        """Print the summary and return the exit status."""
        if self._as_json:
            counts = {"events": self._events, "invalid": self._invalid, "unreadable": self._unreadable}
            self._print(json_text(counts | {"rejected": self._rejected, "doubtful": self._doubtful}))
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in self._invalid.most_common())
        summary = f"{self._events:,} events, {self._invalid.total():,} invalid lines{f': {kinds}' if kinds else ''}"
        summary += f", {self._rejected:,} rejected events" if self._rejected else ""
        self._say(summary + (f", {self._doubtful:,} doubtful values" if self._doubtful else ""))
        bad = self._invalid or self._rejected or self._without_events or (self._strict and self._doubtful)
        return 2 if self._unreadable else 1 if bad else 0

    def _records(self, source: str) -> Iterator[tuple[str, int, TelemetryEvent | InvalidRecord | None]]:
        """Read a log as far as it can be read, with the place of each record, and note why not further.

        A record of which nothing is to be said is None.
        """
        try:
            for file in ["-"] if source == "-" else map(str, log_files(source)):
                name = "<stdin>" if file == "-" else file
                for line, record in enumerate(read_as(file, self._usual.decode), 1):  # each line is a record
                    yield name, line, record
        except OSError as error:
            self._unreadable[source] = error.strerror or str(error)

    def _show(self, record: InvalidRecord) -> None:
        if self._as_json:
            self._print(json_text(dataclasses.asdict(record)))
        else:
            self._say(f"{record.file}:{record.line}: {record.kind}: {record.reason}")

    def _say(self, text: str) -> None:
        if not self._as_json:
            self._print(printable(text))

    def _print(self, text: str) -> None:
        if self._out is not None:
            try:
                print(text, file=self._out)
            except (
                BrokenPipeError,
                ValueError,
            ):  # its reader has seen enough, or it is closed; the status is asked for
                self._out = None


def _count_doubts(doubts: _Doubts, event: TelemetryEvent, where: str) -> None:
    for problem in doubtful(event):
        field = type(event.data).__name__, problem.path.partition("[")[0]
        count, first = doubts[field] if field in doubts else (0, (where, problem))
        doubts[field] = count + 1, first


def rejected_records(directory: Path) -> Iterator[tuple[str, dict[str, str] | None]]:
    """Yield each event of a run that could not be written, from the files beside its log.

    A line that a crash tore off, and that was moved there, was no event.

    Args:
        directory: of the run.

    Yields:
        Where it stands, and its ``event_id``, ``event_type``, ``field`` and ``reason``, any text; None for a line
        that cannot be read. A file that cannot be is named in the log of the process.
    """
    for file in sorted(directory.glob("rejected*.jsonl")):
        try:
            with open_file(file) as lines:
                for number, line in enumerate(read_lines_of(lines), 1):
                    record = _rejected_record(line)
                    if record is None or record["event_id"] or "text" not in record:
                        yield f"{file}:{number}", record
        except OSError as error:
            _LOGGER.warning("%s: %s: what was rejected is not known", file, error.strerror)


def _rejected_record(line: str | bytes) -> dict[str, str] | None:
    try:
        record = json.loads(line[:LONGEST_LINE])
        return {key: str(record[key])[:_LONGEST_PART] for key in ("event_id", "event_type", "field", "reason")} | (
            {"text": ""} if "text" in record else {}
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def rejected_events(source: Path) -> Iterator[str]:
    """Yield a line for each event of a run that could not be written, or whose record cannot be read.

    Args:
        source: a run directory; for a log on its own nothing is yielded.
    """
    for where, record in rejected_records(source) if source.is_dir() else ():
        said = "cannot be read" if record is None else "{event_type} {event_id}: {field}: {reason}".format(**record)
        yield printable(f"{where}: rejected: {said}")
