"""The event as a mapping and as a line, compiled from its fields.

In both, the event type stands by name and the time in ISO 8601; the payload is made and read by its own codec, once its
class is known.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from typing import Any, get_type_hints

from esper.leyline._payload.base_values import base_value
from esper.leyline._payload.late import LATE
from esper.leyline._payload.parsing import parse_object, parse_record, unescaped
from esper.leyline._payload.reading import examine, refusal
from esper.leyline._payload.scalars import Int, Optional, Text
from esper.leyline._payload.source import define, indented, unfrozen_twin
from esper.leyline._payload.table import row_of
from esper.leyline._payload.types import WRITING_NAMES, MismatchError, Origin, Report, Type, mismatch, quote
from esper.leyline._payload.wording import Path, brief, is_unicode
from esper.leyline._payload.writing import supplied_fields, template
from esper.leyline.errors import FieldProblem, FieldTypeError, PayloadError

__all__ = ["UNUSUAL", "Data", "EventCodec", "Message", "Time", "envelope_types"]

_TIMESTAMP = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$"


class Time(Type):
    """A time in UTC; written as ISO 8601 with its zone."""

    text, column = "a time in ISO 8601 with its zone", "TIMESTAMP"

    def converted(self, value: Any) -> Any:
        return value

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        time = value if isinstance(value, datetime) else _time(base_value(value))
        return self._refuse(value, path, report) if time is None else time

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return r'"([0-9T:.\-]++\+00:00)"'  # whether it is a time at all is for whoever takes the group

    def prepared(self, name: str) -> list[str]:
        return [f"{name} = '\"' + {name}.isoformat() + '\"'"]

    def write(self, value: Any, depth: int = 1) -> str:
        return f'"{value.isoformat()}"' if isinstance(value, datetime) else mismatch()

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"type": "string", "format": "date-time", "pattern": _TIMESTAMP}

    def drawn(self, draw: Any) -> Any:
        return draw.TIMES


class Message(Text):
    """The event's sentence, which is hardly ever the same twice."""

    def prepared(self, name: str) -> list[str]:
        is_ascii = f"{name}.__class__ is str and {name}.isascii()"
        return [f"{name} = _escaped({name}) if {is_ascii} else _write_{name}({name})"]


class Data(Type):
    """The payload; its own codec does the work."""

    text, column, is_nested = "TelemetryPayload", "JSON", True

    def stored(self, name: str, otherwise: str, origin: Origin) -> list[str]:
        return [f"_self.{name} = {name}"]

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        return value

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return mismatch()  # that of a payload is made of its fields' forms

    def prepared(self, name: str) -> list[str]:
        return [f"{name} = {name}._codec.to_json[{name}._absent]({name})"]

    def write(self, value: Any, depth: int = 1) -> str:
        written: str = value._codec.to_json[value._absent](value)  # noqa: SLF001 - the same room
        return written

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"type": "object"}

    def drawn(self, draw: Any) -> Any:
        return draw.PAYLOADS


_SPECIAL: dict[str, type[Type]] = {"timestamp": Time, "data": Data, "message": Message}


def envelope_types(cls: type[Any]) -> dict[str, Type]:
    """Return the rows of the event's fields."""
    hints = get_type_hints(cls)
    types: dict[str, Type] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        row = _SPECIAL[field.name]() if field.name in _SPECIAL else row_of(hint)
        assert row is not None, field.name
        types[field.name] = row
    return types


UNUSUAL = (MismatchError, PayloadError, RecursionError, ValueError, KeyError)
"""What reading a line in the usual form may raise, when it is to be read the careful way."""

# An id or a time made up by the reader would be a lie, so these may not be left out although they have a default.
_REQUIRED = frozenset({"event_id", "event_type", "timestamp", "data"})


def _member(row: Type) -> str:
    """Return the pattern of what stands behind the key of a field of the envelope; its group is None for null."""
    if isinstance(row, Data):
        return r"(\{.*\})"
    inner = row.inner if isinstance(row, Optional) else row
    value = "(-?(?:0|[1-9][0-9]*+))" if isinstance(inner, Int) else '"([^"]*+)"'
    return f"(?:null|{value})" if isinstance(row, Optional) else value


