"""The training loop: several environments side by side, one policy, one PPO update a batch of episodes."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from esper.kasmina.blueprints import BLUEPRINTS
from esper.leyline.actions import Op
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    Emit,
    RewardComputedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)
from esper.nissa.output import emit_training_started
from esper.simic.determinism import Stream, derive_seed, one_thread
from esper.simic.environment import GrowthEnv, StepOutcome, do_nothing_control
from esper.simic.observation import Observation, observation_size
from esper.simic.ppo import Learner, assess_update
from esper.simic.rollout import Rollout, Transition
from esper.simic.tasks import load_task
from esper.simic.training.config import TrainingConfig
from esper.simic.training.trained import TrainedPolicy
from esper.tamiyo.distribution import MaskBatch
from esper.tamiyo.policy import Policy, PolicyShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esper.leyline.event_types import Severity
    from esper.tamiyo.distribution import Alternative

__all__ = ["TrainedPolicy", "TrainingConfig", "train"]

_ALTERNATIVES = 3
"""How many of the pairs that were not chosen are emitted with a decision."""
_ROLLING_BATCHES = 10
"""Batches that the rolling accuracy is taken over."""


def train(config: TrainingConfig, emit: Emit) -> TrainedPolicy:
    """Train a policy and emit everything about it.

    One batch is one episode in every environment, then one update. Its last event is BATCH_EPOCH_COMPLETED. For a
    given configuration the run is the same to the last bit, but for the times it measures.

    Args:
        config: what to do.
        emit: takes the events, on this thread. An exception out of it, or an interrupt, ends training as it is.

    Returns:
        The policy after the last update.

    Raises:
        ValueError: the task cannot be loaded.
        FloatingPointError: the policy's weights are no longer finite; the update that did it has been emitted.
    """
    with one_thread():
        return _Run(config, emit).train()


@dataclass(frozen=True, slots=True)
class _Decision:
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
    """What not every step has."""

    seed_contribution: float
    action_slot: str
    ab_group: str


class _Run:
    """One training run, from the first network to the last update."""

    def __init__(self, config: TrainingConfig, emit: Emit) -> None:
        self._config = config
        self._emit = emit
        self._device = torch.device(config.device)
        self._task = load_task(config.task)
        control = do_nothing_control(
            self._task,
            n_slots=config.slots,
            max_epochs=config.max_epochs,
            device=config.device,
            seed=self._seed(Stream.CONTROL),
        )
        self._envs = [
            GrowthEnv(
                self._task,
                env_id=env_id,
                n_slots=config.slots,
                max_epochs=config.max_epochs,
                param_budget=config.param_budget,
                device=config.device,
                emit=emit,
                group_id=config.group_id,
                control=control,
            )
            for env_id in range(config.envs)
        ]
        self._slot_ids = self._envs[0].slot_ids
        self._shape = PolicyShape(observation_size(config.slots), config.slots, len(BLUEPRINTS))
        initialisation = torch.Generator().manual_seed(self._seed(Stream.INITIALISATION))
        self._policy = Policy(self._shape, initialisation).to(self._device)
        if config.compile_backend is not None:
            self._policy.compile(backend=config.compile_backend, mode=config.compile_mode)
        self._learner = Learner(
            self._policy,
            config,
            slot_ids=self._slot_ids,
            blueprint_ids=tuple(BLUEPRINTS),
            generator=torch.Generator().manual_seed(self._seed(Stream.SHUFFLING)),
        )
        self._sampling = torch.Generator(self._device).manual_seed(self._seed(Stream.SAMPLING))

    def train(self) -> TrainedPolicy:
        config = self._config
        emit_training_started(self._emit, self._started(), group_id=config.group_id)
        accuracies: deque[float] = deque(maxlen=_ROLLING_BATCHES)
        for batch, completed in enumerate(range(0, config.episodes, config.envs)):
            envs = self._envs[: config.episodes - completed]
            rollout, actions, decisions = self._collect(envs, completed)

            update = self._learner.update(rollout, batch=batch, progress=completed / config.episodes)
            severity, message = assess_update(update, config.target_kl)
            self._emit_event(update, message=message, severity=severity)
            self._emit_analytics(envs, actions, decisions)
            if not all(bool(weight.isfinite().all()) for weight in self._policy.parameters()):
                raise FloatingPointError(f"the policy's weights are not finite after update {batch}: {message}")

            final = tuple(env.outcome.val_accuracy for env in envs)
            accuracies.append(fmean(final))
            returns = rollout.rewards.sum(dim=0).tolist()
            result = BatchEpochCompletedPayload(
                episodes_completed=completed + len(envs),
                batch_idx=batch,
                avg_accuracy=fmean(final),
                avg_reward=fmean(returns),
                total_episodes=config.episodes,
                n_envs=len(envs),
                rolling_accuracy=fmean(accuracies),
                env_accuracies=final,
            )
            message = f"batch {batch}: reward {result.avg_reward:.2f}, accuracy {result.avg_accuracy:.1%}"
            self._emit_event(result, message=message)
        return TrainedPolicy.of(self._policy, config, self._shape)

    def _collect(self, envs: Sequence[GrowthEnv], first_episode: int) -> tuple[Rollout, Counter[Op], list[_Decision]]:
        """Play one episode in each environment.

        Returns:
            The batch, how often each op was carried out, and the last decision of each environment.
        """
        observed = [
            env.reset(seed=self._seed(Stream.TRAINING_EPISODE, first_episode + index))[0]
            for index, env in enumerate(envs)
        ]
        ops: Counter[Op] = Counter()
        transitions: list[Transition] = []
        rewards: list[list[float]] = []
        decisions: list[_Decision] = []
        for _ in range(self._config.max_epochs):
            transition = self._decide(observed, envs)
            decisions = _explain(transition)
            steps = [env.step(vector) for env, vector in zip(envs, transition.actions.cpu().numpy(), strict=True)]
            for env, decision in zip(envs, decisions, strict=True):
                ops[env.outcome.op] += 1
                self._emit_reward(env.env_id, env.outcome, decision)
            observed = [step[0] for step in steps]
            transitions.append(transition)
            rewards.append([step[1] for step in steps])
        return Rollout.of(transitions, rewards), ops, decisions

    @torch.no_grad()
    def _decide(self, observed: Sequence[Observation], envs: Sequence[GrowthEnv]) -> Transition:
        """Sample one action for each environment."""
        observations = torch.from_numpy(np.stack(observed)).to(self._device)
        masks = MaskBatch.stack([env.masks for env in envs], self._device)
        distribution, values = self._learner.evaluate(observations, masks)
        actions = distribution.sample(self._sampling)
        return Transition(
            observations,
            masks,
            actions,
            log_probs=distribution.log_prob(actions),
            entropy=distribution.entropy(),
            head_entropies=distribution.head_entropies(actions),
            heads_used=distribution.heads_used(actions),
            largest_entropy=distribution.largest_entropy(),
            values=values * self._learner.return_scale.value,
            alternatives=distribution.alternatives(actions, _ALTERNATIVES),
        )

    # ── emitting ────────────────────────────────────────────────────────────────────────────────────────────────

    def _started(self) -> TrainingStartedPayload:
        config = self._config
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
            host_params=self._envs[0].host_params,
            slot_ids=self._slot_ids,
            seed=config.seed,
            n_episodes=config.episodes,
            lr=config.lr,
            clip_ratio=config.clip_ratio,
            entropy_coef=config.entropy_coef,
            param_budget=config.param_budget,
            policy_device=config.device,
            env_devices=(config.device,) * config.envs,
            entropy_anneal={
                "start": config.entropy_coef,
                "end": config.entropy_coef_end,
                "episodes": float(config.episodes),
            },
            amp_enabled=config.amp_dtype is not None,
            compile_enabled=config.compile_backend is not None,
            **extras,
        )

    def _emit_reward(self, env_id: int, outcome: StepOutcome, decision: _Decision) -> None:
        extras: _RewardExtras = {}
        if outcome.seed_contribution is not None:
            extras["seed_contribution"] = outcome.seed_contribution
        if outcome.action_slot is not None:
            extras["action_slot"] = outcome.action_slot
        if self._config.group_id != "default":
            extras["ab_group"] = self._config.group_id
        reward = outcome.reward
        payload = RewardComputedPayload(
            env_id=env_id,
            total_reward=reward.total_reward,
            action_name=outcome.op.name,
            value_estimate=decision.value,
            action_confidence=decision.confidence,
            base_acc_delta=reward.base_acc_delta,
            bounded_attribution=reward.bounded_attribution,
            compute_rent=reward.compute_rent,
            alpha_shock=reward.alpha_shock,
            ratio_penalty=reward.ratio_penalty,
            stage_bonus=reward.stage_bonus,
            fossilize_terminal_bonus=reward.fossilize_terminal_bonus,
            blending_warning=reward.blending_warning,
            holding_warning=reward.holding_warning,
            val_acc=outcome.val_accuracy,
            slot_states=outcome.slot_states,
            host_accuracy=outcome.host_accuracy,
            alternatives=[
                {
                    "action": other.op.name,
                    "slot": None if other.slot is None else self._slot_ids[other.slot],
                    "probability": other.probability,
                }
                for other in decision.alternatives
            ],
            decision_entropy=decision.entropy,
            **extras,
        )
        where = f" {outcome.action_slot}" if outcome.action_slot else ""
        message = f"env {env_id}: {outcome.op.name}{where}, reward {payload.total_reward:+.3f}"
        finite = math.isfinite(payload.total_reward)
        self._emit_event(
            payload,
            epoch=outcome.epoch,
            slot_id=outcome.action_slot,
            message=message,
            severity="debug" if finite else "error",
        )

    def _emit_analytics(self, envs: Sequence[GrowthEnv], ops: Counter[Op], decisions: Sequence[_Decision]) -> None:
        counts = {op.name: ops[op] for op in Op}
        counted = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        distribution = AnalyticsSnapshotPayload(kind="action_distribution", action_counts=counts)
        self._emit_event(distribution, message=counted, severity="debug")
        for env, decision in zip(envs, decisions, strict=True):
            last = AnalyticsSnapshotPayload(
                kind="last_action",
                env_id=env.env_id,
                total_reward=env.outcome.reward.total_reward,
                action_name=env.outcome.op.name,
                action_confidence=decision.confidence,
                value_estimate=decision.value,
            )
            message = f"env {env.env_id}: last action {env.outcome.op.name}"
            self._emit_event(
                last,
                epoch=env.outcome.epoch,
                slot_id=env.outcome.action_slot,
                message=message,
                severity="debug",
            )

    def _emit_event(
        self,
        payload: TelemetryPayload,
        *,
        message: str,
        severity: Severity = "info",
        epoch: int | None = None,
        slot_id: str | None = None,
    ) -> None:
        self._emit(
            TelemetryEvent(
                data=payload,
                epoch=epoch,
                slot_id=slot_id,
                group_id=self._config.group_id,
                message=message,
                severity=severity,
            )
        )

    def _seed(self, stream: Stream, index: int = 0) -> int:
        return derive_seed(self._config.seed, stream, index)


def _explain(transition: Transition) -> list[_Decision]:
    """What is known about each environment's decision."""
    columns = (
        transition.values.tolist(),
        transition.log_probs.exp().tolist(),
        transition.entropy.tolist(),
        transition.alternatives,
    )
    return [_Decision(*row) for row in zip(*columns, strict=True)]
