"""What a seed can be built from.

Every blueprint maps features of shape (batch, tokens, width) to the same shape. `initialise` draws a module's
parameters from a generator of the caller's; nothing here touches torch's global one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["BLUEPRINTS", "Blueprint", "initialise", "parameter_count"]

Blueprint: TypeAlias = Callable[[int, int], nn.Module]
"""Builds a seed for features of so many tokens and such a width; its parameters are not initialised."""

_MLP_HIDDEN = 32


class _Mixer(nn.Module):
    """Acts across tokens, alike for every feature: what a host that pools its tokens cannot see."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.first = nn.Linear(tokens, tokens)
        self.second = nn.Linear(tokens, tokens)

    def forward(self, features: Tensor) -> Tensor:
        # with the tokens outside, each layer is one matrix product over all features of the batch
        batch, tokens, width = features.shape
        across = features.transpose(0, 1).reshape(1, tokens, batch * width)
        hidden = torch.bmm(self.first.weight[None], across).add_(self.first.bias[:, None]).relu_()
        across = torch.bmm(self.second.weight[None], hidden)
        return across.view(tokens, batch, width).transpose(0, 1) + self.second.bias[:, None]


class _Attention(nn.Module):
    """One head of self-attention over the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        query, key, value = self.queries_keys_values(features).chunk(3, dim=-1)
        scores = torch.bmm(query, key.transpose(1, 2)).div_(math.sqrt(features.shape[-1]))
        attended: Tensor = self.out(torch.bmm(scores.softmax(dim=-1), value))
        return attended


def _norm(_tokens: int, width: int) -> nn.Module:
    return nn.LayerNorm(width)


def _mlp(_tokens: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, _MLP_HIDDEN), nn.ReLU(inplace=True), nn.Linear(_MLP_HIDDEN, width))


def _mixer(tokens: int, _width: int) -> nn.Module:
    return _Mixer(tokens)


def _attention(_tokens: int, width: int) -> nn.Module:
    return _Attention(width)


BLUEPRINTS: Mapping[str, Blueprint] = MappingProxyType(
    {"norm": _norm, "mlp": _mlp, "mixer": _mixer, "attention": _attention}
)
"""Every blueprint by name, in the order of the policy's blueprint head."""


def parameter_count(blueprint_id: str, tokens: int, width: int) -> int:
    """Return the trainable parameters that a seed of this blueprint holds.

    Args:
        blueprint_id: a key of `BLUEPRINTS`; `KeyError` otherwise.
        tokens: tokens of the features it is built for.
        width: features of a token.
    """
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in BLUEPRINTS[blueprint_id](tokens, width).parameters())


def initialise(build: Callable[[], nn.Module], generator: torch.Generator, device: torch.device) -> nn.Module:
    """Build a module of linear layers and layer norms, drawing its parameters from ``generator``.

    Weights and biases of a linear layer are uniform within ± 1 / sqrt(inputs), torch's own default; norms are ones
    and zeros.

    Args:
        build: makes the module.
        generator: a generator on the CPU, so that every device gets the same parameters.
        device: where the module is to live.
    """
    # on the meta device a constructor's own initialisation draws nothing from the global generator
    with torch.device("meta"):
        module = build()
    module.to_empty(device="cpu")
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, nn.LayerNorm):
                layer.weight.fill_(1.0)
                layer.bias.fill_(0.0)
    return module.to(device)
