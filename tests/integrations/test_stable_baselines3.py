"""What Stable-Baselines3 logs, the callback emits; and the model learns the same with and without it."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

import esper.simic.environment  # noqa: F401 - registers
from esper.integrations.stable_baselines3 import TelemetryCallback
from esper.leyline.health import judge_update, severity_of
from esper.leyline.limits import Limits
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.leyline.typical import Typical

SHARED = {
    "policy_loss": "policy_gradient_loss",
    "value_loss": "value_loss",
    "entropy_loss": "entropy_loss",
    "kl_divergence": "approx_kl",
    "clip_fraction": "clip_fraction",
    "explained_variance": "explained_variance",
}


class Emitted(list[TelemetryEvent]):
    def emit(self, event: TelemetryEvent) -> None:
        self.append(event)

    def of(self, cls: type[Any]) -> list[Any]:
        return [event.data for event in self if isinstance(event.data, cls)]


class Logged(BaseCallback):
    """What the trainer itself logged about each update."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[dict[str, float]] = []

    def _take(self) -> None:
        values = {k.removeprefix("train/"): v for k, v in self.logger.name_to_value.items() if k.startswith("train/")}
        if values:
            self.updates.append(values)
            for name in [name for name in self.logger.name_to_value if name.startswith("train/")]:
                del self.logger.name_to_value[name]

    def _on_rollout_start(self) -> None:
        self._take()

    def _on_training_end(self) -> None:
        self._take()

    def _on_step(self) -> bool:
        return True


def model(kind: str = "discrete", n_envs: int = 1, **changes: Any) -> Any:
    options: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 3, "seed": 1, "device": "cpu"} | changes
    if kind == "maskable":
        envs = DummyVecEnv([lambda: gymnasium.make("esper/GrowthFlat-v0", max_epochs=4)] * n_envs)
        return MaskablePPO("MlpPolicy", envs, **options | {"n_steps": 8, "batch_size": 4})
    name = "CartPole-v1" if kind == "discrete" else "Pendulum-v1"
    return PPO("MlpPolicy", make_vec_env(name, n_envs, seed=1), use_sde=kind == "sde", **options)


@pytest.mark.parametrize("target_kl", [None, 1e-3, 1e-12])
@pytest.mark.parametrize(
    ("kind", "n_envs"),
    [("discrete", 1), ("discrete", 4), ("continuous", 1), ("sde", 1), ("maskable", 1)],
)
def test_every_number_that_the_trainer_logs_too_is_the_same(
    kind: str, n_envs: int, target_kl: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        norms.append(float(norm := clip(*args, **kwargs)))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    emitted, logged = Emitted(), Logged()
    trained = model(kind, n_envs, target_kl=target_kl)
    trained.learn(2 * trained.n_steps * n_envs, callback=[logged, TelemetryCallback(emitted)])
    updates = emitted.of(PPOUpdatePayload)
    assert len(updates) == len(logged.updates) == 2
    for update, log in zip(updates, logged.updates, strict=True):
        for ours, theirs in SHARED.items():
            assert getattr(update, ours) == pytest.approx(log[theirs], rel=1e-4, abs=1e-6), ours
        assert (update.early_stop_epoch is not None) == (update.inner_epoch < 3) or target_kl is not None
    measured = [update.grad_norm for update in updates if update.grad_norm == update.grad_norm]
    if target_kl is None:
        half = len(norms) // 2
        expected = [sum(norms[:half]) / half, sum(norms[half:]) / half]
        assert measured == pytest.approx(expected, rel=1e-5)
    assert not {"evaluate_actions", "parameters"} & vars(trained.policy).keys()
    assert "get" not in vars(trained.rollout_buffer)


def test_the_model_learns_the_same_with_and_without() -> None:
    weights = []
    for callback in (None, TelemetryCallback(Emitted(), steps=True)):
        trained = model("discrete", 2)
        trained.learn(384, callback=callback)
        weights.append(torch.cat([each.detach().flatten() for each in trained.policy.parameters()]))
    assert torch.equal(*weights)


class _Interrupting(BaseCallback):
    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        def interrupt(_grad: torch.Tensor) -> None:
            raise KeyboardInterrupt

        hook: Any = next(iter(self.model.policy.parameters())).register_hook
        hook(interrupt)


def test_an_update_that_is_interrupted_is_not_emitted_and_leaves_no_hook() -> None:
    emitted, trained = Emitted(), model()
    with pytest.raises(KeyboardInterrupt):
        trained.learn(128, callback=[TelemetryCallback(emitted), _Interrupting()])
    assert emitted.of(PPOUpdatePayload) == []
    assert not {"evaluate_actions", "parameters"} & vars(trained.policy).keys()
    assert "get" not in vars(trained.rollout_buffer)


def test_a_run_without_plan_or_accuracy_says_so_and_a_second_learn_goes_on() -> None:
    emitted, trained = Emitted(), model("discrete", 4, seed=None)
    callback = TelemetryCallback(emitted)
    trained.learn(256, callback=callback)
    trained.learn(256, callback=callback, reset_num_timesteps=False)
    first, second = emitted.of(TrainingStartedPayload)
    batches = emitted.of(BatchEpochCompletedPayload)
    assert (first.task, first.n_episodes, first.max_epochs, first.host_params) == ("CartPole-v1", 0, 0, 0)
    assert "drawn by torch" in emitted[0].message
    assert second.start_episode == batches[0].episodes_completed == batches[0].n_envs > 0
    assert [batch.batch_idx for batch in batches] == [0, 1]
    assert all(batch.avg_accuracy != batch.avg_accuracy for batch in batches)
    assert "rolling_accuracy" not in batches[0].supplied


def test_a_growing_network_tells_its_own_events_and_parts_of_the_reward() -> None:
    emitted, trained = Emitted(), model("maskable", 2)
    trained.learn(16, callback=TelemetryCallback(emitted))
    rewards = emitted.of(RewardComputedPayload)
    assert len(rewards) == 16
    assert [reward.env_id for reward in rewards] == [0, 1] * 8
    assert all("base_acc_delta" in reward.supplied for reward in rewards)
    assert emitted.of(TrainingStartedPayload)[0].slot_ids == ("r0", "r1", "r2")
    assert 0 < emitted.of(BatchEpochCompletedPayload)[0].avg_accuracy < 1


def test_the_severity_of_an_update_is_what_the_rules_of_health_say_of_it() -> None:
    emitted = Emitted()
    ruinous = PPO("MlpPolicy", make_vec_env("CartPole-v1", 2), n_steps=32, batch_size=32, learning_rate=1.0, seed=1)
    ruinous.learn(192, callback=TelemetryCallback(emitted))
    updates = [event for event in emitted if isinstance(event.data, PPOUpdatePayload)]
    assert "error" in {event.severity for event in updates}
    typical = Typical()
    for event in updates:
        assert isinstance(event.data, PPOUpdatePayload)
        assert event.severity == severity_of(judge_update(event.data, Limits(clip_ratio=0.2), typical))
        typical = typical.after(event.data)
