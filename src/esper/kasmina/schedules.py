"""How a seed's alpha rises while it is blended in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

from esper.leyline.actions import AlphaCurve, AlphaSpeed

__all__ = ["AlphaSchedule", "blend_epochs"]

_SIGMOID_STEEPNESS = 10.0


def blend_epochs(tempo: int, speed: AlphaSpeed) -> int:
    """Return the host epochs that blending takes: the tempo divided by the speed, at least one.

    Args:
        tempo: host epochs at normal speed, 1 or more.
        speed: what divides the tempo.
    """
    return math.ceil(tempo / speed.value)


@dataclass(slots=True, frozen=True)
class AlphaSchedule:
    """A rise of alpha from 0 to ``target`` in ``epochs`` steps along ``curve``."""

    target: float
    """Where alpha ends, above 0 and at most 1."""
    epochs: int
    """Steps until the target is reached, 1 or more."""
    curve: AlphaCurve
    """Shape of the rise."""

    def alpha(self, elapsed: int) -> float:
        """Return alpha after ``elapsed`` epochs: 0 before the first, exactly ``target`` from the last on."""
        if elapsed >= self.epochs:
            return self.target
        return self.target * _rise(self.curve, max(0, elapsed) / self.epochs)


def _rise(curve: AlphaCurve, progress: float) -> float:
    """Map progress 0..1 to 0..1, monotonically and with both ends fixed."""
    match curve:
        case AlphaCurve.LINEAR:
            return progress
        case AlphaCurve.COSINE:
            return 0.5 * (1.0 - math.cos(math.pi * progress))
        case AlphaCurve.SIGMOID:
            # a logistic curve is a tanh; dividing by its end value makes the ends exact
            half = _SIGMOID_STEEPNESS / 2
            return 0.5 * (1.0 + math.tanh(half * (2 * progress - 1) / 2) / math.tanh(half / 2))
        case _:
            assert_never(curve)
