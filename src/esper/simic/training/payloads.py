"""The payloads of the training loop, made of what it measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from esper.leyline.telemetry import RewardComputedPayload, TelemetryPayload, TrainingStartedPayload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esper.simic.config import TrainingConfig
    from esper.simic.environment import StepOutcome
    from esper.simic.rollout import Transition
    from esper.tamiyo.distribution import Alternative

__all__ = ["Decision", "explain", "not_finite", "reward_computed", "training_started"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy thought at one step of one environment."""

    value: float
    confidence: float
    entropy: float
    alternatives: tuple[Alternative, ...]


class _StartedExtras(TypedDict, total=False):
    """What not every run has."""

    episode_id: str
    amp_dtype: str
    compile_backend: str
    compile_mode: str


class _RewardExtras(TypedDict, total=False):
    """What not every run has."""

    ab_group: str


def training_started(config: TrainingConfig, *, host_params: int, slot_ids: tuple[str, ...]) -> TrainingStartedPayload:
    """Describe a run that begins.

    Args:
        config: of the run.
        host_params: trainable parameters of a bare host.
        slot_ids: every slot, from input to output.
    """
    extras: _StartedExtras = {}
    if config.episode_id:
        extras["episode_id"] = config.episode_id
    if config.amp_dtype is not None:
        extras["amp_dtype"] = config.amp_dtype
    if config.compile_backend is not None:
        extras["compile_backend"] = config.compile_backend
    if config.compile_mode is not None:
        extras["compile_mode"] = config.compile_mode
    return TrainingStartedPayload(
        n_envs=config.envs,
        max_epochs=config.max_epochs,
        task=config.task,
        host_params=host_params,
        slot_ids=slot_ids,
        seed=config.seed,
        n_episodes=config.episodes,
        lr=config.lr,
        clip_ratio=config.clip_ratio,
        entropy_coef=config.entropy_coef,
        param_budget=config.param_budget,
        policy_device=config.device,
        env_devices=(config.hosts_device,) * config.envs,
        reward_mode=config.reward_mode,
        entropy_anneal={
            "start": config.entropy_coef,
            "end": config.entropy_coef_end,
            "episodes": float(config.episodes),
        },
        amp_enabled=config.amp_dtype is not None,
        compile_enabled=config.compile_backend is not None,
        **extras,
    )


def reward_computed(
    outcome: StepOutcome, decision: Decision, *, env_id: int, slot_ids: Sequence[str], ab_group: str | None
) -> RewardComputedPayload:
    """Describe one step of one environment.

    Args:
        outcome: what the step brought.
        decision: what the policy thought.
        env_id: global index of the environment.
        slot_ids: every slot, from input to output.
        ab_group: arm of an A/B comparison; None outside one.
    """
    arm: _RewardExtras = {} if ab_group is None else {"ab_group": ab_group}
    return RewardComputedPayload(
        env_id=env_id,
        value_estimate=decision.value,
        action_confidence=decision.confidence,
        alternatives=[
            {
                "action": other.op.name,
                "slot": None if other.slot is None else slot_ids[other.slot],
                "probability": other.probability,
            }
            for other in decision.alternatives
        ],
        decision_entropy=decision.entropy,
        **outcome.fields(),
        **arm,
    )


def not_finite(payload: TelemetryPayload) -> list[str]:
    """Return the names of the fields that hold a number which is not finite."""
    return [name for name, value in payload.to_dict().items() if isinstance(value, float) and not math.isfinite(value)]


def explain(transition: Transition) -> list[Decision]:
    """What is known about each environment's decision."""
    columns = (
        transition.values.tolist(),
        transition.log_probs.exp().tolist(),
        transition.entropy.tolist(),
        transition.alternatives,
    )
    return [Decision(*row) for row in zip(*columns, strict=True)]
