"""The training loop: several environments side by side, one policy, one PPO update a batch of episodes."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter, deque
from contextlib import contextmanager, suppress
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
from esper.simic.determinism import Stream, derive_seed, one_thread
from esper.simic.ppo import Learner
from esper.simic.rollout import Rollout
from esper.simic.training.checkpoint import ArmState, Checkpoint
from esper.simic.training.injection import injected
from esper.simic.training.payloads import training_started
from esper.simic.training.playing import Playing
from esper.simic.training.ranks import ALONE, Ranks
from esper.simic.training.trained import TrainedPolicy, policy_shape
from esper.tamiyo.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from esper.leyline.event_types import Severity
    from esper.simic.rollout import PlayedEpisode

__all__ = ["TRAINING_FAILED", "NothingLearntError", "TrainedPolicy", "TrainingConfig", "train", "train_arms"]

TRAINING_FAILED = "training_failed"
"""Kind of the ANALYTICS_SNAPSHOT that says why a run ended by an error."""

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


def train_arms(
    config: TrainingConfig,
    emit: Emit,
    *,
    ranks: Ranks = ALONE,
    keep: Callable[[Checkpoint], None] = lambda _checkpoint: None,
    resume: Checkpoint | None = None,
    resume_path: str = "",
) -> tuple[TrainedPolicy, ...]:
    """Train a policy for each arm of a comparison, one without any, and emit everything about it.

    One batch is one episode in every environment, then one update. Its last event is BATCH_EPOCH_COMPLETED. For a
    given configuration the run is the same to the last bit, but for the times it measures, however often it was
    resumed and whichever number of processes shared it. Arms take turns, a batch each, and play the same episodes:
    equal seeds for equal hosts, shuffles and draws.

    An error ends it with an event of severity critical, an ANALYTICS_SNAPSHOT of kind `TRAINING_FAILED`.

    Args:
        config: what to do.
        emit: takes the events, on this thread. An exception out of it, or an interrupt, ends training as it is.
        ranks: this process among those that train together; each is to be given the same of everything else.
        keep: called at the end of each batch, on every rank, with what `resume` goes on from. The batch's last event is
            in it, and emitted when this returns: it is to see to it that all events before are safe, and then this.
        resume: a checkpoint to go on from, of a configuration that differs in the number of episodes or the devices
            only.
        resume_path: where it lies.

    Returns:
        The policies after the last update, in the order of the arms.

    Raises:
        ValueError: the task cannot be loaded, or there are fewer environments than processes.
        FloatingPointError: the policy's weights are no longer finite; the update that did it has been emitted. Or they
            are not the same on all ranks.
        NothingLearntError: no optimizer step was taken in five updates in a row, or in all of a shorter run.
        RankLostError: another process has failed, or is gone.
    """
    ranks.check(config.envs)
    with one_thread():
        runs = [_Run(arm, emit, ranks) for arm in config.arms()]
        begun = resume.arms if resume is not None else ()
        for run, state in zip(runs, begun, strict=bool(begun)):
            run.restore(state)
        for run in runs:
            run.begin(resume_path if begun else None)

        def checkpoint(pending: TelemetryEvent | None) -> Checkpoint:
            return Checkpoint(config, ranks.world_size, tuple(run.state() for run in runs), pending)

        while (run := min(runs, key=lambda each: each.completed)).completed < config.episodes:
            with run.failing_loudly():
                pending = run.train_batch()
                keep(checkpoint(pending))
                if ranks.leads:
                    emit(pending)
        return checkpoint(None).policies()


class _Run:
    """One training run, from the first network to the last update."""

    def __init__(self, config: TrainingConfig, emit: Emit, ranks: Ranks) -> None:
        self._config = config
        self._emit = emit
        self._ranks = ranks
        self._hosts = Playing(config, emit, ranks)
        initialisation = torch.Generator().manual_seed(derive_seed(config.seed, Stream.INITIALISATION))
        self._policy = Policy(policy_shape(config), initialisation).to(config.device)
        if config.compile_backend is not None:
            self._policy.compile(backend=config.compile_backend, mode=config.compile_mode)
        self._learner = Learner(
            self._policy,
            config,
            slot_ids=self._hosts.envs[0].slot_ids,
            blueprint_ids=tuple(BLUEPRINTS),
            generator=torch.Generator().manual_seed(derive_seed(config.seed, Stream.SHUFFLING)),
        )
        self.completed = 0
        self._batches = 0
        self._accuracies: deque[float] = deque(maxlen=_ROLLING_BATCHES)
        self._without_a_step: list[str] = []
        self._seeds_made = [0] * config.envs
        self._limits = Limits(target_kl=config.target_kl, clip_ratio=config.clip_ratio)
        self._typical = Typical()

    def state(self) -> ArmState:
        """Return a copy of everything that the rest of the run depends on."""
        return {
            "completed": self.completed,
            "batches": self._batches,
            "learner": copy.deepcopy(self._learner.state_dict()),
            "accuracies": list(self._accuracies),
            "without_a_step": list(self._without_a_step),
            "seeds_made": list(self._seeds_made),
            "typical": dataclasses.asdict(self._typical),
        }

    def restore(self, state: ArmState) -> None:
        """Go on from what `state` returned."""
        self.completed, self._batches = state["completed"], state["batches"]
        self._learner.load_state_dict(state["learner"])
        self._accuracies.extend(state["accuracies"])
        self._without_a_step[:] = state["without_a_step"]
        self._seeds_made[:] = state["seeds_made"]
        self._typical = Typical(**state["typical"])
        for env in self._hosts.envs:
            env.seeds_made = self._seeds_made[env.env_id]

    def begin(self, resume_path: str | None) -> None:
        """Say that the run begins, or goes on from a checkpoint, once every rank is ready to."""
        self._ranks.agree_on(self._policy.parameters(), "before the first update")
        started = training_started(
            self._config,
            host_params=self._hosts.envs[0].host_params,
            slot_ids=self._hosts.envs[0].slot_ids,
            ranks=self._ranks,
            resume_path=resume_path,
            start_episode=self.completed,
        )
        emit_training_started(self._emit, started, group_id=self._config.group)

    @contextmanager
    def failing_loudly(self) -> Iterator[None]:
        """Emit what goes wrong inside."""
        try:
            yield
        except Exception as error:
            if self._ranks.leads:  # where it struck another rank, it comes as a RankLostError
                failed = AnalyticsSnapshotPayload(kind=TRAINING_FAILED)
                with suppress(Exception):  # emitting may be what failed
                    self._emit_event(failed, message=f"training failed: {error}", severity="critical")
            raise

    def train_batch(self) -> TelemetryEvent:
        """Play one episode in each environment, learn from it, emit both, and return the last event."""
        config, batch, first = self._config, self._batches, self.completed
        n_envs = min(config.envs, config.episodes - first)
        fault = config.inject if batch == config.inject_at else None
        with injected(fault, self._policy, self._hosts.envs if self._ranks.leads else ()):
            episodes = self._hosts.play(self._learner, n_envs, first)
            rollout = Rollout.of([each.decisions for each in episodes], [each.rewards for each in episodes])
            update = self._learner.update(rollout, batch=batch, progress=first / config.episodes)
        self._ranks.agree_on(self._policy.parameters(), f"after update {batch}")
        severity, message = assess_update(update, self._limits, self._typical, self._learner.steps)
        self._typical = self._typical.after(update)
        if self._ranks.leads:
            self._emit_event(update, message=message, severity=severity)
            self._emit_actions(sum((each.ops for each in episodes), Counter[Op]()))
        self._hosts.emit_last_actions()
        self._check_learning(batch, message)
        self.completed, self._batches = first + n_envs, batch + 1
        self._seeds_made[:n_envs] = [each.seeds_made for each in episodes]
        return self._end_of_batch(batch, episodes, rollout.rewards.sum(dim=0).tolist())

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

    # ── emitting ────────────────────────────────────────────────────────────────────────────────────────────────

    def _emit_actions(self, ops: Counter[Op]) -> None:
        counts = {op.name: ops[op] for op in Op}
        counted = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        distribution = AnalyticsSnapshotPayload(kind="action_distribution", action_counts=counts)
        self._emit_event(distribution, message=counted, severity="debug")

    def _end_of_batch(self, batch: int, episodes: Sequence[PlayedEpisode], returns: list[float]) -> TelemetryEvent:
        final = tuple(each.val_accuracy for each in episodes)
        self._accuracies.append(fmean(final))
        result = BatchEpochCompletedPayload(
            episodes_completed=self.completed,
            batch_idx=batch,
            avg_accuracy=fmean(final),
            avg_reward=fmean(returns),
            total_episodes=self._config.episodes,
            n_envs=len(episodes),
            rolling_accuracy=fmean(self._accuracies),
            env_accuracies=final,
        )
        message = f"batch {batch}: reward {result.avg_reward:.2f}, accuracy {result.avg_accuracy:.1%}"
        diverged = [str(env_id) for env_id, each in enumerate(episodes) if not math.isfinite(each.val_loss)]
        if diverged:
            message = f"batch {batch}: no mean, because the host of env {', '.join(diverged)} diverged"
        return self._event(result, message=message, severity="warning" if diverged else "info")

    def _emit_event(self, payload: TelemetryPayload, *, message: str, severity: Severity) -> None:
        self._emit(self._event(payload, message=message, severity=severity))

    def _event(self, payload: TelemetryPayload, *, message: str, severity: Severity) -> TelemetryEvent:
        return TelemetryEvent(data=payload, group_id=self._config.group, message=message, severity=severity)
