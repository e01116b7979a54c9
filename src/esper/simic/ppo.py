"""Proximal policy optimisation (Schulman et al. 2017): the clipped update, and what it measures.

The update reads from top to bottom as in the paper; the measurements it emits come from `esper.simic.diagnostics`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from esper.leyline.actions import HEADS, Head
from esper.leyline.telemetry import PPOUpdatePayload
from esper.simic import diagnostics
from esper.simic.assessment import Steps
from esper.simic.recorder import UpdateRecorder
from esper.simic.rollout import ReturnScale, generalized_advantages
from esper.tamiyo.distribution import FactoredDistribution, MaskBatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from esper.simic.config import TrainingConfig
    from esper.simic.diagnostics import GradientTotals
    from esper.simic.rollout import Rollout
    from esper.tamiyo.policy import Policy

__all__ = ["ADAM_EPS", "FIRST_LOSS_SCALE", "LOSS_SCALE_STEPS", "LR_END", "Learner"]

LR_END = 0.1
"""Share of the learning rate that it falls towards."""
ADAM_EPS = 1e-5
"""As in most PPO implementations; torch's 1e-8 makes the first steps too long."""
FIRST_LOSS_SCALE = 2.0**24
"""Too large at first, so that the scaler finds the largest factor that fits; torch's 2^16 would take a run to grow."""
LOSS_SCALE_STEPS = 100
"""Optimizer steps without an overflow after which the scaler doubles its factor: some four updates."""


class _Samples(NamedTuple):
    """What the update learns from; `observations` and so on as in `Rollout`."""

    observations: Tensor
    masks: MaskBatch
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    targets: Tensor

    def select(self, index: Tensor) -> _Samples:
        return _Samples(
            self.observations[index],
            self.masks.select(index),
            self.actions[index],
            self.log_probs[index],
            self.advantages[index],
            self.targets[index],
        )


class _EarlyStop(TypedDict, total=False):
    """What exists when the KL limit ended the update only."""

    early_stop_epoch: int


