"""What a comparison says, as frozen dataclasses: ``esper compare --json`` prints them under these names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from esper.karn.comparison.arms import named
from esper.karn.comparison.statistics import Interval
from esper.karn.quantities import QUANTITIES, Quantity

__all__ = [
    "DECIDES",
    "MEASURES",
    "Answer",
    "ArmResult",
    "By",
    "Comparison",
    "Conclusion",
    "Curve",
    "Measure",
    "RunResult",
    "Score",
]

By: TypeAlias = Literal["return", "accuracy", "evaluation"]
"""What decides."""
Answer: TypeAlias = Literal["better", "worse", "not shown", "too few", "not measured"]


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured of each run."""

    name: str
    quantity: Quantity
    """Of which it is one: for unit and precision."""
    short: str
    """For where there is little room."""


_RETURN, _ACCURACY = QUANTITIES["avg_reward"], QUANTITIES["avg_accuracy"]
MEASURES: Final = {
    "final_return": Measure(f"final {_RETURN.name}", _RETURN, "final return"),
    "best_return": Measure(f"best {_RETURN.name}", _RETURN, "best return"),
    "final_accuracy": Measure(f"final {_ACCURACY.name}", _ACCURACY, "final accuracy"),
    "best_accuracy": Measure(f"best {_ACCURACY.name}", _ACCURACY, "best accuracy"),
    "evaluation": Measure("evaluated episode return", _RETURN, "evaluated"),
    "test_accuracy": Measure("test accuracy", _ACCURACY, "test accuracy"),
}
"""By key, in the order of every view. Final is the mean over the last tenth of the batches, best the best batch; the
last two are the learnt policy's on fresh episodes, at its own end (run.json)."""
DECIDES: Final[Mapping[By, str]] = {
    "return": "final_return",
    "accuracy": "final_accuracy",
    "evaluation": "evaluation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What one run came to, or one arm of an A/B run."""

    run: str
    group: str
    arm: str
    """The key of its arm."""
    seed: int | None
    status: str | None
    """As run.json has it; None without it."""
    verdict: str
    headline: str
    """The verdict in a line."""
    episodes: int
    """Completed in the end."""
    left_out: str | None
    """Why it is not counted; None for one that is."""
    scores: Mapping[str, float]
    """By measure, what was measured; empty for a run that is not counted."""
    episodes_to_threshold: int | None
    """None when it never got there, or is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A measure over the runs of an arm. Intervals are of 95 %, by the percentile bootstrap; None for a single run."""

    runs: int
    """That measured it."""
    mean: float
    mean_interval: Interval | None
    iqm: float
    """Interquartile mean: of the middle half."""
    iqm_interval: Interval | None
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The mean over the runs of an arm by episodes completed, and its 95 % interval."""

    episodes: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """What an arm came to; only the runs that are counted are in it."""

    key: str
    """``A``, ``B``, …, in the order in which its first run was given."""
    label: str
    """What tells it from the others: ``lr=0.003``; empty for a single arm."""
    task: str | None
    seeds: tuple[int | None, ...]
    """Of the runs."""
    not_counted: int
    """Runs that were lost to it: failed, ended early, or not finite."""
    scores: Mapping[str, Score]
    """By measure; what no run measured is not there."""
    return_curve: Curve
    accuracy_curve: Curve
    reached_threshold: int
    """Runs that did."""
    episodes_to_threshold: float | None
    """The median over runs; None where no more than half of them got there."""
    germinated: Mapping[str, int]
    """Seeds, by blueprint."""
    fossilized: Mapping[str, int]
    """Those of them that were kept."""

    @property
    def name(self) -> str:
        """Key and, where that is short, label."""
        return named(self.key, self.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """Whether an arm differs from its baseline, the first arm of the same task."""

    arm: str
    baseline: str
    measure: str
    """The measure that decides."""
    answer: Answer
    """``too few``: with so many seeds no difference could be shown."""
    difference: float | None
    """Of means, arm less baseline."""
    interval: Interval | None
    """Welch's, of 95 %."""
    p: float | None
    """How often chance alone sets arms as far apart, corrected for how many arms are compared (Holm)."""
    improvement: float | None
    """Probability that a run of the arm is better than one of the baseline."""
    improvement_interval: Interval | None
    """Of 95 %, by the percentile bootstrap."""
    seeds_needed: int | None
    """About how many an arm would show a difference as large as this one, four times out of five."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that is said about runs side by side."""

    by: str
    """The measure that decides."""
    arms: tuple[ArmResult, ...]
    conclusions: tuple[Conclusion, ...]
    horizon: int | None
    """Episodes over which runs are compared; None where each is taken at its own end."""
    threshold: float | None
    """Mean episode return to which episodes are counted; None where nothing was measured."""
    settings: Mapping[str, Sequence[str]]
    """Every setting in which arms differ, with the value of each."""
    unheeded: Mapping[str, Sequence[str]]
    """What differs without making another arm, versions of libraries among it, with all its values."""
    runs: tuple[RunResult, ...]
    """Of each arm after the other, also those that are not counted."""
    unread: Mapping[str, str]
    """Runs that could not be read, and why."""
