"""Adam for modules that come and go: one fused call steps them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

__all__ = ["Adam"]


class Adam:
    """Adam (Kingma and Ba 2015) with torch's defaults, each module's moments and steps counted from its own first.

    Every number is the one that a ``torch.optim.Adam(fused=True)`` a module arrives at, which takes five times as long:
    of networks as small as a seed most of it goes into preparing the call.
    """

    def __init__(self, learning_rate: float) -> None:
        """Begin without any module.

        Args:
            learning_rate: of all.
        """
        self._learning_rate = learning_rate
        # by the module's parameters: moments, and the number of steps, which all of its parameters share
        self._states: dict[tuple[nn.Parameter, ...], tuple[list[Tensor], list[Tensor], Tensor]] = {}

    def keep(self, modules: Iterable[tuple[nn.Parameter, ...]]) -> None:
        """Step these from now on, given by their parameters; a module that is not among them is forgotten."""
        self._states = {parameters: self._states.get(parameters) or _fresh(parameters) for parameters in modules}

    @torch.no_grad()
    def step(self) -> None:
        """Descend along the gradients that the parameters have."""
        parameters: list[Tensor] = []
        first: list[Tensor] = []
        second: list[Tensor] = []
        counts: list[Tensor] = []
        for kept, (first_moments, second_moments, steps) in self._states.items():
            steps.add_(1)
            parameters += kept
            first += first_moments
            second += second_moments
            counts += [steps] * len(kept)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]  # what torch.optim.Adam calls
            parameters, gradients, first, second, [], counts,
            lr=self._learning_rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip


def _fresh(parameters: Sequence[nn.Parameter]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    first, second = ([torch.zeros_like(each) for each in parameters] for _ in range(2))
    return first, second, torch.zeros((), device=parameters[0].device)
