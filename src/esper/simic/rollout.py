"""One batch of experience, and what it was worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from esper.tamiyo.distribution import Alternative, MaskBatch

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from esper.leyline.actions import Op

__all__ = ["PlayedEpisode", "ReturnScale", "Rollout", "Transition", "generalized_advantages"]


class Transition(NamedTuple):
    """What was decided in one environment at T steps; shapes as in `Rollout`, with T for T·E."""

    observations: Tensor
    masks: MaskBatch
    actions: Tensor
    log_probs: Tensor
    entropy: Tensor
    """Exact joint entropy, shape (T,), in nats."""
    head_entropies: Tensor
    heads_used: Tensor
    largest_entropy: Tensor
    values: Tensor
    alternatives: list[tuple[Alternative, ...]]
    """The most probable pairs that were not chosen, by step."""

    @classmethod
    def join(cls, transitions: Sequence[Transition]) -> Transition:
        """Put the decisions of several steps behind each other."""
        columns = list(zip(*transitions, strict=True))
        tensors = {
            name: torch.cat(column)
            for name, column in zip(cls._fields, columns, strict=True)
            if name not in ("masks", "alternatives")
        }
        return cls(
            **tensors,
            masks=MaskBatch.join([each.masks for each in transitions]),
            alternatives=[alternatives for each in transitions for alternatives in each.alternatives],
        )

    def to(self, device: torch.device | str) -> Transition:
        """Return the same on a device."""
        return self._replace(
            observations=self.observations.to(device),
            masks=self.masks.to(device),
            actions=self.actions.to(device),
            log_probs=self.log_probs.to(device),
            entropy=self.entropy.to(device),
            head_entropies=self.head_entropies.to(device),
            heads_used=self.heads_used.to(device),
            largest_entropy=self.largest_entropy.to(device),
            values=self.values.to(device),
        )


class PlayedEpisode(NamedTuple):
    """What one environment played, as far as other processes have to know it."""

    decisions: Transition
    rewards: list[float]
    """By step."""
    ops: Counter[Op]
    """How often each op was carried out."""
    val_accuracy: float
    """The final one, a fraction."""
    val_loss: float
    """The final one, in nats."""
    seeds_made: int
    """As `GrowthEnv.seeds_made` after it."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One batch: T decisions in each of E environments, an episode each. Samples are ordered by step, then env."""

    observations: Tensor
    """Shape (T·E, features)."""
    masks: MaskBatch
    """Of the T·E states."""
    actions: Tensor
    """Shape (T·E, heads)."""
    log_probs: Tensor
    """Joint log-probabilities under the policy that decided, shape (T·E,), in nats."""
    head_entropies: Tensor
    """Of every head as it stood for the chosen op, shape (T·E, heads), in nats."""
    heads_used: Tensor
    """Whether the chosen op used the head, shape (T·E, heads)."""
    largest_entropy: Tensor
    """The largest joint entropy that the masks allow, shape (T·E,), in nats."""
    values: Tensor
    """Critic's estimates, shape (T, E), in units of reward."""
    rewards: Tensor
    """Rewards of the decisions, shape (T, E)."""

    @classmethod
    def of(cls, envs: Sequence[Transition], rewards: Sequence[Sequence[float]]) -> Rollout:
        """Put the decisions in E environments, of T steps each, together with their rewards."""

        def by_step(columns: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(columns), dim=1).flatten(0, 1)

        values = torch.stack([each.values for each in envs], dim=1)
        return cls(
            observations=by_step([each.observations for each in envs]),
            masks=MaskBatch(
                op=by_step([each.masks.op for each in envs]),
                slot=by_step([each.masks.slot for each in envs]),
                blueprint=by_step([each.masks.blueprint for each in envs]),
            ),
            actions=by_step([each.actions for each in envs]),
            log_probs=by_step([each.log_probs for each in envs]),
            head_entropies=by_step([each.head_entropies for each in envs]),
            heads_used=by_step([each.heads_used for each in envs]),
            largest_entropy=by_step([each.largest_entropy for each in envs]),
            values=values,
            rewards=torch.tensor(rewards, device=values.device).T.contiguous(),
        )

    def not_finite(self) -> str:
        """Say what of the batch is not finite, and in which environments; empty where everything is."""
        steps, envs = self.values.shape
        parts = {
            "observations": self.observations.view(steps, envs, -1).isfinite().all(dim=-1),
            "rewards": self.rewards.isfinite(),
            "value estimates": self.values.isfinite(),
        }
        found = {name: (~finite.all(dim=0)).nonzero().flatten().tolist() for name, finite in parts.items()}
        return ", ".join(
            f"{name} of env {', '.join(map(str, struck))} not finite" for name, struck in found.items() if struck
        )


def generalized_advantages(rewards: Tensor, values: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Advantages of whole episodes: A_t = d_t + gamma·lambda·A_{t+1} with d_t = r_t + gamma·V_{t+1} - V_t.

    The last step ends the episode: nothing comes after it, V_T = A_T = 0. Source: Schulman et al. 2016, equation 16.

    Args:
        rewards: shape (T, E).
        values: estimates of the states the decisions were made in, shape (T, E), in units of reward.
        gamma: discount of later rewards.
        gae_lambda: lambda, the weight of longer returns.

    Returns:
        Shape (T, E), in units of reward.
    """
    advantages = torch.zeros_like(rewards)
    next_value = next_advantage = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * next_value - values[t]
        next_advantage = advantages[t] = delta + gamma * gae_lambda * next_advantage
        next_value = values[t]
    return advantages


class ReturnScale:
    """Root mean square of all returns so far: what the critic's targets are divided by.

    Never centred: a shift would have to be added back, and drifts while the critic learns.
    """

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    @property
    def value(self) -> float:
        """Above 0; 1 before the first returns."""
        return max(math.sqrt(self._sum / self._count), 1e-6) if self._count else 1.0

    def state_dict(self) -> dict[str, float]:
        """Return what `load_state_dict` needs to go on."""
        return {"sum": self._sum, "count": self._count}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from what `state_dict` returned."""
        self._sum, self._count = state["sum"], int(state["count"])

    def update(self, returns: Tensor) -> None:
        """Take in the returns of one batch."""
        self._sum += float(returns.double().square().sum())
        self._count += returns.numel()
