"""The log described for others: a JSON Schema of a line, and SQL views for DuckDB. Both are made from the fields.

The schema accepts every line that `encode_event` writes with values in the ranges that the fields' docstrings state,
and rejects what `decode_event` rejects. It is stricter than the decoder where a value is outside its range, which is
written all the same (`esper.leyline.doubtful` finds such lines), and more lenient in that a validator

- takes ``3.0`` for an integer;
- does not see what parsing has lost: a key that stands twice;
- takes text with a lone surrogate, an integer of more digits than Python reads, and containers nested at any depth;
- checks the calendar of a timestamp only when it is asked to check formats.

The other way round, the schema asks for a timestamp as it is written; `decode_event` takes any form of ISO 8601 that
has a zone.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from esper.leyline._payload.construct import default_of
from esper.leyline._payload.types import NONFINITE, Type
from esper.leyline.field_docs import Meaning, meanings
from esper.leyline.payload import Payload, is_optional
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import SCHEMA_VERSION, log_files

__all__ = ["duckdb_views", "json_schema"]

_ENVELOPE: dict[str, Type] = TelemetryEvent._codec.types  # noqa: SLF001 - the same room
_REQUIRED: frozenset[str] = TelemetryEvent._codec.required  # noqa: SLF001 - as above
_PAYLOADS: dict[str, type[Payload]] = TelemetryEvent._codec.payloads  # noqa: SLF001 - as above
_FLOAT = {
    "description": "A number; one that is not finite is a string, because JSON has none.",
    "anyOf": [{"type": "number"}, {"enum": list(NONFINITE)}],
}
_ANY = {
    "description": 'Any JSON. {"$float": "NaN"} is a float that is not finite ("Infinity" and "-Infinity" likewise), '
    'and {"$dict": {…}} is an object that would otherwise be taken for one of the two.',
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a line of a log."""
    about = meanings(TelemetryEvent)
    properties = {name: _property(row, about[name]) for name, row in _ENVELOPE.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of an esper log",
        "description": "One event. `event_type` says what `data` holds; a field that was not supplied is left out.",
        "type": "object",
        "required": ["schema_version", *(name for name in _ENVELOPE if name in _REQUIRED)],
        "properties": {"schema_version": {"const": SCHEMA_VERSION}, **properties},
        "additionalProperties": False,
        "allOf": [
            {
                "if": {"properties": {"event_type": {"const": event_type}}, "required": ["event_type"]},
                "then": {"properties": {"data": {"$ref": f"#/$defs/{cls.__name__}"}}},
            }
            for event_type, cls in _PAYLOADS.items()
        ],
        "$defs": {**{cls.__name__: _payload(cls) for cls in _PAYLOADS.values()}, "float": _FLOAT, "any": _ANY},
    }


def _payload(cls: type[Payload]) -> dict[str, Any]:
    properties, required = {}, []
    types, about = cls._codec.types, meanings(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
        row = types[field.name]
        properties[field.name] = _property(row, about[field.name])
        if is_optional(field):
            properties[field.name]["default"] = json.loads(row.write(default_of(field, row)))
        else:
            required.append(field.name)
    return {
        "description": _summary(cls),
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _summary(cls: type[Payload]) -> str:
    return " ".join((cls.__doc__ or "").split())


def _property(row: Type, meaning: Meaning) -> dict[str, Any]:
    described = row.schema(meaning.limits) | {"description": meaning.text}
    return described if meaning.unit is None else described | {"x-unit": meaning.unit, "x-range": meaning.range}


def duckdb_views(source: str | os.PathLike[str]) -> str:
    """Return SQL that lets DuckDB query a log: a view ``events``, and one for each event type, named after it.

    Every column has the type of its field; what was not supplied is NULL; floats that are not finite are ``nan`` and
    ``inf``. A torn last line is left out, as is any line that is no JSON (`esper validate` lists those), and a value
    that does not fit its column, such as an integer beyond 64 bits, is an error of the query. Where a payload has a
    field of the same name, the envelope's is called ``event_…``.

    Args:
        source: a log file or a run directory.

    Raises:
        FileNotFoundError: there is nothing to read.
    """
    files = ", ".join(_quoted(os.fspath(path.resolve())) for path in log_files(source))
    # Read as text, because ignore_errors would drop a line of another type without a word; the casts do not.
    raw = ", ".join(f"{name}: '{'JSON' if name == 'data' else 'VARCHAR'}'" for name in ["schema_version", *_ENVELOPE])
    typed = ", ".join(f"CAST({name} AS {type_}) AS {name}" for name, type_ in _envelope_columns().items())
    lines = f"read_json([{files}], format = 'newline_delimited', ignore_errors = true, columns = {{{raw}}})"
    known = f"event_type IS NOT NULL AND CAST(schema_version AS INTEGER) <= {SCHEMA_VERSION}"
    statements = [f"CREATE OR REPLACE VIEW events AS SELECT event_type, {typed}, data\nFROM {lines}\nWHERE {known}"]
    for event_type, cls in _PAYLOADS.items():
        statements += _payload_view(event_type, cls)
    return ";\n\n".join(statements) + ";\n"


def _envelope_columns() -> dict[str, str]:
    return {name: row.column for name, row in _ENVELOPE.items() if name not in {"event_type", "data"}}


def _payload_view(event_type: str, cls: type[Payload]) -> list[str]:
    types: dict[str, Type] = cls._codec.types
    view = event_type.lower()
    envelope = {f"event_{name}" if name in types else name: name for name in _envelope_columns()}
    columns = [name if name == column else f"{name} AS {column}" for column, name in envelope.items()]
    columns += [
        f"CAST(data->{'>' * (not row.is_nested)}'{name}' AS {row.column}) AS {name}" for name, row in types.items()
    ]
    about = {column: meanings(TelemetryEvent)[name] for column, name in envelope.items()} | meanings(cls)
    selected = ",\n  ".join(columns)
    return [
        f"CREATE OR REPLACE VIEW {view} AS SELECT\n  {selected}\nFROM events WHERE event_type = '{event_type}'",
        f"COMMENT ON VIEW {view} IS {_quoted(_summary(cls))}",
        *(f"COMMENT ON COLUMN {view}.{column} IS {_quoted(_sentence(m))}" for column, m in about.items()),
    ]


def _sentence(meaning: Meaning) -> str:
    return meaning.text if meaning.unit is None else f"{meaning.text} Unit: {meaning.unit}; {meaning.range}."


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
