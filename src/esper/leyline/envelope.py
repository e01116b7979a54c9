"""The event as a mapping: envelope checked like a payload, event type by name, timestamp in ISO 8601."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, get_args

from esper.leyline.errors import FieldProblem, PayloadError
from esper.leyline.event_types import Severity
from esper.leyline.payload import Payload, define, unfrozen_twin
from esper.leyline.reading import exact_test, examine, refusal
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
    result: dict[str, object] = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    return result | {
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


def _compile_event_from_json() -> Callable[[dict[str, Any]], TelemetryEvent]:
    """Compile the fast way for a line of the usual envelope; whatever is out of the ordinary goes the careful way."""
    tests = [f"({exact_test(name, shape)})" for name, shape in ENVELOPE.items() if shape.kind != "any"]
    tests += [
        f"len(record) == {len(ENVELOPE) + 1}",
        "timestamp.isascii()",
        "time.tzinfo is UTC",
        "severity in SEVERITIES",
    ]
    made = {"event_type": "TYPES[event_type]", "timestamp": "time", "data": "read(data)"}
    lines = [
        "def event_from_json(record):",
        " try:",
        f"  {', '.join(ENVELOPE)} = fetch(record)",
        "  time = fromisoformat(timestamp)",
        f"  if {' and '.join(tests)}:",
        "   read = PAYLOADS[event_type]._codec.from_json.read",
        "   self = UNFROZEN()",
        *(f"   self.{name} = {made.get(name, name)}" for name in ENVELOPE),
        "   self.__class__ = FROZEN",
        "   return self",
        " except PayloadError: raise",
        " except (KeyError, TypeError, ValueError): pass",
        " return carefully({key: value for key, value in record.items() if key != 'schema_version'}, wire=True)",
    ]
    namespace = {
        "fetch": itemgetter(*ENVELOPE),
        "fromisoformat": datetime.fromisoformat,
        "is_unicode": is_unicode,
        "UTC": UTC,
        "SEVERITIES": SEVERITIES,
        "PAYLOADS": PAYLOADS,
        "TYPES": {event_type.name: event_type for event_type in EVENT_TYPES.values()},
        "UNFROZEN": unfrozen_twin(TelemetryEvent),
        "FROZEN": TelemetryEvent,
        "PayloadError": PayloadError,
        "carefully": _event,
    }
    return define("event_from_json", lines, namespace, "TelemetryEvent.from_json")


event_from_json = _compile_event_from_json()
"""Make an event of a parsed line of the present ``schema_version``; raises as `event_from_dict` does."""
