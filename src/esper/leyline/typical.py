"""What is typical of a run's updates: what a number that has no scale of its own is compared with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from esper.leyline.limits import real
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import PPOUpdatePayload

__all__ = ["WARM", "Typical", "flag_of", "value_of", "values_of"]

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


def values_of(update: PPOUpdatePayload, fields: Iterable[str]) -> dict[str, float]:
    """Return the numbers in fields, a flag as 1 or 0; but for those not supplied, None, or of a skipped update."""
    supplied = update.supplied
    if flag_of(update, "skipped"):
        fields = [field for field in fields if field == "skipped"]
    given = [(field, getattr(update, field)) for field in fields if field in _REQUIRED or field in supplied]
    return {field: real(value) for field, value in given if value is not None}


def value_of(update: PPOUpdatePayload, field: str) -> float | None:
    """Return the number in one field; None where there is none: see `values_of`."""
    values = values_of(update, (field,))
    return values[field] if values else None


def flag_of(update: PPOUpdatePayload, name: str) -> bool:
    """Return whether a flag was supplied and is set."""
    return getattr(update, name) is True and name in update.supplied


_REQUIRED: Final = frozenset(field.name for field in dataclasses.fields(PPOUpdatePayload) if not is_optional(field))
