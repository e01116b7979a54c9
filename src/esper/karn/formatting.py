"""How values become text on a terminal: one way for all screens. What was not supplied is ``—`` everywhere."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import cache
from itertools import accumulate, islice, pairwise

from esper.leyline.limits import real
from esper.leyline.printable import printable

__all__ = [
    "ABSENT",
    "age",
    "bar",
    "cells",
    "columns",
    "end_of",
    "fraction",
    "is_finite",
    "mean",
    "number",
    "plot",
    "plural",
    "scale",
    "signed",
    "tidy",
    "value_text",
]

ABSENT = "—"
_BLOCKS = " ▁▂▃▄▅▆▇█"
_NOT_FINITE = "×"
_NOT_SUPPLIED = "·"
_LONGEST = 4000
_DEEPEST = 8
_MOST = 100


@cache
def _column_count(letter: str) -> int:
    if unicodedata.category(letter) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def columns(text: str) -> int:
    """Return how many columns of a terminal printable text takes: two for a wide letter, none for an accent."""
    return len(text) if text.isascii() else sum(map(_column_count, text))


def tidy(text: str, width: int = _LONGEST) -> str:
    """Return text that is safe on a terminal: what is not printable as an escape, what is too wide cut with ``…``.

    Args:
        text: any.
        width: columns, and letters, that the result has at most.
    """
    text = printable(text[: width + 1])
    if len(text) <= width and columns(text) <= width:
        return text
    ends = accumulate(map(_column_count, text[: max(width - 1, 0)]))
    return text[: sum(end < width for end in ends)] + "…"


def is_finite(value: float) -> bool:
    """Whether a number is one that can be drawn: neither NaN nor infinite, nor an integer beyond all floats."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def number(value: float | None, width: int = 12) -> str:
    """Return up to four significant digits, fewer where they would not fit, or ``—`` for what was not supplied.

    Digits are rounded, never cut: a number of which none would fit is ``#``, as often as there is room.
    """
    if value is None:
        return ABSENT
    if isinstance(value, int) and len(text := f"{value:,}") <= width:
        return text
    if not is_finite(value):
        if isinstance(value, int):
            return "huge" if value > 0 else "-huge"
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    texts = [f"{value:.{digits}g}" for digits in (4, 3, 2, 1)]
    return _first_that_fits([*texts, f"{value:.1f}"] if abs(value) < 1 else texts, width)


