"""The first screen: is it well, did it learn, since when not and why, and what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esper.karn.derived import accuracies_of, known, returns_of
from esper.karn.formatting import mean, number, plural, signed
from esper.karn.learning import Answer, did_it_learn
from esper.karn.progress import (
    best_value,
    ends_of,
    measures_accuracy,
    played_text,
    status_text,
    times_text,
    unsupplied_text,
)
from esper.karn.quantities import QUANTITIES, baselines_of, score_texts, scores_of
from esper.karn.report.findings import verdict_of
from esper.karn.report.growth import by_blueprint
from esper.karn.report.learning import returns_line
from esper.karn.report.log import RunLog
from esper.karn.report.plot import Arm, Table, as_text
from esper.karn.report.sketch import Event, Level, Sketch
from esper.karn.report.strip import Strip, strip_of
from esper.karn.report.trends import several
from esper.karn.verdict import Verdict

__all__ = ["ArmOverview", "Overview", "ended_text", "overview", "series_of"]

_MOST_BLUEPRINTS = 5
_MOST_EVENTS = 4
"""Vertical lines of a sketch that leave room for their names."""


@dataclass(frozen=True, slots=True)
class ArmOverview:
    """What one arm came to."""

    label: str
    """Empty when it is the only one."""
    verdict: Verdict
    said: str
    """The verdict without its status, in a line; nothing where there are alarms, which say more."""
    learnt: Answer
    """Whether it did, and by what."""
    what: str
    """What was run, and how far it came."""
    strip: Strip
    span: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Overview:
    """What stands on the first screen."""

    arms: Sequence[ArmOverview]
    sketch: Sketch | None
    """None without any completed batch."""
    tables: Sequence[Table]


def overview(arms: Sequence[Arm]) -> Overview:
    """Return what somebody should know within half a minute."""
    span = min(arm.series.span[0] for arm in arms), max(arm.series.span[1] for arm in arms)
    told = [
        ArmOverview(
            label=arm.label if len(arms) > 1 else "",
            verdict=(verdict := verdict_of(arm)),
            said="" if verdict.alarms else verdict.headline.partition(" ")[2].removeprefix(f"{arm.group_id}: "),
            learnt=did_it_learn(arm.group, arm.evaluation),
            what=_what(arm),
            strip=(strip := strip_of(arm)),
            span=span if arm.series.batches else (0.0, float(strip.batches)),
        )
        for arm in arms
    ]
    drawn = [arm for arm in arms if arm.series.completed]
    kept = [arm for arm in arms if arm.has_host]
    tables = [*([_returns(arms)] if drawn else []), *([_kept(kept, named=len(arms) > 1)] if kept else [])]
    return Overview(told, _sketch(drawn, span) if drawn else None, tables)


# ── in words ──────────────────────────────────────────────────────────────────────────────────────────────────


def _what(arm: Arm) -> str:
    """Return what was run, how far it came and how it ended."""
    started = None if arm.group.started is None else arm.group.started.data
    what = "Its start is missing"
    if started is not None:
        what = f"Task {as_text(started.task)}, seed {started.seed}, {number(known(started.n_envs))} environments"
        if arm.has_host:
            epochs = number(known(started.max_epochs))
            what += f", {plural(len(started.slot_ids), 'slot')}, {epochs} host epochs an episode"
    played = "no batch was completed" if arm.group.batch is None else f"{played_text(arm.group.batch.data)} were played"
    resumed = f", resumed {times_text(arm.group.resumes)}" if arm.group.resumes else ""
    return f"{what}; {played}{resumed}; {ended_text(arm.log)}. {unsupplied_text(arm.group)}".strip()


def ended_text(log: RunLog) -> str:
    """Return what run.json says about the end; a run that says it is running may have been killed."""
    info = log.info
    if info is None:
        return "nothing says how it ended"
    return f"{status_text(info)}: {as_text(info.error)}" if info.error else status_text(info)


# ── returns ───────────────────────────────────────────────────────────────────────────────────────────────────


def _sketch(arms: Sequence[Arm], span: tuple[float, float]) -> Sketch:
    lines = {arm.label: returns_line(arm) for arm in arms}
    says = several({name: text for name, (_, text) in lines.items()})
    levels = [level for arm in arms if len(arms) == 1 for level in _levels(arm)]
    events = [event for arm in arms for event in _events(arm)][:_MOST_EVENTS]
    return Sketch([line for line, _ in lines.values()], levels, events, span, f"Mean episode return. {says}")


def _levels(arm: Arm) -> list[Level]:
    """Return what a return is held against: chance and doing nothing, or else how the run began."""
    evaluation = arm.evaluation
    if evaluation is not None:
        baselines = baselines_of(evaluation).items()
        return [Level(f"{name} {score_texts(score)[0]}", score.reward.mean) for name, score in baselines]
    values = series_of(arm)[0]
    n = ends_of(values)
    first = mean(values[:n]) if n else None
    return [] if first is None else [Level(f"first {n}: {number(first)}", first)]


def _events(arm: Arm) -> list[Event]:
    """Return where a resume went on and where learning's trouble began."""
    events = [
        Event("resumed", float(start.start_episode), is_alarm=False) for start in arm.starts[1:] if start.start_episode
    ]
    ends = {batch.completed.batch_idx: batch.end for batch in arm.series.batches if batch.completed is not None}
    since = [one.since for one in verdict_of(arm).alarms if one.area == "learning" and one.since is not None]
    return events + [
        Event(f"since batch {number(batch)}", float(ends[batch]), is_alarm=True)
        for batch in dict.fromkeys(since)
        if batch in ends
    ]


