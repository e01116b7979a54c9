"""How PPO went, update by update: a panel for each field, under its own name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TypeAlias

from esper.karn.absence import supplied
from esper.karn.formatting import number
from esper.karn.report.decimation import is_measured, measured_value
from esper.karn.report.plot import (
    DASHES,
    EPISODES,
    PALETTE,
    Arm,
    Fold,
    Limit,
    Line,
    Plot,
    Section,
    Trace,
    colour_of,
    label,
    panel,
    shortened,
)
from esper.karn.report.trends import all_of, course_text, several
from esper.leyline.field_docs import meanings
from esper.leyline.limits import Limits, Status
from esper.leyline.telemetry import PPOUpdatePayload

__all__ = ["ppo"]

_FIRST = ("kl_divergence", "clip_fraction", "entropy", "explained_variance", "grad_norm", "value_loss")
"""What one looks at first."""
_COLOURS = {Status.WATCH: "#b58900", Status.BAD: "#d0483e"}
_QUIET = "#8c8c8c"
_MOST_IN_SMALL = 6
"""Curves whose legend leaves room for them in a small panel."""
_BANDS = {"ratio_mean": "ratio_min … ratio_max", "advantage_mean": "± advantage_std"}
"""Fields drawn with a band, and what that is; its own fields have no panel."""
_NO_PANEL = {"ratio_min", "ratio_max", "advantage_std", "batch"}
_FIELDS = {field.name: str(field.type) for field in fields(PPOUpdatePayload) if field.name not in _NO_PANEL}
_FLAGS = [name for name, kind in _FIELDS.items() if kind == "bool"]
_MAPPINGS = [name for name, kind in _FIELDS.items() if kind.startswith("dict")]
_NUMBERS = [name for name in _FIELDS if name not in {*_FLAGS, *_MAPPINGS}]

_LIMITS: Mapping[str, Callable[[Limits], list[tuple[str, float, str]]]] = {
    "kl_divergence": lambda limits: [
        *([] if limits.target_kl is None else [("target", limits.target_kl, _QUIET)]), *_watch_and_bad(limits.kl)
    ],
    "clip_fraction": lambda limits: _watch_and_bad(limits.clip_fraction),
    "explained_variance": lambda limits: [
        ("WATCH", limits.explained_watch, _COLOURS[Status.WATCH]), ("BAD", limits.explained_bad, _COLOURS[Status.BAD])
    ],
}  # fmt: skip
"""Fields with limits of their own, from the mildest."""

_Updates: TypeAlias = Sequence[tuple[float, PPOUpdatePayload]]


def ppo(arms: Sequence[Arm]) -> Section:
    """Return one small panel for each diagnostic of the PPO update."""
    updates_of = [(arm, arm.series.updates()) for arm in arms]
    x_title = EPISODES if any(arm.series.n_envs for arm in arms) else "updates"
    says = (
        "Each point is one PPO update (PPO_UPDATE_COMPLETED), every panel one field under its own name, with its unit; "
        f"click on a name for its meaning. The x axis is {x_title}. A gap is an update that did not supply the field "
        "or was skipped; a red mark is a value that is not finite."
    )
    if not any(updates for _, updates in updates_of):
        return Section("PPO, update by update", "PPO", says, missing="No PPO update (PPO_UPDATE_COMPLETED).")
    drawn: dict[str, Plot] = {}
    for name in _NUMBERS:
        lines = [_field_line(arm, updates, name) for arm, updates in updates_of]
        if any(value is not None for line in lines for value in line.y):
            limits, beyond = _limits(arms, lines, name)
            drawn[name] = _panel(name, lines, x_title, named=len(arms) > 1, limits=limits, beyond=beyond)
    for name in _MAPPINGS:
        if lines := _mapping_lines(updates_of, name):
            drawn[name] = _panel(name, lines, x_title, named=True)
    absent = [name for name in (*_NUMBERS, *_MAPPINGS) if name not in drawn]
    first = [drawn.pop(name) for name in _FIRST if name in drawn]
    rest = sorted(drawn.values(), key=lambda plot: not plot.small)  # the large ones behind the grid
    missing = f"Supplied by no update: {', '.join(absent)}." if absent else ""
    parts: list[Plot | Fold] = [
        _flags(updates_of, x_title),
        *first,
        *([Fold("All other fields of an update", rest)] if rest else []),
    ]
    return Section("PPO, update by update", "PPO", says, parts, missing)


def _panel(
    name: str, lines: Sequence[Line], x_title: str, *, named: bool, limits: Sequence[Limit] = (), beyond: str = ""
) -> Plot:
    """Draw one field, with its unit in the title and its meaning at hand."""
    meaning = meanings(PPOUpdatePayload)[name]
    unit = "" if meaning.unit in {None, "1"} else f" · {meaning.unit}"
    band = f" (band: {_BANDS[name]})" if name in _BANDS else ""
    listed = sum(line.listed for line in lines)
    small = listed <= _MOST_IN_SMALL
    courses = {f"{line.arm} {line.name}".strip(): course_text(line.y, "update") for line in lines}
    plot = panel(
        f"{name}{unit}{band}", lines, x_title=x_title, small=small, height=210 if not listed else 230 if small else 380,
        trend=f"{several(courses) if named else next(iter(courses.values()))}{beyond}", limits=limits,
    )  # fmt: skip
    return replace(plot, meaning=f"{meaning.text} Range: {meaning.range}." if meaning.range else meaning.text)


def _limits(arms: Sequence[Arm], lines: Sequence[Line], name: str) -> tuple[list[Limit], str]:
    """Return the limits of a field that are near enough to be drawn, and a sentence about the others.

    One is drawn when the values have passed the one before it: a limit far away would press the curve to the ground.
    """
    if name not in _LIMITS:
        return [], ""
    values = [value for line in lines for value in line.y if value is not None and is_measured(value)]
    near, far = dict[str, Limit](), dict[str, Limit]()
    for arm in arms:
        lower = name == "explained_variance"
        worst = (min if lower else max)(values, default=0.0)
        passed = True
        for title, value, colour in _LIMITS[name](arm.group.health.limits):
            (near if passed else far)[f"{title} {value}"] = Limit(title, value, colour)
            passed = passed and (title == "target" or (worst < value if lower else worst > value))
    told = ", ".join(f"{one.name} {number(one.value)}" for one in far.values())
    return [*near.values()], f" Not drawn, because it is far away: {told}." if told else ""


def _watch_and_bad(limit: Callable[[Status], float]) -> list[tuple[str, float, str]]:
    return [(status.name, limit(status), colour) for status, colour in _COLOURS.items()]


def _measured(update: PPOUpdatePayload, name: str) -> float | None:
    """Return a number; None when not supplied, or when the update was skipped and the number means nothing."""
    return None if update.skipped else measured_value(update, name)


def _field_line(arm: Arm, updates: _Updates, name: str) -> Line:
    band = None
    if name == "ratio_mean":
        band = ([_measured(update, "ratio_min") for _, update in updates],
                [_measured(update, "ratio_max") for _, update in updates])  # fmt: skip
    elif name == "advantage_mean":
        band = ([_around(update, -1) for _, update in updates], [_around(update, +1) for _, update in updates])
    y = [_measured(update, name) for _, update in updates]
    return Line(arm.label, [x for x, _ in updates], y, arm.colour, arm.dash, band, listed=False)


def _around(update: PPOUpdatePayload, sign: int) -> float | None:
    mean, std = _measured(update, "advantage_mean"), _measured(update, "advantage_std")
    return None if mean is None or std is None else mean + sign * std


def _mapping_lines(updates_of: Sequence[tuple[Arm, _Updates]], name: str) -> list[Line]:
    overlaid = len(updates_of) > 1
    by_arm = [(arm, [(x, _mapping(update, name)) for x, update in updates]) for arm, updates in updates_of]
    keys = list(dict.fromkeys(key for _, updates in by_arm for _, values in updates for key in values))
    lines: list[Line] = []
    for arm, updates in by_arm:
        for i, key in enumerate(keys):
            y = [values.get(key) for _, values in updates]
            if any(value is not None for value in y):
                colour = colour_of(i)
                dash = arm.dash if overlaid else DASHES[i // len(PALETTE) % len(DASHES)]
                listed = all(line.name != key for line in lines)
                whose = arm.label if overlaid else ""
                lines.append(Line(key, [x for x, _ in updates], y, colour, dash, listed=listed, arm=whose))
    return lines


def _mapping(update: PPOUpdatePayload, name: str) -> Mapping[str, float]:
    value = None if update.skipped else supplied(update, name)
    return value if isinstance(value, Mapping) else {}


def _flags(updates_of: Sequence[tuple[Arm, _Updates]], x_title: str) -> Plot:
    """Draw a row for each flag, with a mark wherever it was raised; a flag that nobody supplied says so."""
    rows: list[str] = []
    traces: list[Trace] = []
    for arm, updates in updates_of:
        for name in _FLAGS:
            evidence = [(x, supplied(update, name)) for x, update in updates]
            row = name if len(updates_of) == 1 else f"{arm.label}: {name}"
            raised = [x for x, value in evidence if value is True]
            known = sum(1 for _, value in evidence if value is not None)
            count = f"{len(raised):,} of {known:,}" if known else "not supplied"
            rows.append(f"{shortened(row)}: {count}")
            traces.append({
                "type": "scatter", "mode": "markers", "x": raised, "y": [len(rows) - 1] * len(raised),
                "name": label(row), "marker": {"symbol": "line-ns-open", "size": 12, "color": arm.colour,
                                        "line": {"width": 2, "color": arm.colour}},
                "hovertemplate": "%{x}", "showlegend": False,
            })  # fmt: skip
    layout: dict[str, object] = {
        "xaxis": {"title": {"text": x_title}},
        "yaxis": {"tickvals": list(range(len(rows))), "showticklabels": False, "range": [len(rows) - 0.5, -0.9],
                  "fixedrange": True},
        # Inside the plot, where even a telephone has room for them.
        "annotations": [
            {"text": row, "x": 0, "xref": "paper", "xanchor": "left", "y": i, "yanchor": "bottom", "showarrow": False}
            for i, row in enumerate(rows)
        ],
        "margin": {"l": 16}, "hovermode": "closest",
    }  # fmt: skip
    return Plot(
        "Flags raised, of the updates that supplied them", traces, layout,
        trend=f"{all_of(sum(len(updates) for _, updates in updates_of), 'update')}. {'; '.join(rows)}.",
        height=90 + 36 * len(rows), linked=True,
    )  # fmt: skip
