"""Is the difference real? A sentence for each arm and its baseline, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from esper.karn.comparison.results import MEASURES, Answer, Conclusion, Measure
from esper.karn.comparison.statistics import (
    ALPHA,
    difference_interval,
    holm,
    improvement,
    improvement_interval,
    least_p,
    p_value,
    seeds_needed,
)
from esper.karn.formatting import number, plural
from esper.karn.quantities import QUANTITIES

__all__ = ["Side", "conclude"]


@dataclass(frozen=True, slots=True)
class Side:
    """An arm, as far as a conclusion needs it."""

    key: str
    name: str
    task: str | None
    values: Sequence[float]
    """Of the measure that decides, one a run."""
    not_counted: int
    reward_mode: str
    """How it is paid."""


def conclude(sides: Sequence[Side], key: str) -> list[Conclusion]:
    """Set each arm against the first of its task.

    Args:
        sides: in the order of the arms.
        key: of the measure that decides.
    """
    measure = MEASURES[key]
    first = dict[str | None, Side]()
    pairs = [(side, base) for side in sides if (base := first.setdefault(side.task, side)) is not side]
    measured = [(side, base) for side, base in pairs if side.values and base.values]
    tested = [(side, base) for side, base in measured if min(len(side.values), len(base.values)) > 1]
    adjusted = holm([p_value(side.values, base.values) for side, base in tested])
    ps = [adjusted[tested.index(pair)] if pair in tested else 1.0 for pair in measured]
    found = {
        (side.key, base.key): _conclusion(side, base, p, max(len(tested), 1), key, measure)
        for (side, base), p in zip(measured, ps, strict=True)
    }
    return [
        found[side.key, base.key] if (side.key, base.key) in found else _unmeasured(side, base, key, measure)
        for side, base in pairs
    ]


def _unmeasured(side: Side, base: Side, key: str, measure: Measure) -> Conclusion:
    without = " and ".join(one.name for one in (base, side) if not one.values)
    return Conclusion(
        arm=side.key,
        baseline=base.key,
        measure=key,
        answer="not measured",
        difference=None,
        interval=None,
        p=None,
        improvement=None,
        improvement_interval=None,
        seeds_needed=None,
        sentence=f"{side.name} and {base.name} cannot be compared: no run of {without} that is counted has measured "
        f"the {measure.name}.",
    )


def _conclusion(side: Side, base: Side, p: float, comparisons: int, key: str, measure: Measure) -> Conclusion:
    difference = fmean(side.values) - fmean(base.values)
    answer: Answer = "better" if difference > 0 else "worse"
    if p > ALPHA:
        possible = comparisons * least_p(len(side.values), len(base.values)) <= ALPHA
        answer = "not shown" if possible else "too few"
    made = Conclusion(
        arm=side.key,
        baseline=base.key,
        measure=key,
        answer=answer,
        difference=difference,
        interval=difference_interval(side.values, base.values),
        p=p,
        improvement=improvement(side.values, base.values),
        improvement_interval=improvement_interval(side.values, base.values),
        seeds_needed=seeds_needed(side.values, base.values, comparisons),
        sentence="",
    )
    return replace(made, sentence=_say(made, side, base, measure))


def _say(made: Conclusion, side: Side, base: Side, measure: Measure) -> str:
    assert made.difference is not None
    assert made.p is not None
    interval = ""
    if made.interval is not None:
        interval = f" (95 % interval {' to '.join(map(measure.quantity.text, made.interval))})"
    means = f"{measure.quantity.text(fmean(side.values))} against {measure.quantity.text(fmean(base.values))}"
    apart = f"a {measure.name} of {means}, a difference of {measure.quantity.text(made.difference)}{interval}"
    chance = f"chance alone sets arms so far apart in {made.p:.2g} of all cases"
    if made.answer in ("better", "worse"):
        text = f"{side.name} is {made.answer} than {base.name}: {apart}; {chance}."
    elif made.answer == "not shown":
        unshown = f"No difference between {side.name} and {base.name} is shown"
        text = f"{unshown}: {apart}; {chance}. {_needed(made, side, base)}"
    else:
        few = f"{plural(len(side.values), 'seed')} against {number(len(base.values))}"
        text = f"Whether {side.name} and {base.name} differ, {few} cannot tell: {apart}. "
        if min(side.values) > max(base.values) or max(side.values) < min(base.values):
            least = least_p(len(side.values), len(base.values))
            text += f"They do not overlap, which so few do by chance in {least:.2g} of all cases. " if least < 1 else ""
        text += _needed(made, side, base)
    if side.reward_mode != base.reward_mode and measure.quantity is QUANTITIES["avg_reward"]:
        paid = f"{side.reward_mode} and {base.reward_mode}"
        text += f" They are paid differently ({paid}), so that their returns count different things: ask --by accuracy."
    lost = [f"{plural(one.not_counted, 'run')} of {one.key}" for one in (base, side) if one.not_counted]
    return f"{text} Not counted: {' and '.join(lost)}; an arm may look better for what it lost." if lost else text


def _needed(made: Conclusion, side: Side, base: Side) -> str:
    if made.difference == 0.0:
        return "They are equal."
    if min(len(side.values), len(base.values)) < 2:  # noqa: PLR2004 - nothing varies
        return "A single run says nothing about other seeds: two an arm say how far they scatter, four may decide."
    if made.seeds_needed is None:
        return "If it is as small as it looks, no reasonable number of seeds will show it."
    n = max(made.seeds_needed, min(len(side.values), len(base.values)) + 1)
    return f"If it is as large as it looks, about {plural(n, 'seed')} an arm would show it, four times out of five."