class EventCodec:
    """The conversions of the event.

    Args:
        cls: the class of events.
        event_types: the type that each payload class belongs to.
        schema_version: what every line says and the reader has checked.

    Attributes:
        types: the rows of its fields by name, in order.
        required: names of the fields that a mapping must have.
        payloads: the payload class of every event type, by the name that stands in the log.
        from_line: a line in the form of `to_json` → event; raises one of `UNUSUAL` for any other.
        from_any_line: a line in any form → event; raises one of `UNUSUAL` where anything in it is odd or wrong.
        to_json: event → line.
    """

    def __init__(self, cls: type[Any], event_types: Mapping[Any, Enum], schema_version: int) -> None:
        self._cls = cls
        self._event_types = event_types
        self._schema_version = schema_version
        self.types = envelope_types(cls)
        self.required = _REQUIRED
        self.payloads: dict[str, Any] = {event_type.name: payload for payload, event_type in event_types.items()}
        self.from_line = self._compile_from_line()
        self.from_any_line = self._compile_from_any_line()
        self.to_json = self._compile_to_json()

    def to_dict(self, event: Any) -> dict[str, object]:
        """Return the event as plain Python values."""
        result: dict[str, object] = {name: getattr(event, name) for name in self.types}
        return result | {
            "event_type": event.event_type.name,
            "timestamp": event.timestamp.isoformat(),
            "data": event.data.to_dict(),
        }

    def from_dict(self, mapping: object, *, wire: bool = False) -> Any:
        """Make an event of what `to_dict` returned.

        Raises:
            PayloadError: a field of the envelope or of the payload is missing, unknown or of another type.
        """
        # The payload is checked by its own codec, once its class is known.
        envelope = {**mapping, "data": None} if isinstance(mapping, Mapping) and "data" in mapping else mapping
        values, refused = examine(self._cls.__name__, self.types, self.required, envelope, wire=wire)
        missing, unknown = ((), ()) if refused is None else (refused.missing, refused.unknown)
        problems = [] if refused is None else [*refused.problems]
        event_type = values.pop("event_type", None)
        if event_type is not None and "data" in values:
            assert isinstance(mapping, Mapping)
            codec = self.payloads[event_type.name]._codec  # noqa: SLF001 - the same room
            try:
                values["data"] = (codec.from_json if wire else codec.from_dict).read(mapping["data"])
            except PayloadError as error:
                if not (missing or unknown or problems):
                    raise
                missing += tuple(f"data.{name}" for name in error.missing)
                unknown += tuple(f"data.{name}" for name in error.unknown)
                problems += [
                    dataclasses.replace(problem, path=f"data.{problem.path}".rstrip(".")) for problem in error.problems
                ]
        refused = refusal(self._cls.__name__, missing, unknown, problems)
        if refused is not None:
            raise refused
        return self._cls(**values)

    def from_json(self, record: dict[str, Any]) -> Any:
        """Make an event of a parsed line, whose schema version has been looked at; raises as `from_dict` does."""
        return self.from_dict({key: value for key, value in record.items() if key != "schema_version"}, wire=True)

    def _compile_from_line(self) -> Callable[[str], Any]:
        """Compile the way for lines in the form that we write: no spaces, all fields, in order.

        One pattern finds the texts of all values, so that no key is looked for, missing, unknown or there twice; only
        the payload is left to the parser. A line of another form, or with anything odd in it, goes the careful way.
        """
        special = {
            "event_type": "_TYPES[event_type]",
            "timestamp": "_time",
            "epoch": "None if epoch is None else _int(epoch)",
            "data": "_PAYLOADS[event_type]._codec.from_json[len(data)](data)",
        }
        members = ",".join(f'"{name}":{_member(row)}' for name, row in self.types.items())
        pattern = rf'\{{"schema_version":{self._schema_version},{members}\}}[ \t\r\n]*+'
        texts = [name for name in self.types if name not in {"epoch", "data", "message"}]
        lines = [
            "_found = _match(_line)",
            "if _found is None: _mismatch()",
            f"{', '.join(self.types)} = _found.groups()",
            # What is not printable JSON may refuse, and what has a backslash in it does not stand for itself.
            f"_texts = f'{''.join(f'{{{name}}}' for name in texts)}'",
            r"if '\\' in _texts or not _texts.isprintable() or severity not in _choices_severity: _mismatch()",
            r"if '\\' in message or not message.isprintable(): message = _unescaped(message)",
            "_time = _fromisoformat(timestamp)",
            "if _time.tzinfo is not _UTC or not timestamp.isascii(): _mismatch()",
            "data = _parse(data)",
            *self._built(special),
        ]
        namespace: dict[str, Any] = {
            "_match": re.compile(pattern, re.DOTALL).fullmatch,
            "_int": int,
            "_parse": parse_object,
            "_unescaped": unescaped,
        }
        return self._reader("from_line", lines, namespace)

    def _compile_from_any_line(self) -> Callable[[str], Any]:
        """Compile the way for lines of other writers: spaces, any order of keys, any escapes, and all fields."""
        special = {
            "event_type": "_TYPES[event_type]",
            "timestamp": "_time",
            "data": "_PAYLOADS[event_type]._codec.from_json.read(data)",
        }
        tests = [row.test(name, "line") for name, row in self.types.items() if name not in special]
        lines = [
            "_record = _parse(_line)",
            f"if len(_record) != {len(self.types) + 1}: _mismatch()",
            f"_version, {', '.join(self.types)} = _fetch(_record)",
            f"if _version.__class__ is not int or _version != {self._schema_version}: _mismatch()",
            f"if not ({' and '.join(f'({test})' for test in tests)}): _mismatch()",
            "if event_type.__class__ is not str or timestamp.__class__ is not str: _mismatch()",
            "_time = _fromisoformat(timestamp)",
            "if _time.tzinfo is not _UTC or not timestamp.isascii(): _mismatch()",
            *self._built(special),
        ]
        namespace: dict[str, Any] = {
            "_parse": parse_record,
            "_fetch": itemgetter("schema_version", *self.types),
            "_is_unicode": is_unicode,
        }
        return self._reader("from_any_line", lines, namespace)

    def _built(self, special: Mapping[str, str]) -> list[str]:
        """Return the source that makes an event of variables; of some fields it is another expression."""
        return [
            "_self = _UNFROZEN()",
            *(f"_self.{name} = {special.get(name, name)}" for name in self.types),
            *(f"_self.{number} = None" for number, _, _ in LATE.values()),
            "_self.__class__ = _FROZEN",
            "return _self",
        ]

    def _reader(self, function: str, lines: list[str], names: Mapping[str, Any]) -> Callable[[str], Any]:
        namespace: dict[str, Any] = {
            **names,
            "_mismatch": mismatch,
            "_fromisoformat": datetime.fromisoformat,
            "_UTC": UTC,
            "_PAYLOADS": self.payloads,
            "_TYPES": {event_type.name: event_type for event_type in self._event_types.values()},
            "_UNFROZEN": unfrozen_twin(self._cls),
            "_FROZEN": self._cls,
        }
        for name, row in self.types.items():
            namespace |= row.names(name)
        return define(
            function, [f"def {function}(_line):", *indented(lines)], namespace, f"{self._cls.__name__}.{function}"
        )

    def _compile_to_json(self) -> Callable[[Any], str]:
        body, pieces = [], {"schema_version": str(self._schema_version)}
        namespace: dict[str, Any] = {
            **WRITING_NAMES,
            "_depth": 1,
            # The event type follows from the payload, whose class is found sooner than a member of an Enum.
            "_TYPES": {payload: f'"{event_type.name}"' for payload, event_type in self._event_types.items()},
            "_refuse": self._refuse,
            "_PayloadError": PayloadError,
            "_escaped": encode_basestring_ascii,
        }
        for name, row in self.types.items():
            if name == "event_type":
                pieces[name] = "{_TYPES[_self.data.__class__]}"
                continue
            store = [f"{name} = _self.{name}", *row.prepared(name)]
            pieces[name] = row.piece % name
            if name in LATE:
                number, _, text_of = LATE[name]
                namespace[f"_text_of_{name}"] = text_of
                made = f"{name} = _text_of_{name}({number})"
                # Both without their quotes: one copy less where it is made of the number, which is nearly always.
                store = [*store, f"{name} = {name}[1:-1]"]
                store = [f"{number} = _self.{number}", f"if {number} is None:", *indented(store), f"else: {made}"]
                pieces[name] = f'"{{{name}}}"'
            body += store
            namespace |= {**row.names(name), f"_write_{name}": row.write}
        lines = [
            "try:",
            *indented([*body, f"return f'{{{{{template(pieces)}}}}}'"]),
            "except _PayloadError: raise",
            "except Exception: _refuse(_self)",  # whatever it was, a PayloadError says it
        ]
        return define("to_json", ["def to_json(_self):", *indented(lines)], namespace, f"{self._cls.__name__}.to_json")

    def salvage(self, event: Any) -> tuple[str, list[dict[str, str]]]:
        """Return the text of a JSON object with every field that can be written, and a description of the others."""
        unwritable: list[dict[str, str]] = []
        codec = event.data._codec  # noqa: SLF001 - the same room
        names = supplied_fields(type(event.data), event.data._absent)  # noqa: SLF001 - as above
        data = _written({name: getattr(event.data, name) for name in names}, codec.types, "data.", unwritable)
        envelope = {name: getattr(event, name) for name in self.types if name != "data"}
        written = {"schema_version": str(self._schema_version), **_written(envelope, self.types, "", unwritable)}
        return _object({**written, "data": _object(data)}), unwritable

    def _refuse(self, event: Any) -> None:
        self.from_dict(self.to_dict(event))  # says what is wrong
        problem = FieldProblem("epoch", "an integer that can be written", "one of too many digits")
        raise FieldTypeError(self._cls.__name__, problems=(problem,))


def _time(text: object) -> datetime | None:
    """Return a time in UTC, or None when the text is none or lacks its zone."""
    try:
        time = datetime.fromisoformat(text)  # type: ignore[arg-type]  # TypeError when it is no text
        return None if time.utcoffset() is None or not text.isascii() else time.astimezone(UTC)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        return None


def _written(
    values: dict[str, Any], types: Mapping[str, Type], path: str, unwritable: list[dict[str, str]]
) -> dict[str, str]:
    """Return the JSON text of every value that can be written, and describe the others."""
    written = {}
    for name, value in values.items():
        row = types[name]
        try:
            written[name] = row.write(value)
        except Exception:  # noqa: BLE001 - a foreign class may do anything, and this describes what went wrong
            kind = type(value).__name__
            described = {"field": f"{path}{name}", "expected": row.text, "type": kind, "value": brief(value)}
            unwritable.append(described)
    return written


def _object(members: dict[str, str]) -> str:
    return f"{{{','.join([f'{quote(name)}:{text}' for name, text in members.items()])}}}"
