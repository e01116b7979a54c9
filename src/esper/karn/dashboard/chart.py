"""Charts of letters: a whole run in as many columns as there are, with axes that say their ranges.

Every value is within a dot of what is drawn: of the values that share a column the lowest and the highest are joined,
so that the smallest terminal shows the same spikes as the largest. What is not finite is marked where it happened.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from esper.karn.dashboard.courses import Course, Extent, merged
from esper.karn.formatting import cells, columns, number, tidy

if TYPE_CHECKING:
    from esper.karn.dashboard.rows import Span, Tone

__all__ = ["Level", "Panel", "draw", "with_levels"]

_LABEL: Final = 8
"""Columns of a tick's number."""
_LOGARITHMIC: Final = 100.0
"""Times that the highest is the lowest, from which on a scale is logarithmic, where all values are above 0."""
_STRETCH: Final = 3.0
"""Times as much as the values span that a chart may show, for a level to be on it."""
_PLAIN: Final = 1e7
"""Numbers from which on no digit has room on a scale but in scientific notation."""
_MOST_DECIMALS: Final = 6
_LARGEST: Final = sys.float_info.max
_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a Braille letter, by row and column."""


class Level(NamedTuple):
    """A value to compare with: a limit, a baseline."""

    value: float
    name: str
    tone: Tone


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart."""

    title: str
    short: str
    """The title where there is little room."""
    newest: str
    """The newest value."""
    sound: bool = True
    """Whether that is finite."""
    note: str = ""
    """What the title says further, where there is room."""
    course: Course
    field: str
    """Which of its quantities."""
    version: int
    """Of the course, when this was made: another one is another chart."""
    levels: tuple[Level, ...] = ()
    first: str
    """Where the oldest values stand."""
    last: str
    """Where the newest stand."""
    span: tuple[float, float] | None = None
    """What the scale covers at least, to be that of another panel; None for its own values."""


@lru_cache(maxsize=128)
def draw(panel: Panel, width: int, height: int) -> tuple[tuple[Span, ...], ...]:
    """Draw a chart, or return it as it was drawn before: title, plot beside the numbers of its scale, its range.

    Args:
        panel: what there is to see.
        width: columns of every line.
        height: lines; four at least.
    """
    room = max(height - 2, 1)
    scale = _Scale.of(panel)
    plot_width = max(width - _LABEL - 2, 4)
    rows: list[tuple[Span, ...]] = [_title(panel, scale, width)]
    drawn = _plot(panel, scale, plot_width, room)
    for row, spans in enumerate(drawn):
        tick = scale.tick(row, room)
        rows.append(((f"{tick:>{_LABEL}}{'┤' if tick else '│'}", "dim"), *spans, (" ", "plain")))
    return (*rows, _axis(panel, width))


def _title(panel: Panel, scale: _Scale, width: int) -> tuple[Span, ...]:
    lost = panel.course.whole(panel.field).not_finite
    notes = [
        *([f"{lost:,} not finite"] if lost else []),
        *(["log scale"] if scale.logarithmic else []),
        *([panel.note] if panel.note else []),
        *(f"{level.name} {number(level.value, 7)}{scale.beyond(level.value)}" for level in panel.levels),
    ]
    newest, all_of_it = panel.newest, "".join(f"  {note}" for note in notes)
    fits = columns(panel.title) + columns(newest) + columns(all_of_it) + 4 <= width
    title = tidy(panel.title if fits else panel.short, max(width - columns(newest) - 4, 4))
    left = width - columns(title) - columns(newest) - 4
    said = ""
    for note in notes:
        if columns(said) + columns(note) + 2 > left:
            break
        said += f"  {note}"
    return (
        (f" {title} ", "title"),
        (f" {newest}", "accent" if panel.sound else "bad"),
        (f"{cells(said, left)} ", "limit" if lost else "dim"),
    )


def _axis(panel: Panel, width: int) -> tuple[Span, ...]:
    room = width - _LABEL - 2
    fits = columns(panel.first) + columns(panel.last) + 2 <= room
    last = tidy(panel.last if fits else panel.last.partition(" (")[0], room)
    first = tidy(panel.first, max(room - columns(last) - 1, 0))
    line = "─" * max(room - columns(first) - columns(last) - 2, 0)
    text = f"{first} {line} {last}" if line else f"{first} {last}"
    return ((f"{' ' * _LABEL}└{cells(text, room)} ", "dim"),)


def with_levels(
    ends: tuple[float, float], levels: Sequence[Level], *, logarithmic: bool = False
) -> tuple[float, float]:
    """Return a scale that also covers those levels for which the values need not shrink to a line."""
    low, high = ends
    for level in sorted(levels, key=lambda one: abs(one.value - (ends[0] + ends[1]) / 2)):
        value = level.value
        if logarithmic:
            near = ends[0] / 10 <= value <= ends[1] * 10
        else:
            near = max(high, value) - min(low, value) <= _STRETCH * (ends[1] - ends[0])
        if near:
            low, high = min(low, value), max(high, value)
    return low, high


