"""Is the policy's learning healthy? Rules over one PPO update, each with its evidence.

Finiteness comes first, since NaN slides through every comparison. What was not supplied is *unknown*, never OK.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from esper.karn.absence import figure, supplied
from esper.karn.figures import is_finite, number
from esper.leyline.telemetry import PPOUpdatePayload

__all__ = ["AT_A_GLANCE", "RULES", "Rule", "Status", "Verdict", "judge", "worst"]


class Status(Enum):
    """What a rule says. The value is what stands before it, so that no colour alone carries the meaning."""

    OK = "✓"
    UNKNOWN = "?"
    WATCH = "!"
    BAD = "✗"


_GRAVITY = list(Status)
_Finding: TypeAlias = tuple[Status, str]
_Test: TypeAlias = Callable[[PPOUpdatePayload, float], _Finding]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one field is judged."""

    field: str
    """The field of `PPOUpdatePayload`."""
    label: str
    text: str
    """The rule in words."""
    test: _Test
    """Judges a finite value."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule makes of one update."""

    rule: Rule
    value: float | None
    """None when it was not supplied."""
    status: Status
    evidence: str
    """The comparison that decided."""


def worst(verdicts: tuple[Verdict, ...]) -> Status:
    """Return the gravest status."""
    return max((verdict.status for verdict in verdicts), key=_GRAVITY.index, default=Status.UNKNOWN)


def judge(update: PPOUpdatePayload | None) -> tuple[Verdict, ...]:
    """Judge the newest update by all rules; without one everything is unknown."""
    return tuple(_judge(rule, update) for rule in RULES)


def _judge(rule: Rule, update: PPOUpdatePayload | None) -> Verdict:
    if update is None:
        return Verdict(rule, None, Status.UNKNOWN, "no update yet")
    value = figure(update, rule.field)
    if supplied(update, "skipped") is True:
        return Verdict(rule, value, Status.UNKNOWN, "skipped: no update was attempted")
    if value is None:
        return Verdict(rule, None, Status.UNKNOWN, "not supplied")
    if not is_finite(value):
        return Verdict(rule, value, *_not_finite(rule, update, value))
    return Verdict(rule, value, *rule.test(update, value))


def _not_finite(rule: Rule, update: PPOUpdatePayload, value: float) -> _Finding:
    if rule.field == "grad_norm" and _overflowed(update):
        return Status.WATCH, "overflow of mixed precision"
    if rule.field == "explained_variance" and number(value) == "NaN":
        return Status.WATCH, "NaN: the returns do not vary"
    return Status.BAD, f"{number(value)} is not finite"


def _overflowed(update: PPOUpdatePayload) -> bool:
    return supplied(update, "amp_overflow_detected") is True


def _at_most(watch: float, bad: float, *, above: float) -> _Test:
    def test(_update: PPOUpdatePayload, value: float) -> _Finding:
        if value < above:
            return Status.BAD, f"{number(value)} < {number(above)} cannot be"
        if value > bad:
            return Status.BAD, f"{number(value)} > {number(bad)}"
        if value > watch:
            return Status.WATCH, f"{number(value)} > {number(watch)}"
        return Status.OK, f"{number(value)} ≤ {number(watch)}"

    return test


def _entropy(update: PPOUpdatePayload, value: float) -> _Finding:
    collapsed = supplied(update, "entropy_collapsed")
    if collapsed is True:
        return Status.BAD, "collapsed: < 1 % of maximum"
    if value <= 0:
        return Status.BAD, f"{number(value)} ≤ 0"
    if collapsed is None:
        return Status.UNKNOWN, "collapse: not supplied"
    return Status.OK, "not collapsed"


def _explained_variance(_update: PPOUpdatePayload, value: float) -> _Finding:
    if value < -1:
        return Status.BAD, f"{number(value)} < -1"
    if value < 0:
        return Status.WATCH, f"{number(value)} < 0"
    return Status.OK, f"{number(value)} ≥ 0"


def _grad_norm(update: PPOUpdatePayload, value: float) -> _Finding:
    if value == 0:
        return Status.WATCH, "0: nothing is learnt"
    return _at_most(100.0, 1000.0, above=0.0)(update, value)


def _none_of(update: PPOUpdatePayload, value: float) -> _Finding:
    if value > 0:
        return (Status.WATCH, "overflow of mixed precision") if _overflowed(update) else (Status.BAD, "more than 0")
    return (Status.OK, "none") if value == 0 else (Status.BAD, f"{number(value)} < 0 cannot be")


def _few(_update: PPOUpdatePayload, value: float) -> _Finding:
    return (Status.WATCH, "more than 0") if value > 0 else (Status.OK, "none")


def _finite(_update: PPOUpdatePayload, _value: float) -> _Finding:
    return Status.OK, "finite"


_OVERFLOW = "(WATCH when mixed precision overflowed)."
AT_A_GLANCE = 7
"""The first rules: those that the main screen shows."""
RULES = (
    Rule("entropy", "entropy", "BAD when collapsed (entropy_collapsed) or not above 0.", _entropy),
    Rule("kl_divergence", "KL", "WATCH above 0.05, BAD above 0.15.", _at_most(0.05, 0.15, above=-1e-6)),
    Rule("clip_fraction", "clip fraction", "WATCH above 0.3, BAD above 0.5.", _at_most(0.3, 0.5, above=0.0)),
    Rule("explained_variance", "expl. variance", "WATCH below 0 or NaN, BAD below -1.", _explained_variance),
    Rule("grad_norm", "gradient norm", f"WATCH above 100 or at 0, BAD above 1,000 {_OVERFLOW}", _grad_norm),
    Rule("nan_grad_count", "NaN gradients", f"BAD above 0 {_OVERFLOW}", _none_of),
    Rule("inf_grad_count", "inf gradients", f"BAD above 0 {_OVERFLOW}", _none_of),
    Rule("policy_loss", "policy loss", "BAD when not finite.", _finite),
    Rule("value_loss", "value loss", "BAD when not finite.", _finite),
    Rule("ratio_max", "largest ratio", "WATCH above 5, BAD above 20.", _at_most(5.0, 20.0, above=0.0)),
    Rule("dead_layers", "dead layers", "WATCH above 0.", _few),
    Rule("exploding_layers", "exploding layers", "BAD above 0.", _none_of),
)
"""All rules. A value that is not finite is BAD by any of them, unless the rule says otherwise."""
