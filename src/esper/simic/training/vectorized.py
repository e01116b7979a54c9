"""The training loop: several environments side by side, one policy, one PPO update a batch of episodes."""

from __future__ import annotations

import math
from collections import Counter, deque
from contextlib import suppress
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from esper.kasmina.blueprints import BLUEPRINTS
from esper.leyline.actions import Op
from esper.leyline.limits import Limits
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    Emit,
    TelemetryEvent,
    TelemetryPayload,
)
from esper.leyline.typical import Typical
from esper.nissa.output import emit_training_started
from esper.simic.assessment import assess_update
from esper.simic.config import TrainingConfig
from esper.simic.control import do_nothing_control
from esper.simic.determinism import Stream, derive_seed, one_thread
from esper.simic.environment import GrowthEnv
from esper.simic.observation import Observation, observation_size
from esper.simic.ppo import Learner
from esper.simic.rollout import Rollout, Transition
from esper.simic.tasks import load_task
from esper.simic.training.injection import injected
from esper.simic.training.payloads import Decision, explain, not_finite, reward_computed, training_started
from esper.simic.training.trained import TrainedPolicy
from esper.tamiyo.distribution import MaskBatch
from esper.tamiyo.policy import Policy, PolicyShape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from esper.leyline.event_types import Severity

__all__ = ["TRAINING_FAILED", "NothingLearntError", "TrainedPolicy", "TrainingConfig", "train", "train_arms"]

TRAINING_FAILED = "training_failed"
"""Kind of the ANALYTICS_SNAPSHOT that says why a run ended by an error."""

_ALTERNATIVES = 3
"""How many of the pairs that were not chosen are emitted with a decision."""
_ROLLING_BATCHES = 10
"""Batches that the rolling accuracy is taken over."""
_UPDATES_WITHOUT_A_STEP = 5
"""Updates in a row without one optimizer step after which a run is given up; all of them, where it has fewer."""


class NothingLearntError(FloatingPointError):
    """Updates followed each other in which no optimizer step was taken; the message names the first cause."""


def train(config: TrainingConfig, emit: Emit) -> TrainedPolicy:
    """Train a policy and emit everything about it: of an A/B comparison, the first arm's.

    See `train_arms`.
    """
    return train_arms(config, emit)[0]


