"""A listing as a table that fits the terminal, or as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from esper.karn.formatting import ABSENT, cells, columns, end_of, plural, tidy
from esper.karn.listing.columns import COLUMNS, Cell
from esper.karn.listing.row import RunRow
from esper.leyline.strict_json import strict_json

__all__ = ["counted", "rows_json", "runs_table"]

_GAP: Final = "  "
_LEAST_RUN: Final = 16
"""Columns of a path, below which another column gives way."""
_MOST_WORDS: Final = 24
_FIRST_TO_GO: Final = (
    "test_accuracy", "size", "best_accuracy", "evaluation", "age", "best_return", "task", "accuracy",
    "episodes", "status", "seed", "return", "group", "verdict",
)  # fmt: skip
"""Where there is little room."""
_MOST_NOTES: Final = 20


def runs_table(rows: Sequence[RunRow], now: datetime, width: int, asked: Collection[str] = ()) -> str:
    """Return a line a row, and below them what is wrong with some, what is not shown, and how many they are.

    Args:
        rows: in the order in which they are shown.
        now: to say how old they are.
        width: columns of the terminal.
        asked: columns that stay, however little room there is.
    """
    shown = {column.key: column.cell for column in COLUMNS.values() if column.cell is not None}
    texts = {key: [cell.text(row, COLUMNS[key].value(row, now)) for row in rows] for key, cell in shown.items()}
    empty = [key for key in texts if key not in asked and _says_nothing(key, texts[key])]
    for key in empty:
        del shown[key]
    left_out = _fit(shown, texts, width, asked)
    lines = _lines(shown, texts, width)
    problems = [f"{row.run}: {row.problem}" for row in rows if row.problem]
    failures = [f"{row.run}: failed: {row.error}" for row in rows if row.error]
    for text in (problems + failures)[:_MOST_NOTES]:
        lines.append(tidy(text, 4 * width))
    if len(problems + failures) > _MOST_NOTES:
        lines.append(f"… {len(problems + failures) - _MOST_NOTES:,} more with a problem or an error: see --json")
    if left_out:
        text = f"not shown for want of room: {', '.join(left_out)} (--sort or --where shows one; --json all)"
        lines += textwrap.wrap(text, width)
    return "\n".join(lines) + "\n"


def _says_nothing(key: str, texts: Sequence[str]) -> bool:
    """Whether a column is the same for all and no news: one group, nothing evaluated."""
    return key != "run" and set(texts) <= ({ABSENT, "default"} if key == "group" else {ABSENT})


def _width(cell: Cell, texts: Sequence[str]) -> int:
    return min(max(map(columns, (cell.heading, *texts))), _MOST_WORDS)


def _fit(shown: dict[str, Cell], texts: dict[str, list[str]], width: int, asked: Collection[str]) -> list[str]:
    """Leave out columns until a path has room; return their keys."""
    wanted = min(max(map(columns, texts["run"]), default=0), _LEAST_RUN * max(width // 80, 1))
    left_out = list[str]()
    for key in _FIRST_TO_GO:
        taken = sum(len(_GAP) + _width(cell, texts[name]) for name, cell in shown.items() if name != "run")
        if taken + wanted <= width:
            break
        if key in shown and key not in asked:
            del shown[key]
            left_out.append(key)
    return left_out


def _lines(shown: dict[str, Cell], texts: dict[str, list[str]], width: int) -> list[str]:
    widths = {key: _width(cell, texts[key]) for key, cell in shown.items()}
    others = sum(len(_GAP) + size for key, size in widths.items() if key != "run")
    longest = max(map(columns, ("run", *texts["run"])))
    widths["run"] = max(min(longest, width - others), 8)

    def line(of: dict[str, str]) -> str:
        made = [
            cells(end_of(of[key], widths[key]), widths[key])
            if key == "run"
            else cells(of[key], widths[key], right=cell.right)
            for key, cell in shown.items()
        ]
        return _GAP.join(made).rstrip()

    head = line({key: cell.heading for key, cell in shown.items()})
    return [head, *(line({key: texts[key][at] for key in shown}) for at in range(len(texts["run"])))]


def rows_json(rows: Sequence[RunRow], now: datetime) -> str:
    """Return the rows as strict JSON: a list of objects, a key a column, null for what is not known."""
    return strict_json([{key: column.value(row, now) for key, column in COLUMNS.items()} for row in rows])


def counted(rows: Sequence[RunRow], of: int) -> str:
    """Return how many runs are shown, and of how many."""
    shown = len({row.run for row in rows})
    return plural(shown, "run") if shown == of else f"{shown:,} of {plural(of, 'run')}"
