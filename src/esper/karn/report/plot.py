"""What every plot is made of: plotly JSON, drawn so that a gap is a gap and a value that is not finite is seen."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import TypeAlias

from esper.karn.derived import evaluation_of, has_host
from esper.karn.formatting import number, tidy
from esper.karn.report.decimation import COLUMNS, decimate, is_measured
from esper.karn.report.history import ArmSeries
from esper.karn.report.log import RunLog
from esper.karn.snapshot import GroupSnapshot
from esper.leyline.limits import real
from esper.leyline.run_info import Evaluation
from esper.leyline.telemetry import TrainingStartedPayload

__all__ = [
    "DASHES",
    "DASHES_DRAWN",
    "EPISODES",
    "PALETTE",
    "Arm",
    "Fold",
    "Limit",
    "Line",
    "Plot",
    "Section",
    "Table",
    "Trace",
    "as_text",
    "colour_of",
    "dash_of",
    "faded",
    "label",
    "left_of",
    "panel",
    "shortened",
]

Trace: TypeAlias = dict[str, object]

PALETTE = ("#2f7ed8", "#e07b00", "#1a9f77", "#c2508f", "#8a6fd1", "#b58900", "#39a7c9", "#d0483e", "#6b7f2a", "#8c8c8c")
"""Distinct with the usual colour blindnesses, on light and on dark ground."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
DASHES_DRAWN: Mapping[str, str] = dict(zip(DASHES, ("", "9 5", "2 4", "9 4 2 4", "14 4"), strict=True))
"""As SVG has them."""
EPISODES = "episodes completed, all environments"
_BESIDE = ((1.0, "right"), (0.5, "center"), (0.0, "left"))
_LONGEST_TEXT = 160
_LONGEST_ROW = 40
_LEAST_LEFT = 60
"""Left margin of the plots, in pixels."""
_MANY_POINTS = 150


def colour_of(index: int) -> str:
    """Return the colour of one of several things in a plot."""
    return PALETTE[index % len(PALETTE)]


