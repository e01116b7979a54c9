"""Is the policy's learning healthy? Rules over PPO updates, each with its evidence.

Finiteness comes first, since NaN slides through every comparison. What was not supplied is *unknown*, never OK; and
what was worse than unknown when it was last supplied stays so until it is supplied again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from esper.karn.absence import supplied, supplied_number
from esper.karn.formatting import is_finite, number
from esper.leyline.telemetry import PPOUpdatePayload

if TYPE_CHECKING:
    from esper.karn.snapshot import Entry

__all__ = [
    "RULES",
    "Rule",
    "Status",
    "Verdict",
    "assess_update",
    "assess_updates",
    "gravest_first",
    "tally",
    "value_of",
    "worst",
]


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
    """How one field is assessed."""

    field: str
    """The field of `PPOUpdatePayload`."""
    label: str
    text: str
    """The rule in words."""
    test: _Test
    """Assesses a finite value."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule makes of one update."""

    rule: Rule
    value: float | None
    """None when it was not supplied. Of a flag 1 or 0."""
    status: Status
    evidence: str
    """The comparison that decided."""


def worst(verdicts: tuple[Verdict, ...]) -> Status:
    """Return the gravest status."""
    return max((verdict.status for verdict in verdicts), key=_GRAVITY.index, default=Status.UNKNOWN)


def tally(verdicts: tuple[Verdict, ...]) -> str:
    """Return how many rules say what, the gravest first: ``2 BAD, 11 OK``."""
    counts = [(sum(verdict.status is status for verdict in verdicts), status.name) for status in reversed(Status)]
    return ", ".join(f"{count} {name}" for count, name in counts if count)


def gravest_first(verdicts: tuple[Verdict, ...], room: int) -> tuple[Verdict, ...]:
    """Return verdicts so that the gravest are among the first few; apart from that in the order of the rules."""
    above = sorted(verdicts, key=lambda verdict: -_GRAVITY.index(verdict.status))[:room]
    return tuple(sorted(verdicts, key=lambda verdict: verdict not in above))


def assess_updates(updates: Sequence[Entry[PPOUpdatePayload]]) -> tuple[Verdict, ...]:
    """Assess a run by all rules: each by the newest update, and where that leaves it unknown by what was last known.

    A rule that was last known to be OK is unknown now; one that was not stays what it was, and says since when.

    Args:
        updates: of the run, oldest first.
    """
    newest = updates[-1].data if updates else None
    return tuple(
        _last_known(verdict, updates) if verdict.status is Status.UNKNOWN else verdict
        for verdict in assess_update(newest)
    )


def _last_known(unknown: Verdict, updates: Sequence[Entry[PPOUpdatePayload]]) -> Verdict:
    for ago in range(1, min(len(updates), _REACH)):
        known = _assess(unknown.rule, updates[-1 - ago].data)
        if known.status is Status.OK:
            break
        if known.status is not Status.UNKNOWN:
            when = "1 update ago" if ago == 1 else f"{ago:,} updates ago"
            return Verdict(known.rule, known.value, known.status, f"{when}: {known.evidence}")
    return unknown


def assess_update(update: PPOUpdatePayload | None) -> tuple[Verdict, ...]:
    """Assess one update by all rules; without one everything is unknown."""
    return tuple(_assess(rule, update) for rule in RULES)


def value_of(update: PPOUpdatePayload, rule: Rule) -> float | None:
    """Return the number that a rule assesses, a flag as 1 or 0; None when it was not supplied, or means nothing."""
    if rule.field != "skipped" and supplied(update, "skipped") is True:
        return None
    value = supplied(update, rule.field)
    return int(value) if isinstance(value, bool) else supplied_number(update, rule.field)


def _assess(rule: Rule, update: PPOUpdatePayload | None) -> Verdict:
    if update is None:
        return Verdict(rule, None, Status.UNKNOWN, "no update yet")
    value = value_of(update, rule)
    if value is None:
        why = "skipped" if supplied(update, "skipped") is True else "not supplied"
        return Verdict(rule, None, Status.UNKNOWN, why)
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
        return Status.BAD, "below 1 % of max"
    if value <= 0:
        return Status.BAD, f"{number(value)} ≤ 0"
    if collapsed is None:
        return Status.UNKNOWN, "collapse: not supplied"
    return Status.OK, "not collapsed"


def _explained_variance(_update: PPOUpdatePayload, value: float) -> _Finding:
    if value < -1:
        return Status.BAD, f"{number(value)} < -1"
    if value > 1:
        return Status.BAD, f"{number(value)} > 1 cannot be"
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
    if value < 0:
        return Status.BAD, f"{number(value)} < 0 cannot be"
    return (Status.WATCH, "more than 0") if value > 0 else (Status.OK, "none")


def _attempted(update: PPOUpdatePayload, value: float) -> _Finding:
    if value:
        return Status.BAD, "no update was attempted"
    if supplied(update, "update_skipped") is True:
        return Status.WATCH, "a step was skipped: overflow"
    return Status.OK, "attempted"


def _finite(_update: PPOUpdatePayload, _value: float) -> _Finding:
    return Status.OK, "finite"


def _squared(_update: PPOUpdatePayload, value: float) -> _Finding:
    return (Status.BAD, f"{number(value)} < 0 cannot be") if value < 0 else (Status.OK, "finite")


_REACH = 240
"""Updates that are looked back over for what was last known: a screen asks several times a second."""
_OVERFLOW = "(WATCH when mixed precision overflowed)."
RULES = (
    Rule("entropy", "policy entropy", "BAD when collapsed (entropy_collapsed) or not above 0.", _entropy),
    Rule("kl_divergence", "KL", "WATCH above 0.05, BAD above 0.15.", _at_most(0.05, 0.15, above=-1e-6)),
    Rule("clip_fraction", "clip fraction", "WATCH above 0.3, BAD above 0.5.", _at_most(0.3, 0.5, above=0.0)),
    Rule("explained_variance", "expl. variance", "WATCH below 0 or NaN, BAD below -1 or above 1.", _explained_variance),
    Rule("grad_norm", "gradient norm", f"WATCH above 100 or at 0, BAD above 1,000 {_OVERFLOW}", _grad_norm),
    Rule("nan_grad_count", "NaN gradients", f"BAD above 0 {_OVERFLOW}", _none_of),
    Rule("inf_grad_count", "inf gradients", f"BAD above 0 {_OVERFLOW}", _none_of),
    Rule("skipped", "skipped", "BAD when no update was attempted, WATCH when a step was skipped.", _attempted),
    Rule("policy_loss", "policy loss", "BAD when not finite.", _finite),
    Rule("value_loss", "value loss", "BAD when not finite or below 0.", _squared),
    Rule("ratio_max", "largest ratio", "WATCH above 5, BAD above 20.", _at_most(5.0, 20.0, above=0.0)),
    Rule("dead_layers", "dead layers", "WATCH above 0.", _few),
    Rule("exploding_layers", "exploding layers", "BAD above 0.", _none_of),
)
"""All rules. A value that is not finite is BAD by any of them, unless the rule says otherwise."""
