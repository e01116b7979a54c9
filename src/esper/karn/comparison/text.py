"""A comparison in the terminal: the answer first, then what it rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from esper.karn.comparison.results import Comparison, Curve
from esper.karn.comparison.tables import (
    CURVES,
    TextTable,
    answers,
    arms_table,
    curve_of,
    curve_table,
    heading,
    tables,
)
from esper.karn.formatting import cells, columns, end_of, plot, tidy

__all__ = ["comparison_text"]

_LEAST_WIDTH: Final = 60
_WIDE: Final = 110
"""Columns in which there is room for all."""
_LEAST_CELL: Final = 8
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"


def comparison_text(comparison: Comparison, width: int) -> str:
    """Return a comparison as text.

    Args:
        comparison: what was found.
        width: columns of the terminal.
    """
    width = max(width, _LEAST_WIDTH)
    sections = [
        [*_wrapped(heading(comparison), width, ""), *_table(arms_table(comparison), width, head=False)],
        ["Is the difference real?", *_answers(comparison, width)],
        *([*_wrapped(table.title, width, ""), *_table(table, width)] for table in tables(comparison)),
    ]
    sections[2:2] = [_course(comparison, name, width) for name in CURVES]
    return "\n\n".join("\n".join(line.rstrip() for line in lines) for lines in sections if lines) + "\n"


def _answers(comparison: Comparison, width: int) -> Iterator[str]:
    for sentence, improvement in answers(comparison):
        yield from _wrapped(sentence, width, "  ")
        yield from _wrapped(improvement, width, "    ")


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    together = tidy(text).replace(" %", f"{_NO_BREAK}%")
    lines = textwrap.wrap(together, width, initial_indent=indent, subsequent_indent=indent + "  ")
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _course(comparison: Comparison, name: str, width: int) -> list[str]:
    """Draw the curves at one scale, and write out a few of their points."""
    table = curve_table(comparison, name, 5 if width >= _WIDE else 3)
    if table is None:
        return []
    curves = {arm.name: curve for arm in comparison.arms if (curve := curve_of(arm, name)).episodes}
    low = min(min(curve.mean) for curve in curves.values())
    high = max(max(curve.mean) for curve in curves.values())
    names = min(max(map(columns, curves)), width // 3)
    drawn = [
        f"  {cells(arm, names)}  {_sparkline(curve, low, high, width - names - 4)}" for arm, curve in curves.items()
    ]
    text = CURVES[name].text
    return [*_wrapped(table.title, width, ""), *drawn, f"  from {text(low)} to {text(high)}", *_table(table, width)]


def _sparkline(curve: Curve, low: float, high: float, width: int) -> str:
    """Draw a curve in the scale of all: its ends are drawn before it, and cut off."""
    room = min(width, 60, len(curve.mean))
    values = [curve.mean[round(at * (len(curve.mean) - 1) / max(room - 1, 1))] for at in range(room)]
    return plot([low, high, *values], room + 2)[0][2:]


def _table(table: TextTable, width: int, *, head: bool = True) -> list[str]:
    """Align columns; where they do not fit, the widest give way."""
    rows = [[tidy(cell) for cell in row] for row in ((table.head, *table.rows) if head else table.rows)]
    if width < _WIDE and table.optional:
        rows = [row[: -table.optional] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    while 2 * len(widths) + sum(widths) > width and max(widths) > _LEAST_CELL:
        widths[widths.index(max(widths))] -= 1
    last = len(widths) - 1
    return [
        "  "
        + "  ".join(
            cells(
                end_of(cell, widths[at]) if table.paths and at == last else cell,
                widths[at],
                right=at not in table.words,
            )
            for at, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]
