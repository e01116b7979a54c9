"""What is drawn before any script has run: the returns and the health of a run, one above the other on one axis.

Shapes are stretched with the page; what must not be stretched, text and marks, is put above them by its share of
width and height. Colours are the page's, so that both follow it into the dark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from esper.karn.formatting import number
from esper.karn.report.decimation import SMALLEST_SPAN, decimate, is_measured, ticks
from esper.karn.report.markup import escaped
from esper.karn.report.plot import DASHES_DRAWN, EPISODES, Line
from esper.leyline.limits import Status

__all__ = ["Event", "Level", "Sketch", "draw_cells", "draw_sketch"]

_Axis: TypeAlias = Callable[[float], float]
_Band: TypeAlias = tuple[Sequence[float | None], Sequence[float | None]]
_SIZE: Final = 1000.0
"""Of the plane that shapes are drawn in, both ways."""
_TICKS: Final = 4
_COLUMNS: Final = 500
_MOST_DOTS: Final = 60
"""Points of a curve that are drawn as dots too."""
_APART: Final = 9.0
"""Per cent of the height between the texts of two levels."""
_TOP: Final = {Status.BAD: 0.0, Status.WATCH: 450.0, Status.OK: 850.0, Status.UNKNOWN: _SIZE}
"""Where the mark of a status begins; it ends at the ground, so that no colour alone carries the meaning."""


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line that a curve is held against."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Event:
    """A vertical line where something began."""

    name: str
    x: float
    is_alarm: bool


@dataclass(frozen=True, slots=True)
class Sketch:
    """Curves over the run."""

    lines: Sequence[Line]
    levels: Sequence[Level]
    events: Sequence[Event]
    span: tuple[float, float]
    """Where the axis begins and ends."""
    says: str
    """What the curves do, for those who do not see them."""


def draw_sketch(sketch: Sketch) -> str:
    """Return the curves as HTML."""
    low, high = _range(sketch)
    start, stop = sketch.span

    def at(x: float) -> float:
        return _SIZE * (x - start) / ((stop - start) or 1.0)

    def up(y: float) -> float:
        return _SIZE - _SIZE * (max(low, min(high, y)) - low) / (high - low)

    shapes, marks = [], []
    for line in sketch.lines:
        kept = decimate(line.x, line.y, _COLUMNS)
        if line.band:
            shapes.append(_band(line, line.band, at, up))
        shapes.append(_curve(line, kept, at, up))
        marks += _not_finite(line, at)
    shapes += [f'<path class="level" d="M0 {up(level.value):.1f}H{_SIZE:.0f}"/>' for level in sketch.levels]
    for event in sketch.events:
        kind = "alarm" if event.is_alarm else "event"
        shapes.append(f'<path class="{kind}" d="M{at(event.x):.1f} 0V{_SIZE:.0f}"/>')
        share = at(event.x) / 10
        side = f"right:{100 - share:.1f}%" if share > 50 else f"left:{share:.1f}%"  # noqa: PLR2004 - half
        marks.append(f'<span class="{kind}" style="top:0;{side}">{escaped(event.name)}</span>')
    marks += _named(sketch.levels, up)
    ticks = "".join(
        f'<span style="top:{up(value) / 10:.1f}%">{escaped(number(value))}</span>' for value in _scale(low, high)
    )
    ends = "".join(
        f"<span>{escaped(number(int(edge) if edge.is_integer() else round(edge, 2)))}</span>" for edge in sketch.span
    )
    return (
        f'<div class="sketch" role="img" aria-label="{escaped(sketch.says)}"><div class="scale">{ticks}</div>'
        f'<div class="plane"><svg viewBox="0 0 {_SIZE:.0f} {_SIZE:.0f}" preserveAspectRatio="none">{"".join(shapes)}'
        f'</svg>{"".join(marks)}</div><div></div><div class="ends">{ends}<span>{escaped(EPISODES)}</span></div></div>'
    )


def _scale(low: float, high: float) -> list[float]:
    """Return a few round values; the ends where nobody shows the digits in which those differ."""
    found = ticks(low, high, _TICKS)
    return found if len(set(map(number, found))) == len(found) else [low, high]


def _range(sketch: Sketch) -> tuple[float, float]:
    """Return what the plane reaches over: curves, bands and levels, and a little more."""
    told = [value for line in sketch.lines for value in line.y if value is not None and is_measured(value)]
    told += [v for line in sketch.lines for side in line.band or () for v in side if v is not None and is_measured(v)]
    told += [level.value for level in sketch.levels if is_measured(level.value)]
    if not told:
        return 0.0, 1.0
    low, high = min(told), max(told)
    margin = max(high - low or abs(high) or 1.0, SMALLEST_SPAN) * 0.04
    return low - margin, high + margin


def _curve(line: Line, kept: Sequence[int], at: _Axis, up: _Axis) -> str:
    """Draw a line that is broken where nothing was measured; a value that stands alone is a dot."""
    steps, pen = [], "M"
    for i in kept:
        value = line.y[i]
        if value is None or not is_measured(value):
            pen = "M"
            continue
        steps.append(f"{pen}{at(line.x[i]):.1f} {up(value):.1f}" + ("h0" if pen == "M" else ""))
        pen = "L"
    dashes = f";stroke-dasharray:{DASHES_DRAWN[line.dash]}" if DASHES_DRAWN[line.dash] else ""
    path = f'<path class="curve" style="stroke:{line.colour}{dashes}" d="{"".join(steps)}"/>'
    if len(kept) > _MOST_DOTS:
        return path
    dots = "".join(
        f"M{at(line.x[i]):.1f} {up(value):.1f}h0"
        for i in kept
        if (value := line.y[i]) is not None and is_measured(value)
    )
    return f'{path}<path class="dots" style="stroke:{line.colour}" d="{dots}"/>'


def _band(line: Line, band: _Band, at: _Axis, up: _Axis) -> str:
    kept = sorted({*decimate(line.x, band[0], _COLUMNS), *decimate(line.x, band[1], _COLUMNS)})
    outlines, run = [], list[tuple[float, float, float]]()
    for i in [*kept, None]:
        low, high = (None, None) if i is None else (band[0][i], band[1][i])
        if i is not None and low is not None and high is not None and is_measured(low) and is_measured(high):
            run.append((at(line.x[i]), up(low), up(high)))
        elif run:
            points = [*((x, y) for x, y, _ in run), *((x, y) for x, _, y in reversed(run))]
            outlines.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
            run = []
    return f'<path class="band" style="fill:{line.colour}" d="{"".join(outlines)}"/>'


def _not_finite(line: Line, at: _Axis) -> list[str]:
    """Mark what cannot be drawn where it happened: what is too large above, everything else below."""
    found: dict[tuple[int, str], str] = {}
    for x, value in zip(line.x, line.y, strict=True):
        if value is not None and not is_measured(value):
            share = at(x) / 10
            sign, edge = ("▲", "top:-4px") if value > 0 else ("×", "bottom:-8px")
            place = int(share * _COLUMNS / 100), sign
            found.setdefault(
                place,
                f'<span class="broken" style="left:{share:.1f}%;{edge}" title="{escaped(number(value))}">{sign}</span>',
            )
    return [*found.values()]


def _named(levels: Iterable[Level], up: _Axis) -> list[str]:
    """Name each level at the right above its line, or as near to it as others leave room."""
    names, taken = [], -_APART
    for level in sorted(levels, key=lambda one: -one.value):
        taken = max(up(level.value) / 10 - _APART, taken + _APART, 0.0)
        names.append(f'<span class="level" style="right:2px;top:{taken:.1f}%">{escaped(level.name)}</span>')
    return names


def draw_cells(edges: Sequence[tuple[float, float]], cells: Sequence[Status], span: tuple[float, float]) -> str:
    """Return what one rule says over the run as HTML: the graver, the higher."""
    start, stop = span
    width = (stop - start) or 1.0
    paths = {status: list[str]() for status in _TOP}
    for (left, right), status in zip(edges, cells, strict=True):
        x, x_end = (_SIZE * (edge - start) / width for edge in (left, right))
        paths[status].append(f"M{x:.2f} {_TOP[status]:.0f}H{x_end:.2f}V{_SIZE:.0f}H{x:.2f}Z")
    drawn = "".join(
        f'<path class="{status.name.lower()}" d="{"".join(path)}"/>'
        for status, path in paths.items()
        if path and status is not Status.UNKNOWN
    )
    return f'<svg viewBox="0 0 {_SIZE:.0f} {_SIZE:.0f}" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
