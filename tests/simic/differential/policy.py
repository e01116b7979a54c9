"""The policy in NumPy: every action of the factored heads is enumerated, and nothing is factored."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esper.leyline.actions import HEADS, HEADS_USED, Op

Array = NDArray[Any]
OPS = tuple(Op)


class Masks(NamedTuple):
    """What may be chosen in B states."""

    op: Array
    """(B, ops), bool."""
    slot: Array
    """(B, ops, slots), bool."""
    blueprint: Array
    """(B, blueprints), bool."""

    @classmethod
    def stack(cls, masks: Sequence[Masks]) -> Masks:
        """Put several batches behind each other."""
        return cls(*(np.concatenate(column) for column in zip(*masks, strict=True)))


@cache
def all_actions(n_slots: int, n_blueprints: int) -> Array:
    """Every action there is: (actions, heads), -1 for a head that its op does not use."""
    sizes = dict(zip(HEADS, (len(OPS), n_slots, n_blueprints, 2, 3, 3, 3, 3), strict=True))
    rows = []
    for index, op in enumerate(OPS):
        choices = [range(sizes[head]) if head in HEADS_USED[op] else [-1] for head in HEADS[1:]]
        rows += [(index, *rest) for rest in itertools.product(*choices)]
    return np.array(rows)


class JointPolicy:
    """Probabilities of all actions in B states, from the logits of the heads."""

    def __init__(self, logits: Mapping[str, Array], masks: Masks) -> None:
        scores = {head: logits[head].astype(np.float64) for head in HEADS}
        self.n_states = len(masks.op)
        self.actions = all_actions(masks.slot.shape[2], masks.blueprint.shape[1])
        ops = self.actions[:, 0]
        self._log: dict[str, Array] = {}
        self._chosen: dict[str, Array] = {}
        self.log_p = np.zeros((self.n_states, len(self.actions)))
        for index, head in enumerate(HEADS):
            by_op = np.repeat(scores[head][:, None, :], len(OPS), axis=1)
            allowed = np.ones(by_op.shape, dtype=bool)
            if head == "op":
                allowed = np.repeat(masks.op[:, None, :], len(OPS), axis=1)
            elif head == "slot":
                allowed = masks.slot
            elif head == "blueprint":
                allowed = np.repeat(masks.blueprint[:, None, :], len(OPS), axis=1)
            self._log[head] = _log_softmax(by_op, allowed)  # (B, ops, choices)
            choices = self.actions[:, index]
            self._chosen[head] = choices
            of_action = self._log[head][:, ops, np.maximum(choices, 0)]
            self.log_p += np.where(choices >= 0, of_action, 0.0)
        self.p = np.exp(self.log_p)

    def log_prob(self, vectors: Array) -> Array:
        """Of one action a state, given as a vector of choices; what its op does not use is ignored."""
        return self.log_p[np.arange(self.n_states), self.indices(vectors)]

    def indices(self, vectors: Array) -> Array:
        """Of these actions among all."""
        found = []
        for vector in vectors:
            matches = ((self.actions == vector) | (self.actions == -1)).all(axis=1)
            found.append(int(np.flatnonzero(matches)[0]))
        return np.array(found)

    def entropy(self) -> Array:
        """Of the joint, in nats."""
        entropy: Array = -np.where(self.p > 0, self.p * np.where(self.p > 0, self.log_p, 0.0), 0.0).sum(axis=1)
        return entropy

    def largest_entropy(self) -> Array:
        """Log of the number of actions that can be chosen."""
        logs: Array = np.log(np.isfinite(self.log_p).sum(axis=1))
        return logs

    def head_entropy(self, head: str, ops: Array) -> Array:
        """Of one head as it stands once the op is chosen."""
        log = self._log[head][np.arange(self.n_states), ops]
        p = np.exp(log)
        entropy: Array = -np.where(p > 0, p * np.where(p > 0, log, 0.0), 0.0).sum(axis=1)
        return entropy

    def alternatives(self, vectors: Array, count: int) -> list[list[tuple[str, int, float]]]:
        """The likeliest (op, slot) pairs beside the chosen ones, by adding up their actions; slot -1 for none."""
        found = []
        pairs = self.actions[:, :2]
        for row, chosen in enumerate(self.indices(vectors)):
            sums: dict[tuple[int, int], float] = {}
            for (op, slot), p in zip(pairs.tolist(), self.p[row].tolist(), strict=True):
                sums[op, slot] = sums.get((op, slot), 0.0) + p
            del sums[tuple(pairs[chosen].tolist())]
            best = sorted(((p, *pair) for pair, p in sums.items() if p > 0), reverse=True)[:count]
            found.append([(OPS[op].name, slot, p) for p, op, slot in best])
        return found

    def score(self, head: str) -> Array:
        """Derivative of every action's log-probability by a head's logits: (B, actions, choices)."""
        choices = self._chosen[head]
        p = np.exp(self._log[head])[:, self.actions[:, 0], :]
        picked = np.arange(p.shape[2]) == choices[:, None]
        derivative: Array = np.where((choices >= 0)[None, :, None], picked[None] - p, 0.0)
        return derivative

    def gradients(self, vectors: Array, by_log_prob: Array, by_entropy: float) -> dict[str, Array]:
        """Derivative of a loss by the logits of every head, (B, choices).

        Args:
            vectors: the action of each state.
            by_log_prob: derivative of the loss by each action's log-probability.
            by_entropy: by the entropy of each state.
        """
        chosen = self.indices(vectors)
        rows = np.arange(self.n_states)
        surprise = np.where(self.p > 0, self.p * np.where(self.p > 0, self.log_p, 0.0), 0.0)
        gradients: dict[str, Array] = {}
        for head in HEADS:
            score = self.score(head)
            entropy = -(surprise[:, :, None] * score).sum(axis=1)
            gradients[head] = by_log_prob[:, None] * score[rows, chosen] + by_entropy * entropy
        return gradients


def _log_softmax(scores: Array, allowed: Array) -> Array:
    """Of the allowed choices; -inf for the others."""
    masked = np.where(allowed, scores, -np.inf)
    with np.errstate(all="ignore"):
        largest = masked.max(axis=-1, keepdims=True)
        shifted = masked - np.where(np.isfinite(largest), largest, 0.0)
        logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.where(allowed, logs, -np.inf)


def forward(weights: Mapping[str, Array], observations: Array) -> tuple[dict[str, Array], Array, dict[str, Array]]:
    """Run the actor and the critic in float64.

    Returns:
        Logits by head, value estimates, and what the hidden layers gave.
    """
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    hidden = {"input": observations.astype(np.float64)}
    for trunk in ("actor", "critic"):
        hidden[f"{trunk}.0"] = np.tanh(hidden["input"] @ w[f"{trunk}.0.weight"].T + w[f"{trunk}.0.bias"])
        hidden[f"{trunk}.2"] = np.tanh(hidden[f"{trunk}.0"] @ w[f"{trunk}.2.weight"].T + w[f"{trunk}.2.bias"])
    logits: dict[str, Array] = {h: hidden["actor.2"] @ w[f"heads.{h}.weight"].T + w[f"heads.{h}.bias"] for h in HEADS}
    values = (hidden["critic.2"] @ w["value.weight"].T + w["value.bias"])[:, 0]
    return logits, values, hidden


def backward(
    weights: Mapping[str, Array], hidden: Mapping[str, Array], by_logits: Mapping[str, Array], by_values: Array
) -> dict[str, Array]:
    """Carry the derivatives of a loss by logits and values back to every weight, by hand."""
    gradients: dict[str, Array] = {}

    def through(layer: str, inputs: Array, by_outputs: Array) -> Array:
        gradients[f"{layer}.weight"] = by_outputs.T @ inputs
        gradients[f"{layer}.bias"] = by_outputs.sum(axis=0)
        by_inputs: Array = by_outputs @ weights[f"{layer}.weight"].astype(np.float64)
        return by_inputs

    tops = {
        "actor": sum(through(f"heads.{head}", hidden["actor.2"], by_logits[head]) for head in HEADS),
        "critic": through("value", hidden["critic.2"], by_values[:, None]),
    }
    for trunk, by_features in tops.items():
        by_second = by_features * (1 - hidden[f"{trunk}.2"] ** 2)
        by_first = through(f"{trunk}.2", hidden[f"{trunk}.0"], by_second) * (1 - hidden[f"{trunk}.0"] ** 2)
        through(f"{trunk}.0", hidden["input"], by_first)
    return gradients
