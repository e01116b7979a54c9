"""Whether the policy learnt anything: the same fresh episodes played by it, by chance, and by doing nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import torch

from esper.leyline.actions import HEADS
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore
from esper.simic.determinism import Stream, derive_seed, one_thread
from esper.simic.training.environments import environments_of
from esper.tamiyo.distribution import FactoredDistribution, MaskBatch, head_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from esper.leyline.actions import ActionMasks, Head
    from esper.simic.action_space import ActionVector
    from esper.simic.config import TrainingConfig
    from esper.simic.environment import GrowthEnv
    from esper.simic.observation import Observation
    from esper.simic.training.trained import TrainedPolicy

__all__ = ["ArmDifference", "compare_arms", "evaluate"]

_MIN_EPISODES = 2
"""A standard error needs two."""
_RESAMPLES = 10_000
"""Of the paired differences, for the bootstrap interval."""
_CONFIDENCE = 95
"""Per cent."""

_Player: TypeAlias = "Callable[[Observation, ActionMasks], ActionVector]"


def evaluate(trained: TrainedPolicy, *, episodes: int = 16) -> Evaluation:
    """Play the three policies on episodes that training never saw. No telemetry is emitted.

    The learnt policy is sampled, as in training: its most probable actions alone often finish nothing.

    Args:
        trained: the policy, and the configuration its environments are made by.
        episodes: for each policy, 2 or more; all three play the same ones.

    Returns:
        Means and standard errors; the same for the same policy and number of episodes.

    Raises:
        ValueError: there are too few episodes, or the task cannot be loaded.
    """
    if episodes < _MIN_EPISODES:
        raise ValueError(f"episodes must be at least {_MIN_EPISODES} to give a standard error, got {episodes}")
    with one_thread():
        env = _environment(trained.config)
        players = (_learnt(trained), _random(trained), _do_nothing)
        learnt, random, do_nothing = (_play(env, player, trained.config.seed, episodes).score() for player in players)
    return Evaluation(episodes, learnt, random, do_nothing)


class ArmDifference(NamedTuple):
    """By how much one arm of an A/B comparison does better than another on the same fresh episodes."""

    quantity: str
    """What was measured, in words."""
    arms: tuple[str, str]
    """Their names; the difference is the first less the second."""
    mean: float
    """Mean difference over the episodes, in the quantity's unit."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""

    def text(self) -> str:
        """Return it in one line, with what can be said of it."""
        first, second = self.arms
        if self.low > 0:
            verdict = f"{first} is better"
        elif self.high < 0:
            verdict = f"{second} is better"
        else:
            verdict = "no difference shown"
        interval = f"{_CONFIDENCE} % interval {self.low:+.3f} to {self.high:+.3f}"
        return f"{self.quantity}, {first} less {second}: {self.mean:+.3f} ({interval}): {verdict}"


def compare_arms(arms: Sequence[TrainedPolicy], *, episodes: int = 16) -> list[ArmDifference]:
    """Let the policies of two arms play the same fresh episodes, and compare what comes of it.

    Each plays where it learnt, but both are paid by the reward mode ``shaped``, so that rewards can be compared. The
    interval is the bootstrap's, over the episodes' paired differences: it covers the chance of the episodes, not that
    of having trained each arm once.

    Args:
        arms: what `esper.simic.training.vectorized.train_arms` returned for a comparison; two.
        episodes: for each policy, 2 or more.

    Returns:
        Differences in validation accuracy, test accuracy and episode return.

    Raises:
        ValueError: there are too few episodes, or the task cannot be loaded.
    """
    if episodes < _MIN_EPISODES:
        raise ValueError(f"episodes must be at least {_MIN_EPISODES} to give an interval, got {episodes}")
    with one_thread():
        env = _environment(replace(arms[0].config, reward_mode="shaped"))
        first, second = (_play(env, _learnt(arm), arms[0].config.seed, episodes) for arm in arms)
    names = (arms[0].config.group, arms[1].config.group)
    rng = np.random.default_rng(derive_seed(arms[0].config.seed, Stream.EVALUATION_POLICY))
    drawn = rng.integers(episodes, size=(_RESAMPLES, episodes))
    found = []
    for quantity, better, worse in zip(
        ("validation accuracy", "test accuracy", "episode return (shaped)"),
        first.columns(),
        second.columns(),
        strict=True,
    ):
        differences = np.subtract(better, worse)
        tail = (100 - _CONFIDENCE) / 2
        low, high = np.percentile(differences[drawn].mean(axis=1), (tail, 100 - tail))
        found.append(ArmDifference(quantity, names, float(differences.mean()), float(low), float(high)))
    return found


class _Played(NamedTuple):
    """What came of each episode."""

    rewards: list[float]
    val_accuracies: list[float]
    test_accuracies: list[float]

    def score(self) -> PolicyScore:
        return PolicyScore(*map(Estimate.of, self))

    def columns(self) -> tuple[list[float], list[float], list[float]]:
        """In the order of interest."""
        return self.val_accuracies, self.test_accuracies, self.rewards


def _environment(config: TrainingConfig) -> GrowthEnv:
    """One like those of the training run, but emitting nothing."""
    (env,) = environments_of(config, [0], lambda _event: None)
    return env


def _play(env: GrowthEnv, player: _Player, seed: int, episodes: int) -> _Played:
    played = _Played([], [], [])
    for episode in range(episodes):
        observation, _ = env.reset(seed=derive_seed(seed, Stream.EVALUATION_EPISODE, episode))
        total, done = 0.0, False
        while not done:
            observation, reward, done, *_ = env.step(player(observation, env.masks))
            total += reward
        played.rewards.append(total)
        played.val_accuracies.append(env.outcome.val_accuracy)
        played.test_accuracies.append(env.test_accuracy())
    return played


def _learnt(trained: TrainedPolicy) -> _Player:
    policy = trained.policy()
    device = torch.device(trained.config.device)
    seed = derive_seed(trained.config.seed, Stream.EVALUATION_POLICY)
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def play(observation: Observation, masks: ActionMasks) -> ActionVector:
        logits, _ = policy(torch.from_numpy(observation).unsqueeze(0).to(device))
        return _sample(logits, MaskBatch.stack([masks], device), generator)

    return play


def _random(trained: TrainedPolicy) -> _Player:
    seed = derive_seed(trained.config.seed, Stream.RANDOM_POLICY)
    generator = torch.Generator().manual_seed(seed)
    sizes = head_sizes(trained.shape.n_slots, trained.shape.n_blueprints)
    uniform: dict[Head, Tensor] = {head: torch.zeros(1, size) for head, size in sizes.items()}

    def play(_observation: Observation, masks: ActionMasks) -> ActionVector:
        return _sample(uniform, MaskBatch.stack([masks]), generator)

    return play


def _do_nothing(_observation: Observation, _masks: ActionMasks) -> ActionVector:
    return np.zeros(len(HEADS), dtype=np.int64)  # WAIT is the first op


def _sample(logits: Mapping[Head, Tensor], masks: MaskBatch, generator: torch.Generator) -> ActionVector:
    vector: ActionVector = FactoredDistribution(logits, masks).sample(generator)[0].cpu().numpy()
    return vector
