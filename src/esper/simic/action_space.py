"""Decisions as vectors of integers, one a head."""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

import numpy as np
from gymnasium.spaces import MultiDiscrete
from numpy.typing import NDArray
from typing_extensions import override

from esper.kasmina.blueprints import BLUEPRINTS
from esper.leyline.actions import ALPHA_TARGETS, TEMPOS, Action, ActionMasks, AlphaCurve, AlphaSpeed, BlendStyle, Op

__all__ = ["ActionVector", "ValidActions", "decode"]

_OPS, _STYLES, _SPEEDS, _CURVES = tuple(Op), tuple(BlendStyle), tuple(AlphaSpeed), tuple(AlphaCurve)

ActionVector: TypeAlias = NDArray[np.int64]


class ValidActions(MultiDiscrete):
    """The action space; it samples only what may be carried out.

    That is what the masks of the environment's present state allow. A space that has just been seeded draws an action
    which is valid after a reset as well, because that is where seeded play begins: Gymnasium's own checker seeds,
    samples, resets and then steps. ``contains`` knows the shape of an action, not the state.
    """

    def __init__(self, n_slots: int) -> None:
        """Make the space of actions, one integer a head in the order of `esper.leyline.actions.HEADS`."""
        sizes = [
            len(_OPS), n_slots, len(BLUEPRINTS), len(_STYLES),
            len(TEMPOS), len(ALPHA_TARGETS), len(_SPEEDS), len(_CURVES),
        ]  # fmt: skip
        super().__init__(sizes)
        self._sampled: ActionMasks | None = None
        self._at_start: ActionMasks | None = None

    def follow(self, masks: ActionMasks, *, start: bool) -> None:
        """Take the masks of the state that the environment has come to.

        Args:
            masks: what may be chosen there.
            start: whether an episode begins there.
        """
        self._sampled = masks
        if start:
            self._at_start = masks

    @override
    def seed(self, seed: int | None = None) -> int | Any:
        """Seed the generator, and sample what is valid now and after a reset until the environment moves on."""
        if self._sampled and self._at_start:
            self._sampled = _valid_in_both(self._sampled, self._at_start)
        return super().seed(seed)

    @override
    def sample(self, mask: Any = None, probability: Any = None) -> ActionVector:
        """Draw an op uniformly from the valid ones, then a slot, then the rest.

        Args:
            mask: as `MultiDiscrete.sample` takes it; then the state's own masks are not consulted.
            probability: as `MultiDiscrete.sample` takes it.
        """
        vector: ActionVector = super().sample(mask, probability)
        if mask is not None or probability is not None or self._sampled is None:
            return vector
        vector[0] = self.np_random.choice(np.flatnonzero(self._sampled.op))
        if any(slots := self._sampled.slot[vector[0]]):
            vector[1] = self.np_random.choice(np.flatnonzero(slots))
        if any(self._sampled.blueprint):
            vector[2] = self.np_random.choice(np.flatnonzero(self._sampled.blueprint))
        return vector


def _valid_in_both(one: ActionMasks, other: ActionMasks) -> ActionMasks:
    blueprint = tuple(map(operator.and_, one.blueprint, other.blueprint))
    slot = tuple(tuple(map(operator.and_, *slots)) for slots in zip(one.slot, other.slot, strict=True))
    op = tuple(
        op is Op.WAIT or (any(slots) and (op is not Op.GERMINATE or any(blueprint)))
        for op, slots in zip(_OPS, slot, strict=True)
    )
    return ActionMasks(op, slot, blueprint)


def decode(vector: ActionVector) -> Action:
    """Return the decision that an element of the action space stands for."""
    op, slot, blueprint, style, tempo, target, speed, curve = vector.tolist()
    return Action(
        _OPS[op], slot, blueprint, _STYLES[style], TEMPOS[tempo], ALPHA_TARGETS[target], _SPEEDS[speed], _CURVES[curve]
    )
