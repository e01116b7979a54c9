"""Valid payloads and events in a word: a test names only the fields that it is about."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from esper.leyline.payload import is_optional
from esper.leyline.telemetry import EpochCompletedPayload, TelemetryEvent, TelemetryPayload
from esper.leyline.wire import read_events

P = TypeVar("P", bound=TelemetryPayload)
ENVELOPE = {field.name for field in dataclasses.fields(TelemetryEvent)} - {"data"}


def payload(cls: type[P], **fields: Any) -> P:
    """Build a payload; a required field that is not named gets the first value of its type: 0, "", (), …"""
    hints = get_type_hints(cls)
    required = {field.name for field in dataclasses.fields(cls) if not is_optional(field)}
    made: Any = cls
    built: P = made(**{name: _first_of(hints[name]) for name in required - fields.keys()}, **fields)
    return built


def _first_of(hint: Any) -> Any:
    members = get_args(hint)
    if NoneType in members:
        return None
    kind = get_origin(hint) or hint
    return kind()


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
