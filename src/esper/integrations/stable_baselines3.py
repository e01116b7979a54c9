"""Telemetry of Stable-Baselines3: PPO, and MaskablePPO of sb3-contrib.

::

    with open_run("runs/cartpole") as run:
        PPO("MlpPolicy", envs, seed=1).learn(100_000, callback=TelemetryCallback(run))
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, cast

import numpy as np

from esper.leyline.event_types import Severity
from esper.leyline.limits import Limits
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)
from esper.leyline.typical import Typical

try:
    import torch
    from gymnasium import spaces
    from stable_baselines3.common.callbacks import BaseCallback
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the callback needs Stable-Baselines3: pip install 'esper-telemetry[sb3]'", name=error.name
    ) from error

from typing_extensions import override

from esper.simic import diagnostics
from esper.simic.assessment import assess_update

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TelemetryCallback"]


class _Emits(Protocol):
    """A `Run` or a `TelemetryHub`."""

    def emit(self, event: TelemetryEvent, /) -> None: ...


class _EarlyStop(TypedDict, total=False):
    early_stop_epoch: int


class _Resumed(TypedDict, total=False):
    start_episode: int


class _Accuracies(TypedDict, total=False):
    rolling_accuracy: float


class TelemetryCallback(BaseCallback):
    """Emits what Stable-Baselines3's PPO does; the model is not changed by it.

    TRAINING_STARTED once a ``learn()``, PPO_UPDATE_COMPLETED once a finished update, BATCH_EPOCH_COMPLETED after a
    rollout in which an episode ended, over the episodes that did, REWARD_COMPUTED where it is wanted. What a trainer of
    this kind does not have is unknown: 0 episodes planned, 0 host epochs, an accuracy of NaN.

    The numbers of an update come from the trainer's own minibatches, gradients before they are clipped. The value loss
    is the squared error without the trainer's value clipping; the clip fraction counts samples, not minibatches.
    """

    def __init__(
        self,
        run: _Emits,
        *,
        task: str | None = None,
        n_episodes: int | None = None,
        steps: bool = False,
        group_id: str = "default",
    ) -> None:
        """Make a callback for one model.

        Args:
            run: takes the events: what `open_run` yields, or a hub.
            task: what is learnt; None for the environment's own name.
            n_episodes: episodes planned; None where time steps are, so that no view invents an end.
            steps: whether REWARD_COMPUTED is emitted for every step; of a growing network it always is.
            group_id: arm of an A/B comparison, put on every event.
        """
        super().__init__()
        self._run = run
        self._task = task
        self._n_episodes = n_episodes or 0
        self._steps = steps
        self._group_id = group_id
        self._batch = 0
        self._episodes = 0
        self._update: _Update | None = None
        self._returns: list[float] = []
        self._accuracies: list[float] = []
        self._rolling: list[float] = []
        self._sums = np.zeros(0)
        self._typical = Typical()

    # ── Stable-Baselines3 ──────────────────────────────────────────────────────────────────────────────────────

    @override
    def _on_training_start(self) -> None:
        self._leave_update()
        env, model = self.training_env, cast("Any", self.model)
        self._sums = np.where(model._last_episode_starts, 0.0, np.nan)  # noqa: SLF001 - what came before is not known
        growth: dict[str, Any] = {}
        if env.has_attr("growth_fields"):
            for index in range(env.num_envs):
                env.env_method("renumber", index, indices=[index])
            growth = env.env_method("growth_fields", indices=[0])[0]
        seed = torch.initial_seed() if model.seed is None else int(model.seed)
        drawn = f" (drawn by torch: {type(model).__name__} was given none)" if model.seed is None else ""
        resumed: _Resumed = {"start_episode": self._episodes} if self._episodes else {}
        payload = TrainingStartedPayload(
            n_envs=env.num_envs,
            task=self._task or (growth["task"] if growth else _name(env)),
            max_epochs=growth["max_epochs"] if growth else 0,
            host_params=growth["host_params"] if growth else 0,
            slot_ids=growth["slot_ids"] if growth else (),
            param_budget=growth["param_budget"] if growth else 0,
            seed=seed,
            n_episodes=self._n_episodes,
            lr=float(model.lr_schedule(1.0)),
            clip_ratio=float(model.clip_range(1.0)),
            entropy_coef=float(model.ent_coef),
            policy_device=str(model.device),
            env_devices=("cpu",) * env.num_envs,
            **resumed,
        )
        self._emit(payload, f"{type(model).__name__} begins, seed {seed}{drawn}")

    @override
    def _on_rollout_start(self) -> None:
        self._leave_update()

    @override
    def _on_step(self) -> bool:
        rewards, dones, infos = self.locals["rewards"], self.locals["dones"], self.locals["infos"]
        normalised = self.model.get_vec_normalize_env()
        if normalised is not None:
            rewards = normalised.get_original_reward()
        self._sums += rewards
        for index, info in enumerate(infos):
            for event in info.get("events", ()):
                self._run.emit(event)
            outcome = info.get("outcome")
            if self._steps or hasattr(outcome, "fields"):
                self._emit_step(index, float(rewards[index]), outcome)
            if dones[index]:
                self._episodes += 1
                own = info.get("episode")
                total = float(self._sums[index]) if own is None else float(own["r"])
                self._returns.append(total)
                if hasattr(outcome, "val_accuracy"):
                    self._accuracies.append(float(outcome.val_accuracy))
                self._sums[index] = 0.0
        return True

    @override
    def _on_rollout_end(self) -> None:
        self._update = _Update(self.model, self._updated)

    @override
    def _on_training_end(self) -> None:
        self._leave_update()
        if self._returns:  # of a rollout that was cut short
            self._emit_batch()

    # ── emitting ───────────────────────────────────────────────────────────────────────────────────────────────

    def _leave_update(self) -> None:
        if self._update is not None:
            self._update.leave()
            self._update.report()
            self._update = None

    def _updated(self, update: _Update) -> None:
        payload = update.payload(self._batch)
        model = cast("Any", self.model)
        limits = Limits.of_run({"target_kl": model.target_kl, "clip_ratio": float(model.clip_range(1.0))})
        severity, message = assess_update(payload, limits, self._typical)
        self._typical = self._typical.after(payload)
        self._emit(payload, message, severity)
        if self._returns:
            self._emit_batch()
        else:
            self._batch += 1

    def _emit_batch(self) -> None:
        known = [each for each in self._returns if not math.isnan(each)]
        accuracy = fmean(self._accuracies) if self._accuracies else math.nan
        rolling: _Accuracies = {}
        if self._accuracies:
            self._rolling = [*self._rolling, accuracy][-10:]
            rolling = {"rolling_accuracy": fmean(self._rolling)}
        payload = BatchEpochCompletedPayload(
            episodes_completed=self._episodes,
            batch_idx=self._batch,
            avg_accuracy=accuracy,
            avg_reward=fmean(known) if known else math.nan,
            total_episodes=self._n_episodes,
            n_envs=len(self._returns),
            **rolling,
        )
        self._emit(payload, f"batch {self._batch}: {len(self._returns)} episodes, mean return {payload.avg_reward:.4g}")
        self._returns, self._accuracies = [], []
        self._batch += 1

    def _emit_step(self, index: int, reward: float, outcome: Any) -> None:
        """Emit one step of one environment. A density is no probability: continuous actions have no confidence."""
        space = self.training_env.action_space
        log_prob, value = self.locals["log_probs"].flatten()[index], self.locals["values"].flatten()[index]
        normalised = self.model.get_vec_normalize_env()
        scaled = normalised is not None and normalised.norm_reward
        scale = math.sqrt(float(normalised.ret_rms.var) + normalised.epsilon) if normalised and scaled else 1.0
        fields: dict[str, Any] = (
            outcome.fields()
            if hasattr(outcome, "fields")
            else {"total_reward": reward, "action_name": _action_name(space, self.locals["actions"][index])}
        )
        payload = RewardComputedPayload(
            env_id=index,
            value_estimate=float(value) * scale,
            action_confidence=math.nan if isinstance(space, spaces.Box) else math.exp(float(log_prob)),
            **fields,
        )
        slot, epoch = fields.get("action_slot"), getattr(outcome, "epoch", None)
        message = f"env {index}: {payload.action_name}, reward {payload.total_reward:+.3f}"
        event = TelemetryEvent(
            data=payload, slot_id=slot, epoch=epoch, group_id=self._group_id, message=message, severity="debug"
        )
        self._run.emit(event)

    def _emit(self, payload: TelemetryPayload, message: str, severity: Severity = "info") -> None:
        self._run.emit(TelemetryEvent(data=payload, group_id=self._group_id, message=message, severity=severity))


class _Update:
    """Watches one update of a model from inside: its minibatches, what the policy makes of them, their gradients.

    ``get`` of the rollout buffer is shadowed on the instance; the policy's methods are while an epoch runs only. The
    epoch is a generator that nobody but the trainer's loop holds: it is closed when the loop is left, however it is.
    """

    def __init__(self, model: Any, finished: Any) -> None:
        self._model = model
        self._finished = finished
        self._buffer = model.rollout_buffer
        self._values = np.array(self._buffer.values)
        self._returns = np.array(self._buffer.returns)
        self._advantages = np.array(self._buffer.advantages)
        self._largest_entropy = _largest_entropy(model)
        self._clip_range = float(model.clip_range(model._current_progress_remaining))  # noqa: SLF001 - as train() does
        self._recorder: diagnostics.UpdateRecorder | None = None
        self._minibatch: Any = None
        self._evaluated: dict[str, Tensor] | None = None
        self._went_back = False
        self._epochs = 0
        self._stopped = False
        self._over = False
        self._buffer.get = self._get

    def leave(self) -> None:
        """Take everything away again."""
        vars(self._buffer).pop("get", None)

    def report(self) -> None:
        """Hand the update over, once, if there was one and it came to its end."""
        if self._recorder is not None and not self._over:
            self._over = True
            self._finished(self)

    def payload(self, batch: int) -> PPOUpdatePayload:
        """Return what was measured."""
        assert self._recorder is not None
        fields = self._recorder.fields(
            values=self._values,
            returns=self._returns,
            advantages=self._advantages,
            largest_entropy=self._largest_entropy,
        )
        stop: _EarlyStop = {"early_stop_epoch": self._epochs - 1} if self._stopped else {}
        lr = float(self._model.policy.optimizer.param_groups[0]["lr"])
        return PPOUpdatePayload(
            **fields, lr=lr, entropy_coef=float(self._model.ent_coef), batch=batch, skipped=False, **stop
        )

    def _get(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield the buffer's minibatches, and watch what becomes of each."""
        if self._recorder is None:
            self._recorder = diagnostics.UpdateRecorder(clip_ratio=self._clip_range)
        policy = self._model.policy
        policy.evaluate_actions = self._evaluate_actions
        policy.parameters = self._parameters
        self._epochs += 1
        exhausted = False
        try:
            for minibatch in type(self._buffer).get(self._buffer, *args, **kwargs):
                self._minibatch = minibatch
                yield minibatch
                self._record(None)
            exhausted = True
        finally:
            for name in ("evaluate_actions", "parameters"):
                vars(policy).pop(name, None)
            if exhausted:
                self._recorder.end_epoch()
                if self._epochs >= self._model.n_epochs:
                    self.leave()
                    self.report()
            else:  # by the KL limit, or by an exception: then the update did not complete
                self._stopped = self._above_limit()
                self._record(None)
                self.leave()
                if self._stopped:
                    self.report()
                self._over = True

    def _above_limit(self) -> bool:
        limit = self._model.target_kl
        if limit is None or self._evaluated is None or self._went_back:
            return False
        return diagnostics.approximate_kl(self._evaluated["log_ratio"]) > 1.5 * float(limit)

    def _evaluate_actions(self, *args: Any, **kwargs: Any) -> Any:
        policy, data = self._model.policy, self._minibatch
        values, log_prob, entropy = type(policy).evaluate_actions(policy, *args, **kwargs)
        self._record(None)
        used = data.mask > 1e-8 if hasattr(data, "mask") else slice(None)  # noqa: PLR2004 - RecurrentPPO's padding
        with torch.no_grad():
            advantages, log_ratio = data.advantages[used], (log_prob - data.old_log_prob)[used]
            if self._model.normalize_advantage and len(advantages) > 1:
                advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            ratio = log_ratio.exp()
            clipped = ratio.clamp(1 - self._clip_range, 1 + self._clip_range)
            self._evaluated = {
                "policy_loss": -torch.min(advantages * ratio, advantages * clipped),
                "value_loss": (values.flatten() - data.returns)[used].square(),
                "entropy": (-log_prob if entropy is None else entropy)[used],
                "log_ratio": log_ratio,
            }
        self._went_back = False
        if log_prob.requires_grad:
            log_prob.register_hook(self._backward)
        return values, log_prob, entropy

    def _backward(self, _gradient: Tensor) -> None:
        self._went_back = True

    def _parameters(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """What the trainer asks for in order to clip: the gradients are there, and are whole."""
        policy = self._model.policy
        if self._went_back:
            vars(policy).pop("parameters", None)
            self._record(policy)
            policy.parameters = self._parameters
        parameters: Iterator[Any] = type(policy).parameters(policy, *args, **kwargs)
        return parameters

    def _record(self, parameters: Any) -> None:
        """Record the pending minibatch, if there is one."""
        if self._evaluated is not None and self._recorder is not None:
            self._recorder.step(**self._evaluated, parameters=parameters)
        self._evaluated, self._went_back = None, False


def _largest_entropy(model: Any) -> float | None:
    """Mean over the batch of the largest entropy that the masks allow; None where it has no bound."""
    space = model.action_space
    if isinstance(space, spaces.Discrete):
        sizes = [int(space.n)]
    elif isinstance(space, spaces.MultiDiscrete):
        sizes = [int(size) for size in space.nvec.flatten()]
    elif isinstance(space, spaces.MultiBinary):
        sizes = [2] * int(np.prod(space.shape))
    else:
        return None
    if not hasattr(model.rollout_buffer, "action_masks"):
        return sum(math.log(size) for size in sizes)
    masks = np.asarray(model.rollout_buffer.action_masks).reshape(-1, sum(sizes))
    heads = np.split(masks, np.cumsum(sizes)[:-1], axis=1)
    return float(sum(np.log(np.maximum(head.sum(axis=1), 1)).mean() for head in heads))


def _action_name(space: spaces.Space[Any], action: Any) -> str:
    return "continuous" if isinstance(space, spaces.Box) else ",".join(str(int(each)) for each in np.ravel(action))


def _name(env: Any) -> str:
    specification = env.get_attr("spec", indices=[0])[0] if env.has_attr("spec") else None
    return "unknown" if specification is None else str(specification.id)
