"""The environments of one process: one episode in each, decided by the policy, and what the others played beside it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from esper.leyline.telemetry import AnalyticsSnapshotPayload, Emit, TelemetryEvent
from esper.simic.determinism import Stream, derive_seed
from esper.simic.rollout import PlayedEpisode, Transition
from esper.simic.training.environments import environments_of
from esper.simic.training.payloads import Decision, explain, not_finite, reward_computed
from esper.tamiyo.distribution import MaskBatch

if TYPE_CHECKING:
    from esper.leyline.actions import Op
    from esper.simic.config import TrainingConfig
    from esper.simic.environment import GrowthEnv
    from esper.simic.observation import Observation
    from esper.simic.ppo import Learner
    from esper.simic.training.ranks import Ranks

__all__ = ["Playing"]

_ALTERNATIVES = 3
"""How many of the pairs that were not chosen are emitted with a decision."""


@dataclass(slots=True)
class _Game:
    """An episode while it is played."""

    env: GrowthEnv
    observed: Observation
    sampling: torch.Generator
    decisions: list[Transition] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    ops: Counter[Op] = field(default_factory=Counter)

    def carry_out(self, transition: Transition) -> None:
        """Take the step that was decided."""
        self.decisions.append(transition)
        self.observed, reward, *_ = self.env.step(transition.actions[0].cpu().numpy())
        self.rewards.append(reward)
        self.ops[self.env.outcome.op] += 1

    def over(self) -> PlayedEpisode:
        """Return what it came to, on the CPU."""
        decisions, last = Transition.join(self.decisions).to("cpu"), self.env.outcome
        return PlayedEpisode(decisions, self.rewards, self.ops, last.val_accuracy, last.val_loss, self.env.seeds_made)


class Playing:
    """Plays this process's share of every batch.

    Attributes:
        envs: the environments of this process.
    """

    def __init__(self, config: TrainingConfig, emit: Emit, ranks: Ranks) -> None:
        self._config = config
        self._emit = emit
        self._ranks = ranks
        self.envs = environments_of(config, ranks.share(config.envs), emit)
        self._last: list[tuple[GrowthEnv, Decision]] = []

    def play(self, learner: Learner, n_envs: int, first_episode: int) -> list[PlayedEpisode]:
        """Play one episode in each of a batch's environments; return them all, those of other processes included.

        Args:
            learner: decides.
            n_envs: environments of the batch, over all processes.
            first_episode: index of the first environment's episode.
        """
        seed = self._config.seed
        games = [
            _Game(
                env,
                env.reset(seed=derive_seed(seed, Stream.TRAINING_EPISODE, first_episode + env.env_id))[0],
                torch.Generator().manual_seed(derive_seed(seed, Stream.SAMPLING, first_episode + env.env_id)),
            )
            for env in self.envs
            if env.env_id < n_envs
        ]
        for _ in range(self._config.max_epochs):
            decided = [_decide(game, learner, self._config.device) for game in games]
            for game, transition in zip(games, decided, strict=True):
                game.carry_out(transition)
            self._last = [
                (game.env, decision) for game, each in zip(games, decided, strict=True) for decision in explain(each)
            ]
            for env, decision in self._last:
                self._emit_reward(env, decision)
        shares = self._ranks.gather([game.over() for game in games])
        episodes = (shares[env_id % len(shares)][env_id // len(shares)] for env_id in range(n_envs))
        return [each._replace(decisions=each.decisions.to(self._config.device)) for each in episodes]

    # ── emitting ────────────────────────────────────────────────────────────────────────────────────────────────

    def _emit_reward(self, env: GrowthEnv, decision: Decision) -> None:
        outcome = env.outcome
        payload = reward_computed(
            outcome, decision, env_id=env.env_id, slot_ids=env.slot_ids, ab_group=self._config.group_id
        )
        where = f" {outcome.action_slot}" if outcome.action_slot else ""
        paid = f"reward {payload.total_reward:+.3f}" if math.isfinite(payload.total_reward) else "no reward"
        message = f"env {env.env_id}: {outcome.op.name}{where}, {paid}"
        unusable = not_finite(payload)
        self._emit(
            TelemetryEvent(
                data=payload,
                epoch=outcome.epoch,
                slot_id=outcome.action_slot,
                group_id=self._config.group,
                message=f"{message}; not finite: {', '.join(unusable)}" if unusable else message,
                severity="error" if unusable else "debug",
            )
        )

    def emit_last_actions(self) -> None:
        """Emit the last decision of each environment in the newest batch."""
        for env, decision in self._last:
            last = AnalyticsSnapshotPayload(
                kind="last_action",
                env_id=env.env_id,
                total_reward=env.outcome.reward.total_reward,
                action_name=env.outcome.op.name,
                action_confidence=decision.confidence,
                value_estimate=decision.value,
            )
            self._emit(
                TelemetryEvent(
                    data=last,
                    epoch=env.outcome.epoch,
                    slot_id=env.outcome.action_slot,
                    group_id=self._config.group,
                    message=f"env {env.env_id}: last action {env.outcome.op.name}",
                    severity="debug",
                )
            )


@torch.no_grad()
def _decide(game: _Game, learner: Learner, device: str) -> Transition:
    """Sample one action for one environment: for one alone, as the bits of a product depend on its rows."""
    observations = torch.from_numpy(game.observed).unsqueeze(0).to(device)
    masks = MaskBatch.stack([game.env.masks], torch.device(device))
    distribution, values = learner.evaluate(observations, masks)
    actions = distribution.sample(game.sampling)
    return Transition(
        observations,
        masks,
        actions,
        log_probs=distribution.log_prob(actions),
        entropy=distribution.entropy(),
        head_entropies=distribution.head_entropies(actions),
        heads_used=distribution.heads_used(actions),
        largest_entropy=distribution.largest_entropy(),
        values=values * learner.return_scale.value,
        alternatives=distribution.alternatives(actions, _ALTERNATIVES),
    )
