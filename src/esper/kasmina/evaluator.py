"""Accuracy and loss of a network, and of what is left of it without some of its seeds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from esper.kasmina.host import Host
    from esper.kasmina.slot import SeedSlot

__all__ = ["Evaluator"]

_MODERATE = 1e30
"""The mean cross-entropy of logits below it, in either direction, is finite."""


class Evaluator:
    """Evaluates a network as it is; of no use any more once anything was trained.

    Features are not computed again where the seeds before them are those of the call before. That makes the factorial
    of an ablation cheap, if the first slots change least often.
    """

    def __init__(self, host: Host, slots: Sequence[SeedSlot], inputs: Tensor, labels: Tensor) -> None:
        """Take what to evaluate.

        Args:
            host: of the network.
            slots: of the network, from input to output.
            inputs: inputs (n, tokens, features).
            labels: labels (n).
        """
        self._host = host
        self._slots = slots
        self._labels = labels
        with torch.no_grad():
            self._embedded = host.embed(inputs)
        # by slots passed: which of them were left out in the newest call, and the features behind
        self._newest: dict[int, tuple[frozenset[str], Tensor]] = {}

    @torch.no_grad()
    def evaluate(self, ablated: frozenset[str] = frozenset()) -> tuple[float, float]:
        """Return accuracy (a fraction) and mean cross-entropy (nats).

        Once the host has diverged the loss is not finite, and the accuracy, an argmax over numbers that mean nothing,
        is NaN: exactly where the loss is not finite.

        Args:
            ablated: ids of the slots whose seed is to be left out.
        """
        logits = self._logits(ablated)
        loss = float(functional.cross_entropy(logits, self._labels))
        return self._accuracy(logits) if math.isfinite(loss) else math.nan, loss

    @torch.no_grad()
    def accuracy(self, ablated: frozenset[str]) -> float:
        """Return the accuracy alone, for half of what the loss costs."""
        logits = self._logits(ablated)
        return self._accuracy(logits) if bool(logits.abs().max() < _MODERATE) else self.evaluate(ablated)[0]

    def _accuracy(self, logits: Tensor) -> float:
        return int((logits.argmax(dim=1) == self._labels).sum()) / len(self._labels)

    def _logits(self, ablated: frozenset[str]) -> Tensor:
        return self._host.classify(self._features(len(self._slots), ablated))

    def _features(self, passed: int, ablated: frozenset[str]) -> Tensor:
        if passed == 0:
            return self._embedded
        if passed not in self._newest or self._newest[passed][0] != ablated:
            slot = self._slots[passed - 1]
            arrived = self._features(passed - 1, ablated - {slot.slot_id})
            joined = arrived if slot.slot_id in ablated else slot.join(arrived)
            self._newest[passed] = ablated, self._host.refine(passed - 1, joined)
        return self._newest[passed][1]
