"""What is known of each line of a log only once all of it was read: for readers that see its lines one by one, as SQL.

Whether a line is an event says the decoder, where it stands `esper.leyline.position`; nothing is derived here a second
time. What is known is the same for most neighbours, and kept once for all of them.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from esper.leyline.lines import longest_line, open_file
from esper.leyline.position import Position, Positions
from esper.leyline.printable import printable
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent
from esper.leyline.wire import InvalidRecord, log_files, read_shards, shard_of

__all__ = ["Events", "Invalid", "LogLines", "read_lines"]

_BLANK: Final = " \t\r\n\v\f"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LARGEST: Final = 1 << 63
"""Integers are kept in 64 bits, of which one is the sign."""
_MOST_REASONS: Final = 10_000
"""Of a file; after these, neighbouring invalid lines are one, for whatever reason."""
_LONGEST_REASON: Final = 400
_NO_EVENT: Final = -1
_Place: TypeAlias = tuple[Positions, Position]


@dataclass(frozen=True, slots=True)
class Events:
    """Neighbouring lines that are all events. A line is counted as a row when there is anything in it but spaces."""

    first: int
    """The first row, the first of the file being 1."""
    last: int
    blank: int
    """Lines before them that are no rows: the number of a line is that of its row, and this."""
    run: int
    """Runs of their groups that the log holds before theirs."""
    superseded: bool
    """Whether a resume has taken them back."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """Neighbouring lines that are no events, for the same reason."""

    first: int
    """The first line, the first of the file being 1."""
    last: int
    kind: str | None
    """What is wrong, as one of a few words; None when that differs."""
    reason: str


@dataclass(slots=True)
class LogLines:
    """The lines of one file."""

    path: Path
    longest: int = 0
    """Bytes of the longest, without its end."""
    events: list[Events] = field(default_factory=list)
    invalid: list[Invalid] = field(default_factory=list)


def read_lines(source: str | os.PathLike[str]) -> list[LogLines]:
    """Read a log file, or those of a run directory, to the end.

    Raises:
        FileNotFoundError: there is nothing to read.
    """
    files = {shard_of(path): _Reading(path) for path in log_files(source)}
    groups: dict[str, Positions] = {}
    places: dict[_Place, int] = {}
    for shard, record in read_shards(source):
        reading = files[shard]
        if isinstance(record, InvalidRecord):
            reading.add_invalid(record)
            continue
        positions = groups.setdefault(record.group_id, Positions())
        place = positions, positions.locate(record, shard)
        reading.add_event(record, places.setdefault(place, len(places)))
    known = [(position.run, positions.is_superseded(position)) for positions, position in places]
    return [reading.finish(known) for reading in files.values()]


class _Reading:
    """One file while it is read."""

    def __init__(self, path: Path) -> None:
        self.lines = LogLines(path)
        with open_file(path) as file:
            self.marked = file.read(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK
        self.lines.longest = longest_line(path)
        self.line = 0
        self.rows = array("q")
        """Of each row the index of its place."""
        self.blank_after: list[int] = []
        """Rows before each line that is none."""

    def add_event(self, event: TelemetryEvent, place: int) -> None:
        self.line += 1
        reason = ""
        if self.line == 1 and self.marked:
            reason = "an event, but DuckDB reads no line behind a byte order mark"
        elif (name := _beyond_64_bits(event)) is not None:
            reason = f"an event, but {name} is beyond the 64 bits of its column"
        self.rows.append(_NO_EVENT if reason else place)
        if reason:
            self._add_reason("sql", reason)

    def add_invalid(self, record: InvalidRecord) -> None:
        self.line += 1
        if record.text.strip(_BLANK) or (self.line == 1 and self.marked):
            self.rows.append(_NO_EVENT)
        else:
            self.blank_after.append(len(self.rows))
        reason = record.reason[:_LONGEST_REASON]
        self._add_reason(record.kind, printable(reason))

    def _add_reason(self, kind: str, reason: str) -> None:
        invalid, line = self.lines.invalid, self.line
        before = invalid[-1] if invalid else None
        if before is not None and before.last == line - 1:
            if (before.kind, before.reason) == (kind, reason):
                invalid[-1] = Invalid(before.first, line, kind, reason)
                return
            if len(invalid) >= _MOST_REASONS:
                invalid[-1] = Invalid(before.first, line, None, "several: esper validate lists them")
                return
        invalid.append(Invalid(line, line, kind, reason))

    def finish(self, known: list[tuple[int, bool]]) -> LogLines:
        """Return what is known of the lines, now that it is known of every place."""
        self.lines.events = list(self._stretches(known))
        return self.lines

    def _stretches(self, known: list[tuple[int, bool]]) -> Iterator[Events]:
        blank_after = [*self.blank_after, len(self.rows) + 1]
        blank = first = 0
        now: tuple[int, bool] | None = None
        for at, place in enumerate(self.rows):
            of_row = None if place == _NO_EVENT else known[place]
            ends = at >= blank_after[blank]
            if of_row != now or ends:
                if now is not None:
                    yield Events(first + 1, at, blank, *now)
                now, first = of_row, at
                while at >= blank_after[blank]:
                    blank += 1
        if now is not None:
            yield Events(first + 1, len(self.rows), blank, *now)


_INTEGERS: Final[dict[type, tuple[str, ...]]] = {
    cls: tuple(name for name, row in cls._codec.types.items() if "BIGINT" in row.column) for cls in EVENT_TYPES
}


def _beyond_64_bits(event: TelemetryEvent) -> str | None:
    """Return the name of a field with an integer that no column holds."""
    if event.epoch is not None and not -_LARGEST <= event.epoch < _LARGEST:
        return "epoch"
    for name in _INTEGERS[event.data.__class__]:
        value = getattr(event.data, name)
        if value.__class__ is int:
            fits = -_LARGEST <= value < _LARGEST
        else:
            items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
            fits = all(-_LARGEST <= item < _LARGEST for item in items if isinstance(item, int))
        if not fits:
            return name
    return None
