"""What a comparison says in tables: one text of each number, for the terminal and for pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from esper.karn.comparison.results import MEASURES, ArmResult, Comparison, Curve, Measure, RunResult
from esper.karn.comparison.statistics import Interval
from esper.karn.formatting import ABSENT, number, plural, tidy
from esper.karn.quantities import Quantity

__all__ = [
    "CURVES",
    "TextTable",
    "answers",
    "arms_table",
    "curve_of",
    "curve_table",
    "heading",
    "seeds_text",
    "tables",
]

_MOST_ROWS: Final = 60
_MOST_STRETCHES: Final = 12
CURVES: Final = {"return": MEASURES["final_return"].quantity, "accuracy": MEASURES["final_accuracy"].quantity}
"""What is drawn by episodes."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """Cells of text: the first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset({0})
    """Columns of words; the others are numbers."""
    optional: int = 0
    """Columns at the end that may be left out where there is no room."""
    paths: bool = False
    """Whether the last column is a path, of which the end tells most."""


def heading(comparison: Comparison) -> str:
    """Return how much is compared, and over what."""
    n = sum(len(arm.seeds) for arm in comparison.arms)
    over = "each at its own end" if comparison.horizon is None else f"over {plural(comparison.horizon, 'episode')}"
    return f"{plural(n, 'run')} in {plural(len(comparison.arms), 'arm')}, compared {over}"


def answers(comparison: Comparison) -> list[tuple[str, str]]:
    """Return for each conclusion its sentence, and the probability of improvement as another."""
    if not comparison.conclusions:
        return [(_nothing(comparison), "")]
    return [(one.sentence, _improvement(one.arm, one.baseline, one.improvement, one.improvement_interval))
            for one in comparison.conclusions]  # fmt: skip


def _nothing(comparison: Comparison) -> str:
    if len(comparison.arms) > 1:
        return "Every arm has another task: nothing is set against anything."
    return "There is one arm: nothing to set it against. Runs that differ by the seed alone are one."


def _improvement(arm: str, baseline: str, share: float | None, interval: Interval | None) -> str:
    if share is None or interval is None:
        return ""
    quantity = MEASURES["test_accuracy"].quantity
    within = _interval(interval, quantity)
    return f"A run of {arm} is better than one of {baseline} with probability {quantity.text(share)} {within}."


def tables(comparison: Comparison) -> Iterator[TextTable]:
    """Yield every table, but for the curves' points."""
    yield from (_measure(comparison, key) for key in MEASURES if any(key in arm.scores for arm in comparison.arms))
    if comparison.threshold is not None:
        yield _threshold(comparison, comparison.threshold)
    if blueprints := sorted({name for arm in comparison.arms for name in arm.germinated}):
        yield _kept(comparison, blueprints)
    if comparison.settings:
        yield _settings(comparison)
    if comparison.unheeded:
        values = [(tidy(name), tidy(", ".join(of), 200)) for name, of in comparison.unheeded.items()]
        yield TextTable("Differs without making another arm", ("", "values"), values, frozenset({0, 1}))
    yield from _runs(comparison)


def arms_table(comparison: Comparison) -> TextTable:
    """Return what each arm is, and how many runs of it are counted."""
    rows = []
    for arm in comparison.arms:
        lost = f", {number(arm.not_counted)} not counted" if arm.not_counted else ""
        seeds = f"seed{'' if len(set(arm.seeds)) == 1 else 's'} {seeds_text(arm.seeds)}" if arm.seeds else "none"
        rows.append((arm.key, arm.label or arm.task or ABSENT, f"{plural(len(arm.seeds), 'run')}{lost}", seeds))
    return TextTable("Arms", ("", "what", "runs", "seeds"), rows, frozenset(range(4)))


def seeds_text(seeds: Sequence[int | None]) -> str:
    """Return seeds in stretches: ``1–4, 7, 9 (2 times)``."""
    counts = Counter(seed for seed in seeds if seed is not None)
    stretches = list[list[int]]()
    for seed in sorted(counts):
        if stretches and counts[seed] == 1 == counts[stretches[-1][-1]] and seed == stretches[-1][-1] + 1:
            stretches[-1].append(seed)
        else:
            stretches.append([seed])
    texts = [
        f"{of[0]} ({counts[of[0]]} times)" if counts[of[0]] > 1 else str(of[0]) if len(of) == 1 else f"{of[0]}–{of[-1]}"
        for of in stretches
    ]
    more = ["…"] if len(texts) > _MOST_STRETCHES else []
    return ", ".join([*texts[:_MOST_STRETCHES], *more, *(["unknown"] if None in seeds else [])])


def _interval(interval: Interval | None, quantity: Quantity) -> str:
    return ABSENT if interval is None else f"[{', '.join(map(quantity.text, interval))}]"


def _title(text: str) -> str:
    return text[0].upper() + text[1:]


def _measure(comparison: Comparison, key: str) -> TextTable:
    measure = MEASURES[key]
    head = ("", "runs", "mean, 95 % interval", "IQM, 95 % interval", "lowest", "highest")
    rows = [(arm.name, *_score(arm, key, measure)) for arm in comparison.arms]
    return TextTable(_title(measure.name), head, rows, optional=2)


