"""Somebody else's PPO learns on the growing network: in earnest by ``make soak``, which takes minutes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import DummyVecEnv

import esper.simic.environment  # noqa: F401 - registers it
from esper.simic.determinism import one_thread

EPOCHS, EPISODES = 6, 16


def make() -> gymnasium.Env[np.ndarray, np.int64]:
    return gymnasium.make("esper/GrowthFlat-v0", n_slots=1, max_epochs=EPOCHS, control=(0.0,) * EPOCHS)


def play(choose: Callable[[np.ndarray, np.ndarray], int]) -> list[float]:
    """Return the returns of episodes that nobody trained on."""
    env, returns = make(), []
    for episode in range(EPISODES):
        observation, info = env.reset(seed=10_000 + episode)
        total, done = 0.0, False
        while not done:
            observation, reward, done, _, info = env.step(np.int64(choose(observation, info["action_mask"])))
            total += float(reward)
        returns.append(total)
    return returns


def test_maskable_ppo_beats_chance_by_three_standard_errors() -> None:
    rng = np.random.default_rng(1)
    with one_thread():
        envs = DummyVecEnv([make] * 4)
        options: dict[str, Any] = {"n_steps": 2 * EPOCHS, "batch_size": 12, "n_epochs": 8, "gamma": 0.97}
        model = MaskablePPO("MlpPolicy", envs, learning_rate=5e-3, ent_coef=0.01, seed=1, device="cpu", **options)
        model.learn(8 * 4 * 2 * EPOCHS)
        learnt = play(lambda observation, mask: int(model.predict(observation, action_masks=mask)[0]))
        chance = play(lambda _observation, mask: int(rng.choice(np.flatnonzero(mask))))
    error = math.hypot(*(statistics.stdev(each) / math.sqrt(EPISODES) for each in (learnt, chance)))
    assert statistics.mean(learnt) - statistics.mean(chance) > 3.0 * error
