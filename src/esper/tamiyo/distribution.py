"""The joint distribution over factored, masked actions, with every quantity of it computed exactly.

An action is an op and, depending on the op, choices of up to seven other heads (`HEADS_USED`). The joint probability
is that of the op times that of each head the op uses; the slot head's masks depend on the op, so that its
distribution does too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from esper.leyline.actions import ALPHA_TARGETS, HEADS, HEADS_USED, TEMPOS, AlphaCurve, AlphaSpeed, BlendStyle, Head, Op

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from esper.leyline.actions import ActionMasks

__all__ = ["Alternative", "FactoredDistribution", "MaskBatch", "head_sizes"]

_OPS = tuple(Op)
_USES = torch.tensor([[head in HEADS_USED[op] for head in HEADS] for op in _OPS])
"""Whether an op uses a head, shape (ops, heads)."""
_OP, _SLOT, _BLUEPRINT = HEADS.index("op"), HEADS.index("slot"), HEADS.index("blueprint")
_REST: tuple[Head, ...] = tuple(head for head in HEADS if head not in ("op", "slot"))
"""Heads whose distribution depends on no other head."""


def head_sizes(n_slots: int, n_blueprints: int) -> dict[Head, int]:
    """Number of choices of every head, in the order of `HEADS`."""
    return {
        "op": len(_OPS),
        "slot": n_slots,
        "blueprint": n_blueprints,
        "style": len(BlendStyle),
        "tempo": len(TEMPOS),
        "alpha_target": len(ALPHA_TARGETS),
        "alpha_speed": len(AlphaSpeed),
        "alpha_curve": len(AlphaCurve),
    }


@dataclass(frozen=True, slots=True)
class MaskBatch:
    """The masks of B states; True is allowed."""

    op: Tensor
    """Shape (B, ops)."""
    slot: Tensor
    """Shape (B, ops, slots)."""
    blueprint: Tensor
    """Shape (B, blueprints)."""

    @classmethod
    def stack(cls, masks: Sequence[ActionMasks], device: torch.device | None = None) -> MaskBatch:
        """Put the masks of several states side by side."""
        return cls(
            op=torch.tensor([mask.op for mask in masks], device=device),
            slot=torch.tensor([mask.slot for mask in masks], device=device),
            blueprint=torch.tensor([mask.blueprint for mask in masks], device=device),
        )

    @classmethod
    def join(cls, batches: Sequence[MaskBatch]) -> MaskBatch:
        """Put several batches behind each other."""
        return cls(
            op=torch.cat([batch.op for batch in batches]),
            slot=torch.cat([batch.slot for batch in batches]),
            blueprint=torch.cat([batch.blueprint for batch in batches]),
        )

    def to(self, device: torch.device | str) -> MaskBatch:
        """The same masks on a device."""
        return MaskBatch(self.op.to(device), self.slot.to(device), self.blueprint.to(device))

    def select(self, index: Tensor) -> MaskBatch:
        """The masks of some of the states."""
        return MaskBatch(self.op[index], self.slot[index], self.blueprint[index])


class Alternative(NamedTuple):
    """An (op, slot) pair that could have been chosen."""

    op: Op
    slot: int | None
    """Index of the slot; None for an op without one."""
    probability: float
    """Of the pair, whatever its other heads. Unit: probability; above 0 to 1."""


class FactoredDistribution:
    """The joint distribution of B decisions.

    Args:
        logits: by head, each of shape (B, choices). Computed on in float32 whatever their precision.
        masks: of the same B states. At least one op must be allowed in each, and a slot for every allowed op that
            uses one.
    """

    def __init__(self, logits: Mapping[Head, Tensor], masks: MaskBatch) -> None:
        self._masks = masks
        self._uses = _USES.to(masks.op.device)
        self._log: dict[Head, Tensor] = {}
        self._p: dict[Head, Tensor] = {}
        self._entropies: dict[Head, Tensor] = {}
        allowed: dict[Head, Tensor] = {
            "op": masks.op,
            "slot": masks.slot,
            "blueprint": masks.blueprint,
        }
        for head in HEADS:
            scores = logits[head].float()
            if head == "slot":
                scores = scores.unsqueeze(1).expand(masks.slot.shape)
            if head not in allowed:
                self._log[head] = scores.log_softmax(dim=-1)
                self._p[head] = self._log[head].exp()
                continue
            mask = allowed[head]
            # The most negative number, not -inf: a row without any choice must not become NaN.
            self._log[head] = scores.masked_fill(~mask, torch.finfo(torch.float32).min).log_softmax(dim=-1)
            self._p[head] = self._log[head].exp() * mask

    def probabilities(self, head: Head) -> Tensor:
        """Of each choice of a head: exactly 0 where masked. Shape (B, choices); (B, ops, slots) for the slot head."""
        return self._p[head]

    def sample(self, generators: torch.Generator | Sequence[torch.Generator]) -> Tensor:
        """Draw one action for each state.

        Args:
            generators: one a state, so that no draw depends on the other states, or one for all in their order. On the
                CPU, so that no draw depends on the device.

        Returns:
            Index of the choice of each head, shape (B, heads), int64; 0 for the heads that the chosen op does not use.
        """
        rows = torch.arange(len(self._masks.op), device=self._masks.op.device)
        if isinstance(generators, torch.Generator):
            generators = [generators] * len(rows)
        sizes = [self._p[head].shape[-1] for head in HEADS]
        clocks = torch.stack([torch.empty(sum(sizes)).exponential_(generator=each) for each in generators])
        clock = dict(zip(HEADS, torch.split(clocks.to(rows.device), sizes, dim=-1), strict=True))
        op = _race(self._p["op"], clock["op"])
        drawn = [op, _race(self._p["slot"][rows, op], clock["slot"])]
        drawn += [_race(self._p[head], clock[head]) for head in _REST]
        return torch.stack(drawn, dim=-1) * self._uses[op]

    def heads_used(self, actions: Tensor) -> Tensor:
        """Whether the chosen op uses each head: shape (B, heads), bool, for actions of that shape."""
        return self._uses[actions[:, _OP]]

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log of the joint probability of the choices of those heads that the chosen op uses.

        Args:
            actions: as from `sample`, shape (B, heads).

        Returns:
            Shape (B,), in nats; -inf, or too low for float32 to differ from it, where a used choice is masked.
        """
        rows = torch.arange(len(actions), device=actions.device)
        op, slot = actions[:, _OP], actions[:, _SLOT]
        chosen = [self._log["op"][rows, op], self._log["slot"][rows, op, slot]]
        chosen += [self._log[head][rows, actions[:, HEADS.index(head)]] for head in _REST]
        return torch.stack(chosen, dim=-1).where(self.heads_used(actions), 0.0).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Exact entropy of the joint, H(op) + Σ p(op) · [H(slot|op) + Σ H(head) over the heads that op uses].

        Returns:
            Shape (B,), in nats; 0 or more.
        """
        rest = torch.stack([self._head_entropy(head) for head in _REST], dim=-1)
        uses = self._uses[:, [HEADS.index(head) for head in _REST]]
        below = self._head_entropy("slot") + rest @ uses.T.float()
        return self._head_entropy("op") + (self._p["op"] * below).sum(dim=-1)

    def largest_entropy(self) -> Tensor:
        """The largest entropy that any policy could have under these masks: the log of the number of valid actions.

        Returns:
            Shape (B,), in nats; 0 where there is no choice.
        """
        sizes = torch.tensor([[self._log[head].shape[-1] for head in HEADS]], device=self._masks.op.device)
        sizes = sizes.repeat(len(self._masks.op), 1)
        sizes[:, _OP] = sizes[:, _SLOT] = 1
        sizes[:, _BLUEPRINT] = self._masks.blueprint.sum(dim=-1)
        below = sizes.unsqueeze(1).where(self._uses, 1).prod(dim=-1)
        slots = self._masks.slot.sum(dim=-1).where(self._uses[:, _SLOT], 1)
        return (below * slots * self._masks.op).sum(dim=-1).float().log()

    def head_entropies(self, actions: Tensor) -> Tensor:
        """Entropy of each head as it stood for the chosen op, used or not: shape (B, heads), in nats."""
        rows = torch.arange(len(actions), device=actions.device)
        slot = self._head_entropy("slot")[rows, actions[:, _OP]]
        return torch.stack([self._head_entropy("op"), slot, *(self._head_entropy(head) for head in _REST)], dim=-1)

    def alternatives(self, actions: Tensor, count: int) -> list[tuple[Alternative, ...]]:
        """The most probable (op, slot) pairs besides the chosen one, found by enumerating them all.

        Args:
            actions: as from `sample`, shape (B, heads).
            count: how many pairs at most; pairs of probability 0 are never listed.

        Returns:
            The pairs for each state, best first.
        """
        by_op: list[list[float]] = self._p["op"].tolist()
        by_slot: list[list[list[float]]] = (self._p["op"].unsqueeze(-1) * self._p["slot"]).tolist()
        found = []
        for row, (op_index, slot_index) in enumerate(actions[:, [_OP, _SLOT]].tolist()):
            pairs: list[Alternative] = []
            for index, op in enumerate(_OPS):
                if "slot" not in HEADS_USED[op]:
                    pairs.append(Alternative(op, None, by_op[row][index]))
                else:
                    pairs += [Alternative(op, slot, p) for slot, p in enumerate(by_slot[row][index])]
            chosen = _OPS[op_index]
            chosen_pair = (chosen, slot_index if "slot" in HEADS_USED[chosen] else None)
            others = [pair for pair in pairs if pair.probability > 0.0 and pair[:2] != chosen_pair]
            others.sort(key=lambda pair: pair.probability, reverse=True)
            found.append(tuple(others[:count]))
        return found

    def _head_entropy(self, head: Head) -> Tensor:
        """Of one head under its masks; 0 where nothing is allowed. One value an op for the slot head."""
        if head not in self._entropies:
            p = self._p[head]
            self._entropies[head] = -(p * self._log[head].masked_fill(p == 0.0, 0.0)).sum(dim=-1)
        return self._entropies[head]


def _race(probabilities: Tensor, clocks: Tensor) -> Tensor:
    """Sample the last dimension by racing exponential clocks, which never draws a choice of probability 0."""
    return (probabilities / clocks).argmax(dim=-1)
