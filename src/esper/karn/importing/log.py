"""An old log, converted line by line: into events, or aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from esper.karn.importing.convert import NotConverted, Skipped, convert
from esper.karn.importing.lines import NotJsonError, parsed
from esper.karn.importing.mapping import LogMap
from esper.karn.importing.writer import RunWriter
from esper.leyline.doubtful import doubtful
from esper.leyline.errors import PayloadError, WireError
from esper.leyline.printable import printable
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import decode_event

__all__ = ["Conversion", "convert_log"]

_MOST_GROUPS: Final = 1_000


@dataclass(slots=True)
class Conversion:
    """What became of the lines of a log."""

    skipped: Counter[str] = field(default_factory=Counter)
    """How many were left out because the map says so, by kind."""
    aside: dict[tuple[str, str], tuple[int, int, str]] = field(default_factory=dict)
    """By kind and what is wrong: how many were set aside, the line of the first, and what is wrong with it."""

    doubtful: int = 0
    """Events that hold a value which is hardly true (`esper.leyline.doubtful`)."""

    def add(self, problem: NotConverted, line: int) -> None:
        """Count a line that was set aside."""
        key = problem.kind, problem.what
        if key not in self.aside and len(self.aside) >= _MOST_GROUPS:
            key, problem = ("", "others"), NotConverted("", "others", "what is wrong differs too much to be listed")
        count, first, example = self.aside[key] if key in self.aside else (0, line, problem.example)
        self.aside[key] = count + 1, first, example

    def sentences(self) -> list[str]:
        """Return a sentence a group, the largest first: ``828 SEED_STAGE_CHANGED, first in line 6: missing …``."""
        groups = sorted(self.aside.items(), key=lambda group: -group[1][0])
        return [
            printable(f"{count:,} {kind or ('line' if count == 1 else 'lines')}, first in line {first}: {example}")
            for (kind, _), (count, first, example) in groups
        ]


def convert_log(lines: Iterator[tuple[int, bytes]], log_map: LogMap, writer: RunWriter) -> Conversion:
    """Write what is an event by the map, or is one already, and put everything else aside, but for what is skipped."""
    done = Conversion()
    for number, line in lines:
        made = _made(line, log_map, number)
        if isinstance(made, TelemetryEvent):
            writer.write(made)
            done.doubtful += bool(doubtful(made))
        elif isinstance(made, Skipped):
            done.skipped[made.kind] += 1
        else:
            done.add(made, number)
            writer.put_aside(line)
    return done


def _made(line: bytes, log_map: LogMap, number: int) -> TelemetryEvent | NotConverted | Skipped:
    try:
        record = parsed(line)
    except NotJsonError as error:
        return NotConverted("", str(error), str(error))
    if isinstance(record, dict) and "schema_version" in record:
        try:
            return decode_event(line)
        except (PayloadError, WireError) as error:
            return NotConverted("", "an event of esper's that is not right", f"not right: {error}")
    return convert(record, log_map, number)
