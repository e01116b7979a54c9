"""What the policy sees: one bounded vector a state, finite whatever became of the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from esper.kasmina.blueprints import BLUEPRINTS
from esper.leyline.actions import TEMPOS, BlendStyle
from esper.leyline.stages import SeedStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esper.kasmina.slot import SeedSlot

__all__ = ["BOUND", "Observation", "encode", "observation_size"]

BOUND = 5.0
"""No number of an observation exceeds it, in either direction."""

_STAGES = tuple(SeedStage)
_NETWORK_FEATURES = 9
_SLOT_FEATURES = len(_STAGES) + len(BLUEPRINTS) + 8

Observation: TypeAlias = NDArray[np.float32]


def observation_size(n_slots: int) -> int:
    """Return the length of an observation."""
    return _NETWORK_FEATURES + n_slots * _SLOT_FEATURES


def encode(
    slots: Sequence[SeedSlot],
    *,
    progress: float,
    accuracy: float,
    accuracy_change: float,
    gain: float,
    loss: float,
    host_gradient: float,
    growth: float,
    budget_used: float,
) -> Observation:
    """Return the observation, scaled so that what usually happens lies within -1..1.

    Args:
        slots: the slots from input to output.
        progress: share of the episode that is over, 0 to 1.
        accuracy: validation accuracy, a fraction.
        accuracy_change: its change in the last step.
        gain: accuracy less that of the do-nothing control.
        loss: validation cross-entropy in nats, or not finite.
        host_gradient: L2 norm of the host's gradient in the last batch, or not finite.
        growth: parameters of the seeds over those of the host, 0 or more.
        budget_used: parameters of the seeds over those they may hold, 0 to 1.
    """
    features = [
        progress,
        accuracy,
        10 * accuracy_change,
        3 * gain,
        loss,
        float(not math.isfinite(loss)),
        _squash(host_gradient),
        math.log1p(growth),
        budget_used,
    ]
    for slot in slots:
        features += _slot_features(slot)
    bounded: NDArray[np.float64] = np.nan_to_num(np.array(features), nan=0.0).clip(-BOUND, BOUND)
    return bounded.astype(np.float32)


def _slot_features(slot: SeedSlot) -> list[float]:
    seed = slot.seed
    features = [float(slot.stage is stage) for stage in _STAGES]
    features += [float(seed is not None and seed.blueprint_id == blueprint_id) for blueprint_id in BLUEPRINTS]
    features.append(slot.epochs_in_stage / 8)
    if seed is None:
        return features + [0.0] * 7
    return [
        *features,
        float(seed.style is BlendStyle.MULTIPLY),
        seed.tempo / TEMPOS[-1],
        seed.alpha,
        seed.schedule.target if seed.schedule else 0.0,
        5 * (seed.contribution or 0.0),
        5 * (seed.accuracy - seed.accuracy_at_birth),
        _squash(seed.gradient.seed_norm) if seed.gradient else 0.0,
    ]


def _squash(norm: float) -> float:
    """Return the order of magnitude of a gradient norm, `BOUND` when it is not finite."""
    return math.log10(max(norm, 1e-8)) if math.isfinite(norm) else BOUND
