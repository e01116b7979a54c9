"""Which runs, and in which order: ``--where`` and ``--sort``. Nothing in a condition is run as code."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from esper.karn.listing.columns import COLUMNS, Column, Value, unknown_column
from esper.karn.listing.discover import natural

if TYPE_CHECKING:
    from esper.karn.listing.row import RunRow

__all__ = ["chosen", "columns_named", "ordered"]

_CONDITION: Final = re.compile(r"\s*(\w+)\s*(!=|<=|>=|==?|<|>)\s*(.*?)\s*", re.DOTALL)
_UNITS: Final = {
    "s": 1, "min": 60, "h": 3600, "d": 86400, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "%": 0.01,
}  # fmt: skip
_NUMBER: Final = re.compile(r"([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf|nan)\s*(\w+|%)?")
_Test: TypeAlias = Callable[[Value], bool]
_ABSENT: Final = ("", "—", "none", "null")


def chosen(rows: Iterable[RunRow], conditions: Sequence[str], now: datetime) -> list[RunRow]:
    """Return the rows for which every condition holds.

    A condition is ``KEY OP VALUE``, where KEY is a column and OP one of ``= != < <= > >=``. Text is compared without
    regard to case, ``*`` and ``?`` standing for any letters; numbers may have a unit (``2h``, ``10MB``, ``90%``). An
    empty value is what is not known, for which no other condition but ``!=`` holds.

    Raises:
        ValueError: a condition is none; the message says which, and what there is.
    """
    tests = [_condition(text) for text in conditions]
    return [row for row in rows if _holds(row, tests, now)]


def _holds(row: RunRow, tests: Sequence[tuple[Column, _Test]], now: datetime) -> bool:
    return all(test(column.value(row, now)) for column, test in tests)


def columns_named(conditions: Iterable[str]) -> set[str]:
    """Return the columns that conditions are about."""
    return {_condition(text)[0].key for text in conditions}


def _condition(text: str) -> tuple[Column, _Test]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(f"--where {text!r}: expected KEY, one of = != < <= > >=, and a value, as in verdict=BAD")
    key, operator, value = match.groups()
    if key not in COLUMNS:
        raise ValueError(f"--where {text!r}: {unknown_column(key)}")
    column = COLUMNS[key]
    if value.lower() in _ABSENT:
        if operator not in ("=", "==", "!="):
            raise ValueError(f"--where {text!r}: what is not known can be asked for by = and !=")
        return column, (lambda item: item is not None) if operator == "!=" else (lambda item: item is None)
    if column.kind is float:
        return column, _of_number(operator, _read_number(value, text))
    return column, _of_text(operator, value.lower())


def _read_number(value: str, text: str) -> float:
    match = _NUMBER.fullmatch(value)
    unit = match and match.group(2)
    if match is None or (unit is not None and unit not in _UNITS):
        raise ValueError(f"--where {text!r}: expected a number, perhaps with {', '.join(_UNITS)}, got {value!r}")
    return float(match.group(1)) * (1 if unit is None else _UNITS[unit])


def _of_number(operator: str, wanted: float) -> _Test:
    compare = _COMPARE[operator]

    def test(item: Value) -> bool:
        if not isinstance(item, int | float):
            return operator == "!="
        if math.isnan(wanted):
            return math.isnan(item) is (operator != "!=")
        return compare(item, wanted)

    return test


def _of_text(operator: str, wanted: str) -> _Test:
    pattern = wanted.replace("[", "[[]") if "*" in wanted or "?" in wanted else None
    compare = _COMPARE[operator]

    def test(item: Value) -> bool:
        if item is None:
            return operator == "!="
        text = (item.isoformat() if isinstance(item, datetime) else str(item)).lower()
        if pattern is not None and operator in ("=", "==", "!="):
            return fnmatchcase(text, pattern) is (operator != "!=")
        return compare(text, wanted)

    return test


def _equal(one: object, other: object) -> bool:
    return one == other


_COMPARE: Final[dict[str, Callable[..., bool]]] = {
    "=": _equal,
    "==": _equal,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


def ordered(rows: Iterable[RunRow], key: str, now: datetime, *, reverse: bool = False) -> list[RunRow]:
    """Return rows by a column, ascending; what is not known, or NaN, is last in either direction.

    Raises:
        ValueError: there is no such column.
    """
    if key not in COLUMNS:
        raise ValueError(f"--sort {key}: {unknown_column(key)}")
    values = [(COLUMNS[key].value(row, now), row) for row in rows]
    known = [pair for pair in values if not _is_missing(pair[0])]
    known.sort(key=lambda pair: _rank(pair[0]), reverse=reverse)
    return [row for _, row in (*known, *(pair for pair in values if _is_missing(pair[0])))]


def _is_missing(value: Value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _rank(value: Value) -> Any:
    return natural(value.lower()) if isinstance(value, str) else value
