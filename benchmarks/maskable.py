"""Whether somebody else's PPO learns on the growing network: MaskablePPO of sb3-contrib, on the flat environment.

Run: python benchmarks/maskable.py --seeds 1 2 3

Prints a row a seed: episode return, validation and test accuracy over fresh episodes, learnt and by chance, with their
standard errors, and the smallest margin in standard errors of the difference, as `esper evaluate` does for ours.
Exit status 1 when a margin is below three.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import DummyVecEnv

from esper.simic.determinism import Stream, derive_seed
from esper.simic.environment import do_nothing_control
from esper.simic.flat import FlatGrowthEnv
from esper.simic.tasks import DIGITS, load_task
from harness import machine

ENOUGH = 3.0
"""Standard errors of the difference."""
Player = Callable[[np.ndarray, np.ndarray], int]


class Played(NamedTuple):
    """What came of a policy's episodes, one number an episode."""

    returns: list[float]
    val_accuracies: list[float]
    test_accuracies: list[float]


def make(seed: int, max_epochs: int) -> FlatGrowthEnv:
    """Make the environment as our trainer has it for a seed."""
    control = do_nothing_control(load_task(DIGITS), max_epochs=max_epochs, seed=derive_seed(seed, Stream.CONTROL))
    made = gymnasium.make("esper/GrowthFlat-v0", max_epochs=max_epochs, control=control).unwrapped
    assert isinstance(made, FlatGrowthEnv)
    return made


def learn(seed: int, *, episodes: int = 160, envs: int = 4, max_epochs: int = 24) -> MaskablePPO:
    """Train with our trainer's defaults, as far as MaskablePPO has them: its entropy bonus does not fall."""
    made = DummyVecEnv([lambda: make(seed, max_epochs)] * envs)
    model = MaskablePPO(
        "MlpPolicy",
        made,
        n_steps=max_epochs,
        batch_size=max_epochs * envs // 3,
        n_epochs=8,
        learning_rate=lambda left: 3e-3 * (0.1 + 0.9 * left),
        gamma=0.97,
        gae_lambda=0.95,
        clip_range=0.2,
        target_kl=0.075 / 1.5,  # which it multiplies by 1.5
        ent_coef=0.03,
        seed=seed,
        device="cpu",
    )
    return model.learn(episodes * max_epochs)


def learnt(model: MaskablePPO) -> Player:
    """Sample the policy, as in training."""
    return lambda observation, mask: int(model.predict(observation, action_masks=mask)[0])


def chance(seed: int) -> Player:
    """Draw uniformly from what can be carried out."""
    rng = np.random.default_rng(seed)
    return lambda _observation, mask: int(rng.choice(np.flatnonzero(mask)))


def play(env: FlatGrowthEnv, player: Player, *, seed: int, episodes: int) -> Played:
    """Play the episodes that `esper.simic.evaluation` plays for a seed."""
    played = Played([], [], [])
    for episode in range(episodes):
        observation, _ = env.reset(seed=derive_seed(seed, Stream.EVALUATION_EPISODE, episode))
        total, done = 0.0, False
        while not done:
            observation, reward, done, _, info = env.step(np.int64(player(observation, env.action_masks())))
            total += reward
        played.returns.append(total)
        played.val_accuracies.append(info["outcome"].val_accuracy)
        played.test_accuracies.append(env.growth.test_accuracy())
    return played


def margin(better: list[float], worse: list[float]) -> float:
    """Return the difference of two means in standard errors of the difference."""
    errors = [statistics.stdev(each) / math.sqrt(len(each)) for each in (better, worse)]
    return (statistics.mean(better) - statistics.mean(worse)) / math.hypot(*errors)


def shown(column: list[float], digits: int) -> str:
    """Return mean and standard error."""
    error = statistics.stdev(column) / math.sqrt(len(column))
    return f"{statistics.mean(column):.{digits}f} ± {error:.{digits}f}"


def main() -> int:
    """Train and play, seed after seed."""
    parser = argparse.ArgumentParser(description="MaskablePPO on the growing network")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--episodes", type=int, default=160)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine("sb3-contrib", "torch"))
    enough = True
    for seed in arguments.seeds:
        started = time.process_time()
        model = learn(seed, episodes=arguments.episodes)
        seconds = time.process_time() - started
        env = make(seed, 24)
        columns = [play(env, player, seed=seed, episodes=16) for player in (learnt(model), chance(seed))]
        rows = [" / ".join(map(shown, each, (2, 3, 3))) for each in columns]
        least = min(map(margin, *columns))
        enough &= least > ENOUGH
        print(f"| {seed} | {rows[0]} | {rows[1]} | {least:.1f} |  {seconds:.0f} s of CPU", flush=True)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