def dash_of(index: int) -> str:
    """Return its line style: colour alone carries no meaning."""
    return DASHES[(index + index // len(PALETTE)) % len(DASHES)]


@dataclass(frozen=True, slots=True)
class Arm:
    """One thing that is compared: a group of a run."""

    label: str
    index: int
    log: RunLog
    group_id: str
    series: ArmSeries

    @property
    def group(self) -> GroupSnapshot:
        """What the log amounts to."""
        return self.log.snapshot.groups[self.group_id]

    @property
    def starts(self) -> Sequence[TrainingStartedPayload]:
        """The start of the run, and of the resumes that went on with it."""
        return self.log.seen.starts[self.group_id] if self.group_id in self.log.seen.starts else ()

    @property
    def evaluation(self) -> Evaluation | None:
        """What its learnt policy was evaluated to."""
        return evaluation_of(self.log.snapshot, self.log.info, self.group_id)

    @property
    def has_host(self) -> bool:
        """Whether something grows in it, or has grown."""
        return has_host(self.group)

    @property
    def colour(self) -> str:
        """Its colour in every plot where arms are overlaid."""
        return colour_of(self.index)

    @property
    def dash(self) -> str:
        """Its line style there: colour alone carries no meaning."""
        return dash_of(self.index)


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot."""

    title: str
    traces: list[Trace]
    layout: dict[str, object] = field(default_factory=dict)
    note: str = ""
    """A sentence below it, as text."""
    trend: str = ""
    """Over what it reaches and what it shows, in a sentence for those who do not see it, as text."""
    meaning: str = ""
    """What it shows, when somebody opens its title."""
    height: int = 320
    """Pixels, the legend not counted."""
    least: int = 0
    """Pixels it needs across: on a narrower screen it scrolls inside its own box."""
    small: bool = False
    """One of many in a grid."""
    linked: bool = False
    """Its x axis is the run's progress: zooming one such plot zooms all."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of text; every column but the first is aligned as numbers are."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text: bool = False
    """Whether the cells are prose rather than numbers."""
    marked: frozenset[int] = frozenset()
    """Rows to set off."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Details that stand behind their title until somebody asks for them."""

    title: str
    parts: Sequence[Plot | Table]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what it shows and where the numbers come from, and the parts."""

    title: str
    short: str
    """Its name where all sections are listed."""
    says: str
    parts: Sequence[Plot | Table | Fold] = ()
    missing: str = ""
    """What is not there, and why."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve. What was not measured is None."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str
    dash: str = "solid"
    band: tuple[Sequence[float | None], Sequence[float | None]] | None = None
    """Lowest and highest, as long as x."""
    not_finite_remarks: Sequence[str] | None = None
    """Remark on each point, empty where there is none: shown as a cross."""
    listed: bool = True
    """Whether it stands in the plot's legend, if there is one."""
    arm: str = ""
    """Whose it is, where lines of several arms share a name."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A value beyond which a rule says something; drawn across a plot."""

    name: str
    value: float
    colour: str


def as_text(text: str) -> str:
    """Return text from a log so that it can do no harm: control characters made visible, and not too long."""
    return tidy(text, _LONGEST_TEXT)


def label(text: str) -> str:
    """Return text from a log as plotly's labels take it, which read a little markup."""
    return html.escape(as_text(text), quote=False).replace("%{", "%\u200b{")


def shortened(text: str) -> str:
    """Return text from a log as the name of a row, without its middle when it is long."""
    half = _LONGEST_ROW // 2
    return label(text if len(text) <= _LONGEST_ROW else f"{text[: half - 1]}…{text[-half:]}")


def left_of(names: Sequence[str]) -> dict[str, object]:
    """Return a margin wide enough for the names of rows; measuring them is slow in the browser."""
    return {"l": max(_LEAST_LEFT, 16 + 7 * max(map(len, names), default=0))}


def faded(colour: str, opacity: float) -> str:
    """Return a colour that lets shine through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def panel(
    title: str, lines: Sequence[Line], *, x_title: str = EPISODES, note: str = "", small: bool = False,
    y_axis: Mapping[str, object] | None = None, height: int = 320, trend: str, limits: Sequence[Limit] = (),
) -> Plot:  # fmt: skip
    """Return curves over the run's progress, with their bands and limits, and crosses where a value is not finite."""
    traces: list[Trace] = []
    notes = [note] if note else []
    columns = COLUMNS // 3 if small else COLUMNS
    measured = shown = 0
    for line in map(_real, lines):
        kept = decimate(line.x, line.y, columns)
        measured, shown = measured + len(line.x), shown + len(kept)
        if line.band:
            traces.append(_band(line, columns))
        traces.append(_curve(line, kept))
        traces.extend(_not_finite(line, columns))
    if shown < measured:
        notes.append(
            f"{shown:,} of {measured:,} points are drawn: of each pixel column the first, last, lowest and highest."
        )
    layout: dict[str, object] = {
        "xaxis": {"title": {"text": "" if small else x_title}, "unifiedhovertitle": {"text": f"%{{x:.8~g}} {x_title}"}},
        "yaxis": {"hoverformat": ".8~g", **_around_constant(lines), **(y_axis or {})},
        "hovermode": "x unified" if not small else "closest",
        "showlegend": sum(line.listed for line in lines) > 1,
    }
    if not any(value is not None and is_measured(real(value)) for line in lines for value in line.y):
        layout["annotations"] = [_in_the_middle("not supplied" if not _is_supplied(lines) else "nothing finite")]
        layout["xaxis"] = {**layout["xaxis"], "range": [0, 1], "showticklabels": False}  # type: ignore[dict-item]
    if limits:
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": one.value, "y1": one.value,
             "line": {"color": one.colour, "width": 1.2, "dash": "dash"}}
            for one in limits
        ]  # fmt: skip
        # Their names stand side by side: limits may be close to each other.
        layout["annotations"] = [
            *layout.get("annotations", []),  # type: ignore[misc]
            *(
                {"text": f"{one.name} {number(one.value)}", "xref": "paper", "x": x, "xanchor": anchor, "y": one.value,
                 "yanchor": "bottom", "showarrow": False, "font": {"size": 10}}
                for one, (x, anchor) in zip(limits, cycle(_BESIDE), strict=False)
            ),
        ]  # fmt: skip
    return Plot(title, traces, layout, " ".join(notes), trend, height=height, small=small, linked=True)


def _real(line: Line) -> Line:
    return replace(line, y=[None if value is None else real(value) for value in line.y])


