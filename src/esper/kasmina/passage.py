"""A pass through a host, and the way back along which its gradients are found.

torch's autograd finds the same gradients, bit for bit: these are the kernels that it calls, without the graph of a
node for each, which on a host this small takes as long as they do. What is inside a seed is left to autograd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from esper.kasmina.host import rectified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from esper.kasmina.host import Host, Join

__all__ = ["Passage", "set_rectified_gradients"]


class Passage:
    """What became of features on their way from a slot to the last block.

    Attributes:
        arrived: features (batch, tokens, width) that arrived at each slot, from ``start`` on.
    """

    def __init__(self, host: Host, features: Tensor, joins: Sequence[Join], start: int = 0) -> None:
        """Pass.

        Args:
            host: what to pass through.
            features: what arrives at slot ``start``; no gradient goes further back.
            joins: what the slots from ``start`` on do.
            start: index of the slot.
        """
        self.arrived: list[Tensor] = []
        self._host = host
        self._start = start
        # by slot: what the block was given, and what it added
        self._joined: list[Tensor] = []
        self._added: list[Tensor] = []
        for index, join in enumerate(joins, start):
            leaf = features.detach().requires_grad_()
            joined = join(leaf)
            with torch.no_grad():
                added = rectified(host.block(index), joined)
                self.arrived.append(leaf)
                self._joined.append(joined)
                self._added.append(added)
                features = joined + added
        self._behind = features

    @torch.no_grad()
    def learn(self, labels: Tensor, seeds: Sequence[Sequence[nn.Parameter]], *, host: bool) -> Tensor:
        """Set gradients of the mean cross-entropy.

        Args:
            labels: labels (batch).
            seeds: of each slot from ``start`` on, the parameters that learn; none of a slot whose seed does not.
            host: whether the host learns, too.

        Returns:
            The gradient of the features at slot ``start`` where the host learns; of no meaning where it does not.
        """
        gradient = _classified(self._host.head, self._behind, labels, learns=host)
        for offset in reversed(range(len(self.arrived))):
            block, joined = self._host.block(self._start + offset), self._joined[offset]
            before_relu = _before_relu(self._added[offset], gradient)
            if host:
                _set_layer(block, joined.flatten(0, 1), before_relu)
            gradient = (before_relu @ block.weight).view_as(joined).add_(gradient)
            if joined is not self.arrived[offset]:
                # where nothing that learns stands before the seed, its inputs' gradient is not asked for
                inputs = [self.arrived[offset]] if host or any(seeds[:offset]) else []
                found = torch.autograd.grad(joined, [*seeds[offset], *inputs], gradient)
                _set(seeds[offset], found[: len(seeds[offset])])
                gradient = found[-1]
        return gradient


def _classified(head: nn.Linear, features: Tensor, labels: Tensor, *, learns: bool) -> Tensor:
    """Return the gradient of the features that a host classifies, and set those of its head if it learns."""
    pooled = features.mean(dim=1)
    logarithms = functional.linear(pooled, head.weight, head.bias).log_softmax(dim=1)
    of_labels = torch.zeros_like(logarithms).scatter_(1, labels[:, None], -1 / len(labels))
    backward = torch.ops.aten._log_softmax_backward_data  # noqa: SLF001 - it has no other name
    gradient = backward(of_labels, logarithms, 1, logarithms.dtype)
    if learns:
        _set_layer(head, pooled, gradient)
    of_pooled: Tensor = gradient @ head.weight
    return of_pooled[:, None].expand_as(features) / features.shape[1]


@torch.no_grad()
def set_rectified_gradients(layer: nn.Linear, inputs: Tensor, outputs: Tensor, gradient: Tensor) -> None:
    """Set the gradients of a layer from that of what `rectified` returned for these inputs."""
    _set_layer(layer, inputs.flatten(0, 1), _before_relu(outputs, gradient))


def _before_relu(outputs: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of a layer's outputs, (tokens of the batch, features), from that of the rectified ones."""
    before: Tensor = torch.ops.aten.threshold_backward(gradient, outputs, 0)
    return before.flatten(0, 1)


def _set_layer(layer: nn.Linear, inputs: Tensor, gradient: Tensor) -> None:
    """Set the gradients of a layer from that of its outputs, a row for each of its inputs."""
    layer.weight.grad = gradient.t() @ inputs
    layer.bias.grad = gradient.sum(dim=0)


def _set(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
    """Let each parameter have its gradient."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
