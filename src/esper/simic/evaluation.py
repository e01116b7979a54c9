"""Whether the policy learnt anything: the same fresh episodes played by it, by chance, and by doing nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from esper.leyline.actions import HEADS
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore
from esper.simic.determinism import Stream, derive_seed, one_thread
from esper.simic.environment import GrowthEnv, do_nothing_control
from esper.simic.tasks import load_task
from esper.tamiyo.distribution import FactoredDistribution, MaskBatch, head_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from esper.leyline.actions import ActionMasks, Head
    from esper.simic.action_space import ActionVector
    from esper.simic.observation import Observation
    from esper.simic.training.trained import TrainedPolicy

__all__ = ["evaluate"]

_MIN_EPISODES = 2
"""A standard error needs two."""

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
        env = _environment(trained)
        players = (_learnt(trained), _random(trained), _do_nothing)
        learnt, random, do_nothing = (_play(env, player, trained.config.seed, episodes) for player in players)
    return Evaluation(episodes, learnt, random, do_nothing)


def _environment(trained: TrainedPolicy) -> GrowthEnv:
    """One like those of the training run, but emitting nothing."""
    config = trained.config
    task = load_task(config.task)
    seed = derive_seed(config.seed, Stream.CONTROL)
    control = do_nothing_control(
        task, n_slots=config.slots, max_epochs=config.max_epochs, device=config.device, seed=seed
    )
    return GrowthEnv(
        task,
        env_id=0,
        n_slots=config.slots,
        max_epochs=config.max_epochs,
        param_budget=config.param_budget,
        device=config.device,
        emit=lambda _event: None,
        control=control,
    )


def _play(env: GrowthEnv, player: _Player, seed: int, episodes: int) -> PolicyScore:
    rewards, val_accuracies, test_accuracies = [], [], []
    for episode in range(episodes):
        observation, _ = env.reset(seed=derive_seed(seed, Stream.EVALUATION_EPISODE, episode))
        total, done = 0.0, False
        while not done:
            observation, reward, done, *_ = env.step(player(observation, env.masks))
            total += reward
        rewards.append(total)
        val_accuracies.append(env.outcome.val_accuracy)
        test_accuracies.append(env.test_accuracy())
    return PolicyScore(Estimate.of(rewards), Estimate.of(val_accuracies), Estimate.of(test_accuracies))


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
