"""The whole stream of one arm's events, as it should be, beside what was emitted."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean
from typing import Any

import numpy as np
from tests.simic.differential.lifecycle import Environment, Expected
from tests.simic.differential.network import Array
from tests.simic.differential.policy import OPS, JointPolicy, Masks
from tests.simic.differential.updates import Samples, Update, Updates
from tests.simic.differential.witness import Batch, Step, tiny, witness

from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    TelemetryEvent,
)
from esper.simic.config import TrainingConfig

CLOCKS = frozenset({"update_time_ms", "compute_time_ms"})
"""Fields that only a clock can know; they are bounded instead."""


@dataclass
class Arm:
    """One arm of a run: what was emitted, and what should have been."""

    config: TrainingConfig
    emitted: list[TelemetryEvent]
    expected: list[Expected] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)


@lru_cache(maxsize=3)
def arms(**options: Any) -> list[Arm]:
    """Run a configuration, and predict what each of its arms emits."""
    seen = witness(**options)
    found = []
    for config in seen.config.arms():
        emitted = [event for event in seen.events if event.group_id == config.group]
        arm = Arm(config, emitted, batches=seen.batches[config.group])
        arm.expected.append(_started(config))
        arm.expected += _Prediction(arm).batches()
        found.append(arm)
    return found


def _started(config: TrainingConfig) -> Expected:
    task = tiny()
    env = Environment(task, 0, config.slots, config.max_epochs, config.param_budget, config.reward_mode)
    fields = {
        "n_envs": config.envs,
        "max_epochs": config.max_epochs,
        "task": config.task,
        "host_params": env.host_params,
        "slot_ids": tuple(f"r{index}" for index in range(config.slots)),
        "seed": config.seed,
        "n_episodes": config.episodes,
        "lr": config.lr,
        "clip_ratio": config.clip_ratio,
        "entropy_coef": config.entropy_coef,
        "param_budget": config.param_budget,
        "policy_device": "cpu",
        "env_devices": ("cpu",) * config.envs,
        "reward_mode": config.reward_mode,
        "entropy_anneal": {
            "start": config.entropy_coef,
            "end": config.entropy_coef_end,
            "episodes": float(config.episodes),
        },
        "amp_enabled": config.amp_dtype is not None,
        "compile_enabled": False,
    }
    return Expected("TrainingStartedPayload", fields | ({"amp_dtype": config.amp_dtype} if config.amp_dtype else {}))


class _Prediction:
    """Of one arm."""

    def __init__(self, arm: Arm) -> None:
        config = arm.config
        self._arm, self._config = arm, config
        self._envs = [
            Environment(tiny(), index, config.slots, config.max_epochs, config.param_budget, config.reward_mode)
            for index in range(config.envs)
        ]
        self._updates = Updates(config)
        self._accuracies: deque[float] = deque(maxlen=10)

    def batches(self) -> Iterator[Expected]:
        """Predict the events of every batch, in order."""
        told = _told(self._arm.emitted)
        completed = 0
        for index, (batch, accuracies) in enumerate(zip(self._arm.batches, told, strict=True)):
            yield from self._batch(batch, accuracies, index, completed)
            completed += len(batch.episodes)

    def _batch(
        self, batch: Batch, told: Mapping[tuple[int, int], dict[frozenset[str], float]], index: int, completed: int
    ) -> Iterator[Expected]:
        envs = self._envs[: len(batch.episodes)]
        for env, played in zip(envs, batch.episodes, strict=True):
            env.begin(played)
        rewards, masks, last = [], [], []
        for steps in zip(*(played.steps for played in batch.episodes), strict=True):
            masks += [env.masks() for env in envs]
            decided = [self._decision(env, step) for env, step in zip(envs, steps, strict=True)]
            followed = [
                env.step(step, told.get((env.env_id, env.epoch + 1), {})) for env, step in zip(envs, steps, strict=True)
            ]
            for events, _ in followed:
                yield from events
            last = [fields | decision for (_, fields), decision in zip(followed, decided, strict=True)]
            rewards.append([fields["total_reward"] for fields in last])
            for env, fields in zip(envs, last, strict=True):
                yield Expected("RewardComputedPayload", fields, env.epoch, fields.get("action_slot"))
        returned = np.array([[step.reward for step in played.steps] for played in batch.episodes]).T
        assert np.allclose(returned, np.array(rewards), equal_nan=True), "what a step returns is what it is worth"
        yield self._update(batch, Masks.stack(masks), np.array(rewards), index, completed)
        yield from _analytics(batch, last, [env.epoch for env in envs])
        yield self._end(np.array(rewards), [env.accuracy for env in envs], index, completed + len(envs))

    def _decision(self, env: Environment, step: Step) -> dict[str, Any]:
        """What the policy thought, by enumeration."""
        joint = JointPolicy(step.decision.logits, env.masks())
        vector = np.array([step.action])
        named = [
            {"action": op, "slot": f"r{slot}" if slot >= 0 else None, "probability": p}
            for op, slot, p in joint.alternatives(vector, 3)[0]
        ]
        fields = {
            "value_estimate": float(step.decision.values[0]) * self._updates.return_scale,
            "action_confidence": math.exp(joint.log_prob(vector)[0]),
            "alternatives": named,
            "decision_entropy": joint.entropy()[0],
        }
        return fields | ({} if self._config.group_id is None else {"ab_group": self._config.group_id})

    def _update(self, batch: Batch, masks: Masks, rewards: Array, index: int, completed: int) -> Expected:
        decisions = [step.decision for steps in zip(*(e.steps for e in batch.episodes), strict=True) for step in steps]
        actions = [step.action for steps in zip(*(e.steps for e in batch.episodes), strict=True) for step in steps]
        values = np.concatenate([each.values for each in decisions]).reshape(rewards.shape).astype(np.float64)
        samples = Samples(
            np.concatenate([each.observations for each in decisions]),
            {head: np.concatenate([each.logits[head] for each in decisions]) for head in decisions[0].logits},
            masks,
            np.array(actions),
            values * self._updates.return_scale,
            rewards,
        )
        update = self._updates.update(batch, samples, index, completed)
        self._arm.updates.append(update)
        return Expected("PPOUpdatePayload", update.fields)

    def _end(self, rewards: Array, final: list[float], index: int, completed: int) -> Expected:
        self._accuracies.append(fmean(final))
        fields = {
            "episodes_completed": completed,
            "batch_idx": index,
            "avg_accuracy": fmean(final),
            "avg_reward": fmean(rewards.sum(axis=0).tolist()),
            "total_episodes": self._config.episodes,
            "n_envs": len(final),
            "rolling_accuracy": fmean(self._accuracies),
            "env_accuracies": tuple(final),
        }
        return Expected("BatchEpochCompletedPayload", fields)


def _analytics(batch: Batch, last: Sequence[Mapping[str, Any]], epochs: Sequence[int]) -> Iterator[Expected]:
    counts = Counter(OPS[step.action[0]].name for played in batch.episodes for step in played.steps)
    counted = {op.name: counts[op.name] for op in OPS}
    yield Expected("AnalyticsSnapshotPayload", {"kind": "action_distribution", "action_counts": counted})
    names = ("env_id", "total_reward", "action_name", "action_confidence", "value_estimate")
    for fields, epoch in zip(last, epochs, strict=True):
        kept = {name: fields[name] for name in names}
        yield Expected("AnalyticsSnapshotPayload", {"kind": "last_action"} | kept, epoch, fields.get("action_slot"))


def _told(events: Sequence[TelemetryEvent]) -> list[dict[tuple[int, int], dict[frozenset[str], float]]]:
    """Return the accuracies that were emitted: by batch, environment and epoch, and the seeds left out."""
    found: list[dict[tuple[int, int], dict[frozenset[str], float]]] = [{}]
    for event in events:
        data, epoch = event.data, event.epoch or 0
        if isinstance(data, BatchEpochCompletedPayload):
            found.append({})
        elif isinstance(data, EpochCompletedPayload):
            found[-1].setdefault((data.env_id, epoch), {})[frozenset()] = data.val_accuracy
        elif isinstance(data, CounterfactualMatrixPayload):
            by_set = found[-1].setdefault((data.env_id, epoch), {})
            for config in data.configs:
                out = (slot for slot, on in zip(data.slot_ids, config["seed_mask"], strict=True) if not on)
                by_set[frozenset(out)] = config["accuracy"]
    return found[:-1]
