"""A seed: a module that grows in a slot, and what has been measured of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from esper.kasmina.schedules import AlphaSchedule
    from esper.leyline.actions import BlendStyle

__all__ = ["GradientHealth", "Seed"]

# On the digits the norms of seeds at their transitions lie between these but for about one in a hundred on either side.
_VANISHING_NORM = 1e-2
_EXPLODING_NORM = 5.0


@dataclass(slots=True, frozen=True)
class GradientHealth:
    """Gradient of a seed in the last training batch."""

    seed_norm: float
    """L2 norm over the seed's parameters; 0 or more, or not finite."""
    host_norm: float
    """L2 norm over the host's parameters in the same batch; 0 or more, or not finite."""

    @property
    def vanishing(self) -> bool:
        """Whether the seed's norm is below 1e-2."""
        return self.seed_norm < _VANISHING_NORM

    @property
    def exploding(self) -> bool:
        """Whether the seed's norm is above 5 or not finite."""
        return not math.isfinite(self.seed_norm) or self.seed_norm > _EXPLODING_NORM

    @property
    def ratio(self) -> float | None:
        """The seed's norm over the host's; None when the host had no gradient."""
        return self.seed_norm / self.host_norm if self.host_norm != 0 else None


@dataclass(slots=True)
class Seed:
    """A module in a slot, and what has been measured of it."""

    seed_id: str
    """Names this seed and no other of the run."""
    blueprint_id: str
    module: nn.Module
    parameters: tuple[nn.Parameter, ...]
    """Those of the module, all trainable."""
    style: BlendStyle
    tempo: int
    """Host epochs that its blending takes at normal speed."""
    accuracy_at_birth: float
    """Validation accuracy when it germinated, a fraction."""
    accuracy_at_entry: float
    """Validation accuracy when its present stage was entered, a fraction."""
    accuracy: float
    """Newest validation accuracy, a fraction."""
    validations: int = 0
    """Validations since it germinated."""
    validations_in_stage: int = 0
    """Validations since its present stage was entered."""
    alpha: float = 0.0
    """Weight in the slot's output, 0 to 1."""
    schedule: AlphaSchedule | None = None
    """Rise of alpha; None before blending."""
    epochs_total: int = 0
    """Host epochs since it germinated."""
    gradient: GradientHealth | None = None
    """None before the first training batch."""
    contribution: float | None = None
    """Validation accuracy lost when it alone is ablated; None where no ablation was run."""

    @property
    def params(self) -> int:
        """Trainable parameters of the module."""
        return sum(parameter.numel() for parameter in self.parameters)
