"""Proximal policy optimisation (Schulman et al. 2017): the clipped update, and what it measures.

The update reads from top to bottom as in the paper; the measurements it emits come from `esper.simic.diagnostics`.
"""

from __future__ import annotations

import math
import time
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from esper.leyline.actions import HEADS, Head
from esper.leyline.telemetry import PPOUpdatePayload
from esper.simic import diagnostics
from esper.simic.assessment import Steps
from esper.simic.rollout import ReturnScale, generalized_advantages
from esper.tamiyo.distribution import FactoredDistribution, MaskBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


class _Step(NamedTuple):
    """What one minibatch measured."""

    policy_loss: float
    value_loss: float
    entropy: float
    log_ratio: Tensor
    gradients: GradientTotals
    overflowed: bool


class _AmpMeasurements(TypedDict, total=False):
    """What exists under a gradient scaler only."""

    loss_scale: float
    amp_overflow_detected: bool
    update_skipped: bool


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
        self._linear = {name: module for name, module in policy.named_modules() if isinstance(module, nn.Linear)}
        # weight and gradient of every linear layer, as they were before the newest step
        self._layers: dict[str, tuple[Tensor, Tensor]] = {}

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
        started = time.perf_counter()
        config = self._config
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

        epochs = self._optimise(samples, entropy_coef)
        return self._report(epochs, rollout, advantages, batch=batch, lr=lr, entropy_coef=entropy_coef, started=started)

    def _optimise(self, samples: _Samples, entropy_coef: float) -> list[list[_Step]]:
        """Go over the samples until the KL limit or the number of epochs is reached; return the steps by epoch."""
        config = self._config
        epochs: list[list[_Step]] = []
        while len(epochs) < config.ppo_epochs:
            order = torch.randperm(len(samples.actions), generator=self._generator).to(self._device)
            parts = order.tensor_split(min(config.minibatches, len(order)))
            epochs.append([self._step(samples.select(part), entropy_coef) for part in parts])
            if not _kl(epochs[-1]) <= config.target_kl:  # so that NaN ends it, too
                break
        return epochs

    def _report(
        self,
        epochs: list[list[_Step]],
        rollout: Rollout,
        advantages: Tensor,
        *,
        batch: int,
        lr: float,
        entropy_coef: float,
        started: float,
    ) -> PPOUpdatePayload:
        steps = [step for epoch in epochs for step in epoch]
        taken, overflowed = sum(step.gradients.finite for step in steps), sum(step.overflowed for step in steps)
        self.steps = Steps(len(steps), taken, overflowed)
        kl = _kl(epochs[-1])
        stopped = len(epochs) < self._config.ppo_epochs and math.isfinite(kl)
        stop: _EarlyStop = {"early_stop_epoch": len(epochs) - 1} if stopped else {}
        log_ratio = torch.cat([step.log_ratio for step in steps])
        ratios = diagnostics.ratio_statistics(torch.cat([step.log_ratio for step in epochs[-1]]))
        health = diagnostics.layer_health(self._layers)
        entropy = _mean(step.entropy for step in steps)
        heads = self._head_entropies(rollout)
        return PPOUpdatePayload(
            policy_loss=_mean(step.policy_loss for step in steps),
            value_loss=_mean(step.value_loss for step in steps),
            entropy=entropy,
            entropy_loss=-entropy,
            entropy_collapsed=diagnostics.entropy_collapsed(entropy, float(rollout.largest_entropy.mean())),
            grad_norm=_mean(math.inf if step.overflowed else step.gradients.norm for step in steps),
            nan_grad_count=sum(step.gradients.nan_count for step in steps),
            inf_grad_count=sum(step.gradients.inf_count for step in steps),
            kl_divergence=kl,
            clip_fraction=diagnostics.clip_fraction(log_ratio, self._config.clip_ratio),
            explained_variance=diagnostics.explained_variance(rollout.values, advantages + rollout.values),
            advantage_mean=float(advantages.mean()),
            advantage_std=float(advantages.std(correction=0)),
            ratio_mean=ratios.mean,
            ratio_min=ratios.min,
            ratio_max=ratios.max,
            ratio_std=ratios.std,
            lr=lr,
            entropy_coef=entropy_coef,
            dead_layers=len(health.dead),
            exploding_layers=len(health.exploding),
            layer_gradient_health=health.ratios,
            head_op_entropy=heads["op"],
            head_slot_entropy=heads["slot"],
            head_blueprint_entropy=heads["blueprint"],
            head_style_entropy=heads["style"],
            head_tempo_entropy=heads["tempo"],
            head_alpha_target_entropy=heads["alpha_target"],
            head_alpha_speed_entropy=heads["alpha_speed"],
            head_alpha_curve_entropy=heads["alpha_curve"],
            head_slot_grad_norm=diagnostics.row_norms(self._layers["heads.slot"][1], self._slot_ids),
            head_blueprint_grad_norm=diagnostics.row_norms(self._layers["heads.blueprint"][1], self._blueprint_ids),
            inner_epoch=len(epochs),
            batch=batch,
            skipped=False,
            update_time_ms=(time.perf_counter() - started) * 1e3,
            **stop,
            **self._amp_measurements(steps),
        )

    def _step(self, samples: _Samples, entropy_coef: float) -> _Step:
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
        gradients, overflowed = self._descend()
        return _Step(policy_loss.item(), value_loss.item(), entropy.item(), log_ratio.detach(), gradients, overflowed)

    def _descend(self) -> tuple[GradientTotals, bool]:
        """Measure the gradients, clip them and take the step, unless they are not finite.

        Returns:
            The gradients, and whether the loss scale was too large for them.
        """
        gradients = diagnostics.gradient_totals(parameter.grad for parameter in self._parameters)
        self._layers = {
            name: (layer.weight.detach().clone(), layer.weight.grad.clone())
            for name, layer in self._linear.items()
            if layer.weight.grad is not None
        }
        scale = self.scaler.get_scale()
        if not gradients.finite and not self._too_large(gradients, scale):
            self.scaler.update(scale)  # the step is over, and a smaller factor would not mend it
            return gradients, False
        torch.nn.utils.clip_grads_with_norm_(
            self._parameters, self._config.max_grad_norm, torch.tensor(gradients.norm, device=self._device)
        )
        self.scaler.step(self._optimizer)
        self.scaler.update()
        return gradients, diagnostics.amp_overflowed(scale, self.scaler.get_scale(), gradients)

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

    def _amp_measurements(self, steps: Sequence[_Step]) -> _AmpMeasurements:
        if not self.scaler.is_enabled():
            return {}
        overflowed = any(step.overflowed for step in steps)
        return {
            "loss_scale": self.scaler.get_scale(),
            "amp_overflow_detected": overflowed,
            "update_skipped": overflowed,
        }


def _mean(values: Iterable[float]) -> float:
    """Mean of one or more numbers, of inf and -inf together NaN, which `fmean` refuses."""
    numbers = tuple(values)
    return fmean(numbers) if all(map(math.isfinite, numbers)) else sum(numbers) / len(numbers)


def _kl(epoch: Sequence[_Step]) -> float:
    """Of the old from the new policy, mean over the minibatches of one epoch, in nats."""
    return _mean(diagnostics.approximate_kl(step.log_ratio) for step in epoch)


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
