"""Runs of another trainer for the verdicts' bench, by name: Stable-Baselines3 on Gymnasium's classic tasks.

Run: python benchmarks/verdict_foreign.py NAME DIRECTORY
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from esper.integrations.stable_baselines3 import TelemetryCallback
from esper.nissa.run import open_run

__all__ = ["FOREIGN"]


@dataclass(frozen=True)
class Foreign:
    env: str
    steps: int
    options: dict[str, Any] = field(default_factory=dict)
    n_envs: int = 4
    seed: int = 1
    scale: float = 1.0
    """Times the environment's own reward."""
    shift: float = 0.0


_FAST: dict[str, Any] = {"n_steps": 128, "batch_size": 128, "n_epochs": 8, "learning_rate": 1e-3, "gae_lambda": 0.9}
_PENDULUM: dict[str, Any] = {"n_steps": 256, "batch_size": 128, "gamma": 0.9, "learning_rate": 1e-3, "n_epochs": 10}
FOREIGN = {
    "sb3-cartpole": Foreign("CartPole-v1", 20_000, _FAST),
    "sb3-cartpole-2": Foreign("CartPole-v1", 20_000, _FAST, seed=2),
    "sb3-cartpole-1000": Foreign("CartPole-v1", 20_000, _FAST, scale=1000.0),
    "sb3-cartpole-kl": Foreign("CartPole-v1", 20_000, _FAST | {"target_kl": 0.02}, seed=3),
    "sb3-cartpole-one": Foreign("CartPole-v1", 15_000, _FAST | {"n_steps": 256}, n_envs=1),
    "sb3-acrobot": Foreign("Acrobot-v1", 30_000, _FAST | {"n_steps": 256}),
    "sb3-pendulum": Foreign("Pendulum-v1", 60_000, _PENDULUM),
    "sb3-mountaincar": Foreign("MountainCar-v0", 12_000, _FAST),
    "sb3-cartpole-lr": Foreign("CartPole-v1", 12_000, _FAST | {"learning_rate": 0.3}),
}


def train(name: str, directory: str) -> None:
    """Train and leave a run directory."""
    torch.set_num_threads(1)
    run_of = FOREIGN[name]

    def wrap(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.TransformReward(env, lambda reward: run_of.scale * float(reward) + run_of.shift)

    envs = make_vec_env(run_of.env, run_of.n_envs, seed=run_of.seed, wrapper_class=wrap)
    model = PPO("MlpPolicy", envs, seed=run_of.seed, device="cpu", **run_of.options)
    with open_run(directory, config={"trainer": "Stable-Baselines3", **run_of.options}) as run:
        model.learn(run_of.steps, callback=TelemetryCallback(run, task=run_of.env))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    train(sys.argv[1], sys.argv[2])
