"""How a PPO update went, in one line, and how urgently somebody should look at it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from esper.leyline.event_types import Severity
    from esper.leyline.telemetry import PPOUpdatePayload

__all__ = ["Steps", "assess_update"]


class Steps(NamedTuple):
    """The optimizer's steps in one update."""

    attempted: int
    """0 when the update was skipped."""
    taken: int
    """Those whose gradients were finite."""
    overflowed: int = 0
    """Those not taken because the loss scale was too large."""
    cause: str = ""
    """Why none was attempted."""


def assess_update(update: PPOUpdatePayload, target_kl: float, steps: Steps | None = None) -> tuple[Severity, str]:
    """Say in one line how an update went, and how urgently somebody should look at it.

    An error where it met numbers that mean nothing or took no step, a warning where a rule of health tripped.

    Args:
        update: what was measured.
        target_kl: the limit it was made under.
        steps: the optimizer's; None where nobody counted.
    """
    if update.skipped:
        return "error", f"update {update.batch} skipped: {steps.cause if steps else 'its data were not finite'}"
    warnings: list[str] = []
    errors: list[str] = []
    if update.early_stop_epoch is not None:
        after = "1 epoch" if update.inner_epoch == 1 else f"{update.inner_epoch} epochs"
        warnings.append(f"KL {update.kl_divergence:.3g} above {target_kl:.3g} ended it after {after}")
    if update.entropy_collapsed:
        warnings.append(f"entropy collapsed to {update.entropy:.3g}")
    if update.amp_overflow_detected:
        warnings.append(f"mixed precision overflowed, loss scale now {update.loss_scale:g}")
    if update.exploding_layers:
        layers = "1 layer" if update.exploding_layers == 1 else f"{update.exploding_layers} layers"
        warnings.append(f"{layers} with exploding gradients")
    if steps and steps.taken < steps.attempted:
        only_overflow = 0 < steps.taken == steps.attempted - steps.overflowed
        skipped = f"{steps.attempted - steps.taken} of {steps.attempted} steps skipped"
        (warnings if only_overflow else errors).append(skipped)
    not_finite = update.nan_grad_count + update.inf_grad_count
    if not_finite and not update.amp_overflow_detected:
        errors.append(f"{not_finite} gradient elements not finite")
    if not math.isfinite(update.kl_divergence):
        errors.append(f"KL is {update.kl_divergence}")
    summary = f"update {update.batch}: KL {update.kl_divergence:.3g}, entropy {update.entropy:.3g}"
    severity: Severity = "error" if errors else "warning" if warnings else "info"
    return severity, "; ".join([summary, *errors, *warnings])
