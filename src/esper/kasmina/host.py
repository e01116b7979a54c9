"""The host network.

The host reads an input of shape (tokens, features), lifts every token to ``width`` features, and refines them in one
residual block a slot, the slot standing before its block. It pools the tokens by their mean before it classifies, so
it cannot see their order: what it lacks, seeds may bring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Host", "Join", "rectified"]

Join: TypeAlias = Callable[[Tensor], Tensor]
"""What a slot does to the features (batch, tokens, width) that pass it."""


class Host(nn.Module):
    """A small classifier with places where seeds may join."""

    def __init__(self, *, features: int, width: int, classes: int, n_slots: int) -> None:
        """Make the layers.

        Args:
            features: features of an input token.
            width: features of a token inside the host.
            classes: classes to distinguish.
            n_slots: slots, and blocks, from input to output.
        """
        super().__init__()
        self.lift = nn.Linear(features, width)
        self._layers = tuple(nn.Linear(width, width) for _ in range(n_slots))  # torch's list looks each up by its name
        self.blocks = nn.ModuleList(self._layers)
        self.head = nn.Linear(width, classes)

    def forward(self, inputs: Tensor, joins: Sequence[Join]) -> Tensor:
        """Return the logits (batch, classes) of inputs (batch, tokens, features)."""
        features = self.embed(inputs)
        for index, join in enumerate(joins):
            features = self.refine(index, join(features))
        return self.classify(features)

    def embed(self, inputs: Tensor) -> Tensor:
        """Return the features (batch, tokens, width) at the first slot."""
        return rectified(self.lift, inputs)

    def block(self, index: int) -> nn.Linear:
        """Return the layer of the block behind a slot."""
        return self._layers[index]

    def refine(self, index: int, joined: Tensor) -> Tensor:
        """Return the features (batch, tokens, width) behind a block, of those that its slot gave to it."""
        return joined + rectified(self.block(index), joined)

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits (batch, classes) of the features behind the last block."""
        return functional.linear(features.mean(dim=1), self.head.weight, self.head.bias)


def rectified(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """Return relu(layer(inputs))."""
    return functional.linear(inputs, layer.weight, layer.bias).relu_()
