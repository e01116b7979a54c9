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
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from esper.leyline._payload.construct import default_of
from esper.leyline._payload.types import NONFINITE, Type
from esper.leyline._payload.wording import is_unicode
from esper.leyline.field_docs import Meaning, meanings
from esper.leyline.log_lines import Events, Invalid, LogLines, read_lines
from esper.leyline.payload import Payload, is_optional
from esper.leyline.printable import is_printable
from esper.leyline.run_names import run_names
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import SCHEMA_VERSION

__all__ = ["column_comments", "duckdb_views", "json_schema", "sql_path", "sql_text"]

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


def duckdb_views(*sources: str | os.PathLike[str]) -> str:
    """Return SQL that lets DuckDB query logs: views ``events`` and ``invalid_lines``, and one for each event type.

    ``events`` has every line that `esper validate` takes for an event, ``invalid_lines`` every other. What a resume
    took back is ``superseded`` in ``events``, and not in the view of its type, which is named after it. ``run_name``
    says which source a row is of: as much of the end of its path as tells it from the others. ``run`` counts the runs
    of the group in the log, ``line`` the lines of ``file``. Nothing else is taken from a path.

    Every column has the type of its field; what was not supplied is NULL, as is a time in an unusual form of ISO
    8601; floats that are not finite are ``nan`` and
    ``inf``. An event that DuckDB cannot hold, for an integer beyond 64 bits or behind a byte order mark, is among the
    invalid lines. Where a payload has a field of the same name, another column is called ``event_…``.

    The logs are read once, here, because what a log ends with says what it takes back: what is appended later is not in
    the views until they are made again.

    Args:
        sources: log files or run directories; 1 or more.

    Raises:
        FileNotFoundError: there is nothing to read.
        ValueError: its path is no valid Unicode, so that SQL cannot name it.
    """
    files = [(name, lines) for name, source in run_names(sources).items() for lines in read_lines(source)]
    for name, lines in files:
        if not is_unicode(f"{name}{lines.path}"):
            raise ValueError(f"{lines.path} is no valid Unicode, and SQL has no name for it: rename it, or link to it")
    raw = ", ".join(f"{name}: '{'JSON' if name == 'data' else 'VARCHAR'}'" for name in _ENVELOPE)
    typed = ", ".join(f"{_envelope_value(name, type_)} AS {name}" for name, type_ in _envelope_columns().items())
    events = "\nUNION ALL BY NAME\n".join(_rows_of(name, lines, raw) for name, lines in files)
    invalid = "\nUNION ALL BY NAME\n".join(_invalid_of(name, lines) for name, lines in files)
    added = ", ".join(_LINE_COLUMNS)
    statements = [
        f"CREATE OR REPLACE VIEW events AS SELECT event_type, {typed}, data, {added}\nFROM (\n{events}\n)",
        f"CREATE OR REPLACE VIEW invalid_lines AS\n{invalid}",
        "COMMENT ON VIEW events IS 'Every event of the logs, as they were when this view was made.'",
        "COMMENT ON VIEW invalid_lines IS 'Every line not in events, and why; sql: an event that DuckDB cannot hold.'",
        *(f"COMMENT ON COLUMN events.{name} IS {sql_text(about)}" for name, about in _LINE_COLUMNS.items()),
    ]
    for event_type, cls in _PAYLOADS.items():
        statements += _payload_view(event_type, cls)
    return ";\n\n".join(statements) + ";\n"


_LINE_COLUMNS = {
    "run_name": "Name of the run: as much of the end of its path as tells it from the others.",
    "run": "Runs of the group in the log before this one. Unit: runs; 0 or more.",
    "file": "The file of the log that the event stands in.",
    "line": "Number of the line in the file. Unit: lines; 1 or more.",
    "superseded": "Whether a resume took the event back; false where that is unknown, and in the view of its type.",
}
"""What is not said by an event, but by where it stands."""


def _rows_of(name: str, lines: LogLines, raw: str) -> str:
    """Return the query for the events of one file.

    DuckDB gives a row for each line that is not blank, in order; a line that is not JSON has only NULLs. It is read as
    text, because a column of another type would turn what does not fit into NULL.
    """
    path = os.fspath(lines.path.resolve())
    options = {
        "format": "'newline_delimited'", "records": "true", "ignore_errors": "true", "compression": "'none'",
        "hive_partitioning": "false", "union_by_name": "false", "filename": "false",
        "maximum_object_size": max(lines.longest + 2, _LEAST_BUFFER), "columns": f"{{{raw}}}",
    }  # fmt: skip
    log = ", ".join([sql_path(path), *(f"{option} = {value}" for option, value in options.items())])
    columns = (
        f"r.*, s.run, s.superseded, r.nth + s.blank AS line, {sql_text(path)} AS file, {sql_text(name)} AS run_name"
    )
    rows = f"(SELECT row_number() OVER () AS nth, * FROM read_json({log})) AS r"  # noqa: S608 - all of it is quoted
    # A row for each, and not the stretches themselves: whether a join by ranges is linear, is for DuckDB to guess.
    each = "unnest(generate_series(first, last)) AS nth, blank, run, superseded"
    known = f"(SELECT {each} FROM ({_table_of(Events, lines.events)})) AS s"  # noqa: S608 - as above
    return f"SELECT {columns}\nFROM {rows}\nJOIN {known} ON r.nth = s.nth"


