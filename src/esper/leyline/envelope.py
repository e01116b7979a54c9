"""The event as a mapping: envelope checked like a payload, event type by name, timestamp in ISO 8601."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, get_args

from esper.leyline.errors import FieldProblem, PayloadError
from esper.leyline.event_types import Severity, TelemetryEventType
from esper.leyline.payload import Payload, unfrozen_twin
from esper.leyline.reading import examine, refusal
from esper.leyline.shapes import Shape, is_unicode, shorten
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent

__all__ = ["ENVELOPE", "PAYLOADS", "REQUIRED", "SEVERITIES", "event_from_dict", "event_from_json", "event_to_dict"]

PAYLOADS: dict[str, type[Payload]] = {event_type.name: cls for cls, event_type in EVENT_TYPES.items()}
"""The payload class of every event type, by the name that stands in the log."""
SEVERITIES: frozenset[str] = frozenset(get_args(Severity))

_TEXTS = {
    "event_type": f"one of {', '.join(PAYLOADS)}",
    "timestamp": "a time in ISO 8601 with its zone",
    "severity": f"one of {', '.join(get_args(Severity))}",
}
_SHAPES = {
    "int | None": Shape("int", "int | None", nullable=True),
    "str | None": Shape("str", "str | None", nullable=True),
    "TelemetryPayload": Shape("any", "TelemetryPayload"),
}

ENVELOPE: dict[str, Shape] = {
    f.name: _SHAPES.get(str(f.type), Shape("str", _TEXTS.get(f.name, str(f.type))))
    for f in dataclasses.fields(TelemetryEvent)
}
"""The fields of the event and what each holds as a mapping; event type, timestamp and severity are text there."""

# An id or a time made up by the reader would be a lie, so these may not be left out although they have a default.
REQUIRED = frozenset({"event_id", "event_type", "timestamp", "data"})


def event_to_dict(event: TelemetryEvent) -> dict[str, object]:
    """Return the event as plain Python values."""
    told: dict[str, object] = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    return told | {
        "event_type": event.event_type.name,
        "timestamp": event.timestamp.isoformat(),
        "data": event.data.to_dict(),
    }


def event_from_dict(mapping: object) -> TelemetryEvent:
    """Make an event of what `event_to_dict` returned.

    Raises:
        PayloadError: a field of the envelope or of the payload is missing, unknown or of another type.
    """
    return _event(mapping, wire=False)


_fields = itemgetter(
    "event_type",
    "event_id",
    "timestamp",
    "seed_id",
    "slot_id",
    "epoch",
    "group_id",
    "data",
    "message",
    "severity",
)
_Unfrozen = unfrozen_twin(TelemetryEvent)
_TYPES: dict[str, tuple[TelemetryEventType, type[Payload]]] = {
    event_type.name: (event_type, cls) for cls, event_type in EVENT_TYPES.items()
}


def event_from_json(record: dict[str, Any]) -> TelemetryEvent:
    """Make an event of a parsed line of the present ``schema_version``.

    Raises:
        PayloadError: as `event_from_dict`.
    """
    try:
        kind, event_id, time, seed_id, slot_id, epoch, group_id, data, message, severity = _fields(record)
        timestamp = datetime.fromisoformat(time)
        if (
            len(record) == len(ENVELOPE) + 1
            and event_id.__class__ is str
            and event_id.isascii()
            and timestamp.tzinfo is UTC
            and time.isascii()
            and (seed_id is None or (seed_id.__class__ is str and seed_id.isascii()))
            and (slot_id is None or (slot_id.__class__ is str and slot_id.isascii()))
            and (epoch is None or epoch.__class__ is int)
            and group_id.__class__ is str
            and group_id.isascii()
            and message.__class__ is str
            and (message.isascii() or is_unicode(message))
            and severity in SEVERITIES
        ):
            event_type, cls = _TYPES[kind]
            event: Any = _Unfrozen()
            event.event_id = event_id
            event.event_type = event_type
            event.timestamp = timestamp
            event.seed_id = seed_id
            event.slot_id = slot_id
            event.epoch = epoch
            event.group_id = group_id
            event.data = cls._codec.from_json.read(data)
            event.message = message
            event.severity = severity
            event.__class__ = TelemetryEvent
            made: TelemetryEvent = event
            return made
    except PayloadError:
        raise
    except (KeyError, TypeError, ValueError):
        pass
    # Something in the envelope is out of the ordinary; the careful way tells what.
    return _event({key: value for key, value in record.items() if key != "schema_version"}, wire=True)


def _event(mapping: object, *, wire: bool) -> TelemetryEvent:
    # The payload is checked by its own codec, once its class is known.
    envelope = {**mapping, "data": None} if isinstance(mapping, Mapping) and "data" in mapping else mapping
    values, refused = examine("TelemetryEvent", ENVELOPE, REQUIRED, envelope, wire=wire)
    problems = [] if refused is None else [*refused.problems]
    for name, meaning_of in _MEANINGS.items():
        if name in values:
            text, values[name] = values[name], meaning_of(values[name])
            if values[name] is None:
                problems.append(FieldProblem(name, ENVELOPE[name].text, shorten(text)))
    missing, unknown = ((), ()) if refused is None else (refused.missing, refused.unknown)
    cls = values.pop("event_type", None)
    if cls is not None and "data" in values:
        assert isinstance(mapping, Mapping)
        codec = cls._codec
        try:
            values["data"] = (codec.from_json if wire else codec.from_dict).read(mapping["data"])
        except PayloadError as error:
            if not (missing or unknown or problems):
                raise
            missing += tuple(f"data.{name}" for name in error.missing)
            unknown += tuple(f"data.{name}" for name in error.unknown)
            problems += [replace(problem, path=f"data.{problem.path}".rstrip(".")) for problem in error.problems]
    refused = refusal("TelemetryEvent", missing, unknown, problems)
    if refused is not None:
        raise refused
    return TelemetryEvent(**values)


def _time(text: str) -> datetime | None:
    """Return a time in UTC, or None when the text is none or lacks its zone."""
    try:
        time = datetime.fromisoformat(text)
        return None if time.utcoffset() is None or not text.isascii() else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_MEANINGS: dict[str, Callable[[str], Any]] = {
    "event_type": PAYLOADS.get,
    "timestamp": _time,
    "severity": {severity: severity for severity in SEVERITIES}.get,
}
"""What the text of a field stands for; None for text that stands for nothing."""
