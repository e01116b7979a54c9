"""The reward of one step, as a sum of signed contributions, in one of three modes.

``shaped`` sums the change in accuracy, attribution to the seeds, rent, alpha shock, lifecycle costs, progress through
the stages, a verdict on what is fossilized, and two warnings. ``simplified`` keeps the change in accuracy, the rent and
the lifecycle costs. ``sparse`` pays nothing before the episode's last step, and then the accuracy gained over the
episode less the rent.

The names of the contributions are those of the reward's telemetry payload, which says what each one means. What rests
on a measurement that is not finite is not finite either: a diverged host is neither rewarded nor punished.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from esper.leyline.actions import Op
from esper.leyline.stages import SeedStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from esper.simic.config import RewardMode

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
    accuracy_at_start: float
    """Validation accuracy before the episode's first step."""
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
    final: bool
    """Whether the episode ends with the step."""


@dataclass(slots=True, frozen=True, kw_only=True)
class RewardBreakdown:
    """Signed contributions to the reward of one step; their sum is the reward. What a mode leaves out is 0."""

    base_acc_delta: float = 0.0
    bounded_attribution: float = 0.0
    compute_rent: float = 0.0
    alpha_shock: float = 0.0
    ratio_penalty: float = 0.0
    stage_bonus: float = 0.0
    fossilize_terminal_bonus: float = 0.0
    blending_warning: float = 0.0
    holding_warning: float = 0.0

    def contributions(self) -> dict[str, float]:
        """Return the contributions by name, in the order they are added."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def total_reward(self) -> float:
        """The reward of the step."""
        return sum(self.contributions().values())


def compute_reward(step: StepMeasurements, mode: RewardMode = "shaped") -> RewardBreakdown:
    """Return what one step is worth under a reward mode."""
    return _REWARDS[mode](step)


def _shaped(step: StepMeasurements) -> RewardBreakdown:
    return RewardBreakdown(
        base_acc_delta=ACCURACY_WEIGHT * (step.accuracy - step.accuracy_before),
        bounded_attribution=_attribution(step),
        compute_rent=_rent(step),
        alpha_shock=0.0
        - SHOCK_WEIGHT
        * sum((after - before) ** 2 for before, after in zip(step.alphas_before, step.alphas, strict=True)),
        ratio_penalty=_lifecycle_costs(step),
        stage_bonus=STAGE_WEIGHT * (_potential(step.stages) - _potential(step.stages_before)),
        fossilize_terminal_bonus=0.0 if step.fossilized is None else _verdict(step.fossilized),
        blending_warning=_bounded_harm(step.blending),
        holding_warning=0.0 - HOLDING_COST * sum(epochs > HOLDING_PATIENCE for epochs in step.holding_epochs),
    )


def _simplified(step: StepMeasurements) -> RewardBreakdown:
    return RewardBreakdown(
        base_acc_delta=ACCURACY_WEIGHT * (step.accuracy - step.accuracy_before),
        compute_rent=_rent(step),
        ratio_penalty=_lifecycle_costs(step),
    )


def _sparse(step: StepMeasurements) -> RewardBreakdown:
    if not step.final:
        return RewardBreakdown()
    return RewardBreakdown(
        base_acc_delta=ACCURACY_WEIGHT * (step.accuracy - step.accuracy_at_start), compute_rent=_rent(step)
    )


_REWARDS: Mapping[RewardMode, Callable[[StepMeasurements], RewardBreakdown]] = {
    "shaped": _shaped,
    "sparse": _sparse,
    "simplified": _simplified,
}


def _rent(step: StepMeasurements) -> float:
    return 0.0 - RENT_WEIGHT * math.log1p(step.seed_params / step.host_params)


def _lifecycle_costs(step: StepMeasurements) -> float:
    germinated, pruned = step.op is Op.GERMINATE, step.op is Op.PRUNE
    return 0.0 - GERMINATE_COST * germinated - PRUNE_COST * pruned - LOST_SEED_COST * step.lost_seeds


def _attribution(step: StepMeasurements) -> float:
    """Credit what helps, but never more than the gain over doing nothing, and debit settled seeds that hurt.

    Ablation alone overstates: a host that grew up with a seed is worse without it than one that never had it.
    """
    helping = sum(value for value in (*step.blending, *step.settled) if not value <= 0)  # NaN counts
    gain = step.accuracy - step.control
    credit = _least(helping, gain, ATTRIBUTION_BOUND) if helping else 0.0
    return -_least(-credit, ATTRIBUTION_BOUND) + _bounded_harm(step.settled)


def _bounded_harm(contributions: Iterable[float]) -> float:
    """Sum of what hurts, at worst the bound."""
    return 0.0 - _least(-sum(value for value in contributions if not value >= 0), ATTRIBUTION_BOUND)


def _least(*values: float) -> float:
    """Return the smallest, NaN when one of them is: `min` would depend on their order."""
    return math.nan if any(map(math.isnan, values)) else min(values)


def _potential(stages: Iterable[SeedStage]) -> float:
    return sum(STAGE_POTENTIAL.get(stage, 0.0) for stage in stages)


def _verdict(contribution: float) -> float:
    if contribution <= FOSSILIZE_THRESHOLD:
        return -FOSSILIZE_PENALTY
    return FOSSILIZE_WEIGHT * _least(contribution, FOSSILIZE_BOUND)