class _Scale(NamedTuple):
    """From the lowest to the highest that is drawn."""

    low: float
    high: float
    logarithmic: bool
    empty: bool
    """Whether nothing finite is there."""

    @classmethod
    def of(cls, panel: Panel) -> _Scale:
        whole = panel.course.whole(panel.field)
        ends = None if whole.low is None or whole.high is None else (whole.low, whole.high)
        if panel.span is not None:
            ends = panel.span if ends is None else (min(ends[0], panel.span[0]), max(ends[1], panel.span[1]))
        if ends is None:
            return cls(0.0, 1.0, logarithmic=False, empty=True)
        low, high = ends
        logarithmic = low > 0 and high / low >= _LOGARITHMIC
        low, high = with_levels((low, high), panel.levels, logarithmic=logarithmic)
        if low == high:
            margin = abs(low) / 10 or 1.0
            low, high = max(low - margin, -_LARGEST), min(high + margin, _LARGEST)
        return cls(low, high, logarithmic, empty=False)

    def share(self, value: float) -> float:
        """Return how high a value is, from 0 to 1."""
        if self.logarithmic:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        scale = max(abs(self.low), abs(self.high), 1e-300)  # their difference may be beyond floats
        return (value / scale - self.low / scale) / (self.high / scale - self.low / scale)

    def at(self, share: float) -> float:
        """Return the value at a height."""
        if self.logarithmic:
            return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return self.low * (1 - share) + self.high * share

    def beyond(self, value: float) -> str:
        """Return an arrow for what is not on the chart."""
        return "" if self.empty or self.low <= value <= self.high else " ↑" if value > self.high else " ↓"

    def tick(self, row: int, room: int) -> str:
        """Return the number at a row of a plot, if it has one: the ends, and between them as many as are readable."""
        every = max(-(-(room - 1) // 4), 2)
        if self.empty or (row not in (0, room - 1) and (row % every or room - 1 - row < every)):
            return ""
        return self.text(self.at(1 - row / max(room - 1, 1)))

    def text(self, value: float) -> str:
        """Return a number of the scale, with as many digits as its neighbours differ by."""
        step = (self.high / 4 - self.low / 4) or 1.0
        decimals = 2 - math.floor(math.log10(step))
        if not self.logarithmic and abs(value) < _PLAIN:
            for digits in range(min(max(decimals, 0), _MOST_DECIMALS), -1, -1):
                text = f"{value:.{digits}f}"
                if len(text) < _LABEL:
                    return text
        return number(value, _LABEL - 1)


def _plot(panel: Panel, scale: _Scale, width: int, height: int) -> list[list[Span]]:
    dots, marks = [[0] * width for _ in range(height)], dict[int, bool]()
    top = 4 * height - 1
    before: tuple[int, int] | None = None
    for x, extent in enumerate(_condensed(panel.course.extents(panel.field), 2 * width)):
        if extent is None:
            continue
        if extent.not_finite:
            marks[x // 2] = marks.get(x // 2, False) or extent.above
        if extent.low is None or extent.high is None:
            before = None  # no line across what was not measured, or is not finite
            continue
        low, high = (round(scale.share(end) * top) for end in (extent.low, extent.high))
        _join(dots, before, (x, low, high), top)
        _vertical(dots, x, low, high, top)
        before = x, (low + high) // 2
    lines = _levels(panel, scale, height)
    return [_spans(row, dots[row], marks, lines, height) for row in range(height)]


def _condensed(extents: Sequence[Extent], n_columns: int) -> list[Extent | None]:
    """Return what each column of dots stands for; None for one between two values of a short series."""
    n = len(extents)
    if n <= n_columns:
        spread: list[Extent | None] = [None] * n_columns
        for at, extent in enumerate(extents):
            spread[round(at * (n_columns - 1) / max(n - 1, 1))] = extent
        return spread
    edges = [at * n // n_columns for at in range(n_columns + 1)]
    return [merged(extents[start:stop]) for start, stop in pairwise(edges)]


def _vertical(dots: list[list[int]], x: int, low: int, high: int, top: int) -> None:
    for y in range(low, high + 1):
        dots[(top - y) // 4][x // 2] |= _DOTS[(top - y) % 4][x % 2]


def _join(dots: list[list[int]], before: tuple[int, int] | None, to: tuple[int, int, int], top: int) -> None:
    """Draw a line from the value before."""
    x, low, high = to
    if before is None:
        return
    then, last = before
    start, end = last, (low + high) // 2
    for step in range(1, x - then):
        y = start + round((end - start) * step / (x - then))
        _vertical(dots, then + step, min(last, y), max(last, y), top)
        last = y
    _vertical(dots, x, min(last, low), max(last, high), top)


class _Line(NamedTuple):
    """A row that a level, or several, are drawn in."""

    names: str
    tone: Tone


def _levels(panel: Panel, scale: _Scale, height: int) -> dict[int, _Line]:
    lines: dict[int, _Line] = {}
    for level in panel.levels:
        if not scale.empty and scale.low <= level.value <= scale.high:
            row = height - 1 - min(int(scale.share(level.value) * height), height - 1)
            names = f"{lines[row].names}, {level.name}" if row in lines else level.name
            lines[row] = _Line(names, level.tone)
    return lines


def _spans(row: int, dots: Sequence[int], marks: dict[int, bool], lines: dict[int, _Line], height: int) -> list[Span]:
    line = lines[row] if row in lines else None
    letters: list[tuple[str, Tone]] = []
    for column, bits in enumerate(dots):
        if column in marks and row == (0 if marks[column] else height - 1):
            letters.append(("×", "bad"))
        elif bits:
            letters.append((chr(0x2800 + bits), "plot"))
        else:
            letters.append((" ", "plain") if line is None else ("╌", line.tone))
    if line is not None:
        _write(letters, line.names, line.tone)
    return [("".join(letter for letter, _ in run), tone) for tone, run in groupby(letters, key=itemgetter(1))]


def _write(letters: list[tuple[str, Tone]], names: str, tone: Tone) -> None:
    """Write names over a line, or the first of them, as far to the right as nothing is drawn there."""
    for text in (f" {names} ", f" {names.partition(',')[0]} "):
        for start in range(len(letters) - len(text), -1, -1):
            if all(letter == "╌" for letter, _ in letters[start : start + len(text)]):
                letters[start : start + len(text)] = [(letter, tone) for letter in text]
                return
