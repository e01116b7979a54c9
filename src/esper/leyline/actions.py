"""The vocabulary of the policy: what can be decided, and which parts of a decision matter.

An action is factored into eight heads. Each op uses some of them; the others are sampled from nothing, cost no
entropy and have no influence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "ALPHA_TARGETS",
    "HEADS",
    "HEADS_USED",
    "TEMPOS",
    "Action",
    "ActionMasks",
    "AlphaCurve",
    "AlphaSpeed",
    "BlendStyle",
    "Head",
    "Op",
]


class Op(Enum):
    """What to do with one slot in one host epoch."""

    WAIT = "wait"
    GERMINATE = "germinate"
    ADVANCE = "advance"
    """TRAINING to BLENDING; alpha then rises by itself and the seed ends in HOLDING."""
    FOSSILIZE = "fossilize"
    PRUNE = "prune"


class BlendStyle(Enum):
    """How a seed's output s joins its slot's features h."""

    ADD = "add"
    """h + alpha * s"""
    MULTIPLY = "multiply"
    """h * (1 + alpha * tanh(s))"""


class AlphaSpeed(Enum):
    """How fast alpha rises: the value divides the tempo."""

    SLOW = 0.5
    NORMAL = 1.0
    FAST = 2.0


class AlphaCurve(Enum):
    """The shape along which alpha rises."""

    LINEAR = "linear"
    COSINE = "cosine"
    SIGMOID = "sigmoid"


TEMPOS = (1, 2, 4)
"""Host epochs that blending takes at normal speed."""
ALPHA_TARGETS = (0.5, 0.75, 1.0)
"""Where alpha stops rising."""

Head: TypeAlias = Literal["op", "slot", "blueprint", "style", "tempo", "alpha_target", "alpha_speed", "alpha_curve"]
HEADS: tuple[Head, ...] = (
    "op", "slot", "blueprint", "style", "tempo", "alpha_target", "alpha_speed", "alpha_curve",
)  # fmt: skip

HEADS_USED: dict[Op, frozenset[Head]] = {
    Op.WAIT: frozenset({"op"}),
    Op.GERMINATE: frozenset({"op", "slot", "blueprint", "style", "tempo"}),
    Op.ADVANCE: frozenset({"op", "slot", "alpha_target", "alpha_speed", "alpha_curve"}),
    Op.FOSSILIZE: frozenset({"op", "slot"}),
    Op.PRUNE: frozenset({"op", "slot"}),
}
"""The heads that each op depends on."""


@dataclass(slots=True, frozen=True)
class Action:
    """One decision. ``slot`` and ``blueprint`` are indices; what the op does not use is ignored."""

    op: Op
    slot: int = 0
    blueprint: int = 0
    style: BlendStyle = BlendStyle.ADD
    tempo: int = TEMPOS[0]
    alpha_target: float = ALPHA_TARGETS[-1]
    alpha_speed: AlphaSpeed = AlphaSpeed.NORMAL
    alpha_curve: AlphaCurve = AlphaCurve.LINEAR


class ActionMasks(NamedTuple):
    """What may be chosen in one state; True is allowed.

    An op without an allowed slot is itself masked. WAIT is always allowed. The remaining heads (style, tempo and
    the three alpha heads) are valid whenever their op is.
    """

    op: tuple[bool, ...]
    """By op, in the order of `Op`."""
    slot: tuple[tuple[bool, ...], ...]
    """By op, then by slot; for WAIT all False."""
    blueprint: tuple[bool, ...]
    """By blueprint: those whose parameters still fit the budget."""