class Learner:
    """A policy, and what improves it.

    Attributes:
        policy: learns in place.
        scaler: of the loss; passes everything through unless the policy runs in float16.
        steps: of the newest update.
        return_scale: unit of the critic's estimates, in reward.
    """

    def __init__(
        self,
        policy: Policy,
        config: TrainingConfig,
        *,
        slot_ids: Sequence[str],
        blueprint_ids: Sequence[str],
        generator: torch.Generator,
    ) -> None:
        """Start without any experience.

        Args:
            policy: on the device of the configuration.
            config: the update's parameters.
            slot_ids: names of the slot head's choices.
            blueprint_ids: names of the blueprint head's choices.
            generator: shuffles the samples; on the CPU.
        """
        self.policy = policy
        self._config = config
        self._slot_ids = slot_ids
        self._blueprint_ids = blueprint_ids
        self._generator = generator
        self._device = torch.device(config.device)
        self._amp_dtype = getattr(torch, config.amp_dtype) if config.amp_dtype else None
        self.scaler = torch.amp.GradScaler(
            self._device.type,
            init_scale=FIRST_LOSS_SCALE,
            growth_interval=LOSS_SCALE_STEPS,
            enabled=config.amp_dtype == "float16",
        )
        self.steps = Steps(0, 0)
        self.return_scale = ReturnScale()
        self._parameters = list(policy.parameters())
        self._optimizer = torch.optim.Adam(self._parameters, lr=config.lr, eps=ADAM_EPS)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next update depends on, for `load_state_dict`."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "return_scale": self.return_scale.state_dict(),
            "shuffling": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned: the next update is the same to the last bit."""
        self.policy.load_state_dict(state["policy"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.return_scale.load_state_dict(state["return_scale"])
        self._generator.set_state(state["shuffling"])

    def evaluate(self, observations: Tensor, masks: MaskBatch) -> tuple[FactoredDistribution, Tensor]:
        """Return the policy's distribution over actions and its value estimates, shape (B,), of scaled returns."""
        with torch.autocast(self._device.type, self._amp_dtype, enabled=self._amp_dtype is not None):
            logits, values = self.policy(observations)
        return FactoredDistribution(logits, masks), values.float()

    def update(self, rollout: Rollout, *, batch: int, progress: float) -> PPOUpdatePayload:
        """Improve the policy on one batch.

        A batch that is not finite is not learnt from. An optimizer step whose gradients are not finite is not taken.

        Args:
            rollout: the batch, decided by the present policy.
            batch: its index, the first being 0.
            progress: share of the episodes that came before it, 0 to 1.

        Returns:
            What was measured.
        """
        config = self._config
        recorder = UpdateRecorder(clip_ratio=config.clip_ratio)
        lr = config.lr * (1.0 + progress * (LR_END - 1.0))
        entropy_coef = config.entropy_coef + progress * (config.entropy_coef_end - config.entropy_coef)
        for group in self._optimizer.param_groups:
            group["lr"] = lr

        advantages = generalized_advantages(rollout.rewards, rollout.values, config.gamma, config.gae_lambda)
        returns = advantages + rollout.values
        if unusable := rollout.not_finite():
            self.steps = Steps(0, 0, cause=unusable)
            return _skipped(batch, lr, entropy_coef)
        self.return_scale.update(returns)
        centred = advantages - advantages.mean()
        samples = _Samples(
            rollout.observations,
            rollout.masks,
            rollout.actions,
            rollout.log_probs,
            advantages=(centred / (advantages.std(correction=0) + 1e-8)).flatten(),
            targets=(returns / self.return_scale.value).flatten(),
        )

        self._optimise(samples, entropy_coef, recorder)
        self.steps = recorder.steps()
        return self._report(recorder, rollout, advantages, batch=batch, lr=lr, entropy_coef=entropy_coef)

    def _optimise(self, samples: _Samples, entropy_coef: float, recorder: UpdateRecorder) -> None:
        """Go over the samples until the KL limit or the number of epochs is reached."""
        for _ in range(self._config.ppo_epochs):
            order = torch.randperm(len(samples.actions), generator=self._generator).to(self._device)
            for part in order.tensor_split(min(self._config.minibatches, len(order))):
                self._step(samples.select(part), entropy_coef, recorder)
            recorder.end_epoch()
            if not recorder.kl_divergence() <= self._config.target_kl:  # so that NaN ends it, too
                break

    def _report(
        self,
        recorder: UpdateRecorder,
        rollout: Rollout,
        advantages: Tensor,
        *,
        batch: int,
        lr: float,
        entropy_coef: float,
    ) -> PPOUpdatePayload:
        fields = recorder.fields(
            values=rollout.values,
            returns=advantages + rollout.values,
            advantages=advantages,
            largest_entropy=float(rollout.largest_entropy.mean()),
        )
        epochs = fields["inner_epoch"]
        stopped = epochs < self._config.ppo_epochs and math.isfinite(fields["kl_divergence"])
        stop: _EarlyStop = {"early_stop_epoch": epochs - 1} if stopped else {}
        heads = self._head_entropies(rollout)
        return PPOUpdatePayload(
            lr=lr,
            entropy_coef=entropy_coef,
            head_op_entropy=heads["op"],
            head_slot_entropy=heads["slot"],
            head_blueprint_entropy=heads["blueprint"],
            head_style_entropy=heads["style"],
            head_tempo_entropy=heads["tempo"],
            head_alpha_target_entropy=heads["alpha_target"],
            head_alpha_speed_entropy=heads["alpha_speed"],
            head_alpha_curve_entropy=heads["alpha_curve"],
            head_slot_grad_norm=diagnostics.row_norms(recorder.layers["heads.slot"][1], self._slot_ids),
            head_blueprint_grad_norm=diagnostics.row_norms(recorder.layers["heads.blueprint"][1], self._blueprint_ids),
            batch=batch,
            skipped=False,
            **fields,
            **stop,
        )

    def _step(self, samples: _Samples, entropy_coef: float, recorder: UpdateRecorder) -> None:
        """One step of the optimizer on one minibatch."""
        config = self._config
        distribution, values = self.evaluate(samples.observations, samples.masks)
        log_ratio = distribution.log_prob(samples.actions) - samples.log_probs
        ratio = log_ratio.exp()

        # the clipped surrogate objective, Schulman et al. 2017, equation 7
        clipped = ratio.clamp(1.0 - config.clip_ratio, 1.0 + config.clip_ratio)
        policy_loss = -torch.min(ratio * samples.advantages, clipped * samples.advantages).mean()
        value_loss = (values - samples.targets).square().mean()
        entropy = distribution.entropy().mean()
        loss = policy_loss + config.value_coef * value_loss - entropy_coef * entropy

        self._optimizer.zero_grad()
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self._optimizer)
        recorder.step(
            policy_loss=policy_loss,
            value_loss=value_loss,
            entropy=entropy,
            log_ratio=log_ratio,
            parameters=self.policy,
        )
        self._descend(recorder)

    def _descend(self, recorder: UpdateRecorder) -> None:
        """Clip the gradients and take the step, unless they are not finite."""
        gradients, scale = recorder.gradients(), self.scaler.get_scale()
        if gradients.finite or self._too_large(gradients, scale):
            torch.nn.utils.clip_grads_with_norm_(
                self._parameters, self._config.max_grad_norm, torch.tensor(gradients.norm, device=self._device)
            )
            self.scaler.step(self._optimizer)
            self.scaler.update()
        else:
            self.scaler.update(scale)  # the step is over, and a smaller factor would not mend it
        if self.scaler.is_enabled():
            recorder.loss_scale(scale, self.scaler.get_scale())

    @staticmethod
    def _too_large(gradients: GradientTotals, scale: float) -> bool:
        """Whether gradients that are not finite may become so under a smaller loss scale."""
        return gradients.inf_count > 0 and scale > diagnostics.LEAST_LOSS_SCALE  # 1 without a scaler

    def _head_entropies(self, rollout: Rollout) -> dict[Head, dict[str, float]]:
        """Entropy of every head in the batch: by slot, too, where it belongs to a slot's decision."""
        slots = rollout.actions[:, HEADS.index("slot")]
        return {
            head: diagnostics.head_entropy(
                rollout.head_entropies[:, index],
                rollout.heads_used[:, index],
                None if head in ("op", "slot") else slots,
                self._slot_ids,
            )
            for index, head in enumerate(HEADS)
        }


def _skipped(batch: int, lr: float, entropy_coef: float) -> PPOUpdatePayload:
    """No update was attempted, so that nothing was measured."""
    return PPOUpdatePayload(
        policy_loss=math.nan,
        value_loss=math.nan,
        entropy=math.nan,
        grad_norm=math.nan,
        kl_divergence=math.nan,
        clip_fraction=math.nan,
        nan_grad_count=0,
        lr=lr,
        entropy_coef=entropy_coef,
        inner_epoch=0,
        batch=batch,
        skipped=True,
    )
