"""Telemetry of Stable-Baselines3: PPO, and MaskablePPO and RecurrentPPO of sb3-contrib.

::

    with open_run("runs/cartpole") as run:
        PPO("MlpPolicy", envs, seed=1).learn(100_000, callback=TelemetryCallback(run))
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, cast

import numpy as np

from esper.leyline.event_types import Severity
from esper.leyline.limits import Limits
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
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

from esper.integrations.watched_update import WatchedUpdate
from esper.simic.assessment import assess_update
from esper.simic.recorder import mean

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["TelemetryCallback"]


class _Emits(Protocol):
    """A `Run` or a `TelemetryHub`."""

    def emit(self, event: TelemetryEvent, /) -> None: ...


class _Resumed(TypedDict, total=False):
    start_episode: int


class _Accuracies(TypedDict, total=False):
    rolling_accuracy: float


class TelemetryCallback(BaseCallback):
    """Emits what PPO, MaskablePPO and RecurrentPPO do; the model is not changed by it, and nothing stays on it.

    TRAINING_STARTED once a ``learn()``, PPO_UPDATE_COMPLETED once a finished update, BATCH_EPOCH_COMPLETED after a
    rollout in which an episode ended, over the episodes that did, REWARD_COMPUTED where it is wanted. What a trainer of
    this kind does not have is unknown: 0 episodes planned, 0 host epochs, an accuracy of NaN, no devices of
    environments.

    The numbers of an update come from the trainer's own minibatches, gradients before they are clipped, and are those
    that the trainer logs, but for these:

    - ``kl_divergence`` and ``explained_variance`` are computed without the cancellation that the trainer's float32 has,
      and differ by 1e-7 or less; returns that do not vary explain nothing (NaN), those of the trainer only when their
      variance is exactly 0.
    - ``value_loss`` is the squared error before the trainer's value clipping (``clip_range_vf``).
    - ``clip_fraction`` counts samples, where the trainer takes the mean over minibatches: the last may be smaller.
    - ``grad_norm`` is NaN where the KL limit ended the update before its first step.

    An update that an exception ends is not emitted. One callback goes on counting over several ``learn()``; a new one
    counts from 0, since a saved model does not know how many episodes it has played.
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
        self._update: WatchedUpdate | None = None
        self._returns: list[float] = []
        self._accuracies: list[float] = []
        self._rolling: list[float] = []
        self._sums = np.zeros(0)
        self._whole = np.zeros(0, bool)  # whether the episode's return is known from its beginning
        self._seen = -1
        self._typical = Typical()

    # ── Stable-Baselines3 ──────────────────────────────────────────────────────────────────────────────────────

    @override
    def _on_training_start(self) -> None:
        env, model = self.training_env, cast("Any", self.model)
        if not (hasattr(model, "clip_range") and hasattr(model, "rollout_buffer")):
            raise TypeError(f"the callback is for PPO, MaskablePPO and RecurrentPPO, got {type(model).__name__}")
        self._leave_update()
        if self._returns:  # of a rollout that an exception ended
            self._emit_batch()
        begins = np.asarray(model._last_episode_starts, bool)  # noqa: SLF001 - the trainer's own note of it
        goes_on = self._seen == model.num_timesteps and len(self._whole) == env.num_envs
        self._whole = begins | (self._whole if goes_on else False)
        self._sums = np.where(begins, 0.0, self._sums if goes_on else 0.0)
        growth: dict[str, Any] = {}
        if env.has_attr("growth_fields"):
            for index in range(env.num_envs):
                env.env_method("renumber", index, indices=[index])
            growth = env.env_method("growth_fields", indices=[0])[0]
        seed = torch.initial_seed() if model.seed is None else int(model.seed)
        drawn = f" (that of torch: {type(model).__name__} was given none)" if model.seed is None else ""
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
            env_devices=(),
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
        self._seen = self.num_timesteps
        for index, info in enumerate(infos):
            for event in info.get("events", ()):
                self._run.emit(event)
            outcome = info.get("outcome")
            if self._steps or hasattr(outcome, "fields"):
                self._emit_step(index, float(rewards[index]), outcome)
            if dones[index]:
                self._episodes += 1
                own = info.get("episode")
                if own is not None or self._whole[index]:
                    self._returns.append(float(self._sums[index] if own is None else own["r"]))
                if hasattr(outcome, "val_accuracy"):
                    self._accuracies.append(float(outcome.val_accuracy))
                self._sums[index], self._whole[index] = 0.0, True
        return True

    @override
    def _on_rollout_end(self) -> None:
        self._update = WatchedUpdate(self.model, _learning(), self._updated)

    @override
    def _on_training_end(self) -> None:
        self._leave_update()
        if self._returns:  # of a rollout that was cut short
            self._emit_batch()

    # ── emitting ───────────────────────────────────────────────────────────────────────────────────────────────

    def _leave_update(self) -> None:
        if self._update is not None:
            self._update.end()
            self._update = None

    def _updated(self, update: WatchedUpdate) -> None:
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
        accuracy = mean(self._accuracies) if self._accuracies else math.nan
        rolling: _Accuracies = {}
        if self._accuracies:
            self._rolling = [*self._rolling, accuracy][-10:]
            rolling = {"rolling_accuracy": mean(self._rolling)}
        payload = BatchEpochCompletedPayload(
            episodes_completed=self._episodes,
            batch_idx=self._batch,
            avg_accuracy=accuracy,
            avg_reward=mean(self._returns),
            total_episodes=self._n_episodes,
            n_envs=len(self._returns),
            **rolling,
        )
        episodes = "1 episode" if len(self._returns) == 1 else f"{len(self._returns)} episodes"
        self._emit(payload, f"batch {self._batch}: {episodes}, mean return {payload.avg_reward:.4g}")
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


def _action_name(space: spaces.Space[Any], action: Any) -> str:
    return "continuous" if isinstance(space, spaces.Box) else ",".join(str(int(each)) for each in np.ravel(action))


def _name(env: Any) -> str:
    specification = env.get_attr("spec", indices=[0])[0] if env.has_attr("spec") else None
    return "unknown" if specification is None else str(specification.id)


def _learning() -> FrameType | None:
    """Return the frame of the ``learn()`` that we are called from."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - there is no other way to it
    while frame is not None and frame.f_code.co_name != "learn":
        frame = frame.f_back
    return frame
