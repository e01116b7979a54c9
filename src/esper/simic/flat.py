"""The environment with one discrete action a decision, for algorithms that mask actions and not heads."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from typing_extensions import override

from esper.leyline.actions import HEADS, HEADS_USED, Op
from esper.simic.action_space import ActionVector, ValidActions
from esper.simic.environment import GrowthEnv, GrowthFields
from esper.simic.observation import Observation

__all__ = ["FlatGrowthEnv", "flat_actions"]

_OPS = tuple(Op)


class _ValidFlatActions(Discrete):
    """The action space; it samples only what may be carried out, as `esper.simic.action_space.ValidActions` does."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self._sampled: NDArray[np.int8] | None = None
        self._at_start: NDArray[np.int8] | None = None

    def follow(self, mask: NDArray[np.int8], *, start: bool) -> None:
        """Take the mask of the state that the environment has come to."""
        self._sampled = mask
        if start:
            self._at_start = mask

    @override
    def seed(self, seed: int | None = None) -> int | list[int] | dict[str, int]:
        """Seed the generator, and sample what is valid now and after a reset until the environment moves on."""
        if self._sampled is not None and self._at_start is not None:
            self._sampled = self._sampled & self._at_start
        return super().seed(seed)

    @override
    def sample(self, mask: Any = None, probability: Any = None) -> np.int64:
        """Draw uniformly from the valid actions, unless a mask or probabilities are given."""
        if mask is None and probability is None:
            mask = self._sampled
        return super().sample(mask, probability)


class FlatGrowthEnv(gymnasium.Env[Observation, np.int64]):
    """A growing network whose every decision is one number, ``esper/GrowthFlat-v0``.

    An action stands for an op with a choice of the heads that the op uses, so that the masks are exact: what is allowed
    can be carried out. Action 0 is WAIT. ``info`` is `GrowthEnv`'s.

    Attributes:
        growth: the environment that plays.
        actions: what each action stands for, one integer a head.
    """

    def __init__(self, **arguments: Any) -> None:
        """Make the environment.

        Args:
            **arguments: as `GrowthEnv` takes them.
        """
        self.growth = GrowthEnv(**arguments)
        self.actions = flat_actions(len(self.growth.slot_ids))
        op, self._slot, self._blueprint = self.actions[:, :3].T
        self._op = op
        self.observation_space = self.growth.observation_space
        self.action_space = self._valid_actions = _ValidFlatActions(len(self.actions))
        self._valid_actions.follow(self.action_masks(), start=True)

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with a new host; see `GrowthEnv.reset`."""
        super().reset(seed=seed)
        observation, info = self.growth.reset(seed=seed, options=options)
        return observation, self._with_mask(info, start=True)

    @override
    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out one decision and one host epoch; see `GrowthEnv.step`."""
        if action not in self.action_space:
            raise ValueError(f"an action is an integer from 0 to {len(self.actions) - 1}, not {action!r}")
        observation, reward, terminated, truncated, info = self.growth.step(self.actions[int(action)])
        return observation, reward, terminated, truncated, self._with_mask(info, start=False)

    def action_masks(self) -> NDArray[np.int8]:
        """Return which actions can be carried out now, 1 for those that can."""
        masks = self.growth.masks
        fits = np.array(masks.blueprint)[self._blueprint] | (self._op != _OPS.index(Op.GERMINATE))
        mask: NDArray[np.bool_] = (np.array(masks.slot)[self._op, self._slot] & fits) | (self._op == 0)
        return mask.astype(np.int8)

    def renumber(self, env_id: int) -> None:
        """Give the environment its global index; see `GrowthEnv.renumber`."""
        self.growth.renumber(env_id)

    def growth_fields(self) -> GrowthFields:
        """Return what TRAINING_STARTED says about the environment."""
        return self.growth.growth_fields()

    def _with_mask(self, info: dict[str, Any], *, start: bool) -> dict[str, Any]:
        mask = self.action_masks()
        self._valid_actions.follow(mask, start=start)
        return {**info, "action_mask": mask}


@cache
def flat_actions(n_slots: int) -> ActionVector:
    """Return every decision that differs from all others: shape (decisions, heads), read-only.

    An op comes with each combination of the heads that it uses; the others are 0.
    """
    sizes = dict(zip(HEADS, ValidActions(n_slots).nvec.tolist(), strict=True))
    rows = [
        row
        for index, op in enumerate(_OPS)
        for row in itertools.product(
            [index], *(range(sizes[head]) if head in HEADS_USED[op] else [0] for head in HEADS[1:])
        )
    ]
    actions = np.array(rows, dtype=np.int64)
    actions.setflags(write=False)
    return actions
