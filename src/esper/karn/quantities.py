"""What views call the quantities that several of them show, and how they write them: one name and precision for each.

A return is the sum of an episode's rewards, a reward is one step's. The policy's entropy is the mean over a batch's
states, a decision's entropy is one state's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from esper.karn.formatting import fraction, number

if TYPE_CHECKING:
    from esper.karn.snapshot import LifecycleTotals
    from esper.leyline.run_info import Evaluation, PolicyScore

__all__ = [
    "LIFECYCLE", "QUANTITIES", "Quantity", "baselines_of", "by_name", "lifecycle_counts", "score_texts", "scores_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity under the name that views give it."""

    name: str
    short: str
    """For where there is little room."""
    text: Callable[[float | None], str] = number
    """Writes a value; ``—`` for None."""


QUANTITIES = {
    "avg_reward": Quantity("mean episode return", "return"),
    "avg_accuracy": Quantity("validation accuracy", "accuracy", fraction),
    "rolling_accuracy": Quantity("rolling validation accuracy", "rolling", fraction),
    "entropy": Quantity("policy entropy", "policy entropy"),
    "kl_divergence": Quantity("KL divergence", "KL"),
    "total_reward": Quantity("step reward", "reward"),
    "decision_entropy": Quantity("decision entropy", "entropy"),
}
"""By the payload field that holds it."""

LIFECYCLE = {
    "germinated": "germinated",
    "fossilized": "fossilized",
    "pruned_by_policy": "pruned: policy",
    "pruned_by_rule": "rule",
    "pruned": "unknown",
}
"""What views call what became of seeds, by the field of `LifecycleTotals`."""


def by_name(lifecycle: Mapping[str | None, LifecycleTotals]) -> list[tuple[str | None, LifecycleTotals]]:
    """Return what became of the seeds of each blueprint, in the order of every view; that nobody named is last."""
    return sorted(lifecycle.items(), key=lambda item: (item[0] is None, item[0] or ""))


def lifecycle_counts(totals: LifecycleTotals) -> list[int]:
    """Return what became of the seeds of a blueprint, in the order of `LIFECYCLE`."""
    return [getattr(totals, name) for name in LIFECYCLE]


def scores_of(evaluation: Evaluation) -> dict[str, PolicyScore]:
    """Return how each policy of an evaluation did, by what views call it; the learnt one is first."""
    return {"learnt": evaluation.learnt, **baselines_of(evaluation)}


def baselines_of(evaluation: Evaluation) -> dict[str, PolicyScore]:
    """Return the same of those that the learnt policy is held against."""
    return {"random": evaluation.random, "do nothing": evaluation.do_nothing}


def score_texts(score: PolicyScore) -> list[str]:
    """Return how a policy did: episode return, validation accuracy, test accuracy, each mean ± standard error."""
    decimals = ((score.reward, 2), (score.val_accuracy, 3), (score.test_accuracy, 3))
    return [f"{one.mean:.{n}f} ± {one.standard_error:.{n}f}" for one, n in decimals]
