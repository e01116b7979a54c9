"""Tells every line of a log that is not an event, the way a compiler tells errors."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import read_events

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
    for source in sources:
        try:
            for record in read_events(source):
                if isinstance(record, TelemetryEvent):
                    events += 1
                    continue
                invalid[record.kind] += 1
                told = f"{record.file}:{record.line}: {record.kind}: {record.reason}"
                print(json.dumps(dataclasses.asdict(record)) if as_json else told, file=out)
        except OSError as error:
            unreadable[source] = error.strerror or str(error)
            if not as_json:
                print(f"{source}: cannot be read: {unreadable[source]}", file=out)
    if as_json:
        print(json.dumps({"events": events, "invalid": invalid, "unreadable": unreadable}), file=out)
    else:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in invalid.most_common())
        print(f"{events:,} events, {invalid.total():,} invalid lines{f': {kinds}' if kinds else ''}", file=out)
    return 2 if unreadable else 1 if invalid else 0
