"""The event's constructor: its type follows from the payload, its time is in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from time import time_ns
from typing import Any, get_type_hints

from esper.leyline._payload.construct import compile_init
from esper.leyline._payload.late import LATE, Late
from esper.leyline._payload.lazy import LazyCodec
from esper.leyline._payload.table import row_of
from esper.leyline.event_ids import numbers

__all__ = ["compile_event"]


def compile_event(cls: type[Any], event_types: Mapping[Any, Enum], schema_version: int) -> None:
    """Give the class of events its constructor and its lazily compiled codec.

    Args:
        cls: the class.
        event_types: the type that each payload class belongs to.
        schema_version: what every line says.
    """

    def event_type_of(data: object, event_type: Enum | None) -> Enum:
        expected = event_types.get(type(data))
        if expected is None:
            raise TypeError(f"data must be one of the eleven payloads, got {type(data).__name__}")
        if event_type is not None and event_type is not expected:
            raise ValueError(f"event_type {event_type!r} does not belong to {type(data).__name__}; leave it out")
        return expected

    hints = get_type_hints(cls)
    rows = {name: row_of(hint) for name, hint in hints.items() if name not in {"event_type", "timestamp", "data"}}
    compile_init(
        cls,
        {name: row for name, row in rows.items() if row is not None},
        check=(
            "if event_type is None and data.__class__ in _EVENT_TYPES: event_type = _EVENT_TYPES[data.__class__]",
            "else: event_type = _event_type_of(data, event_type)",
            "if timestamp is not _UNSET and timestamp.tzinfo is not _UTC: timestamp = _in_utc(timestamp)",
        ),
        late={"event_id": ("_number", "_numbers.next()"), "timestamp": ("_nanoseconds", "_time_ns()")},
        names={
            "_EVENT_TYPES": event_types, "_event_type_of": event_type_of, "_in_utc": _in_utc, "_UTC": UTC,
            "_numbers": numbers, "_time_ns": time_ns,
        },
    )  # fmt: skip
    for name in LATE:
        setattr(cls, name, Late(cls, name))

    def codec(cls: type[Any]) -> Any:
        from esper.leyline._payload.envelope import EventCodec  # noqa: PLC0415 - importing the contract stays cheap

        return EventCodec(cls, event_types, schema_version)

    cls._codec = LazyCodec(cls, codec)


def _in_utc(timestamp: datetime) -> datetime:
    if timestamp.utcoffset() is None:
        raise ValueError(f"timestamp {timestamp} has no time zone; use datetime.now(UTC)")
    try:
        return timestamp.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"timestamp {timestamp} has no counterpart in UTC") from None