def _score(arm: ArmResult, key: str, measure: Measure) -> tuple[str, ...]:
    if key not in arm.scores:
        return ("0", *[ABSENT] * 4)
    score, quantity = arm.scores[key], measure.quantity
    return (
        number(score.runs),
        f"{quantity.text(score.mean)} {_interval(score.mean_interval, quantity)}",
        f"{quantity.text(score.iqm)} {_interval(score.iqm_interval, quantity)}",
        quantity.text(score.lowest),
        quantity.text(score.highest),
    )


def _threshold(comparison: Comparison, threshold: float) -> TextTable:
    quantity = MEASURES["final_return"].quantity
    rows = [
        (arm.name, f"{arm.reached_threshold} of {len(arm.seeds)}", number(arm.episodes_to_threshold))
        for arm in comparison.arms
    ]
    title = f"Episodes to a {quantity.name} of {quantity.text(threshold)}"
    return TextTable(title, ("", "reached it", "episodes, median"), rows)


def _kept(comparison: Comparison, blueprints: Sequence[str]) -> TextTable:
    rows = [
        (name, *(_share(arm.fossilized.get(name, 0), arm.germinated.get(name, 0)) for arm in comparison.arms))
        for name in blueprints[:_MOST_ROWS]
    ]
    return TextTable("Seeds kept (fossilized), of those germinated", ("blueprint", *_names(comparison)), rows)


def _names(comparison: Comparison) -> list[str]:
    return [arm.name for arm in comparison.arms]


def _share(kept: int, germinated: int) -> str:
    return f"{number(kept)} of {number(germinated)} ({kept / germinated:.0%})" if germinated else ABSENT


def _settings(comparison: Comparison) -> TextTable:
    rows = [(name, *values) for name, values in list(comparison.settings.items())[:_MOST_ROWS]]
    return TextTable("Configured differently", ("", *_names(comparison)), rows)


def _runs(comparison: Comparison) -> Iterator[TextTable]:
    counted = [run for run in comparison.runs if run.left_out is None]
    if counted:
        head = ("", "seed", "status", "verdict", MEASURES[comparison.by].short, "run")
        rows = [_run(run, comparison.by) for run in counted[:_MOST_ROWS]]
        title = "Runs" if len(counted) <= _MOST_ROWS else f"Runs, {_MOST_ROWS} of {len(counted):,} (--json has all)"
        yield TextTable(title, head, rows, frozenset({0, 2, 3, 5}), paths=True)
    left_out = [(run.arm, run.left_out, _named(run)) for run in comparison.runs if run.left_out is not None]
    left_out += [(ABSENT, reason, run) for run, reason in comparison.unread.items()]
    if left_out:
        more = len(left_out) > _MOST_ROWS
        title = f"Not counted, {_MOST_ROWS} of {len(left_out):,} (--json has all)" if more else "Not counted"
        yield TextTable(title, ("", "why", "run"), left_out[:_MOST_ROWS], frozenset({0, 1, 2}), paths=True)


def _run(run: RunResult, by: str) -> tuple[str, ...]:
    value = MEASURES[by].quantity.text(run.scores[by] if by in run.scores else None)
    seed = ABSENT if run.seed is None else str(run.seed)
    return (run.arm, seed, run.status or ABSENT, run.verdict, value, _named(run))


def _named(run: RunResult) -> str:
    return run.run if run.group == "default" else f"{run.run} · {run.group}"


def curve_of(arm: ArmResult, name: str) -> Curve:
    """Return one of an arm's `CURVES`."""
    return arm.return_curve if name == "return" else arm.accuracy_curve


def curve_table(comparison: Comparison, name: str, places: int) -> TextTable | None:
    """Return a few points of the curves, each with its interval below it; None where nothing was measured."""
    curves = {arm.name: curve for arm in comparison.arms if (curve := curve_of(arm, name)).episodes}
    if not curves:
        return None
    ends, quantity = sorted({end for curve in curves.values() for end in curve.episodes}), CURVES[name]
    marks = sorted({ends[round(at * (len(ends) - 1) / (places - 1))] for at in range(places)})
    rows = list[tuple[str, ...]]()
    for arm, curve in curves.items():
        points = [_point(curve, mark, quantity) for mark in marks]
        rows.append((arm, *(mean for mean, _ in points)))
        if any(interval for _, interval in points):  # of several runs
            rows.append(("", *(interval for _, interval in points)))
    title = f"{_title(quantity.name)} by episodes: mean over runs, 95 % interval"
    return TextTable(title, ("", *map(number, marks)), rows)


def _point(curve: Curve, episodes: int, quantity: Quantity) -> tuple[str, str]:
    if not curve.episodes[0] <= episodes <= curve.episodes[-1]:
        return ABSENT, ""
    at = max(i for i, end in enumerate(curve.episodes) if end <= episodes)
    interval = curve.low[at], curve.high[at]
    return quantity.text(curve.mean[at]), _interval(interval, quantity) if interval[0] < interval[1] else ""
