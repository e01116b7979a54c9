"""How a PPO update went, in one line, and how urgently somebody should look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from esper.leyline.health import judge_update, severity_of
from esper.leyline.limits import Limits, Status
from esper.leyline.typical import Typical

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


def assess_update(
    update: PPOUpdatePayload, limits: Limits, typical: Typical, steps: Steps | None = None
) -> tuple[Severity, str]:
    """Say in one line how an update went, and how urgently somebody should look at it.

    The rules of health decide: an error for BAD, a warning for WATCH.

    Args:
        update: what was measured.
        limits: of the run.
        typical: of the updates before.
        steps: the optimizer's; None where nobody counted.
    """
    judgements = judge_update(update, limits, typical)
    severity = severity_of(judgements)
    if update.skipped:
        return severity, f"update {update.batch} skipped: {steps.cause if steps else 'its data were not finite'}"
    said = [f"update {update.batch}: KL {update.kl_divergence:.3g}, entropy {update.entropy:.3g}"]
    if steps and steps.taken < steps.attempted:
        said.append(f"{steps.attempted - steps.taken} of {steps.attempted} steps skipped")
    alarms = [one for one in judgements if one.status in (Status.BAD, Status.WATCH)]
    said += [f"{one.rule.label} {one.evidence}" for one in alarms if one.rule.name != "overflow"]
    if update.amp_overflow_detected:
        said.append(f"mixed precision overflowed, loss scale now {update.loss_scale:g}")
    if update.early_stop_epoch is not None:
        after = "1 epoch" if update.inner_epoch == 1 else f"{update.inner_epoch} epochs"
        said.append(f"KL ended it after {after}")
    return severity, "; ".join(said)
