"""Valid payloads and events in a word: a test names only the fields that it is about."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from esper.leyline._payload.containers import Dict, List, Tuple
from esper.leyline._payload.scalars import Optional
from esper.leyline._payload.table import types_of
from esper.leyline._payload.types import Type
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import EpochCompletedPayload, TelemetryEvent, TelemetryPayload
from esper.leyline.wire import read_events

P = TypeVar("P", bound=TelemetryPayload)
ENVELOPE = {field.name for field in dataclasses.fields(TelemetryEvent)} - {"data"}


def payload(cls: type[P], **fields: Any) -> P:
    """Build a payload; a required field that is not named gets the first value of its type: 0, "", (), …"""
    made: Any = cls
    built: P = made(**{**_required_of(made), **fields})
    return built


@cache
def _required_of(cls: type[TelemetryPayload]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: _first_of(hints[field.name]) for field in dataclasses.fields(cls) if not is_optional(field)}


def _first_of(hint: Any) -> Any:
    members = get_args(hint)
    if NoneType in members:
        return None
    kind = get_origin(hint) or hint
    return kind()


def examples(cls: type[TelemetryPayload], variant: int = 0) -> dict[str, Any]:
    """Return a value for every field, another one for each variant."""
    return {name: _example(row, variant) for name, row in types_of(cls).items()}


def _example(row: Type, variant: int) -> Any:
    match row:
        case Optional(inner=inner):
            return _example(inner, variant)
        case Dict(item=item):
            return {"a": _example(item, variant), "b": _example(item, variant)}
        case List(item=item):
            return [_example(item, variant)]
        case Tuple(item=item):
            return (_example(item, variant), _example(item, variant))
    made = {
        "int": 3 + variant,
        "float": 0.25 + variant * 1e-9,
        "str": f"r0c{1 + variant}",
        "bool": variant == 0,
        "a JSON value": [None, {"x": 1.5 + variant}],
    }
    return made[row.text]


def event(cls: type[TelemetryPayload], **fields: Any) -> TelemetryEvent:
    """Build an event around a payload of that class; the event's own fields are known by their names.

    A name that both have (``epoch``, ``slot_id``) goes to both.
    """
    own = {field.name for field in dataclasses.fields(cls)}
    data = payload(cls, **{name: value for name, value in fields.items() if name in own})
    envelope = {name: value for name, value in fields.items() if name in ENVELOPE}
    unknown = fields.keys() - own - ENVELOPE
    assert not unknown, f"{cls.__name__} has no {unknown}"
    return TelemetryEvent(data=data, **envelope)


def events_in(log: Path) -> list[TelemetryEvent]:
    """Read a log in which every line has to be an event."""

    def valid() -> Iterator[TelemetryEvent]:
        for record in read_events(log):
            assert isinstance(record, TelemetryEvent), record
            yield record

    return list(valid())


def numbered(number: int, **fields: Any) -> TelemetryEvent:
    """Build an event that carries a number, by which `numbers_in` finds it again."""
    return event(EpochCompletedPayload, inner_epoch=number, **fields)


def numbers_in(log: Path) -> list[int]:
    """Read the numbers of a log in which every line has to be an event that `numbered` built."""
    return [each.data.inner_epoch for each in events_in(log) if isinstance(each.data, EpochCompletedPayload)]


@contextmanager
def reported(match: str | None = "") -> Iterator[list[str]]:
    """Collect what is reported as lost within the block; something has to match, unless that is None."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.getLogger("esper")
    before, logger.handlers, logger.propagate = logger.handlers, [Collector()], False
    try:
        yield messages
    finally:
        logger.handlers, logger.propagate = before, True
    assert match is None or any(re.search(match, message) for message in messages), messages
