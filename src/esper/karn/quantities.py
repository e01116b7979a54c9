"""What views call the quantities that several of them show, and how they write them: one name and precision for each.

A return is the sum of an episode's rewards, a reward is one step's. The policy's entropy is the mean over a batch's
states, a decision's entropy is one state's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from esper.karn.formatting import fraction, number

__all__ = ["QUANTITIES", "Quantity"]


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
