"""What the columns of an export are: derived from the payloads' fields, with the SQL types of `esper.leyline.schema`.

A field that was not supplied is NULL. What a column cannot say exactly stands in the column ``exact``, as JSON by the
column's name: a None that was supplied, an integer in a float's place, an integer of more than 64 bits (its column is
then NULL). It is NULL itself for nearly every event, and with it an export holds all that the log does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from esper.leyline._payload.table import types_of
from esper.leyline._payload.types import Type
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent, TelemetryPayload

__all__ = [
    "EXACT",
    "INVALID",
    "KINDS",
    "PLACE",
    "RUNS",
    "Column",
    "Part",
    "columns_of",
    "envelope_types",
    "inner_type",
    "is_list",
    "is_nested",
]

Part: TypeAlias = Literal["place", "event", "payload"]
"""What a column is about: where the event stands, its envelope, or its payload."""

PLACE = {
    "run_name": "VARCHAR",
    "run": "BIGINT",
    "file": "VARCHAR",
    "line": "BIGINT",
    "batch": "BIGINT",
    "episode": "BIGINT",
    "superseded": "BOOLEAN",
}
"""The columns that say where an event stands, which is not said by the event, and their types."""
EXACT = "exact"
"""What the other columns cannot say exactly, as JSON by column; NULL where they do."""
INVALID = {
    "run_name": "VARCHAR",
    "file": "VARCHAR",
    "line": "BIGINT",
    "kind": "VARCHAR",
    "reason": "VARCHAR",
    "text": "VARCHAR",
}
"""The columns of the table ``invalid_lines``: the lines that are no events."""
RUNS = {"run_name": "VARCHAR", "events": "BIGINT", "invalid_lines": "BIGINT", "run_info": "JSON"}
"""The columns of the table ``runs``: what is known of each beside its events, run.json among it."""
_MAP = "MAP(VARCHAR, "
KINDS: dict[str, type[TelemetryPayload]] = {kind.value: cls for cls, kind in EVENT_TYPES.items()}
"""The payload class of each table, which is called as the view of `esper schema --duckdb` is."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of events."""

    name: str
    of: Part
    field: str
    """The field of event or payload; of a place the column's name without ``event_``."""
    sql: str
    """Its type."""
    row: Type | None
    """The type of its field; None of a place, which has none."""
    optional: bool
    """Whether its maker may have left it out."""


@cache
def columns_of(table: str) -> tuple[Column, ...]:
    """Return the columns of the table of a kind of event, but for `EXACT`.

    Where a payload has a field of the same name, another column is called ``event_…``, as in the SQL views.
    """
    cls = KINDS[table]
    own = types_of(cls)

    def name(other: str) -> str:
        return f"event_{other}" if other in own else other

    place = [Column(name(each), "place", each, sql, None, optional=False) for each, sql in PLACE.items()]
    event = [
        Column(name(each), "event", each, row.column, row, optional=False) for each, row in envelope_types().items()
    ]
    payload = [
        Column(field.name, "payload", field.name, own[field.name].column, own[field.name], is_optional(field))
        for field in dataclasses.fields(cls)
    ]
    return (*place, *event, *payload)


@cache
def envelope_types() -> Mapping[str, Type]:
    """Return the fields of an event besides its payload, which says its type, with their types."""
    types: dict[str, Type] = TelemetryEvent._codec.types  # noqa: SLF001 - the table of types is the one source
    return {name: row for name, row in types.items() if name not in {"event_type", "data"}}


def is_list(sql: str) -> bool:
    """Whether a type is one of lists."""
    return sql.endswith("[]")


def is_nested(sql: str) -> bool:
    """Whether a type is one of containers."""
    return is_list(sql) or sql.startswith(_MAP)


def inner_type(sql: str) -> str:
    """Return the type of the items of a list or map."""
    return sql[:-2] if is_list(sql) else sql[len(_MAP) : -1]
