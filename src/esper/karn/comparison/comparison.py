"""Runs set against each other: which are an arm, what each arm came to, and whether the differences are real.

Arms are compared over the episodes that all whole runs have in common, so that none is better for having been trained
longer. A run that did not get there (failed, interrupted, still going on), whose return is not finite in the end, or
that repeats another bit for bit is not counted, and is named.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING, Final

from esper.karn.comparison.arms import Arm, arms_of, differences, unheeded, without_repeats
from esper.karn.comparison.conclusion import Side, conclude
from esper.karn.comparison.results import DECIDES, MEASURES, ArmResult, By, Comparison, Curve, RunResult, Score
from esper.karn.comparison.statistics import band, interquartile_mean, interval, require_scipy
from esper.karn.formatting import ABSENT, is_finite, mean, number
from esper.karn.progress import best_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from esper.karn.comparison.compared_run import ComparedRun, Course

__all__ = ["compare"]

_TENTH: Final = 10
"""Final is the mean over one in so many batches."""
_LARGEST: Final = 1e100
"""Beyond this, the square of a value is not finite."""
_ROUNDING: Final = 1e-9
"""Share of the largest value by which a sum over a run that is carried along may be off."""
_MOST_POINTS: Final = 200
"""Of a curve."""


@dataclass(slots=True)
class _Counted:
    """The runs of an arm, and what they came to."""

    arm: Arm
    left_out: dict[int, str]
    """Why a run is not counted, by its place."""
    scores: dict[int, dict[str, float]]
    """By place and measure."""
    lost: int
    """Runs that are left out without repeating another."""

    @property
    def runs(self) -> list[ComparedRun]:
        """Those that are counted."""
        return [self.arm.runs[at] for at in self.scores]

    def of(self, measure: str) -> list[float]:
        """Return what a measure came to, of those runs that measured it."""
        return [made[measure] for made in self.scores.values() if measure in made]


def compare(
    runs: Sequence[ComparedRun],
    *,
    by: By = "return",
    threshold: float | None = None,
    ignore: Iterable[str] = (),
    unread: Mapping[str, str] | None = None,
) -> Comparison:
    """Set runs against each other.

    Args:
        runs: any number; without any there is nothing but what could not be read.
        by: what decides whether a difference is real.
        threshold: mean episode return to which episodes are counted; None for what the weakest of several ends with.
        ignore: settings that make no other arm.
        unread: runs that could not be read, and why.

    Raises:
        ModuleNotFoundError: scipy is not installed.
    """
    require_scipy()
    ignored = frozenset(ignore)
    horizon = _horizon(runs)
    arms = arms_of(runs, ignored)
    counted = [_count(arm, horizon, any(run.is_whole for run in runs)) for arm in arms]
    if threshold is None and len(arms) > 1:
        threshold = min((interquartile_mean(of.of("final_return")) for of in counted if of.scores), default=None)
    measure = DECIDES[by]
    sides = [
        Side(of.arm.key, of.arm.name, of.arm.task, of.of(measure), of.lost, of.arm.settings.get("reward_mode", ABSENT))
        for of in counted
    ]
    return Comparison(
        by=measure,
        arms=tuple(_arm(of, horizon, threshold) for of in counted),
        conclusions=tuple(conclude(sides, measure)),
        horizon=horizon,
        threshold=threshold,
        settings=differences(arms, ignored),
        unheeded=unheeded(arms, ignored),
        runs=tuple(_run(of, at, horizon, threshold) for of in counted for at in range(len(of.arm.runs))),
        unread=dict(unread or {}),
    )


def _horizon(runs: Sequence[ComparedRun]) -> int | None:
    """Return the episodes that all whole runs have in common; while none is whole, that all have.

    None where no run plans its episodes: what ends by time steps is taken at its own end.
    """
    measured = [run for run in runs if run.returns.episodes]
    if all(run.planned is None for run in measured):
        return None
    return min([run.episodes for run in measured if run.is_whole] or [run.episodes for run in measured])


def _count(arm: Arm, horizon: int | None, any_whole: bool) -> _Counted:
    repeats = without_repeats(arm.runs)
    made = _Counted(arm, {}, {}, 0)
    for at, run in enumerate(arm.runs):
        scores = _scores(run, horizon)
        if at in repeats:
            made.left_out[at] = f"repeats {arm.runs[repeats[at]].run} bit for bit"
        elif reason := _reason(run, horizon, scores, any_whole=any_whole):
            made.left_out[at] = reason
            made.lost += 1
        else:
            made.scores[at] = scores
    return made


def _reason(run: ComparedRun, horizon: int | None, scores: Mapping[str, float], *, any_whole: bool) -> str:
    """Return why a run is not counted; empty for one that is."""
    if not run.returns.episodes:
        return "no batch measured a return"
    short = run.episodes < horizon if horizon is not None else any_whole and not run.is_whole
    if short:
        ended = "its log ends" if run.status is None else f"{run.status}"
        of = "" if run.planned is None else f" of {number(run.planned)}"
        return f"{ended} after {number(run.episodes)}{of} episodes"
    if "final_return" not in scores:
        return f"no batch within {number(horizon)} episodes measured a return"
    return "" if _is_comparable(scores["final_return"]) else "its final mean episode return is not finite"


def _scores(run: ComparedRun, horizon: int | None) -> dict[str, float]:
    """Return what a run came to by measure, as far as it was measured; what is not finite was not, but the return."""
    returns, accuracies = run.returns.until(horizon).values, run.accuracies.until(horizon).values
    made = {
        "final_return": _final(returns),
        "best_return": best_value(returns),
        "final_accuracy": _final(accuracies),
        "best_accuracy": best_value(accuracies),
        "evaluation": run.evaluation,
        "test_accuracy": run.test_accuracy,
    }
    return {
        name: value
        for name, value in made.items()
        if value is not None and (_is_comparable(value) or name == "final_return")
    }


def _is_comparable(value: float) -> bool:
    return is_finite(value) and abs(value) <= _LARGEST


def _final(values: Sequence[float]) -> float | None:
    return mean(values[-_window(values) :]) if values else None


def _window(values: Sequence[float]) -> int:
    return max(1, len(values) // _TENTH)


def _reached(course: Course, threshold: float | None) -> int | None:
    """Return the episodes after which the mean over a tenth of the batches first was that high."""
    if threshold is None:
        return None
    values, window = course.values, _window(course.values)
    # a sum that is carried along says where a mean is worth taking: that of every tenth would take the square of time
    finite = [value if _is_comparable(value) else 0.0 for value in values]
    sums, enough = [0.0, *accumulate(finite)], threshold - _ROUNDING * max(map(abs, finite), default=0.0)
    for end in range(window, len(values) + 1):
        if (sums[end] - sums[end - window]) / window >= enough:
            level = mean(values[end - window : end])
            if level is not None and threshold <= level < math.inf:
                return course.episodes[end - 1]
    return None


def _run(of: _Counted, at: int, horizon: int | None, threshold: float | None) -> RunResult:
    run = of.arm.runs[at]
    counts = at in of.scores
    return RunResult(
        run=run.run,
        group=run.group,
        arm=of.arm.key,
        seed=run.seed,
        status=run.status,
        verdict=run.verdict,
        headline=run.headline,
        episodes=run.episodes,
        left_out=None if counts else of.left_out[at],
        scores=of.scores[at] if counts else {},
        episodes_to_threshold=_reached(run.returns.until(horizon), threshold) if counts else None,
    )


def _arm(of: _Counted, horizon: int | None, threshold: float | None) -> ArmResult:
    runs = of.runs
    reached = [_reached(run.returns.until(horizon), threshold) for run in runs]
    middle = median([math.inf if episodes is None else episodes for episodes in reached]) if reached else math.inf
    blueprints = sorted({name for run in runs for name in run.lifecycle})
    lives = {name: [run.lifecycle[name] for run in runs if name in run.lifecycle] for name in blueprints}
    return ArmResult(
        key=of.arm.key,
        label=of.arm.label,
        task=of.arm.task,
        seeds=tuple(run.seed for run in runs),
        not_counted=of.lost,
        scores={name: _score(values) for name in MEASURES if (values := of.of(name))},
        return_curve=_curve([run.returns.until(horizon) for run in runs]),
        accuracy_curve=_curve([run.accuracies.until(horizon) for run in runs]),
        reached_threshold=sum(episodes is not None for episodes in reached),
        episodes_to_threshold=middle if math.isfinite(middle) else None,
        germinated={name: sum(life.germinated for life in of_name) for name, of_name in lives.items()},
        fossilized={name: sum(life.fossilized for life in of_name) for name, of_name in lives.items()},
    )


def _score(values: Sequence[float]) -> Score:
    average = mean(values)
    assert average is not None  # there are some
    return Score(
        runs=len(values),
        mean=average,
        mean_interval=interval(values),
        iqm=interquartile_mean(values),
        iqm_interval=interval(values, robust=True),
        lowest=min(values),
        highest=max(values),
    )


def _curve(courses: Sequence[Course]) -> Curve:
    """Return the mean over runs, at the ends of batches at which all of them are measured."""
    measured = [course for course in courses if course.episodes]
    if not measured:
        return Curve()
    first = max(course.episodes[0] for course in measured)
    last = min(course.episodes[-1] for course in measured)
    points = sorted({end for course in measured for end in course.episodes if first <= end <= last})
    if len(points) > _MOST_POINTS:
        points = [points[round(at * (len(points) - 1) / (_MOST_POINTS - 1))] for at in range(_MOST_POINTS)]
    columns = [(point, [_at(course, point) for course in measured]) for point in points]
    drawn = [(point, values) for point, values in columns if all(map(_is_comparable, values))]
    if not drawn:
        return Curve()
    lines = band(list(zip(*(values for _, values in drawn), strict=True)))
    return Curve(tuple(point for point, _ in drawn), *map(tuple, lines))


def _at(course: Course, episodes: int) -> float:
    """Return a course's value there, on the line between its neighbours."""
    at = bisect_left(course.episodes, episodes)
    if course.episodes[at] == episodes:
        return course.values[at]
    share = (episodes - course.episodes[at - 1]) / (course.episodes[at] - course.episodes[at - 1])
    return course.values[at - 1] * (1 - share) + course.values[at] * share