def series_of(arm: Arm) -> tuple[list[float], list[float]]:
    """Return the returns and the accuracies of the batches that measured one."""
    return returns_of(arm.group), accuracies_of(arm.group) if measures_accuracy(arm.group) else []


def _returns(arms: Sequence[Arm]) -> Table:
    """Return the returns beside what they are held against."""
    quantities = QUANTITIES["avg_reward"], QUANTITIES["avg_accuracy"]
    measured = any(series_of(arm)[1] for arm in arms)
    evaluations = {arm.label: found for arm in arms if (found := arm.evaluation) is not None}
    head = ["", quantities[0].short, *([quantities[1].short] if measured else []), *(["test"] if evaluations else [])]
    rows = []
    for arm in arms:
        name = f"{arm.label}: " if len(arms) > 1 else ""
        series = [values for values in series_of(arm) if values]
        n = ends_of(*series) if series else 0
        whole = ("first", slice(n)), ("newest", slice(-n, None))
        parts = [(f"{which} {n}", part) for which, part in whole] if n else [("the only batch", slice(None))]
        for which, part in parts:
            cells = [
                quantity.text(mean(values[part])) for quantity, values in zip(quantities, series_of(arm), strict=True)
            ]
            rows.append([f"{name}{which}", *cells])
        if n:
            best = [
                quantity.text(best_value(values)) for quantity, values in zip(quantities, series_of(arm), strict=True)
            ]
            rows.append([f"{name}best batch", *best])
        if arm.label in evaluations:
            scores = scores_of(evaluations[arm.label])
            rows += [[f"{name}{who}", *score_texts(score)] for who, score in scores.items()]
    rows = [row if measured else [*row[:2], *row[3:]] for row in rows]
    rows = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    fresh = [
        f"; of policies on {number(one.episodes)} fresh episodes, ± standard error" for one in evaluations.values()
    ]
    accuracy = " and accuracies" if measured else ""
    return Table(head, rows, f"Mean episode return{accuracy}{fresh[0] if fresh else ''}")


# ── what was kept ─────────────────────────────────────────────────────────────────────────────────────────────


def _kept(arms: Sequence[Arm], *, named: bool) -> Table:
    """Return which blueprints' seeds survived, and with which gain."""
    rows, counts = [], []
    for arm in arms:
        name = f"{arm.label}: " if named else ""
        found = sorted(by_blueprint(arm), key=lambda one: -one.totals.fossilized)
        shown = found[:_MOST_BLUEPRINTS]
        rows += [
            [f"{name}{as_text(one.name)}", f"{number(one.totals.fossilized)} of {number(one.totals.germinated)}",
             signed(one.improvement), signed(one.counterfactual)]
            for one in shown
        ]  # fmt: skip
        if len(found) > len(shown):
            rows.append([f"{name}{plural(len(found) - len(shown), 'blueprint')} more", "", "", ""])
        kept, germinated = (sum(getattr(one.totals, field) for one in found) for field in ("fossilized", "germinated"))
        counts.append(f"{name}{number(kept)} of {plural(germinated, 'seed')} kept")
    return Table(
        ["blueprint", "kept", "improvement", "counterfactual"], rows, f"{'; '.join(counts)}; means over those kept"
    )
