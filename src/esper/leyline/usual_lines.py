"""Whether lines are events, for whoever need not have the events: most lines are like many before them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from esper.leyline._payload.form import pattern_of_line
from esper.leyline.doubtful import STAGES_OF_CHANGE, doubtful
from esper.leyline.field_docs import meanings
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import decode_event

__all__ = ["UsualLines"]

_OFTEN: Final = 200
"""Lines after which a pattern is made: compiling one takes as long as decoding so many."""
_MOST_CHARACTERS: Final = 1 << 17
"""Characters of all lines of which patterns are made: each thousand takes twenty milliseconds to compile."""
_MOST_TRIED: Final = 16
"""Patterns that are tried on one line."""


def _limits(cls: type[Any], field: str) -> Mapping[str, float]:
    return meanings(cls)[field].limits


class UsualLines:
    """Recognises lines of a form that was found right before, without parsing them (`esper.leyline._payload.form`).

    What it does not recognise is decoded. It learns from what it has decoded, up to a bound.
    """

    def __init__(self) -> None:
        self._matches: dict[int, list[Callable[[str], re.Match[str] | None]]] = {}
        """By the quotes of a line, which tell most forms apart; the one that matched last is tried first."""
        self._decoded = Counter[int]()
        self._left = _MOST_CHARACTERS

    def decode(self, line: bytes) -> TelemetryEvent | None:
        """Return the event that a line holds; None when it surely holds one, and nothing in it is doubtful.

        Raises:
            WireError: as `decode_event` does. Also PayloadError.
        """
        quotes = line.count(b'"')
        matches = self._matches.get(quotes)
        if matches is not None and line.isascii():
            text = line.decode()
            for index, match in enumerate(matches):
                found = match(text)
                if found is not None:
                    if index:
                        matches.insert(0, matches.pop(index))
                    try:
                        datetime.fromisoformat(found[1])
                    except ValueError:
                        break
                    return None
        event = decode_event(line)
        if len(line) <= self._left:
            self._decoded[quotes] += 1
            if self._decoded[quotes] % _OFTEN == 0 and not doubtful(event):
                self._left -= len(line)
                self._learn(line.decode(), quotes, event)
        return event

    def _learn(self, text: str, quotes: int, event: TelemetryEvent) -> None:
        record = json.loads(text)
        pattern = pattern_of_line(record, TelemetryEvent, type(event.data), _limits, frozenset(STAGES_OF_CHANGE))
        if pattern is not None and pattern.fullmatch(text):
            self._matches[quotes] = [pattern.fullmatch, *self._matches.get(quotes, ())][:_MOST_TRIED]
