"""Is it learning, and how PPO went: everything that is a curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TypeAlias

from esper.karn.absence import supplied
from esper.karn.derived import accuracy_of
from esper.karn.formatting import plural
from esper.karn.progress import measures_accuracy
from esper.karn.report.decimation import measured_value
from esper.karn.report.episodes import Spread
from esper.karn.report.history import Batch
from esper.karn.report.plot import (
    DASHES,
    EPISODES,
    PALETTE,
    Arm,
    Line,
    Plot,
    Section,
    Trace,
    label,
    panel,
    shortened,
)
from esper.leyline.field_docs import meanings
from esper.leyline.limits import real
from esper.leyline.telemetry import PPOUpdatePayload

__all__ = ["learning", "ppo"]

_Extremes: TypeAlias = tuple[float | None, float | None]


# ── reward and accuracy ────────────────────────────────────────────────────────────────────────────────────────


def learning(arms: Sequence[Arm]) -> Section:
    """Return reward and accuracy over the run, and what an episode looks like early and late."""
    says = (
        "Each point is a batch: every environment has played one episode (BATCH_EPOCH_COMPLETED). Bands reach from the "
        "lowest to the highest environment: episode returns are summed from REWARD_COMPUTED where none is missing, "
        "final accuracies are env_accuracies. The curves by host epoch are means over environments of "
        "EPOCH_COMPLETED; early and late are of the episodes recorded from beginning to end."
    )
    missing_in = [arm.label for arm in arms if not arm.series.completed]
    missing = f"No completed batch (BATCH_EPOCH_COMPLETED) in: {', '.join(missing_in)}." if missing_in else ""
    parts: list[Plot] = []
    if len(missing_in) < len(arms):
        parts += [_rewards(arms), *([_accuracies(arms)] if any(measures_accuracy(arm.group) for arm in arms) else [])]
    if any(batch.loss for arm in arms for batch in arm.series.batches):
        parts += [_episodes(arms)]
        parts += [
            _by_epoch(arms, "val_accuracy by host epoch", lambda batch: batch.accuracy, "fraction"),
            _by_epoch(arms, "val_loss by host epoch", lambda batch: batch.loss, "nats"),
        ]
    elif any(arm.has_host for arm in arms):
        missing += " No host epoch (EPOCH_COMPLETED)."
    for arm in arms:
        if arm.series.unplaced:
            events = plural(arm.series.unplaced, "event")
            missing += f" {arm.label}: the batch of {events} of environments is unknown; they are not drawn."
    return Section("Is it learning?", says, parts, missing.strip())


def _rewards(arms: Sequence[Arm]) -> Plot:
    lines = []
    for arm in arms:
        completed = arm.series.completed
        bands = [_returns_band(batch) if arm.series.is_whole(batch) else (None, None) for _, _, batch in completed]
        lines.append(
            Line(
                arm.label,
                [float(episodes) for episodes, _, _ in completed],
                [data.avg_reward for _, data, _ in completed],
                arm.colour,
                arm.dash,
                ([low for low, _ in bands], [high for _, high in bands]),
                [_returns_not_finite(batch) for _, _, batch in completed],
            )
        )
    return panel("Mean episode return (avg_reward)", lines, y_axis={"title": {"text": "return"}}, height=360)


def _returns_band(batch: Batch) -> _Extremes:
    totals = [steps.total for steps in batch.returns.values() if steps.n and not steps.not_finite]
    return (min(totals), max(totals)) if totals else (None, None)


def _returns_not_finite(batch: Batch) -> str:
    n = sum(1 for steps in batch.returns.values() if steps.not_finite)
    return f"{n} environments with a reward that is not finite" if n else ""


def _accuracies(arms: Sequence[Arm]) -> Plot:
    lines = []
    for arm in arms:
        completed = arm.series.completed
        x = [float(episodes) for episodes, _, _ in completed]
        bands = [_finite_band(data.env_accuracies or ()) for _, data, _ in completed]
        band = ([low for low, _ in bands], [high for _, high in bands])
        lines.append(Line(arm.label, x, [accuracy_of(data) for _, data, _ in completed], arm.colour, arm.dash, band))
        rolling = [measured_value(data, "rolling_accuracy") for _, data, _ in completed]
        if len(arms) == 1 and any(value is not None for value in rolling):
            lines.append(Line("rolling_accuracy (ten batches)", x, rolling, PALETTE[1], "dot"))
    axis = {"title": {"text": "fraction"}}
    return panel("Final validation accuracy (avg_accuracy)", lines, y_axis=axis, height=360)


def _finite_band(values: Sequence[float]) -> _Extremes:
    finite = [value for value in map(real, values) if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (None, None)


def _by_epoch(arms: Sequence[Arm], title: str, pick: Callable[[Batch], Mapping[int, Spread]], unit: str) -> Plot:
    lines = []
    for arm in arms:
        x: list[float] = []
        spreads: list[Spread | None] = []
        for batch in arm.series.batches:
            for epoch, spread in sorted(pick(batch).items()):
                x.append(arm.series.position(batch, epoch))
                spreads.append(spread)
            if spreads:  # a new episode starts from a new host: no line from the old one's end
                x.append(x[-1])
                spreads.append(None)
        lines.append(_spread_line(arm.label, x, spreads, arm.colour, arm.dash))
    return panel(title, lines, y_axis={"title": {"text": unit}})


def _spread_line(name: str, x: list[float], spreads: Sequence[Spread | None], colour: str, dash: str) -> Line:
    measured = [spread if spread is not None and spread.n else None for spread in spreads]
    band = (
        [None if spread is None else spread.low for spread in measured],
        [None if spread is None else spread.high for spread in measured],
    )
    remarks = [
        f"{spread.not_finite} of {spread.n + spread.not_finite} environments not finite"
        if spread is not None and spread.not_finite
        else ""
        for spread in spreads
    ]
    y = [None if spread is None else spread.mean for spread in measured]
    return Line(name, x, y, colour, dash, band, remarks)


def _episodes(arms: Sequence[Arm]) -> Plot:
    """Compare episodes early and late in the run."""
    lines = []
    for arm in arms:
        longest = max((len(batch.accuracy) for batch in arm.series.batches), default=0)
        batches = [batch for batch in arm.series.batches if batch.accuracy and len(batch.accuracy) == longest]
        tenth = max(1, len(batches) // 10)
        late_colour = arm.colour if len(arms) > 1 else PALETTE[0]
        early_colour = arm.colour if len(arms) > 1 else PALETTE[9]
        prefix = f"{arm.label}: " if len(arms) > 1 else ""
        for name, part, colour, dash in (
            ("first", batches[:tenth], early_colour, "dot"),
            ("last", batches[-tenth:], late_colour, "solid"),
        ):
            epochs = sorted({epoch for batch in part for epoch in batch.accuracy})
            pooled = [_pool([batch.accuracy[epoch] for batch in part if epoch in batch.accuracy]) for epoch in epochs]
            n = f"{tenth} batches" if tenth > 1 else "batch"
            lines.append(_spread_line(f"{prefix}{name} {n}", [float(e) for e in epochs], pooled, colour, dash))
    drawn = panel(
        "val_accuracy within an episode, early and late in the run", lines, x_title="host epoch of the episode",
        y_axis={"title": {"text": "fraction"}},
    )  # fmt: skip
    return replace(drawn, linked=False)


def _pool(spreads: Sequence[Spread]) -> Spread:
    pooled = Spread()
    for spread in spreads:
        pooled.merge(spread)
    return pooled


# ── PPO ────────────────────────────────────────────────────────────────────────────────────────────────────────

_MOST_IN_SMALL = 6
"""Curves whose legend leaves room for them in a small panel."""
_BANDS = {"ratio_mean": "ratio_min … ratio_max", "advantage_mean": "± advantage_std"}
"""Fields drawn with a band, and what that is; its own fields have no panel."""
_NO_PANEL = {"ratio_min", "ratio_max", "advantage_std", "batch"}
_FIELDS = {field.name: str(field.type) for field in fields(PPOUpdatePayload) if field.name not in _NO_PANEL}
_FLAGS = [name for name, kind in _FIELDS.items() if kind == "bool"]
_MAPPINGS = [name for name, kind in _FIELDS.items() if kind.startswith("dict")]
_NUMBERS = [name for name in _FIELDS if name not in {*_FLAGS, *_MAPPINGS}]

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
        return Section("PPO, update by update", says, missing="No PPO update (PPO_UPDATE_COMPLETED).")
    parts = [_flags(updates_of, x_title)]
    absent = []
    for name in _NUMBERS:
        lines = [_field_line(arm, updates, name) for arm, updates in updates_of]
        if all(value is None for line in lines for value in line.y):
            absent.append(name)
        else:
            parts.append(_panel(name, lines, x_title, small=True, height=210))
    for name in _MAPPINGS:
        lines = _mapping_lines(updates_of, name)
        small = sum(line.listed for line in lines) <= _MOST_IN_SMALL
        if not lines:
            absent.append(name)
        else:
            parts.append(_panel(name, lines, x_title, small=small, height=230 if small else 380))
    missing = f"Supplied by no update: {', '.join(absent)}." if absent else ""
    return Section("PPO, update by update", says, parts, missing)


def _panel(name: str, lines: Sequence[Line], x_title: str, *, small: bool, height: int) -> Plot:
    """Draw one field, with its unit in the title and its meaning at hand."""
    meaning = meanings(PPOUpdatePayload)[name]
    unit = "" if meaning.unit in {None, "1"} else f" · {meaning.unit}"
    band = f" (band: {_BANDS[name]})" if name in _BANDS else ""
    drawn = panel(f"{name}{unit}{band}", lines, x_title=x_title, small=small, height=height)
    return replace(drawn, meaning=f"{meaning.text} Range: {meaning.range}." if meaning.range else meaning.text)


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
    several = len(updates_of) > 1
    by_arm = [(arm, [(x, _mapping(update, name)) for x, update in updates]) for arm, updates in updates_of]
    keys = list(dict.fromkeys(key for _, updates in by_arm for _, values in updates for key in values))
    lines: list[Line] = []
    for arm, updates in by_arm:
        for i, key in enumerate(keys):
            y = [values.get(key) for _, values in updates]
            if any(value is not None for value in y):
                colour = PALETTE[i % len(PALETTE)]
                dash = arm.dash if several else DASHES[i // len(PALETTE) % len(DASHES)]
                listed = all(line.name != key for line in lines)
                name = arm.label if several else ""
                lines.append(Line(key, [x for x, _ in updates], y, colour, dash, listed=listed, arm=name))
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
        "Flags raised, of the updates that supplied them", traces, layout, height=90 + 36 * len(rows), linked=True
    )
