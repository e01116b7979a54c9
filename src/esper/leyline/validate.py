"""Lists every line of a log that is not an event, the way a compiler lists errors."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TextIO

from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import InvalidRecord, read_events

__all__ = ["validate"]


def validate(sources: Sequence[str], *, as_json: bool, out: TextIO) -> int:
    """Read logs and print ``file:line: kind: reason`` for each line that is not an event, then a summary.

    Args:
        sources: log files, run directories, or ``-`` for standard input.
        as_json: print one JSON object a line instead: each invalid line with its text, the summary last.
        out: where to print.

    Returns:
        The exit status: 0 when every line is an event, 1 when one is not, 2 when a source cannot be read.
    """
    events = 0
    invalid: Counter[str] = Counter()
    unreadable: dict[str, str] = {}
    heard = True

    def report(text: str) -> None:
        nonlocal heard
        if heard:
            try:
                print(text, file=out)
            except BrokenPipeError:  # whoever read it has seen enough; the exit status is still to be found
                heard = False

    for source in sources:
        for record in _records(source, unreadable):
            if isinstance(record, TelemetryEvent):
                events += 1
                continue
            invalid[record.kind] += 1
            text = f"{record.file}:{record.line}: {record.kind}: {record.reason}"
            report(json.dumps(dataclasses.asdict(record)) if as_json else text)
        if source in unreadable and not as_json:
            report(f"{source}: cannot be read: {unreadable[source]}")
    if as_json:
        report(json.dumps({"events": events, "invalid": invalid, "unreadable": unreadable}))
    else:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in invalid.most_common())
        report(f"{events:,} events, {invalid.total():,} invalid lines{f': {kinds}' if kinds else ''}")
    return 2 if unreadable else 1 if invalid else 0


def _records(source: str, unreadable: dict[str, str]) -> Iterator[TelemetryEvent | InvalidRecord]:
    """Read a log as far as it can be read, and note why not further."""
    try:
        yield from read_events(source)
    except OSError as error:
        unreadable[source] = error.strerror or str(error)
