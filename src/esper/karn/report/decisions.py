"""What the policy did, what it was paid for, and what the seeds were worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from esper.karn.derived import COMPONENTS, age_in, matrix_rows
from esper.karn.formatting import fraction, number, signed
from esper.karn.progress import ends_of
from esper.karn.report.decimation import is_measured, measured_value
from esper.karn.report.episodes import Spread
from esper.karn.report.history import Batch
from esper.karn.report.plot import EPISODES, Arm, Plot, Section, Trace, colour_of, label, left_of, shortened
from esper.karn.report.trends import all_of, course_text, several
from esper.karn.snapshot import EnvSnapshot
from esper.leyline.actions import Op
from esper.leyline.limits import real

__all__ = ["actions", "components", "counterfactuals"]

_COLORBAR = {
    "title": {"text": "accuracy, fraction", "side": "top"}, "orientation": "h", "thickness": 10,
    "lenmode": "pixels", "len": 180, "nticks": 5, "tickangle": 0,
    "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom",
}  # fmt: skip
"""Above the plot, so that the plot is as wide as the others."""
_ABOVE = 86
"""Pixels for it."""
_SEQUENTIAL = [[0.0, "#f7e6c4"], [0.5, "#9fd3b8"], [1.0, "#48a5c9"]]
"""Light enough for dark numbers everywhere."""
_DIVERGING = [[0.0, "#c2413b"], [0.5, "#e4e4e4"], [1.0, "#2f6fb8"]]
_LEAST_CELL = 60
"""Pixels across that a cell needs for its number."""
_MOST_CELLS = 16
"""Cells of a row that have room for their number."""
_Pool: TypeAlias = tuple[float, float, list[Batch]]
_OPS = tuple(op.name for op in Op)
_MOST_STACKS = 240
"""Stacks that can be distinguished; neighbouring batches of longer runs are pooled."""


def _pools(arm: Arm) -> tuple[list[_Pool], str]:
    """Return the completed batches in neighbouring groups (middle, width, batches), and a note when they are pooled."""
    completed = arm.series.completed
    size = -(-len(completed) // _MOST_STACKS) or 1
    pools = []
    for i in range(0, len(completed), size):
        part = [batch for _, _, batch in completed[i : i + size]]
        start, stop = arm.series.position(part[0], 0), float(completed[min(i + size, len(completed)) - 1][0])
        pools.append(((start + stop) / 2, stop - start, part))
    return pools, f"Every stack is {size} neighbouring batches, added up." if size > 1 else ""


def _stacks(title: str, traces: list[Trace], note: str, trend: str, y_axis: dict[str, object]) -> Plot:
    layout: dict[str, object] = {
        "barmode": "relative", "bargap": 0,
        "xaxis": {"title": {"text": EPISODES}, "unifiedhovertitle": {"text": "around %{x:.8~g} episodes"}},
        "yaxis": {"hoverformat": ".6~g", **y_axis},
        "hovermode": "x unified", "showlegend": True,
    }  # fmt: skip
    return Plot(title, traces, layout, note, trend, height=360, linked=True)


def _both_ends(batches: Sequence[Batch], describe: Callable[[Sequence[Batch]], str]) -> str:
    """Return over what stacks reach, and how they are at either end."""
    n = ends_of(batches)
    if not n:
        return f"{all_of(len(batches), 'batch')}: {describe(batches)}."
    return f"{all_of(len(batches), 'batch')}. First {n}: {describe(batches[:n])}. Newest {n}: {describe(batches[-n:])}."


# ── actions ────────────────────────────────────────────────────────────────────────────────────────────────────


def actions(arms: Sequence[Arm]) -> Section:
    """Return the share of each op over the run."""
    says = (
        "Which share of the decisions of a batch carried out each op: action_counts of ANALYTICS_SNAPSHOT "
        "(kind action_distribution), or where there was none, counted over REWARD_COMPUTED. Hover shows the counts."
    )
    total = _counts([batch for arm in arms for _, _, batch in arm.series.completed])
    ops = sorted(total, key=lambda op: (_OPS.index(op) if op in _OPS else len(_OPS), op))
    parts, missing = [], []
    for arm in arms:
        drawn = _actions(arm, ops, named=len(arms) > 1)
        if drawn is None:
            missing.append(arm.label)
        else:
            parts.append(drawn)
    why = f"Neither an action distribution nor a reward for a completed batch in: {', '.join(missing)}."
    return Section("What did the policy do?", "Actions", says, parts, why if missing else "")


def _actions(arm: Arm, ops: Sequence[str], *, named: bool) -> Plot | None:
    pools, note = _pools(arm)
    counts = [_counts(batches) for _, _, batches in pools]
    if not any(counts):
        return None
    total = [count.total() for count in counts]
    traces: list[Trace] = [
        {
            "type": "bar", "name": label(op), "marker": {"color": colour_of(i), "line": {"width": 0}},
            "x": [x for x, _, _ in pools], "width": [width for _, width, _ in pools],
            "y": [count[op] / n if n else None for count, n in zip(counts, total, strict=True)],
            "customdata": [[count[op], n] for count, n in zip(counts, total, strict=True)],
            "hovertemplate": "%{y:.2%}  (%{customdata[0]:,} of %{customdata[1]:,})",
        }
        for i, op in enumerate(ops)
    ]  # fmt: skip
    axis: dict[str, object] = {"range": [0, 1], "tickformat": ".0%", "title": {"text": "share of decisions"}}

    def describe(batches: Sequence[Batch]) -> str:
        counted = _counts(batches)
        return ", ".join(f"{op} {counted[op] / (counted.total() or 1):.1%}" for op in ops if counted[op]) or "none"

    trend = _both_ends([batch for _, _, batch in arm.series.completed], describe)
    return _stacks(f"Actions: {arm.label}" if named else "Actions", traces, note, trend, axis)


def _counts(batches: Sequence[Batch]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for batch in batches:
        counted = batch.action_counts.action_counts if batch.action_counts is not None else None
        counts.update(batch.ops if counted is None else counted)
    return counts


# ── reward ─────────────────────────────────────────────────────────────────────────────────────────────────────


def components(arms: Sequence[Arm]) -> Section:
    """Return what the episode return is made of, over the run."""
    says = (
        "What an episode was paid for: each contribution of REWARD_COMPUTED, summed over the steps of a batch and "
        "divided by its environments. Stacks above zero are gains, below zero costs; the line is their total_reward."
    )
    parts, missing = [], []
    for arm in arms:
        pools, note = _pools(arm)
        pools = [(x, width, list(filter(arm.series.is_whole, part))) for x, width, part in pools]
        names = [name for name in COMPONENTS if any(name in batch.components for _, _, part in pools for batch in part)]
        if not names:
            missing.append(f"{arm.label}: no completed batch with every reward and its parts (REWARD_COMPUTED).")
            continue
        unsupplied = [name for name in COMPONENTS if name not in names]
        if unsupplied:
            missing.append(f"{arm.label} did not supply: {', '.join(unsupplied)}.")
        broken = sum(not arm.series.is_whole(batch) for _, _, batch in arm.series.completed)
        if broken:
            missing.append(f"{arm.label}: {broken:,} batches, of which not every reward is in the log, are left out.")
        broken_batches = [batch for _, _, part in pools for batch in part if _is_not_finite(batch)]
        if broken_batches:
            missing.append(f"{arm.label}: what was not finite is left out, in {len(broken_batches):,} batches.")
        traces = [_component(name, pools) for name in names]
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": "total_reward", "x": [x for x, _, _ in pools],
            "y": [_per_episode([steps for batch in part for steps in batch.returns.values()], part)
                  for _, _, part in pools],
            "line": {"width": 2}, "marker": {"size": 3}, "meta": "ink",
        })  # fmt: skip
        title = f"Episode return by component: {arm.label}" if len(arms) > 1 else "Episode return by component"
        whole = [batch for _, _, part in pools for batch in part]
        trend = _both_ends(whole, partial(_paid, names))
        parts.append(_stacks(title, traces, note, trend, {"title": {"text": "reward an episode"}}))
    return Section("What was it paid for?", "Rewards", says, parts, " ".join(missing))


def _paid(names: Sequence[str], batches: Sequence[Batch]) -> str:
    parts = {
        name: _per_episode([batch.components[name] for batch in batches if name in batch.components], batches)
        for name in names
    }
    return ", ".join(f"{name} {number(value)}" for name, value in parts.items())


def _is_not_finite(batch: Batch) -> bool:
    return any(spread.not_finite for spread in (*batch.returns.values(), *batch.components.values()))


def _component(name: str, pools: Sequence[_Pool]) -> Trace:
    y = [_per_episode([batch.components[name] for batch in part if name in batch.components], part)
         for _, _, part in pools]  # fmt: skip
    return {
        "type": "bar", "name": name, "x": [x for x, _, _ in pools], "width": [width for _, width, _ in pools], "y": y,
        "marker": {"color": colour_of(COMPONENTS.index(name)), "line": {"width": 0}},
    }  # fmt: skip


def _per_episode(spreads: Sequence[Spread], batches: Sequence[Batch]) -> float | None:
    """Return the sum an episode; None where nothing was supplied, or something that is not finite."""
    n_episodes = sum(len(batch.returns) for batch in batches)
    if not n_episodes or not any(spread.n for spread in spreads) or any(spread.not_finite for spread in spreads):
        return None
    total = sum(spread.total for spread in spreads) / n_episodes
    return total if is_measured(total) else None


# ── counterfactuals ────────────────────────────────────────────────────────────────────────────────────────────


def counterfactuals(arms: Sequence[Arm]) -> Section:
    """Return what the network would score without some of its seeds."""
    says = (
        "From COUNTERFACTUAL_MATRIX_COMPUTED. Above: the accuracy lost when the seed of one slot is ablated and the "
        "others stay, mean over the ablations of a batch. Below: the newest ablation of each environment, one column a "
        "set of slots left on. Empty cells were not measured: only slots whose seed has joined are ablated."
    )
    parts: list[Plot] = []
    missing_in = []
    for arm in arms:
        envs = {env_id: env for env_id, env in arm.group.envs.items() if env.counterfactual is not None}
        if not envs:
            missing_in.append(arm.label)
            continue
        suffix = f": {arm.label}" if len(arms) > 1 else ""
        if any(batch.contributions for batch in arm.series.batches):
            parts.append(_contributions(arm, f"Contribution of each slot over the run{suffix}"))
        parts.append(_matrix(envs, f"Newest ablation of each environment{suffix}"))
    missing = f"No ablation in: {', '.join(missing_in)}." if missing_in else ""
    return Section("What were the seeds worth?", "Ablations", says, parts, missing)


def _contributions(arm: Arm, title: str) -> Plot:
    pools, note = _pools(arm)
    if not pools:  # an unfinished first batch is all there is
        batches = arm.series.batches
        pools = [(arm.series.position(batches[0], 0.5), 1.0, batches)]
    slots = sorted({slot_id for batch in arm.series.batches for slot_id in batch.contributions})
    cells, texts = [], []
    for slot_id in slots:
        pooled = [
            [batch.contributions[slot_id] for batch in part if slot_id in batch.contributions] for _, _, part in pools
        ]
        row = [_mean(spreads) for spreads in pooled]
        counts = [sum(spread.n for spread in spreads) for spreads in pooled]
        cells.append(row)
        lost = [sum(spread.not_finite for spread in spreads) for spreads in pooled]
        texts.append([
            f"{label(slot_id)}: {signed(value)}<br>mean of {n:,} ablations around {x:,.6g} episodes"
            + (f", {k:,} more were not finite" if k else "")
            for (x, _, _), value, n, k in zip(pools, row, counts, lost, strict=True)
        ])  # fmt: skip
    names = [shortened(slot_id) for slot_id in slots]
    most = max((abs(value) for row in cells for value in row if value is not None), default=1.0) or 1.0
    trace: Trace = {
        "type": "heatmap", "x": [x for x, _, _ in pools], "y": list(range(len(slots))), "z": cells,
        "text": texts, "hovertemplate": "%{text}<extra></extra>", "hoverongaps": False,
        "colorscale": _DIVERGING, "zmin": -most, "zmax": most, "colorbar": _COLORBAR,
    }  # fmt: skip
    layout: dict[str, object] = {
        "xaxis": {"title": {"text": EPISODES}, "showgrid": False},
        "yaxis": {"tickvals": list(range(len(slots))), "ticktext": names, "autorange": "reversed", "fixedrange": True,
                  "showgrid": False},
        "margin": {**left_of(names), "t": _ABOVE}, "hovermode": "closest",
    }  # fmt: skip
    note = f"Blue helps, red hurts. {note}".strip()
    courses = {label(slot_id): course_text(row, "stack" if "stack" in note else "batch", signed)
               for slot_id, row in zip(slots, cells, strict=True)}  # fmt: skip
    return Plot(title, [trace], layout, note, several(courses), height=150 + 36 * len(slots), linked=True)


def _mean(spreads: Sequence[Spread]) -> float | None:
    n = sum(spread.n for spread in spreads)
    mean = sum(spread.total for spread in spreads) / n if n else math.nan
    return mean if is_measured(mean) else None


def _matrix(of: Mapping[int, EnvSnapshot], title: str) -> Plot:
    cells = {env_id: _by_slots(env) for env_id, env in of.items()}
    columns = sorted({on for row in cells.values() for on in row}, key=lambda on: (len(on), on))
    width = max([_LEAST_CELL, *(16 + 7 * len(_named(on)) for on in columns)])
    texts = [
        [
            f"env {env_id}, {_named(on)}: {fraction(row[on])}<br>{_provenance(of[env_id])}" if on in row else ""
            for on in columns
        ]
        for env_id, row in cells.items()
    ]
    names = [f"env {env_id}{_age(env)}" for env_id, env in of.items()]
    trace: Trace = {
        "type": "heatmap", "x": [_named(on) for on in columns], "y": names,
        "z": [[row.get(on) for on in columns] for row in cells.values()],
        "text": texts, "hovertemplate": "%{text}<extra></extra>", "hoverongaps": False,
        "texttemplate": "%{z:.3f}" if len(columns) <= _MOST_CELLS else "", "xgap": 1, "ygap": 1,
        "textfont": {"color": "#1c2430"}, "colorscale": _SEQUENTIAL, "colorbar": _COLORBAR,
    }  # fmt: skip
    layout: dict[str, object] = {
        "xaxis": {"type": "category", "showgrid": False},
        # As the title of the axis it would be drawn over the names of the columns.
        "annotations": [{"text": "seeds left on", "x": 0.5, "xref": "paper", "y": 0, "yref": "paper",
                         "yanchor": "top", "yshift": -24, "showarrow": False, "font": {"size": 14}}],
        "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False},
        "margin": {**left_of(names), "t": _ABOVE}, "hovermode": "closest",
    }  # fmt: skip
    best = {
        env_id: max(((value, on) for on, value in row.items() if value is not None), default=None)
        for env_id, row in cells.items()
    }
    told = {
        f"env {env_id}": f"best with {_named(on)}, {fraction(value)}."
        for env_id, (value, on) in [(env_id, found) for env_id, found in best.items() if found is not None]
    }
    trend = f"The newest of each. {several(told) if told else 'Nothing measured.'}"
    width = 80 + width * min(len(columns), _MOST_CELLS)
    return Plot(title, [trace], layout, trend=trend, height=150 + 26 * len(of), least=width)


def _by_slots(env: EnvSnapshot) -> dict[tuple[str, ...], float | None]:
    assert env.counterfactual is not None
    data = env.counterfactual.data
    return {
        tuple(slot_id for slot_id, on in zip(data.slot_ids, row.mask, strict=True) if on): real(row.accuracy)
        if is_measured(row.accuracy) else None
        for row in matrix_rows(data) if row.mask is not None and row.accuracy is not None
    }  # fmt: skip


def _named(on: tuple[str, ...]) -> str:
    return shortened(" + ".join(on)) if on else "host alone"


def _age(env: EnvSnapshot) -> str:
    ago = "" if env.counterfactual is None else age_in(env, env.counterfactual.position)
    return f", {ago}" if ago else ""


def _provenance(env: EnvSnapshot) -> str:
    assert env.counterfactual is not None
    data, event, _ = env.counterfactual
    when = "" if event.epoch is None else f", epoch {number(event.epoch)}"
    time = measured_value(data, "compute_time_ms")
    took = "" if time is None else f", {number(time)} ms"
    strategy = label(data.strategy) if "strategy" in data.supplied else "strategy not supplied"
    return f"{strategy}{when}{took}{_age(env)}"
