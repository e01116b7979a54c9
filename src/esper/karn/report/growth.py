"""The seeds: who lived where and when, and how far the seeds of each blueprint came."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from esper.karn.formatting import number, plural, signed
from esper.karn.quantities import lifecycle_counts
from esper.karn.report.decimation import measured_value
from esper.karn.report.episodes import Spread
from esper.karn.report.history import Batch, SeedLife
from esper.karn.report.plot import (
    EPISODES,
    Arm,
    Fold,
    Plot,
    Section,
    Table,
    Trace,
    as_text,
    colour_of,
    faded,
    label,
    left_of,
    shortened,
)
from esper.karn.report.trends import all_of, several
from esper.karn.seeds import count_endings
from esper.karn.snapshot import Ending, LifecycleTotals
from esper.karn.totals import ENDINGS
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import SeedFossilizedPayload

__all__ = ["Blueprint", "by_blueprint", "lifecycle", "timeline"]

_MOST_BARS = 8000
_MOST_FUNNELS = 24
_MOST_HIGH_ROWS = 64
_MOST_LARGE_MARKS = 300
_LEAST_WIDTH = 760
"""Pixels that a timeline needs to be read."""
_Marks: TypeAlias = dict[Ending, tuple[list[float], list[int], list[str]]]
_NO_NAME = "blueprint unknown"
_SHADES = {
    SeedStage.GERMINATED.name: 0.2,
    SeedStage.TRAINING.name: 0.35,
    SeedStage.BLENDING.name: 0.6,
    SeedStage.HOLDING.name: 0.8,
    SeedStage.FOSSILIZED.name: 1.0,
}
"""The further a seed has come, the stronger its colour."""
_OUTCOMES = {
    Ending.FOSSILIZED: "star",
    Ending.PRUNED_BY_POLICY: "x",
    Ending.PRUNED_BY_RULE: "triangle-down",
    Ending.PRUNED: "diamond",
}


def timeline(arms: Sequence[Arm]) -> Section:
    """Return the life of every seed, a row for each slot of each environment."""
    says = (
        "Each bar is a seed in its slot, from its germination until it was pruned or its episode ended, from the "
        "four seed events. Colour is the blueprint; it grows stronger with the stage (germinated, training, blending, "
        "holding, fossilized). The mark says how the seed ended: star fossilized, cross pruned by the policy, triangle "
        "pruned by a rule, diamond pruned by nobody knows whom. Drag to zoom in, double-click to zoom out; with a "
        "finger, take the magnifier first."
    )
    blueprints = _blueprints(arms)
    parts, missing_in = [], []
    for arm in arms:
        if any(batch.seeds for batch in arm.series.batches):
            parts.append(_gantt(arm, blueprints, named=len(arms) > 1))
        else:
            missing_in.append(arm.label)
    missing = f"No seed event in: {', '.join(missing_in)}." if missing_in else ""
    for arm in arms:
        unplaced = len(arm.series.seeds) - sum(len(batch.seeds) for batch in arm.series.batches)
        if unplaced:
            missing += f" {arm.label}: the batch of {plural(unplaced, 'seed')} is unknown; they are not drawn."
    return Section("What grew where?", "Seeds", says, parts, missing.strip())


def _blueprints(arms: Sequence[Arm]) -> list[str]:
    found = {life.seed.blueprint_id for arm in arms for life in arm.series.seeds}
    named = {name for name in found.union(*(arm.group.lifecycle for arm in arms)) if name is not None}
    return [*sorted(named), *([_NO_NAME] if len(named) < len(found) else [])]


def _gantt(arm: Arm, blueprints: Sequence[str], *, named: bool) -> Plot:
    batches, left_out = _newest(arm.series.batches)
    slots = sorted({(seed.env_id, seed.slot_id) for batch in batches for seed in batch.seeds})
    rows = {slot: row for row, slot in enumerate(slots)}
    bars: dict[tuple[str, str], Trace] = {}
    marks: _Marks = {ending: ([], [], []) for ending in _OUTCOMES}
    for batch in batches:
        for seed in batch.seeds:
            row, text = rows[seed.env_id, seed.slot_id], _story(seed, batch)
            reach = arm.series.reach(batch)
            for stage, begin, end in _spans(seed, reach):
                bar = bars.setdefault((_blueprint(seed), stage), {"base": [], "x": [], "y": [], "text": []})
                start, stop = arm.series.position(batch, begin), arm.series.position(batch, end)
                for name, value in (("base", start), ("x", stop - start), ("y", row), ("text", text)):
                    values = bar[name]
                    assert isinstance(values, list)
                    values.append(value)
            if seed.seed.ending is not Ending.OPEN:
                x, y, texts = marks[seed.seed.ending]
                x.append(arm.series.position(batch, _end(seed, reach)))
                y.append(row)
                texts.append(text)
    traces = [*_bars(bars, blueprints), *_marks(marks)]
    names = [f"env {env_id} · {shortened(slot_id)}" for env_id, slot_id in slots]
    first, stop = arm.series.position(batches[0], 0), arm.series.span[1]
    layout: dict[str, object] = {
        "barmode": "overlay",
        "xaxis": {"title": {"text": EPISODES}, **({"range": [first, stop]} if left_out else {})},
        "yaxis": {"tickvals": list(range(len(slots))), "ticktext": names, "range": [len(slots) - 0.5, -0.5],
                  "fixedrange": True, "showgrid": False},
        "margin": left_of(names),
        "hovermode": "closest", "showlegend": True,
    }  # fmt: skip
    title = f"Seeds by slot: {arm.label}" if named else "Seeds by slot"
    note = f"{left_out:,} older seeds, before episode {first:,.0f}, are not drawn: the page would be slow."
    height = 90 + (22 if len(slots) <= _MOST_HIGH_ROWS else 14) * len(slots)
    ends = Counter(seed.seed.ending.value for batch in batches for seed in batch.seeds)
    became = ", ".join(f"{number(count)} {name}" for name, count in ends.most_common())
    trend = (
        f"{all_of(len(batches), 'batch')} with {plural(len(slots), 'slot')}: {plural(ends.total(), 'seed')}, {became}."
    )
    if left_out:
        trend = f"The newest {trend.removeprefix('All ')}"
    return Plot(title, traces, layout, note if left_out else "", trend, height=height, least=_LEAST_WIDTH, linked=True)


def _newest(batches: Sequence[Batch]) -> tuple[list[Batch], int]:
    """Return the newest batches whose bars can be drawn, and how many older seeds are left out."""
    drawn, kept = 0, 0
    for batch in reversed(batches):
        drawn += sum(len(seed.stages) for seed in batch.seeds)
        if kept and drawn > _MOST_BARS:
            break
        kept += 1
    older = batches[: len(batches) - kept]
    return list(batches[len(batches) - kept :]), sum(len(batch.seeds) for batch in older)


def _end(life: SeedLife, reach: int) -> float:
    """Return where the outcome's mark belongs; a seed without an end is known up to the epoch ``reach``."""
    if life.seed.ending is Ending.FOSSILIZED:
        entered = [epoch for epoch, stage in life.stages if stage == SeedStage.FOSSILIZED.name]
        return entered[-1] if entered else reach
    return reach if life.ended is None else life.ended