def _first_that_fits(texts: Iterable[str], width: int) -> str:
    return next((text for text in texts if len(text) <= width), "#" * width)


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, which is finite when all values are and not when one is not; None when there is none."""
    if not all(map(is_finite, values)):
        return sum(map(real, values)) / len(values)
    return math.fsum(value / len(values) for value in values) if values else None  # their sum may be beyond floats


def plural(count: int, thing: str, one: str = "", more: str = "") -> str:
    """Return how many there are of something: ``1 event``, ``2 events``, ``2 batches``.

    Args:
        count: how many.
        thing: one of them.
        one: what is said of a single one: ``is``.
        more: what is said of any other number: ``are``.
    """
    ending = "" if count == 1 else "es" if thing.endswith("tch") else "s"
    return f"{number(count)} {thing}{ending} {one if count == 1 else more}".rstrip()


def fraction(value: float | None, width: int = 7) -> str:
    """Return a number between 0 and 1 with three decimals, or fewer where they would not fit."""
    if value is None or not is_finite(value) or abs(value) >= 10:  # noqa: PLR2004
        return number(value, width)
    return _first_that_fits((f"{value:.{digits}f}" for digits in (3, 2, 1, 0)), width)


def signed(value: float | None, width: int = 7) -> str:
    """Return a number with its sign and three decimals, or fewer where they would not fit."""
    if value is None or not is_finite(value):
        return number(value)
    return _first_that_fits((*(f"{value:+.{digits}f}" for digits in (3, 2, 1, 0)), f"{value:+.0e}"), width)


def value_text(value: object, depth: int = 0) -> str:
    """Return any value that a payload can hold, on one line; of large and deep containers the beginning."""
    if value is None:
        return "None"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else repr(value) if is_finite(value) else number(value)
    if isinstance(value, str):
        return tidy(value) if value else "(empty)"
    if isinstance(value, Mapping | list | tuple):
        return _container_text(value, depth + 1)
    if isinstance(value, Enum):
        return value.name
    return tidy(value.isoformat() if isinstance(value, datetime) else repr(value))


def _container_text(value: Mapping[object, object] | Sequence[object], depth: int) -> str:
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        parts = [f"{tidy(str(key))}: {value_text(item, depth)}" for key, item in islice(value.items(), _MOST)]
    else:
        parts = [value_text(item, depth) for item in value[:_MOST]]
    more = [f"… {len(value) - _MOST:,} more"] if len(value) > _MOST else []
    text = ", ".join(parts + more)
    return f"{{{text}}}" if isinstance(value, Mapping) else f"[{text}]"


def age(seconds: float) -> str:
    """Return a duration in at most two units."""
    if not is_finite(seconds):
        return number(seconds)
    if seconds < 10:  # noqa: PLR2004
        return f"{max(seconds, 0.0):.1f} s"
    whole = int(seconds)
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {small_unit}"
    return f"{whole} s"


def cells(text: str, width: int, *, right: bool = False) -> str:
    """Cut or pad text to exactly a width, in columns of a terminal."""
    text = tidy(text, width)
    padding = " " * (width - columns(text))
    return padding + text if right else text + padding


def end_of(text: str, width: int) -> str:
    """Return the end of a path, which tells one from another, in at most so many columns: ``…/lr-0.1/seed-3``."""
    text = tidy(text)
    if columns(text) <= width:
        return text
    while columns(text) > max(width - 1, 0):
        text = text[1:]
    return f"…{text}"


def bar(share: float, width: int) -> str:
    """Return a horizontal bar filled by a share from 0 to 1."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8) if is_finite(share) else 0
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width)


def plot(values: Sequence[float | None], width: int, height: int = 1) -> list[str]:
    """Draw columns, newest at the right; longer series are condensed.

    A column that stands for several values shows their mean; ``×`` marks one with a value that is not finite, ``·``
    one without any value. The lowest finite mean touches the ground, the highest the top; a flat series is at half,
    one of zeros on the ground.
    """
    columns = values if len(values) <= width else _means(values, width)
    finite = [value for value in columns if value is not None and is_finite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span, top = high - low, 8 * height - 1
    if 0 < span < math.inf:
        levels = [
            1 + round((value - low) / span * top) if value is not None and is_finite(value) else 0 for value in columns
        ]
    else:
        flat = 1 + top // 2 if high else 1
        levels = [flat if value is not None and is_finite(value) else 0 for value in columns]
    rows = [
        "".join([_BLOCKS[min(max(level - ground, 0), 8)] for level in levels]).ljust(width)
        for ground in range(8 * (height - 1), -1, -8)
    ]
    if 0 in levels:
        marks = zip(rows[-1], levels, columns, strict=False)
        drawn = [block if level else _NOT_SUPPLIED if value is None else _NOT_FINITE for block, level, value in marks]
        rows[-1] = "".join(drawn).ljust(width)
    return rows


def scale(values: Sequence[float | None]) -> str:
    """Return the lowest and the highest of what a plot can draw; nothing where it draws nothing."""
    finite = [value for value in values if value is not None and is_finite(value)]
    ends = [number(min(finite), 9), number(max(finite), 9)] if finite else []
    return " to ".join(dict.fromkeys(ends))


def _means(values: Sequence[float | None], width: int) -> list[float | None]:
    edges = [round(index * len(values) / width) for index in range(width + 1)]
    return [mean([value for value in values[start:stop] if value is not None]) for start, stop in pairwise(edges)]
