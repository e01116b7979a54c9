"""What doing nothing brings: the curve that a gain in accuracy is counted from."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import torch
from gymnasium.utils.seeding import np_random

from esper.leyline.actions import Action, Op
from esper.simic.determinism import episode_generators, one_thread
from esper.simic.episode import Episode
from esper.simic.tasks import Task

__all__ = ["default_control", "do_nothing_control"]

_HOSTS = 4
"""Do-nothing hosts whose mean is the control curve."""


@one_thread()
def do_nothing_control(
    task: Task, *, n_slots: int = 3, max_epochs: int = 24, device: str | torch.device = "cpu", seed: int
) -> tuple[float, ...]:
    """Return the mean validation accuracy, a fraction, of four do-nothing hosts after each epoch.

    NaN from the epoch on in which one of them diverged: then nobody knows what doing nothing brings.

    Args:
        task: what the hosts learn.
        n_slots: slots of the hosts, all left empty.
        max_epochs: epochs to train.
        device: where the hosts live.
        seed: the hosts' seeds derive from it.
    """
    task = task.to(device)
    random, _ = np_random(seed)
    episode_generators(random)  # of the episode that an environment plays right after its seed; these come after it
    curves = np.empty((_HOSTS, max_epochs))
    for curve in curves:
        initialisation, shuffling = episode_generators(random)
        episode = Episode(
            task,
            env_id=0,
            slot_ids=tuple(f"r{index}" for index in range(n_slots)),
            control=(0.0,) * max_epochs,
            reward_mode="sparse",
            learning_rate=task.learning_rate,
            initialisation=initialisation,
            shuffling=shuffling,
            serials=itertools.count(),
            emit=lambda _event: None,
            group_id="",
        )
        for epoch in range(max_epochs):
            curve[epoch] = episode.step(Action(Op.WAIT)).val_accuracy
    return tuple(curves.mean(axis=0).tolist())


@lru_cache(maxsize=8)
def default_control(task: Task, n_slots: int, max_epochs: int, device: torch.device) -> tuple[float, ...]:
    """Return the control of an environment that was given none: once a task and process."""
    return do_nothing_control(task, n_slots=n_slots, max_epochs=max_epochs, device=device, seed=0)
