"""The rules of health for one PPO update: pure functions of what was measured, the limits, and what is typical."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from esper.leyline.limits import Limits, Status, real, text
from esper.leyline.telemetry import PPOUpdatePayload
from esper.leyline.typical import WARM, Typical, flag_of

__all__ = ["RULE_OF", "UPDATE_RULES", "UpdateRule"]

_Finding: TypeAlias = tuple[Status, str]
_Test: TypeAlias = Callable[[PPOUpdatePayload, float, Limits, Typical], _Finding]


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """How one field of an update is judged."""

    name: str
    field: str
    """The field of `PPOUpdatePayload`."""
    label: str
    text: str
    """The rule in words."""
    test: _Test
    """Judges a finite value."""
    tripped: Callable[[Limits, Status], str]
    """Says what tripped at a level, behind the label."""
    remembers: Status | None = Status.BAD
    """From this on one update is enough to keep a run at WATCH; None where it means nothing unless it lasts."""
    lower_is_worse: bool = False


_WITHIN: Final[_Finding] = (Status.OK, "within its limits")


def _at_most(limit: Callable[[Limits, Status], float], *, least: float) -> _Test:
    def test(_update: PPOUpdatePayload, value: float, limits: Limits, _typical: Typical) -> _Finding:
        if value < least:
            return Status.BAD, f"{text(value)} < {text(least)} cannot be"
        if value <= limit(limits, Status.WATCH):
            return _WITHIN
        status = Status.BAD if value > limit(limits, Status.BAD) else Status.WATCH
        return status, f"{text(value)} > {text(limit(limits, status))}"

    return test


def _of_typical(name: str) -> _Test:
    """Compare a number that has no scale with its own history."""

    def test(_update: PPOUpdatePayload, value: float, limits: Limits, typical: Typical) -> _Finding:
        usual: float | None = getattr(typical, name)
        if value < 0:
            return Status.BAD, f"{text(value)} < 0 cannot be"
        if usual is None or value <= usual:
            return _WITHIN
        levels = (Status.BAD,) if typical.updates < WARM else (Status.BAD, Status.WATCH)
        for status in levels:
            if value > getattr(limits, f"{name}_{status.name.lower()}") * usual:
                return status, f"{text(value)}, {text(value / usual)} times the typical {text(usual)}"
        return _WITHIN

    return test


def _grad_norm(update: PPOUpdatePayload, value: float, limits: Limits, typical: Typical) -> _Finding:
    if value == 0:
        return Status.WATCH, "0: nothing is learnt"
    return _grad_norm_of_typical(update, value, limits, typical)


_grad_norm_of_typical = _of_typical("grad_norm")


def _entropy(update: PPOUpdatePayload, value: float, _limits: Limits, _typical: Typical) -> _Finding:
    if "entropy_collapsed" not in update.supplied:
        return Status.UNKNOWN, "what the masks allow was not supplied"
    if update.entropy_collapsed:
        return Status.BAD, f"{text(value)} is below 1 % of what the masks allow"
    return _WITHIN


def _explained(_update: PPOUpdatePayload, value: float, limits: Limits, typical: Typical) -> _Finding:
    if value > 1:
        return Status.BAD, f"{text(value)} > 1 cannot be"
    if typical.updates < WARM:
        return Status.OK, f"{text(value)}: the critic has hardly begun"
    if value < limits.explained_bad:
        return Status.BAD, f"{text(value)} < {text(limits.explained_bad)}"
    if value < limits.explained_watch:
        return Status.WATCH, f"{text(value)} < {text(limits.explained_watch)}"
    return _WITHIN


def _not_finite_count(update: PPOUpdatePayload, value: float, _limits: Limits, _typical: Typical) -> _Finding:
    if value < 0:
        return Status.BAD, f"{text(value)} < 0 cannot be"
    if value > 0 and not flag_of(update, "amp_overflow_detected"):
        return Status.BAD, f"{text(value)} elements"
    return Status.OK, "overflow of mixed precision" if value > 0 else "none"


def _skipped(_update: PPOUpdatePayload, value: float, _limits: Limits, _typical: Typical) -> _Finding:
    return (Status.BAD, "no update was attempted") if value else (Status.OK, "attempted")


def _overflow(_update: PPOUpdatePayload, value: float, _limits: Limits, _typical: Typical) -> _Finding:
    return (Status.WATCH, "a step was skipped: overflow") if value else (Status.OK, "none")


def _dead(_update: PPOUpdatePayload, value: float, _limits: Limits, _typical: Typical) -> _Finding:
    if value < 0:
        return Status.BAD, f"{text(value)} < 0 cannot be"
    return (Status.WATCH, f"{text(value)} layers") if value > 0 else (Status.OK, "none")


def _exploding(update: PPOUpdatePayload, value: float, limits: Limits, typical: Typical) -> _Finding:
    """Judge layers whose gradient is far above their weights: unscaled returns make that so from the beginning."""
    if value < 0:
        return Status.BAD, f"{text(value)} < 0 cannot be"
    if value == 0 or flag_of(update, "amp_overflow_detected"):
        return Status.OK, "overflow of mixed precision" if value else "none"
    norm, usual = real(update.grad_norm), typical.grad_norm
    if not math.isfinite(norm) or (usual is not None and norm > limits.grad_norm_watch * usual):
        return Status.BAD, f"{text(value)} layers"
    if value > typical.exploding_layers and typical.updates >= WARM:
        return Status.WATCH, f"{text(value)} layers, no more than {text(typical.exploding_layers)} before"
    return Status.OK, f"{text(value)} layers, with gradients as large as ever"


def _still(_update: PPOUpdatePayload, value: float, limits: Limits, _typical: Typical) -> _Finding:
    if value < limits.kl_least:
        return Status.WATCH, f"KL {text(value)} < {text(limits.kl_least)}"
    return _WITHIN


def _finite(_update: PPOUpdatePayload, _value: float, _limits: Limits, _typical: Typical) -> _Finding:
    return _WITHIN


_KL: Final = _at_most(Limits.kl, least=-0.01)  # k1 estimates may be a little below 0
_CLIP: Final = _at_most(Limits.clip_fraction, least=0.0)
_RATIO: Final = _at_most(Limits.ratio, least=0.0)


def _above(limit: Callable[[Limits, Status], float]) -> Callable[[Limits, Status], str]:
    return lambda limits, status: f"above {text(limit(limits, status))}"


def _times_typical(name: str) -> Callable[[Limits, Status], str]:
    def tripped(limits: Limits, status: Status) -> str:
        times: float = getattr(limits, f"{name}_{status.name.lower()}")
        return f"more than {text(times)} times its typical value"

    return tripped


def _plain(words: str) -> Callable[[Limits, Status], str]:
    return lambda _limits, _status: words


def _below_explained(limits: Limits, status: Status) -> str:
    return f"below {text(limits.explained_bad if status is Status.BAD else limits.explained_watch)}"


_KL_TEXT: Final = "WATCH above twice the run's target, BAD above four times; without one above 0.05 and 0.15."
_CLIP_TEXT: Final = "WATCH and BAD above what a KL at its limits means for this clip ratio."
_RATIO_TEXT: Final = "WATCH and BAD above five and six standard deviations of the log-ratio at those limits."
_ENTROPY_TEXT: Final = (
    "BAD below 1 % of what the masks allow; unknown that, WATCH below 5 % of its beginning, BAD below 1 %."
)
_EXPLAINED_TEXT: Final = "WATCH below 0, BAD below -1, when it lasts, after five updates; NaN: nothing to explain."
_GRAD_TEXT: Final = (
    "WATCH at 0 or above 10 times its typical value, BAD above 100 times (mixed precision may overflow)."
)
_VALUE_TEXT: Final = "WATCH above 100 times its typical value, BAD above 1,000 times or below 0."
_NONE_TEXT: Final = "BAD above 0, unless mixed precision overflowed."
_SKIPPED_TEXT: Final = "BAD when no update was attempted."
_OVERFLOW_TEXT: Final = "WATCH when steps of half of the newest ten updates were skipped."
_DEAD_TEXT: Final = "WATCH above 0."
_EXPLODING_TEXT: Final = (
    "BAD above 0, if gradients are 10 times the typical or not finite; WATCH above what was before."
)
_STILL_TEXT: Final = "WATCH when the KL is below 2e-5 in half of the newest ten updates: nothing is learnt."
_FINITE_TEXT: Final = "BAD when not finite."
_FOUND: Final = _plain("found")
_BAD, _WATCH, _LASTS = Status.BAD, Status.WATCH, None
UPDATE_RULES: Final = (
    UpdateRule("kl", "kl_divergence", "KL", _KL_TEXT, _KL, _above(Limits.kl), _BAD),
    UpdateRule(
        "clip_fraction", "clip_fraction", "clip fraction", _CLIP_TEXT, _CLIP, _above(Limits.clip_fraction), _BAD
    ),
    UpdateRule(
        "entropy", "entropy", "entropy", _ENTROPY_TEXT, _entropy, _plain("collapsed"), _BAD, lower_is_worse=True
    ),
    UpdateRule(
        "explained_variance",
        "explained_variance",
        "expl. variance",
        _EXPLAINED_TEXT,
        _explained,
        _below_explained,
        _LASTS,
        lower_is_worse=True,
    ),
    UpdateRule("grad_norm", "grad_norm", "gradient norm", _GRAD_TEXT, _grad_norm, _times_typical("grad_norm"), _BAD),
    UpdateRule("nan_gradients", "nan_grad_count", "NaN gradients", _NONE_TEXT, _not_finite_count, _FOUND, _BAD),
    UpdateRule("inf_gradients", "inf_grad_count", "inf gradients", _NONE_TEXT, _not_finite_count, _FOUND, _BAD),
    UpdateRule("skipped", "skipped", "update", _SKIPPED_TEXT, _skipped, _plain("skipped"), _BAD),
    UpdateRule(
        "overflow", "update_skipped", "overflow", _OVERFLOW_TEXT, _overflow, _plain("of mixed precision"), _LASTS
    ),
    UpdateRule("policy_loss", "policy_loss", "policy loss", _FINITE_TEXT, _finite, _plain("not finite"), _BAD),
    UpdateRule(
        "value_loss",
        "value_loss",
        "value loss",
        _VALUE_TEXT,
        _of_typical("value_loss"),
        _times_typical("value_loss"),
        _BAD,
    ),
    UpdateRule("ratio", "ratio_max", "largest ratio", _RATIO_TEXT, _RATIO, _above(Limits.ratio), _BAD),
    UpdateRule("dead_layers", "dead_layers", "dead layers", _DEAD_TEXT, _dead, _FOUND, _WATCH),
    UpdateRule("exploding_layers", "exploding_layers", "exploding layers", _EXPLODING_TEXT, _exploding, _FOUND, _BAD),
    UpdateRule(
        "still",
        "kl_divergence",
        "movement",
        _STILL_TEXT,
        _still,
        _plain("none, by the KL,"),
        _LASTS,
        lower_is_worse=True,
    ),
)
"""Every rule for one update. A value that is not finite is BAD by any of them, unless the rule says otherwise."""
RULE_OF: Final = {rule.name: rule for rule in UPDATE_RULES}
"""Each by its name."""
