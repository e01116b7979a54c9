"""What is typical of a run's updates: what a number that has no scale of its own is compared with."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

from esper.leyline.limits import real
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import PPOUpdatePayload

__all__ = ["WARM", "Typical", "flag_of", "value_of"]

WARM: Final = 5
"""Updates before which nothing is typical, and a critic has hardly been trained."""


@dataclass(frozen=True, slots=True)
class Typical:
    """What is typical of a run's updates so far. It follows slowly, and jumps hardly move it."""

    updates: int = 0
    """Updates that were looked at. Unit: updates; 0 or more."""
    grad_norm: float | None = None
    """Unit: 1; above 0."""
    value_loss: float | None = None
    """Unit: 1; above 0."""
    exploding_layers: float = 0.0
    """The most so far. Unit: layers; 0 or more."""

    def after(self, update: PPOUpdatePayload) -> Typical:
        """Return what is typical once an update has been looked at."""
        return Typical(
            self.updates + 1,
            self._follow(self.grad_norm, value_of(update, "grad_norm")),
            self._follow(self.value_loss, value_of(update, "value_loss")),
            max(self.exploding_layers, value_of(update, "exploding_layers") or 0.0),
        )

    def _follow(self, typical: float | None, value: float | None) -> float | None:
        if value is None or not 0 < value < math.inf:
            return typical
        if typical is None:
            return value
        step = max(min(math.log(value) - math.log(typical), _LARGEST_STEP), -_LARGEST_STEP)
        return typical * math.exp(step / min(self.updates + 1, _MEMORY))


_LARGEST_STEP: Final = math.log(10)
_MEMORY: Final = 30
"""Updates over which what is typical is taken."""


def value_of(update: PPOUpdatePayload, field: str) -> float | None:
    """Return the number in a field, a flag as 1 or 0; None when it was not supplied, or the update was skipped."""
    if field != "skipped" and flag_of(update, "skipped"):
        return None
    value: float | None = getattr(update, field) if field in _REQUIRED or field in update.supplied else None
    return None if value is None else real(value)


def flag_of(update: PPOUpdatePayload, name: str) -> bool:
    """Return whether a flag was supplied and is set."""
    return name in update.supplied and getattr(update, name) is True


_REQUIRED: Final = frozenset(field.name for field in dataclasses.fields(PPOUpdatePayload) if not is_optional(field))
