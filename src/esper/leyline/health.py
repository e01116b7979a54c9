"""The rules of health: what each makes of one PPO update.

Who emits takes an event's severity from them, and `esper.karn.health` the verdict over a run. Finiteness comes first,
since NaN slides through every comparison. What was not supplied is UNKNOWN: neither OK nor an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from esper.leyline.limits import Limits, Status, gravest, text
from esper.leyline.telemetry import PPOUpdatePayload
from esper.leyline.typical import Typical, flag_of, values_of
from esper.leyline.update_rules import UPDATE_RULES, UpdateRule

if TYPE_CHECKING:
    from esper.leyline.event_types import Severity

__all__ = ["Judgement", "judge_update", "severity_of"]


class Judgement(NamedTuple):
    """What a rule makes of one update."""

    rule: UpdateRule
    status: Status
    value: float | None
    """None when it was not supplied, or means nothing. Of a flag 1 or 0."""
    evidence: str
    """The comparison that decided."""


def judge_update(
    update: PPOUpdatePayload, limits: Limits | None = None, typical: Typical | None = None
) -> tuple[Judgement, ...]:
    """Judge one update by all rules.

    Args:
        update: what was measured.
        limits: of the run; None for the convention's.
        typical: of the run's updates before; None when there is nothing to compare with.
    """
    limits, typical = limits or _CONVENTION, typical or _NOTHING_TYPICAL
    values = values_of(update, _FIELDS)
    return tuple([_judge(rule, update, values, limits, typical) for rule in UPDATE_RULES])


def severity_of(judgements: tuple[Judgement, ...]) -> Severity:
    """Return how urgently somebody should look at an update: an error for BAD, a warning for WATCH."""
    worst = gravest(*(judgement.status for judgement in judgements))
    return "error" if worst is Status.BAD else "warning" if worst is Status.WATCH else "info"


def _judge(
    rule: UpdateRule, update: PPOUpdatePayload, values: Mapping[str, float], limits: Limits, typical: Typical
) -> Judgement:
    if rule.field not in values:
        why = "skipped" if flag_of(update, "skipped") else "not supplied"
        return Judgement(rule, Status.UNKNOWN, None, why)
    value = values[rule.field]
    if not math.isfinite(value):
        return Judgement(rule, *_not_finite(rule, update, value))
    status, evidence = rule.test(update, value, limits, typical)
    return Judgement(rule, status, value, evidence)


def _not_finite(rule: UpdateRule, update: PPOUpdatePayload, value: float) -> tuple[Status, float | None, str]:
    if rule.field == "grad_norm" and flag_of(update, "amp_overflow_detected"):
        return Status.OK, value, "overflow of mixed precision"
    if rule.field == "grad_norm" and math.isnan(value) and update.nan_grad_count == 0:
        return Status.UNKNOWN, None, "ended before the first step"
    if rule.field == "explained_variance" and math.isnan(value):
        return Status.UNKNOWN, None, "the returns do not vary"
    return Status.BAD, value, f"{text(value)} is not finite"


_CONVENTION: Final = Limits()
_NOTHING_TYPICAL: Final = Typical()
_FIELDS: Final = tuple(dict.fromkeys(rule.field for rule in UPDATE_RULES))