def _spans(life: SeedLife, reach: int) -> list[tuple[str, float, float]]:
    stop = reach if life.ended is None else life.ended
    ends = [*(epoch for epoch, _ in life.stages[1:]), stop]
    return [(stage, begin, end) for (begin, stage), end in zip(life.stages, ends, strict=False) if end > begin]


def _blueprint(life: SeedLife) -> str:
    return life.seed.blueprint_id or _NO_NAME


def _story(life: SeedLife, batch: Batch) -> str:
    """Return what is shown when the mouse is over a seed."""
    seed = life.seed
    params = None if seed.germinated is None else measured_value(seed.germinated.data, "params")
    lines = [f"<b>{label(_blueprint(life))}</b>{'' if params is None else f', {number(params)} parameters'}"]
    lines.append(f"env {life.env_id} · {label(life.slot_id)}")
    if seed.seed_id:
        lines.append(f"seed {label(seed.seed_id)}")
    if batch.completed is not None:
        lines.append(f"batch {batch.completed.batch_idx}")
    lines += [f"{label(stage)} from epoch {epoch:g}" for epoch, stage in life.stages]
    if seed.outcome is not None:
        outcome = seed.outcome.data
        reason = "" if isinstance(outcome, SeedFossilizedPayload) else f" ({label(outcome.reason)})"
        lines.append(f"{seed.ending.value}{reason}")
        for name in ("improvement", "counterfactual", "epochs_total"):
            lines.append(f"{name} {number(measured_value(outcome, name))}")
    return "<br>".join(lines)