def train_arms(config: TrainingConfig, emit: Emit) -> tuple[TrainedPolicy, ...]:
    """Train a policy for each arm of a comparison, one without any, and emit everything about it.

    One batch is one episode in every environment, then one update. Its last event is BATCH_EPOCH_COMPLETED. For a
    given configuration the run is the same to the last bit, but for the times it measures. Arms take turns, a batch
    each, and play the same episodes: equal seeds for equal hosts, shuffles and draws.

    An error ends it with an event of severity critical, an ANALYTICS_SNAPSHOT of kind `TRAINING_FAILED`.

    Args:
        config: what to do.
        emit: takes the events, on this thread. An exception out of it, or an interrupt, ends training as it is.

    Returns:
        The policies after the last update, in the order of the arms.

    Raises:
        ValueError: the task cannot be loaded.
        FloatingPointError: the policy's weights are no longer finite; the update that did it has been emitted.
        NothingLearntError: no optimizer step was taken in five updates in a row, or in all of a shorter run.
    """
    with one_thread():
        runs = [_Run(arm, emit) for arm in config.arms()]
        for _ in zip(*(run.batches() for run in runs), strict=True):
            pass
        return tuple(run.trained() for run in runs)


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
            device=config.hosts_device,
            seed=self._seed(Stream.CONTROL),
        )
        self._envs = [
            GrowthEnv(
                self._task,
                env_id=env_id,
                n_slots=config.slots,
                max_epochs=config.max_epochs,
                param_budget=config.param_budget,
                device=config.hosts_device,
                emit=emit,
                group_id=config.group,
                control=control,
                reward_mode=config.reward_mode,
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
        self._accuracies: deque[float] = deque(maxlen=_ROLLING_BATCHES)
        self._without_a_step: list[str] = []
        self._limits = Limits(target_kl=config.target_kl, clip_ratio=config.clip_ratio)
        self._typical = Typical()

    def batches(self) -> Iterator[int]:
        """Train, and yield the index of each batch after its last event."""
        started = training_started(self._config, host_params=self._envs[0].host_params, slot_ids=self._slot_ids)
        emit_training_started(self._emit, started, group_id=self._config.group)
        try:
            for batch, completed in enumerate(range(0, self._config.episodes, self._config.envs)):
                self._train_batch(batch, completed)
                yield batch
        except Exception as error:
            failed = AnalyticsSnapshotPayload(kind=TRAINING_FAILED)
            with suppress(Exception):  # emitting may be what failed
                self._emit_event(failed, message=f"training failed: {error}", severity="critical")
            raise

    def trained(self) -> TrainedPolicy:
        """Return the policy as it is."""
        return TrainedPolicy.of(self._policy, self._config, self._shape)

    def _train_batch(self, batch: int, completed: int) -> None:
        """Play one episode in each environment, learn from it, and emit both."""
        config = self._config
        envs = self._envs[: config.episodes - completed]
        fault = config.inject if batch == config.inject_at else None
        with injected(fault, self._policy, envs):
            rollout, actions, decisions = self._collect(envs, completed)
            update = self._learner.update(rollout, batch=batch, progress=completed / config.episodes)
        severity, message = assess_update(update, self._limits, self._typical, self._learner.steps)
        self._typical = self._typical.after(update)
        self._emit_event(update, message=message, severity=severity)
        self._emit_analytics(envs, actions, decisions)
        self._check_learning(batch, message)
        self._emit_batch(batch, envs, rollout.rewards.sum(dim=0).tolist(), completed + len(envs))

    def _check_learning(self, batch: int, message: str) -> None:
        """Refuse to go on with a policy that is lost, or that has not learnt for a while."""
        if not all(bool(weight.isfinite().all()) for weight in self._policy.parameters()):
            raise FloatingPointError(f"the policy's weights are not finite after update {batch}: {message}")
        if self._learner.steps.taken:
            self._without_a_step.clear()
            return
        self._without_a_step.append(message)
        if len(self._without_a_step) == min(_UPDATES_WITHOUT_A_STEP, self._config.updates):
            updates = "1 update" if len(self._without_a_step) == 1 else f"{len(self._without_a_step)} updates in a row"
            raise NothingLearntError(f"nothing was learnt in {updates}; it began with {self._without_a_step[0]}")

    def _collect(self, envs: Sequence[GrowthEnv], first_episode: int) -> tuple[Rollout, Counter[Op], list[Decision]]:
        """Play one episode in each environment.

        Returns:
            The batch, how often each op was carried out, and the last decision of each environment.
        """
        episodes = range(first_episode, first_episode + len(envs))
        observed = [
            env.reset(seed=self._seed(Stream.TRAINING_EPISODE, episode))[0]
            for env, episode in zip(envs, episodes, strict=True)
        ]
        sampling = [torch.Generator().manual_seed(self._seed(Stream.SAMPLING, episode)) for episode in episodes]
        ops: Counter[Op] = Counter()
        transitions: list[Transition] = []
        rewards: list[list[float]] = []
        decisions: list[Decision] = []
        for _ in range(self._config.max_epochs):
            # one environment at a time: the bits of a matrix product may depend on its number of rows
            transition = Transition.join([self._decide(*each) for each in zip(observed, envs, sampling, strict=True)])
            decisions = explain(transition)
            steps = [env.step(vector) for env, vector in zip(envs, transition.actions.cpu().numpy(), strict=True)]
            for env, decision in zip(envs, decisions, strict=True):
                ops[env.outcome.op] += 1
                self._emit_reward(env, decision)
            observed = [step[0] for step in steps]
            transitions.append(transition)
            rewards.append([step[1] for step in steps])
        return Rollout.of(transitions, rewards), ops, decisions

    @torch.no_grad()
    def _decide(self, observed: Observation, env: GrowthEnv, sampling: torch.Generator) -> Transition:
        """Sample one action for one environment."""
        observations = torch.from_numpy(observed).unsqueeze(0).to(self._device)
        masks = MaskBatch.stack([env.masks], self._device)
        distribution, values = self._learner.evaluate(observations, masks)
        actions = distribution.sample(sampling)
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

    def _emit_reward(self, env: GrowthEnv, decision: Decision) -> None:
        outcome = env.outcome
        payload = reward_computed(
            outcome, decision, env_id=env.env_id, slot_ids=self._slot_ids, ab_group=self._config.group_id
        )
        where = f" {outcome.action_slot}" if outcome.action_slot else ""
        paid = f"reward {payload.total_reward:+.3f}" if math.isfinite(payload.total_reward) else "no reward"
        message = f"env {env.env_id}: {outcome.op.name}{where}, {paid}"
        unusable = not_finite(payload)
        self._emit_event(
            payload,
            epoch=outcome.epoch,
            slot_id=outcome.action_slot,
            message=f"{message}; not finite: {', '.join(unusable)}" if unusable else message,
            severity="error" if unusable else "debug",
        )

    def _emit_analytics(self, envs: Sequence[GrowthEnv], ops: Counter[Op], decisions: Sequence[Decision]) -> None:
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

    def _emit_batch(self, batch: int, envs: Sequence[GrowthEnv], returns: list[float], completed: int) -> None:
        final = tuple(env.outcome.val_accuracy for env in envs)
        self._accuracies.append(fmean(final))
        result = BatchEpochCompletedPayload(
            episodes_completed=completed,
            batch_idx=batch,
            avg_accuracy=fmean(final),
            avg_reward=fmean(returns),
            total_episodes=self._config.episodes,
            n_envs=len(envs),
            rolling_accuracy=fmean(self._accuracies),
            env_accuracies=final,
        )
        message = f"batch {batch}: reward {result.avg_reward:.2f}, accuracy {result.avg_accuracy:.1%}"
        diverged = [str(env.env_id) for env in envs if not math.isfinite(env.outcome.val_loss)]
        if diverged:
            message = f"batch {batch}: no mean, because the host of env {', '.join(diverged)} diverged"
        self._emit_event(result, message=message, severity="warning" if diverged else "info")

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
                group_id=self._config.group,
                message=message,
                severity=severity,
            )
        )

    def _seed(self, stream: Stream, index: int = 0) -> int:
        return derive_seed(self._config.seed, stream, index)