def _around_constant(lines: Sequence[Line]) -> Mapping[str, object]:
    """Show what never changes between zero and its double, zero in sight; by itself the axis would be meaningless."""
    values = {value for line in lines for value in line.y if value is not None and is_measured(real(value))}
    double = 2 * real(max(values, default=math.nan))
    if len(values) != 1 or any(line.band for line in lines) or not math.isfinite(double):
        return {}
    double = double or 1.0
    return {"range": sorted((-0.05 * double, double))}


def _is_supplied(lines: Sequence[Line]) -> bool:
    return any(value is not None for line in lines for value in line.y)


def _in_the_middle(text: str) -> dict[str, object]:
    return {"text": text, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}


def _curve(line: Line, kept: Sequence[int]) -> Trace:
    """Draw a line, broken at gaps; a value between two gaps is a dot, or it would not be seen."""
    y = [line.y[i] if is_measured(line.y[i]) else None for i in kept]
    if len(kept) <= _MANY_POINTS:
        sizes: float | list[float] = 4
    else:
        around = [None, *y, None]
        sizes = [5 if around[i] is None and around[i + 2] is None else 0 for i in range(len(y))]
    trace: Trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [line.x[i] for i in kept],
        "y": y,
        "name": label(line.name),
        "line": {"color": line.colour, "dash": line.dash, "width": 1.6},
        "marker": {"size": sizes, "color": line.colour, "line": {"width": 0}},
        "legendgroup": label(line.name),
        "showlegend": line.listed,
    }
    if line.arm:
        trace["hovertemplate"] = f"%{{y}}<extra>{label(f'{line.arm}: {line.name}')}</extra>"
    if line.band:
        low, high = line.band
        trace["customdata"] = [f"{number(low[i])} … {number(high[i])}" for i in kept]
        trace["hovertemplate"] = "%{y}  (%{customdata})"
    return trace


def _band(line: Line, columns: int) -> Trace:
    """Draw one closed outline for each stretch without a gap."""
    assert line.band is not None
    low, high = line.band
    kept = sorted({*decimate(line.x, low, columns // 2), *decimate(line.x, high, columns // 2)})
    x: list[float | None] = []
    y: list[float | None] = []
    run: list[tuple[float, float, float]] = []
    for i in [*kept, None]:
        at = None if i is None else (line.x[i], low[i], high[i])
        if at is not None and at[1] is not None and at[2] is not None and is_measured(at[1]) and is_measured(at[2]):
            run.append((at[0], at[1], at[2]))
        elif run:
            x += [*(p[0] for p in run), *(p[0] for p in reversed(run)), None]
            y += [*(p[1] for p in run), *(p[2] for p in reversed(run)), None]
            run = []
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "fill": "toself",
        "fillcolor": faded(line.colour, 0.16),
        "line": {"color": faded(line.colour, 0.35), "width": 0.5},
        "name": label(f"{line.name}: lowest to highest"),
        "legendgroup": label(line.name),
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _not_finite(line: Line, columns: int) -> list[Trace]:
    """Mark what cannot be drawn at the edge where it belongs: what is too large above, everything else below."""
    finite = [value for value in line.y if value is not None and is_measured(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    remarks = line.not_finite_remarks or [""] * len(line.x)
    found: dict[tuple[int, str], tuple[float, float, str, str]] = {}
    start = line.x[0] if line.x else 0.0
    width = ((line.x[-1] - start) / columns if line.x else 0.0) or 1.0
    for x, value, remark in zip(line.x, line.y, remarks, strict=True):
        shown = value is None or is_measured(value)
        text = remark if shown else str(value)
        if text:
            y, symbol = (high, "triangle-up") if not shown and value is not None and value > 0 else (low, "x")
            found.setdefault((int((x - start) / width), text), (x, y, text, symbol))
    if not found:
        return []
    name = f"{line.arm}: {line.name}" if line.arm else line.name
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [x for x, _, _, _ in found.values()],
            "y": [y for _, y, _, _ in found.values()],
            "text": [f"{label(name)}: {text}" for _, _, text, _ in found.values()],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {
                "symbol": [symbol for _, _, _, symbol in found.values()],
                "size": 9,
                "color": "#d0483e",
            },
            "name": label(f"{line.name}: not finite"),
            "legendgroup": label(line.name),
            "showlegend": False,
            "cliponaxis": False,
        }
    ]