_LEAST_BUFFER = 1 << 24


def _invalid_of(name: str, lines: LogLines) -> str:
    file = sql_text(os.fspath(lines.path.resolve()))
    columns = (
        f"{sql_text(name)} AS run_name, {file} AS file, unnest(generate_series(first, last)) AS line, kind, reason"
    )
    return f"SELECT {columns}\nFROM ({_table_of(Invalid, lines.invalid)})"


_SQL_TYPES = {"int": "BIGINT", "bool": "BOOLEAN", "str": "VARCHAR", "str | None": "VARCHAR"}


def _table_of(cls: type[Events | Invalid], rows: Sequence[Events | Invalid]) -> str:
    """Return the query for rows as a table: each column one text, since parsing a list of values is far from linear."""
    columns = [
        f"unnest(from_json({sql_text(json.dumps([getattr(row, field.name) for row in rows]))}, "
        f"""'["{_SQL_TYPES[str(field.type)]}"]')) AS {field.name}"""
        for field in dataclasses.fields(cls)
    ]
    return f"SELECT {', '.join(columns)}"


def sql_path(path: str) -> str:
    """Return a path as SQL for DuckDB's readers, in which nothing stands for other files."""
    return sql_text(re.sub(r"[*?\[]", r"[\g<0>]", path))


def _envelope_columns() -> dict[str, str]:
    return {name: row.column for name, row in _ENVELOPE.items() if name not in {"event_type", "data"}}


def _envelope_value(name: str, type_: str) -> str:
    return _UTC if name == "timestamp" else f"TRY_CAST({name} AS {type_})"


_MINUTES = " + ".join(
    f"{unit} * coalesce(TRY_CAST(regexp_extract(timestamp, '([+-]\\d\\d):?(\\d\\d)$', {at}) AS BIGINT), 0)"
    for at, unit in ((1, 60), (2, "if(regexp_matches(timestamp, '-\\d\\d:?\\d\\d$'), -1, 1)"))
)
_FORM = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d|[+-]00)"
_UTC = (
    f"CASE WHEN regexp_full_match(timestamp, '{_FORM}') THEN "
    "TRY_CAST(regexp_replace(timestamp, '(Z|[+-]\\d\\d:?\\d\\d)$', '') AS TIMESTAMP) - to_minutes("
    f"CASE WHEN timestamp LIKE '%+00:00' OR timestamp LIKE '%Z' THEN 0 ELSE {_MINUTES} END) END"
)
"""DuckDB takes a time with its offset for UTC, whatever the offset; a form that it reads wrongly is NULL."""


def _payload_view(event_type: str, cls: type[Payload]) -> list[str]:
    types: dict[str, Type] = cls._codec.types
    view = event_type.lower()
    columns = [name if name == column else f"{name} AS {column}" for column, name in _common(cls).items()]
    columns += [
        f"TRY_CAST(data->{'>' * (not row.is_nested)}'{name}' AS {row.column}) AS {name}" for name, row in types.items()
    ]
    selected = ",\n  ".join(columns)
    stays = f"event_type = '{event_type}' AND NOT superseded"
    return [
        f"CREATE OR REPLACE VIEW {view} AS SELECT\n  {selected}\nFROM events WHERE {stays}",
        f"COMMENT ON VIEW {view} IS {sql_text(_summary(cls))}",
        *(f"COMMENT ON COLUMN {view}.{column} IS {sql_text(text)}" for column, text in column_comments(cls).items()),
    ]


def column_comments(cls: type[Payload]) -> dict[str, str]:
    """Return what each column of the view of a payload means, with its unit and range."""
    own = meanings(TelemetryEvent)
    common = {column: _LINE_COLUMNS.get(name) or _sentence(own[name]) for column, name in _common(cls).items()}
    return common | {name: _sentence(meaning) for name, meaning in meanings(cls).items()}


def _common(cls: type[Payload]) -> dict[str, str]:
    """Return the names of the columns that every view has, by what they are called in a payload's."""
    types: dict[str, Type] = cls._codec.types
    return {f"event_{name}" if name in types else name: name for name in [*_envelope_columns(), *_LINE_COLUMNS]}


def _sentence(meaning: Meaning) -> str:
    return meaning.text if meaning.unit is None else f"{meaning.text} Unit: {meaning.unit}; {meaning.range}."


def sql_text(text: str) -> str:
    """Return SQL for a text; a path in it may hold what must not reach a terminal."""
    parts = [
        "'" + "".join(letters).replace("'", "''") + "'" if shown else " || ".join(f"chr({ord(c)})" for c in letters)
        for shown, letters in groupby(text, is_printable)
    ]
    return parts[0] if len(parts) == 1 and is_printable(text) else f"({' || '.join(parts)})" if parts else "''"