def _bars(bars: dict[tuple[str, str], Trace], blueprints: Sequence[str]) -> list[Trace]:
    traces = []
    for (blueprint, stage), bar in sorted(bars.items()):
        colour = colour_of(blueprints.index(blueprint))
        shade = _SHADES.get(stage, 0.3)
        traces.append({
            **bar, "type": "bar", "orientation": "h", "width": 0.78, "name": label(f"{blueprint} {stage}"),
            "marker": {"color": faded(colour, shade), "line": {"width": 0.5, "color": faded(colour, 0.9)}},
            "hovertemplate": "%{text}<extra></extra>", "textposition": "none",
            "legendgroup": label(blueprint), "showlegend": False,
        })  # fmt: skip
    for blueprint in dict.fromkeys(blueprint for blueprint, _ in sorted(bars)):
        colour = colour_of(blueprints.index(blueprint))
        traces.append({
            "type": "bar", "orientation": "h", "x": [None], "y": [0], "name": label(blueprint),
            "marker": {"color": colour}, "legendgroup": label(blueprint),
        })  # fmt: skip
    return traces


def _marks(marks: _Marks) -> list[Trace]:
    size = 7 if sum(len(x) for x, _, _ in marks.values()) <= _MOST_LARGE_MARKS else 5
    return [
        {
            "type": "scatter", "mode": "markers", "x": x or [None], "y": y or [0], "text": text or [""],
            "name": ending.value, "marker": {"symbol": _OUTCOMES[ending], "size": size, "color": "#ffffff",
                       "line": {"width": 1, "color": "#222222"}},
            "hovertemplate": "%{text}<extra></extra>",
        }
        for ending, (x, y, text) in marks.items()
    ]  # fmt: skip


# ── how far they came ──────────────────────────────────────────────────────────────────────────────────────────


