"""What a step is paid, told a second time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

POTENTIAL = {"TRAINING": 0.5, "BLENDING": 1.0, "HOLDING": 1.5, "FOSSILIZED": 2.0}
NOTHING = dict.fromkeys(
    ("base_acc_delta", "bounded_attribution", "compute_rent", "alpha_shock", "ratio_penalty", "stage_bonus",
     "fossilize_terminal_bonus", "blending_warning", "holding_warning"), 0.0,
)  # fmt: skip


def reward_parts(
    mode: str,
    *,
    op: str,
    last: bool,
    accuracies: tuple[float, float, float, float],
    growth: float,
    lost: int,
    blending: Sequence[float],
    settled: Sequence[float],
    alphas: tuple[Sequence[float], Sequence[float]],
    stages: tuple[Sequence[str], Sequence[str]],
    fossilized: float | None,
    held_too_long: int,
) -> dict[str, float]:
    """Return the parts of a reward by name.

    Args:
        mode: ``shaped``, ``simplified`` or ``sparse``.
        op: what was carried out.
        last: whether the episode ends.
        accuracies: at the episode's start, before the step, after it, and of the control.
        growth: parameters of the seeds over those of the host.
        lost: seeds pruned by the episode's end.
        blending: contributions of the seeds that were blending.
        settled: of the others that have joined.
        alphas: of every slot, before and after.
        stages: likewise.
        fossilized: contribution of the seed that was fossilized.
        held_too_long: seeds that stay in HOLDING for more than two epochs.
    """
    at_start, before, after, control = accuracies
    rent = -0.1 * math.log(1 + growth)
    if mode == "sparse":
        return NOTHING | ({"base_acc_delta": 10 * (after - at_start), "compute_rent": rent} if last else {})
    costs = -(0.02 * (op == "GERMINATE") + 0.01 * (op == "PRUNE") + 0.5 * lost)
    parts = NOTHING | {"base_acc_delta": 10 * (after - before), "compute_rent": rent, "ratio_penalty": costs}
    if mode == "simplified":
        return parts
    helping = [value for value in (*blending, *settled) if not value <= 0]
    credit = float(np.min([sum(helping), after - control, 0.3])) if helping else 0.0
    verdict = 0.0
    if fossilized is not None:
        verdict = -0.3 if fossilized <= 0.005 else 2 * float(np.min([fossilized, 0.3]))
    was, now = (sum(POTENTIAL.get(stage, 0.0) for stage in each) for each in stages)
    return parts | {
        "bounded_attribution": float(np.max([credit, -0.3])) + _harm(settled),
        "alpha_shock": -0.05 * sum((after - before) ** 2 for before, after in zip(*alphas, strict=True)),
        "stage_bonus": 0.1 * (now - was),
        "fossilize_terminal_bonus": verdict,
        "blending_warning": _harm(blending),
        "holding_warning": -0.1 * held_too_long,
    }


def _harm(contributions: Sequence[float]) -> float:
    """What hurts, at worst -0.3."""
    hurting = [value for value in contributions if not value >= 0]
    return float(np.max([sum(hurting), -0.3])) if hurting else 0.0
