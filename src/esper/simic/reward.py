"""The reward of one step, as a sum of signed contributions.

Change in accuracy, attribution to the seeds, rent, alpha shock, lifecycle costs, progress through the stages,
verdict on what is fossilized, and two warnings.

The names of the contributions are those of the reward's telemetry payload, which says what each one means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from esper.leyline.actions import Op
from esper.leyline.stages import SeedStage

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ACCURACY_WEIGHT",
    "ATTRIBUTION_BOUND",
    "FOSSILIZE_BOUND",
    "FOSSILIZE_PENALTY",
    "FOSSILIZE_THRESHOLD",
    "FOSSILIZE_WEIGHT",
    "GERMINATE_COST",
    "HOLDING_COST",
    "HOLDING_PATIENCE",
    "LOST_SEED_COST",
    "PRUNE_COST",
    "RENT_WEIGHT",
    "SHOCK_WEIGHT",
    "STAGE_POTENTIAL",
    "STAGE_WEIGHT",
    "RewardBreakdown",
    "StepMeasurements",
    "compute_reward",
]

ACCURACY_WEIGHT = 10.0
ATTRIBUTION_BOUND = 0.3
RENT_WEIGHT = 0.1
SHOCK_WEIGHT = 0.05
STAGE_WEIGHT = 0.1
STAGE_POTENTIAL = {
    SeedStage.TRAINING: 0.5,
    SeedStage.BLENDING: 1.0,
    SeedStage.HOLDING: 1.5,
    SeedStage.FOSSILIZED: 2.0,
}
"""Progress of a slot; stages that are not listed have none."""
FOSSILIZE_WEIGHT = 2.0
FOSSILIZE_BOUND = 0.3
FOSSILIZE_THRESHOLD = 0.005
"""A seed that contributes no more than this fraction does not help."""
FOSSILIZE_PENALTY = 0.3
GERMINATE_COST = 0.02
PRUNE_COST = 0.01
LOST_SEED_COST = 0.5
HOLDING_COST = 0.1
HOLDING_PATIENCE = 2
"""Host epochs that a seed may stay in HOLDING free of charge."""


@dataclass(slots=True, frozen=True, kw_only=True)
class StepMeasurements:
    """What was measured in one step of one environment. Accuracies and contributions are fractions."""

    op: Op
    """The op carried out."""
    accuracy_before: float
    """Validation accuracy before the step."""
    accuracy: float
    """Validation accuracy after it."""
    control: float
    """Mean validation accuracy of do-nothing hosts after the same epoch."""
    blending: tuple[float, ...]
    """Contributions of the seeds that were blending in this epoch."""
    settled: tuple[float, ...]
    """Contributions of the other seeds that have joined."""
    fossilized: float | None
    """Contribution of the seed that was fossilized, measured before the step; None when none was."""
    lost_seeds: int
    """Seeds pruned because the episode ended."""
    host_params: int
    """Trainable parameters of the bare host, 1 or more."""
    seed_params: int
    """Trainable parameters of all seeds after the step."""
    alphas_before: tuple[float, ...]
    """Alpha of every slot before the step."""
    alphas: tuple[float, ...]
    """Alpha of every slot after it."""
    stages_before: tuple[SeedStage, ...]
    """Stage of every slot before the step."""
    stages: tuple[SeedStage, ...]
    """Stage of every slot after it."""
    holding_epochs: tuple[int, ...]
    """Host epochs spent in HOLDING, for every seed that is there after the step."""


@dataclass(slots=True, frozen=True, kw_only=True)
class RewardBreakdown:
    """Signed contributions to the reward of one step; their sum is the reward."""

    base_acc_delta: float
    bounded_attribution: float
    compute_rent: float
    alpha_shock: float
    ratio_penalty: float
    stage_bonus: float
    fossilize_terminal_bonus: float
    blending_warning: float
    holding_warning: float

    def contributions(self) -> dict[str, float]:
        """Return the contributions by name, in the order they are added."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def total_reward(self) -> float:
        """The reward of the step."""
        return sum(self.contributions().values())


def compute_reward(step: StepMeasurements) -> RewardBreakdown:
    """Return what one step is worth."""
    return RewardBreakdown(
        base_acc_delta=ACCURACY_WEIGHT * (step.accuracy - step.accuracy_before),
        bounded_attribution=_attribution(step),
        compute_rent=0.0 - RENT_WEIGHT * math.log1p(step.seed_params / step.host_params),
        alpha_shock=0.0
        - SHOCK_WEIGHT
        * sum((after - before) ** 2 for before, after in zip(step.alphas_before, step.alphas, strict=True)),
        ratio_penalty=0.0
        - GERMINATE_COST * (step.op is Op.GERMINATE)
        - PRUNE_COST * (step.op is Op.PRUNE)
        - LOST_SEED_COST * step.lost_seeds,
        stage_bonus=STAGE_WEIGHT * (_potential(step.stages) - _potential(step.stages_before)),
        fossilize_terminal_bonus=0.0 if step.fossilized is None else _verdict(step.fossilized),
        blending_warning=_bounded_harm(step.blending),
        holding_warning=0.0 - HOLDING_COST * sum(epochs > HOLDING_PATIENCE for epochs in step.holding_epochs),
    )


def _attribution(step: StepMeasurements) -> float:
    """Credit what helps, but never more than the gain over doing nothing, and debit settled seeds that hurt.

    Ablation alone overstates: a host that grew up with a seed is worse without it than one that never had it.
    """
    helping = sum(value for value in (*step.blending, *step.settled) if value > 0)
    gain = step.accuracy - step.control
    credit = max(-ATTRIBUTION_BOUND, min(helping, gain, ATTRIBUTION_BOUND)) if helping else 0.0
    return credit + _bounded_harm(step.settled)


def _bounded_harm(contributions: Iterable[float]) -> float:
    return max(-ATTRIBUTION_BOUND, sum(value for value in contributions if value < 0))


def _potential(stages: Iterable[SeedStage]) -> float:
    return sum(STAGE_POTENTIAL.get(stage, 0.0) for stage in stages)


def _verdict(contribution: float) -> float:
    if contribution <= FOSSILIZE_THRESHOLD:
        return -FOSSILIZE_PENALTY
    return FOSSILIZE_WEIGHT * min(contribution, FOSSILIZE_BOUND)
