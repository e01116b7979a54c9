"""Events of one kind, column by column, as Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from esper.karn.export.columns import EXACT, INVALID, KINDS, RUNS, Column, columns_of, inner_type, is_list
from esper.leyline._payload.containers import AnyValue

if TYPE_CHECKING:
    from esper.leyline.telemetry import TelemetryEvent

__all__ = ["KNOWN_LATER", "schema_of", "spooled"]

KNOWN_LATER: Final = ("run_name", "run", "batch", "episode", "superseded")
"""Columns of a place that are known when the whole log was read."""

_SCALARS: Final[dict[str, Any]] = {
    "DOUBLE": pa.float64(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "TIMESTAMP": pa.timestamp("us"),
}
_LARGEST: Final = 1 << 63
_FLOATS: Final = frozenset({float, NoneType})
_write_json: Final[Callable[[Any], str]] = AnyValue().write
_repeated: Final = lru_cache(4_096, typed=True)(_write_json)
_PLAIN: Final = frozenset({str, int, bool, NoneType})


class _InexactError(Exception):
    """A value is right and cannot stand in its column as it is."""


def schema_of(table: str, *, flat: bool) -> pa.Schema:
    """Return the columns of a table of the export.

    Args:
        table: ``runs``, ``invalid_lines``, or the kind of event.
        flat: whether containers stand as JSON text.
    """
    if table not in KINDS:
        others = RUNS if table == "runs" else INVALID
        return pa.schema([pa.field(name, _SCALARS[sql]) for name, sql in others.items()])
    columns = [pa.field(column.name, _type(column.sql, flat=flat)) for column in columns_of(table)]
    return pa.schema([*columns, pa.field(EXACT, pa.string())])


def _type(sql: str, *, flat: bool = False) -> Any:
    if sql in _SCALARS:
        return _SCALARS[sql]
    if flat:
        return pa.string()
    inner = inner_type(sql)
    return pa.list_(_type(inner)) if is_list(sql) else pa.map_(pa.string(), _type(inner))


def spooled(
    table: str, events: Sequence[TelemetryEvent], place: dict[str, Sequence[Any]], *, flat: bool
) -> pa.RecordBatch:
    """Return events as they can be written before the whole log was read: all columns but `KNOWN_LATER`.

    Args:
        table: their kind.
        events: the events.
        place: ``place``, a number, for each, and the columns of its place that are known.
        flat: whether containers stand as JSON text.
    """
    data = [event.data for event in events]
    supplied = [payload.supplied for payload in data]
    patterns = frozenset(supplied)
    exact: dict[int, dict[str, str]] = {}
    arrays: dict[str, Any] = {"place": pa.array(place["place"], pa.int32())}
    for column in columns_of(table):
        if column.of == "place":
            if column.field not in KNOWN_LATER:
                arrays[column.name] = pa.array(place[column.field], _SCALARS[column.sql])
            continue
        values = list(map(attrgetter(column.field), events if column.of == "event" else data))
        if column.optional:
            with_it = [pattern for pattern in patterns if column.field in pattern]
            if not with_it:
                arrays[column.name] = pa.nulls(len(values), _type(column.sql, flat=flat))
                continue
            if None in values:
                for at, (value, names) in enumerate(zip(values, supplied, strict=True)):
                    if value is None and column.field in names:
                        exact.setdefault(at, {})[column.name] = "null"
            if len(with_it) < len(patterns):
                values = [v if column.field in names else None for v, names in zip(values, supplied, strict=True)]
        arrays[column.name] = _array_of(column, values, exact, flat=flat)
    texts = [_object(exact[at]) if at in exact else None for at in range(len(events))] if exact else None
    arrays[EXACT] = pa.nulls(len(events), pa.string()) if texts is None else pa.array(texts, pa.string())
    return pa.RecordBatch.from_pydict(arrays)


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{_write_json(name)}:{text}" for name, text in members.items()) + "}"


def _array_of(column: Column, values: list[Any], exact: dict[int, dict[str, str]], *, flat: bool) -> Any:
    """Return a column, and note in ``exact`` what it cannot say."""
    row, sql = column.row, column.sql
    assert row is not None  # every field has one
    if sql not in _SCALARS and flat:
        return pa.array([None if value is None else str(row.write(value)) for value in values], pa.string())
    if sql == "JSON":
        return pa.array([None if value is None else _write_json(value) for value in values], pa.string())
    try:
        return _array(sql, values)
    except (_InexactError, OverflowError, pa.ArrowException):
        for at, value in enumerate(values):
            if value is not None and not _fits(sql, value):
                exact.setdefault(at, {})[column.name] = str(row.write(value))
        return _array(sql, [None if value is None else _nearest(sql, value) for value in values])


def _array(sql: str, values: list[Any]) -> Any:
    """Return an array of values that all fit their type; None is NULL, but JSON's null inside containers."""
    if sql == "DOUBLE" and not _FLOATS.issuperset(map(type, values)):
        raise _InexactError
    if sql in _SCALARS:
        return pa.array(values, _SCALARS[sql])
    inner, held = inner_type(sql), [value or () for value in values]
    is_null = pa.array([value is None for value in values], pa.bool_()) if None in values else None
    offsets: Any = pa.array(_offsets(map(len, held)), pa.int32())
    if is_list(sql):
        return pa.ListArray.from_arrays(offsets, _items(inner, list(chain.from_iterable(held))), mask=is_null)
    keys = pa.array(chain.from_iterable(held), pa.string())
    items = _items(inner, list(chain.from_iterable(value.values() for value in held if value)))
    return pa.MapArray.from_arrays(offsets, keys, items, mask=is_null)


def _items(sql: str, values: list[Any]) -> Any:
    if sql == "JSON":
        texts = [
            # What it would come to, for nearly all of them: finite floats, and what repeats.
            repr(v)
            if v.__class__ is float and v - v == 0.0
            else _repeated(v)
            if v.__class__ in _PLAIN
            else _write_json(v)
            for v in values
        ]
        return pa.array(texts, pa.string())
    return _array(sql, values)


def _offsets(lengths: Iterable[int]) -> list[int]:
    offsets = [0]
    for length in lengths:
        offsets.append(offsets[-1] + length)
    return offsets


def _fits(sql: str, value: Any) -> bool:
    """Whether a value can stand in a column as it is."""
    if sql == "DOUBLE":
        return isinstance(value, float)
    if sql == "BIGINT":
        return bool(-_LARGEST <= value < _LARGEST)
    if sql in _SCALARS:
        return True
    items = value.values() if isinstance(value, dict) else value
    return all(item is None or _fits(inner_type(sql), item) for item in items)


def _nearest(sql: str, value: Any) -> Any:
    """Return what a column says of a value; None where it can say nothing."""
    if sql == "DOUBLE":
        try:
            return float(value)
        except OverflowError:
            return None
    if sql == "BIGINT":
        return value if _fits(sql, value) else None
    if sql in _SCALARS:
        return value.name if isinstance(value, Enum) else value
    inner = inner_type(sql)
    if isinstance(value, dict):
        return {key: item if inner == "JSON" else _nearest(inner, item) for key, item in value.items()}
    return [item if inner == "JSON" else _nearest(inner, item) for item in value]
