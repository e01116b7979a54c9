"""The columns of a listing: each is a key of ``--sort``, ``--where`` and ``--json``, and how it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from esper.karn.formatting import ABSENT, age, fraction, number, tidy
from esper.karn.listing.row import RunRow
from esper.leyline.limits import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COLUMNS", "Cell", "Column", "Value", "unknown_column"]

Value: TypeAlias = str | int | float | datetime | None


@dataclass(frozen=True, slots=True)
class Cell:
    """How a column is shown in the table."""

    heading: str
    text: Callable[[RunRow, Value], str]
    right: bool = True


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the key, what it holds, and how it is shown."""

    key: str
    kind: type
    """``str``, ``float`` (of any number) or ``datetime``."""
    value: Callable[[RunRow, datetime], Value]
    """Its value at a time."""
    cell: Cell | None = None
    """None for what the table has no room for."""


def _count(_: RunRow, value: Value) -> str:
    return number(value, 9) if isinstance(value, int) else ABSENT


def _number(_: RunRow, value: Value) -> str:
    return number(value, 7) if isinstance(value, int | float) else ABSENT


def _fraction(_: RunRow, value: Value) -> str:
    return fraction(value, 5) if isinstance(value, int | float) else ABSENT


def _words(_: RunRow, value: Value) -> str:
    return tidy(value) if isinstance(value, str) else ABSENT


def _verdict(_: RunRow, value: Value) -> str:
    return f"{Status[value].value} {value}" if isinstance(value, str) else ABSENT


def _episodes(row: RunRow, value: Value) -> str:
    done = _count(row, value)
    return done if row.planned is None or row.planned == value else f"{done}/{number(row.planned, 9)}"


def _evaluation(row: RunRow, value: Value) -> str:
    if not isinstance(value, float):
        return ABSENT
    error = "" if row.evaluation_error is None else f"±{row.evaluation_error:.2f}"
    return f"{value:.2f}{error}"


def _age(_: RunRow, value: Value) -> str:
    return " ".join(age(value).split(" ")[:2]) if isinstance(value, float) else ABSENT  # its larger unit


def _bytes(_: RunRow, value: Value) -> str:
    if not isinstance(value, int):
        return ABSENT
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 * size else f"{value // size:,} {unit}"
    return f"{value} B"


_CELLS: Final[Mapping[str, Cell]] = {
    "run": Cell("run", _words, right=False),
    "group": Cell("group", _words, right=False),
    "task": Cell("task", _words, right=False),
    "seed": Cell("seed", _count),
    "status": Cell("status", _words, right=False),
    "verdict": Cell("verdict", _verdict, right=False),
    "episodes": Cell("episodes", _episodes),
    "return": Cell("return", _number),
    "best_return": Cell("best ret.", _number),
    "accuracy": Cell("acc.", _fraction),
    "best_accuracy": Cell("best acc.", _fraction),
    "evaluation": Cell("evaluation", _evaluation),
    "test_accuracy": Cell("test acc.", _fraction),
    "age": Cell("age", _age),
    "size": Cell("size", _bytes),
}


def _kind(hint: str) -> type:
    return datetime if "datetime" in hint else str if "str" in hint else float


def _field(name: str) -> Callable[[RunRow, datetime], Value]:
    def value(row: RunRow, _: datetime) -> Value:
        made: Value = getattr(row, name)
        return made

    return value


def _seconds_old(row: RunRow, now: datetime) -> float | None:
    return None if row.newest is None else max((now - row.newest).total_seconds(), 0.0)


def _columns() -> dict[str, Column]:
    made = [(field.name.rstrip("_"), _kind(str(field.type)), _field(field.name)) for field in fields(RunRow)]
    at = next(at for at, (key, _, _) in enumerate(made) if key == "size")
    made.insert(at, ("age", float, _seconds_old))
    return {key: Column(key, kind, value, _CELLS[key] if key in _CELLS else None) for key, kind, value in made}


COLUMNS: Final = _columns()
"""By key, in the order of every view: the fields of `RunRow`, and ``age``, the seconds since the newest event."""


def unknown_column(key: str) -> ValueError:
    """Return the error of a key that is none."""
    return ValueError(f"{key!r} is no column; there are {', '.join(COLUMNS)}")