def lifecycle(arms: Sequence[Arm]) -> Section:
    """Return how many seeds of each blueprint reached each stage, and what became of them."""
    says = (
        "How many seeds of each blueprint entered each stage of the lifecycle (SEED_GERMINATED, SEED_STAGE_CHANGED), "
        "and how they ended (SEED_FOSSILIZED, SEED_PRUNED). Means are over the seeds whose event supplied the number."
    )
    blueprints = _blueprints(arms)
    if not blueprints:
        return Section("Which blueprints are kept?", "Blueprints", says, missing="No seed event.")
    head = [
        "blueprint", "germinated", *(ending.value for ending in ENDINGS), Ending.OPEN.value,
        "mean improvement, fossilized", "mean counterfactual, fossilized", "mean improvement, pruned",
    ]  # fmt: skip
    found = {(one.name, arm.label): one for arm in arms for one in by_blueprint(arm)}
    rows = [
        [
            as_text(name if len(arms) == 1 else f"{name} · {label}"),
            *map(number, lifecycle_counts(one.totals)),
            number(one.open),
            *map(signed, (one.improvement, one.counterfactual, one.lost)),
        ]
        for (name, label), one in sorted(found.items(), key=lambda item: blueprints.index(item[0][0]))
    ]
    funnels = [_funnel(arms, blueprint) for blueprint in blueprints[:_MOST_FUNNELS]]
    since = [f"{arm.label} is counted since episode {number(arm.group.counted_from)}: the log does not hold the rest."
             for arm in arms if arm.group.counted_from]  # fmt: skip
    parts: list[Table | Fold] = [Table(head, rows), Fold("How far the seeds of each blueprint came", funnels)]
    return Section("Which blueprints are kept?", "Blueprints", says, parts, " ".join(since))


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What became of the seeds of one blueprint."""

    name: str
    totals: LifecycleTotals
    open: int
    """Without an end yet."""
    improvement: float | None
    """Mean over those fossilized that supplied it. Unit: fraction."""
    counterfactual: float | None
    """The same."""
    lost: float | None
    """Mean improvement of those pruned. Unit: fraction."""


def by_blueprint(arm: Arm) -> list[Blueprint]:
    """Return what became of an arm's seeds; blueprints without any seed are left out."""
    lives: dict[str, list[SeedLife]] = defaultdict(list)
    for life in arm.series.seeds:
        lives[_blueprint(life)].append(life)
    found = []
    for name in _blueprints([arm]):
        totals = arm.group.lifecycle.get(None if name == _NO_NAME else name, LifecycleTotals())
        if not lives[name] and not any(lifecycle_counts(totals)):
            continue
        kept = [life for life in lives[name] if life.seed.ending is Ending.FOSSILIZED]
        pruned = [life for life in lives[name] if life.seed.ending not in {Ending.FOSSILIZED, Ending.OPEN}]
        found.append(
            Blueprint(
                name,
                totals,
                count_endings(life.seed for life in lives[name])[Ending.OPEN],
                _mean(kept, "improvement"),
                _mean(kept, "counterfactual"),
                _mean(pruned, "improvement"),
            )
        )
    return found


def _lives(arm: Arm, blueprint: str) -> list[SeedLife]:
    return arm.series.lives_of(None if blueprint == _NO_NAME else blueprint)


def _funnel(arms: Sequence[Arm], blueprint: str) -> Plot:
    stages = list(_SHADES)
    traces: list[Trace] = []
    came = {}
    for arm in arms:
        entered = Counter(stage for life in _lives(arm, blueprint) for stage in _reached(life))
        reached = [entered[stage] for stage in stages]
        came[arm.label] = ", ".join(f"{stage} {number(n)}" for stage, n in zip(stages, reached, strict=True))
        traces.append({
            "type": "funnel", "y": stages, "x": reached, "name": label(arm.label), "texttemplate": "%{x:,}",
            "hovertemplate": "%{y}: %{x:,} seeds, %{percentInitial} of those germinated<extra></extra>",
            "marker": {"color": arm.colour}, "connector": {"visible": len(arms) == 1},
        })  # fmt: skip
    layout: dict[str, object] = {
        "showlegend": len(arms) > 1,
        "funnelmode": "group",
        "yaxis": {"fixedrange": True, "showgrid": False},
        "margin": left_of(stages),
        "xaxis": {"fixedrange": True, "visible": False},
        "hovermode": "closest",
    }
    trend = f"Seeds that entered each stage. {several(came)}."
    return Plot(blueprint, traces, layout, trend=trend, height=150 + 70 * len(arms), small=True)


def _reached(life: SeedLife) -> set[str]:
    stages = {stage for _, stage in life.stages}
    if life.seed.germinated is not None:
        stages.add(SeedStage.GERMINATED.name)
    if life.seed.ending is Ending.FOSSILIZED:
        stages.add(SeedStage.FOSSILIZED.name)
    return stages


def _mean(lives: Sequence[SeedLife], name: str) -> float | None:
    spread = Spread()
    for life in lives:
        value = None if life.seed.outcome is None else measured_value(life.seed.outcome.data, name)
        if value is not None:
            spread.add(value)
    return spread.mean
