"""Faults on demand: what one's dashboards and alerts would show if it happened in earnest.

A fault strikes while one batch is played and learnt from. Those that bend weights stay; those that bend gradients,
estimates or an environment end with the batch.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from esper.simic.config import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from esper.simic.environment import GrowthEnv
    from esper.tamiyo.policy import Policy

__all__ = ["injected"]

_COLLAPSING_LOGIT = 50.0
"""Beside it every other op is out of the question: e^-50."""
_EXPLODING_FACTOR = 1e6
_BLOWN_UP_FACTOR = 1e3
_DIVERGING_LEARNING_RATE = 1e30


@contextmanager
def injected(fault: Fault | None, policy: Policy, envs: Sequence[GrowthEnv]) -> Iterator[None]:
    """Let a fault strike the batch that is played and learnt from inside.

    Args:
        fault: its name; None for a batch without any.
        policy: the one that plays and learns.
        envs: those of the batch; of a diverging host the first is struck.
    """
    if fault is None:
        yield
        return
    undo = _FAULTS[fault](policy, envs)
    try:
        yield
    finally:
        undo()


def _bend_gradient(layer: str, factor: float) -> Callable[[Policy, Sequence[GrowthEnv]], Callable[[], None]]:
    """Multiply every gradient of a layer's weight."""

    def strike(policy: Policy, _envs: Sequence[GrowthEnv]) -> Callable[[], None]:
        weight = policy.get_submodule(layer).get_parameter("weight")
        handle = weight.register_hook(lambda gradient: gradient * factor)  # type: ignore[no-untyped-call]  # torch's
        return handle.remove  # type: ignore[no-any-return]  # as above

    return strike


@torch.no_grad()
def _collapse_entropy(policy: Policy, _envs: Sequence[GrowthEnv]) -> Callable[[], None]:
    """Let one op be all but certain."""
    _bias(policy, "heads.op")[0] += _COLLAPSING_LOGIT
    return _nothing


@torch.no_grad()
def _blow_up_values(policy: Policy, _envs: Sequence[GrowthEnv]) -> Callable[[], None]:
    """Let the critic's estimates be a thousand times too large."""
    for parameter in policy.value.parameters():
        parameter.mul_(_BLOWN_UP_FACTOR)
    return _nothing


def _diverge_host(_policy: Policy, envs: Sequence[GrowthEnv]) -> Callable[[], None]:
    """Let the first environment's host learn so fast that it really diverges."""
    env = envs[0]
    before, env.learning_rate = env.learning_rate, _DIVERGING_LEARNING_RATE

    def undo() -> None:
        env.learning_rate = before

    return undo


@torch.no_grad()
def _make_batch_unusable(policy: Policy, _envs: Sequence[GrowthEnv]) -> Callable[[], None]:
    """Let the critic estimate NaN, so that no return of the batch can be used."""
    bias = _bias(policy, "value")
    before = bias.clone()
    bias.fill_(math.nan)

    @torch.no_grad()
    def undo() -> None:
        bias.copy_(before)

    return undo


def _bias(policy: Policy, layer: str) -> Tensor:
    return policy.get_submodule(layer).get_parameter("bias")


def _nothing() -> None:
    """What was bent stays bent."""


_FAULTS: Mapping[Fault, Callable[[Policy, Sequence[GrowthEnv]], Callable[[], None]]] = {
    "nan-grad": _bend_gradient("value", math.nan),
    "inf-grad": _bend_gradient("value", math.inf),
    "dead-layer": _bend_gradient("critic.0", 0.0),
    "exploding-layer": _bend_gradient("heads.op", _EXPLODING_FACTOR),
    "entropy-collapse": _collapse_entropy,
    "value-blowup": _blow_up_values,
    "host-divergence": _diverge_host,
    "skipped-batch": _make_batch_unusable,
}
