"""Small models of Stable-Baselines3, and what they log about themselves."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

import esper.simic.environment  # noqa: F401 - registers
from esper.leyline.telemetry import TelemetryEvent

warnings.filterwarnings("ignore", message="You are trying to run PPO on the GPU")


class Emitted(list[TelemetryEvent]):
    """Takes events as a run does."""

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
        if "n_updates" in values:
            self.updates.append(values)
        for name in [name for name in self.logger.name_to_value if name.startswith("train/")]:
            del self.logger.name_to_value[name]

    def _on_rollout_start(self) -> None:
        self._take()

    def _on_training_end(self) -> None:
        self._take()

    def _on_step(self) -> bool:
        return True


def _masked() -> gymnasium.Env[Any, Any]:
    def allowed(env: gymnasium.Env[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        state: Any = env.unwrapped
        return np.array([True, float(state.state[0]) > 0.0])

    return ActionMasker(gymnasium.make("CartPole-v1"), allowed)


def model(kind: str = "categorical", n_envs: int = 1, **changes: Any) -> Any:
    """Make a model: categorical, gaussian, sde, maskable, recurrent, or growth for a growing network."""
    options: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "seed": 1, "device": "cpu"} | changes
    if kind == "growth":
        envs = DummyVecEnv([lambda: gymnasium.make("esper/GrowthFlat-v0", max_epochs=4)] * n_envs)
        return MaskablePPO("MlpPolicy", envs, **options | {"n_steps": 8, "batch_size": 4})
    if kind == "maskable":
        return MaskablePPO("MlpPolicy", make_vec_env(_masked, n_envs, seed=1), **options)
    if kind == "recurrent":
        return RecurrentPPO("MlpLstmPolicy", make_vec_env("CartPole-v1", n_envs, seed=1), **options)
    name = "CartPole-v1" if kind == "categorical" else "Pendulum-v1"
    return PPO("MlpPolicy", make_vec_env(name, n_envs, seed=1), use_sde=kind == "sde", **options)


def untouched(trained: Any) -> bool:
    """Whether nothing of ours is left on a model."""
    return (
        not {"evaluate_actions", "parameters"} & vars(trained.policy).keys()
        and not {"get"} & vars(trained.rollout_buffer).keys()
    )


def weights(trained: Any) -> torch.Tensor:
    """Return all weights of a model, flat."""
    return torch.cat([each.detach().flatten() for each in trained.policy.parameters()])
