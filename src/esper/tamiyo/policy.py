"""The policy: an actor with eight heads and a separate critic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from esper.leyline.actions import HEADS, Head
from esper.tamiyo.distribution import head_sizes

if TYPE_CHECKING:
    import torch

__all__ = ["Policy", "PolicyShape"]

_WIDTH = 64


class PolicyShape(NamedTuple):
    """What the sizes of a policy's layers follow from."""

    n_features: int
    """Length of the observation vector."""
    n_slots: int
    """Slots that can be acted on."""
    n_blueprints: int
    """Blueprints that can be germinated."""


class Policy(nn.Module):
    """Actor and critic, two hidden tanh layers of 64 each, nothing shared.

    The heads are linear layers on the actor's features; which of their choices count, and how they combine to one
    distribution, is `FactoredDistribution`'s business.

    Args:
        shape: of what is observed and decided.
        generator: draws the initial weights; the global generator is left alone.
    """

    def __init__(self, shape: PolicyShape, generator: torch.Generator) -> None:
        super().__init__()
        self.actor = _trunk(shape.n_features, generator)
        self.critic = _trunk(shape.n_features, generator)
        sizes = head_sizes(shape.n_slots, shape.n_blueprints)
        # A small gain makes the untrained policy all but uniform over what is allowed.
        self.heads = nn.ModuleDict({head: _linear(_WIDTH, sizes[head], 0.01, generator) for head in HEADS})
        self.value = _linear(_WIDTH, 1, 1.0, generator)

    def forward(self, observations: Tensor) -> tuple[dict[Head, Tensor], Tensor]:
        """Evaluate B states.

        Args:
            observations: shape (B, features).

        Returns:
            The logits of every head, each of shape (B, choices), and the value estimates, shape (B,), in units of
            scaled returns.
        """
        features = self.actor(observations)
        logits: dict[Head, Tensor] = {head: self.heads[head](features) for head in HEADS}
        value: Tensor = self.value(self.critic(observations))
        return logits, value.squeeze(-1)


def _trunk(n_features: int, generator: torch.Generator) -> nn.Sequential:
    gain = math.sqrt(2.0)
    return nn.Sequential(
        _linear(n_features, _WIDTH, gain, generator), nn.Tanh(), _linear(_WIDTH, _WIDTH, gain, generator), nn.Tanh()
    )


def _linear(n_in: int, n_out: int, gain: float, generator: torch.Generator) -> nn.Linear:
    """A layer with orthogonal weights and no bias at first, as PPO likes it (Engstrom et al. 2020)."""
    # Built on no device first, because the constructor would draw from the global generator.
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
