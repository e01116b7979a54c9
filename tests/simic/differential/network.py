"""The growing network in NumPy: what host and seeds compute, from their weights alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = Mapping[str, Array]
NEARLY_EQUAL = 1e-4
"""Logits closer than this, as a share of the largest, may be ordered differently by another implementation."""


class SeedWeights(NamedTuple):
    """One seed, as it stood."""

    blueprint: str
    style: str
    weights: Weights


class Snapshot(NamedTuple):
    """A network's weights at one moment, in the precision they had."""

    host: Weights
    seeds: Mapping[str, SeedWeights]
    """By slot id."""
    slot_ids: tuple[str, ...]


class Evaluated(NamedTuple):
    """A network on a set of examples."""

    accuracy: float
    loss: float
    in_doubt: float
    """Share of the examples whose class hangs on the last bits."""


def _linear(weights: Weights, name: str, inputs: Array) -> Array:
    outputs: Array = inputs @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return outputs


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _norm(weights: Weights, features: Array) -> Array:
    centred = features - features.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    outputs: Array = centred / spread * weights["weight"] + weights["bias"]
    return outputs


def _mlp(weights: Weights, features: Array) -> Array:
    return _linear(weights, "2", np.maximum(_linear(weights, "0", features), 0))


def _mixer(weights: Weights, features: Array) -> Array:
    across = features.swapaxes(1, 2)
    return _linear(weights, "second", np.maximum(_linear(weights, "first", across), 0)).swapaxes(1, 2)


def _attention(weights: Weights, features: Array) -> Array:
    query, key, value = np.split(_linear(weights, "queries_keys_values", features), 3, axis=-1)
    attended = _softmax(query @ key.swapaxes(1, 2) / np.sqrt(features.shape[-1]).astype(features.dtype)) @ value
    return _linear(weights, "out", attended)


SEEDS: dict[str, Callable[[Weights, Array], Array]] = {
    "norm": _norm,
    "mlp": _mlp,
    "mixer": _mixer,
    "attention": _attention,
}


def blueprint_params(blueprint: str, tokens: int, width: int) -> int:
    """Count a seed's parameters by hand."""
    return {
        "norm": 2 * width,
        "mlp": (width * 32 + 32) + (32 * width + width),
        "mixer": 2 * (tokens * tokens + tokens),
        "attention": (width * 3 * width + 3 * width) + (width * width + width),
    }[blueprint]


def host_params(features: int, width: int, classes: int, n_slots: int) -> int:
    """Count the bare host's parameters by hand."""
    return (features * width + width) + n_slots * (width * width + width) + (width * classes + classes)


def logits(network: Snapshot, alphas: Mapping[str, float], inputs: Array) -> Array:
    """Run the network with the seeds of some slots at these weights, and without the others."""
    with np.errstate(all="ignore"):
        features = np.maximum(_linear(network.host, "lift", inputs), 0)
        for index, slot_id in enumerate(network.slot_ids):
            if alpha := np.asarray(alphas.get(slot_id, 0.0), dtype=features.dtype):
                seed = network.seeds[slot_id]
                output = SEEDS[seed.blueprint](seed.weights, features)
                if seed.style == "ADD":
                    features = features + alpha * output
                else:
                    features = features * (1 + alpha * np.tanh(output))
            features = features + np.maximum(_linear(network.host, f"blocks.{index}", features), 0)
        return _linear(network.host, "head", features.mean(axis=1))


def cross_entropies(scores: Array, labels: Array) -> Array:
    """One number an example, in nats."""
    with np.errstate(all="ignore"):
        shifted = scores - scores.max(axis=1, keepdims=True)
        chosen = shifted[np.arange(len(labels)), labels]
        losses: Array = np.log(np.exp(shifted).sum(axis=1)) - chosen
        return losses


def evaluate(network: Snapshot, alphas: Mapping[str, float], inputs: Array, labels: Array) -> Evaluated:
    """Measure accuracy, NaN where the loss is not finite, and mean cross-entropy."""
    scores = logits(network, alphas, inputs)
    loss = float(cross_entropies(scores, labels).mean())
    if not np.isfinite(loss):
        return Evaluated(np.nan, loss, 0.0)
    best = np.sort(scores, axis=1)[:, -2:]
    in_doubt = (best[:, 1] - best[:, 0]) < NEARLY_EQUAL * np.abs(best).max(axis=1)
    return Evaluated(float((scores.argmax(axis=1) == labels).mean()), loss, float(in_doubt.mean()))
