"""The numbers of one PPO update, taken while it is made: for any loop over minibatches."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from esper.simic import diagnostics
from esper.simic.assessment import Steps
from esper.simic.diagnostics import GradientTotals

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["BatchFields", "ScaleFields", "UpdateFields", "UpdateRecorder", "batch_fields", "linear_layers", "mean"]

_Numbers: TypeAlias = "Tensor | ArrayLike"


class BatchFields(TypedDict, total=False):
    """Those that are about the batch and the layers; which of them there are depends on what was measured."""

    explained_variance: float
    advantage_mean: float
    advantage_std: float
    entropy_collapsed: bool
    dead_layers: int
    exploding_layers: int
    layer_gradient_health: dict[str, float]


class ScaleFields(TypedDict, total=False):
    """Those of a gradient scaler, where one is used."""

    loss_scale: float
    amp_overflow_detected: bool
    update_skipped: bool


class UpdateFields(BatchFields, ScaleFields):
    """The fields of a `PPOUpdatePayload` that an `UpdateRecorder` can fill."""

    policy_loss: float
    value_loss: float
    entropy: float
    entropy_loss: float
    grad_norm: float
    nan_grad_count: int
    inf_grad_count: int
    kl_divergence: float
    clip_fraction: float
    ratio_mean: float
    ratio_min: float
    ratio_max: float
    ratio_std: float
    inner_epoch: int
    update_time_ms: float


class UpdateRecorder:
    """Measures one update, minibatch by minibatch; make one an update.

    ::

        recorder = UpdateRecorder(clip_ratio=0.2)
        for epoch in range(epochs):
            for minibatch in minibatches:
                ...
                loss.backward()
                recorder.step(policy_loss=policy_loss, value_loss=value_loss, entropy=entropy,
                              log_ratio=log_ratio, parameters=agent)
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
            recorder.end_epoch()
        emit(TelemetryEvent(data=PPOUpdatePayload(**recorder.fields(), batch=batch)))

    Numbers may be tensors, NumPy's or Python's. Nothing is changed. What `step` takes stays on its device: only
    `fields`, `gradients`, `kl_divergence` and `steps` wait for an accelerator, for a few transfers each, however many
    parameters there are.

    Attributes:
        layers: weight and gradient of each linear layer, by name, as they were before the newest step; empty where
            `step` was given no module.
    """

    def __init__(self, *, clip_ratio: float) -> None:
        """Start the update's clock.

        Args:
            clip_ratio: PPO's epsilon.
        """
        self.layers: dict[str, tuple[Tensor, Tensor]] = {}
        self._clip_ratio = clip_ratio
        self._started = time.perf_counter()
        self._losses: list[tuple[Tensor, Tensor, Tensor]] = []
        self._clipped: list[Tensor] = []
        self._samples = 0
        self._gradients: list[tuple[Tensor, Tensor]] = []
        self._scales: dict[int, tuple[float, float]] = {}
        self._epoch: list[Tensor] = []
        self._last_epoch: list[Tensor] = []
        self._epochs = 0

    # ── while the update is made ───────────────────────────────────────────────────────────────────────────────

    def step(
        self,
        *,
        policy_loss: _Numbers,
        value_loss: _Numbers,
        entropy: _Numbers,
        log_ratio: _Numbers,
        parameters: nn.Module | Iterable[Tensor] | None = None,
    ) -> None:
        """Record one minibatch: after ``backward``, before the gradients are clipped.

        Of a loss and the entropy either the mean over the minibatch or one number a sample.

        Args:
            policy_loss: the clipped surrogate loss, without the entropy.
            value_loss: the squared error of the value estimates, before its coefficient.
            entropy: of the policy, in nats.
            log_ratio: log π_new(a|s) - log π_old(a|s), one a sample.
            parameters: whose gradients are to be measured, unscaled where a scaler is used. A module brings the health
                of its linear layers as well. None where no optimizer step follows, as when the KL limit ends the
                update.

        Raises:
            ValueError: there is no sample.
        """
        ratios = _tensor(log_ratio).flatten().clone()  # whoever owns it may use it again
        if not ratios.numel():
            raise ValueError("a minibatch has at least one sample, got a log_ratio without any")
        self._epoch.append(ratios)
        self._samples += ratios.numel()
        self._clipped.append((ratios.expm1().abs() > self._clip_ratio).sum())
        self._losses.append((_tensor(policy_loss).mean(), _tensor(value_loss).mean(), _tensor(entropy).mean()))
        if parameters is not None:
            self._record_gradients(parameters)

    def loss_scale(self, before: float, after: float) -> None:
        """Say what a gradient scaler did in the newest step; only where one is used.

        Args:
            before: the factor that the loss was multiplied by.
            after: the factor after ``scaler.update()``.
        """
        self._scales[len(self._gradients) - 1] = (before, after)

    def end_epoch(self) -> None:
        """Say that the next minibatch begins another pass over the batch."""
        self._last_epoch, self._epoch = self._epoch, []
        self._epochs += 1

    # ── what was recorded ──────────────────────────────────────────────────────────────────────────────────────

    def gradients(self) -> GradientTotals:
        """Return norm and non-finite elements of the newest step's gradients."""
        return self._totals(self._gradients[-1:])[0]

    def kl_divergence(self) -> float:
        """Return KL(π_old ‖ π_new) in nats, mean over the minibatches of the newest epoch: what a KL limit asks for."""
        return mean([diagnostics.approximate_kl(each) for each in self._epoch or self._last_epoch])

    def steps(self) -> Steps:
        """Return how many steps there were whose gradients were recorded, and how many could be taken."""
        totals = self._totals(self._gradients)
        return Steps(len(totals), sum(each.finite for each in totals), sum(self._overflowed(totals)))

    def fields(
        self,
        *,
        values: _Numbers | None = None,
        returns: _Numbers | None = None,
        advantages: _Numbers | None = None,
        largest_entropy: float | None = None,
    ) -> UpdateFields:
        """Return what was recorded, as the payload names it. What was not is not there.

        Args:
            values: the critic's estimates before the update, for the explained variance.
            returns: what they estimate.
            advantages: of the batch, before they are normalised.
            largest_entropy: mean of the largest entropy that the policy can have, in nats; none for continuous actions.

        Raises:
            ValueError: no minibatch was recorded, or one of `values` and `returns` is missing.
        """
        if not self._losses:
            raise ValueError("no minibatch was recorded: call step() for each")
        if (values is None) is not (returns is None):
            raise ValueError("the explained variance needs both values and returns")
        ratios = diagnostics.ratio_statistics(torch.cat(self._epoch or self._last_epoch))
        policy_loss, value_loss, entropy = (mean(_floats(column)) for column in zip(*self._losses, strict=True))
        totals = self._totals(self._gradients)
        overflowed = self._overflowed(totals)
        norms = [math.inf if over else each.norm for each, over in zip(totals, overflowed, strict=True)]
        about_batch = batch_fields(
            values=None if values is None else _tensor(values),
            returns=None if returns is None else _tensor(returns),
            advantages=None if advantages is None else _tensor(advantages),
            entropy=entropy,
            largest_entropy=largest_entropy,
            layers=self.layers,
        )
        about_scale: ScaleFields = {}
        if self._scales:
            about_scale["loss_scale"] = self._scales[max(self._scales)][1]
            about_scale["amp_overflow_detected"] = about_scale["update_skipped"] = any(overflowed)
        return {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "entropy_loss": -entropy,
            "grad_norm": mean(norms) if norms else math.nan,
            "nan_grad_count": sum(each.nan_count for each in totals),
            "inf_grad_count": sum(each.inf_count for each in totals),
            "kl_divergence": self.kl_divergence(),
            "clip_fraction": float(torch.stack(self._clipped).sum() / self._samples),
            "ratio_mean": ratios.mean,
            "ratio_min": ratios.min,
            "ratio_max": ratios.max,
            "ratio_std": ratios.std,
            "inner_epoch": self._epochs + bool(self._epoch),
            "update_time_ms": (time.perf_counter() - self._started) * 1e3,
            **about_batch,
            **about_scale,
        }

    def _record_gradients(self, parameters: nn.Module | Iterable[Tensor]) -> None:
        if isinstance(parameters, nn.Module):
            self.layers = linear_layers(parameters.named_modules())
            parameters = parameters.parameters()
        self._gradients.append(diagnostics.totals_on_device(each.grad for each in parameters))

    def _totals(self, gradients: Sequence[tuple[Tensor, Tensor]]) -> list[GradientTotals]:
        if not gradients:
            return []
        norms, counts = (torch.stack(column).tolist() for column in zip(*gradients, strict=True))
        return [GradientTotals(norm, *not_finite) for norm, not_finite in zip(norms, counts, strict=True)]

    def _overflowed(self, totals: Sequence[GradientTotals]) -> list[bool]:
        """Which steps were not taken because the loss scale was too large."""
        return [
            index in self._scales and diagnostics.amp_overflowed(*self._scales[index], each)
            for index, each in enumerate(totals)
        ]


def batch_fields(
    *,
    values: Tensor | None,
    returns: Tensor | None,
    advantages: Tensor | None,
    entropy: float,
    largest_entropy: float | None,
    layers: Mapping[str, tuple[Tensor, Tensor]],
) -> BatchFields:
    """Return what an update says of its batch and of its layers; what is None was not measured.

    Args:
        values: the critic's estimates before the update.
        returns: what they estimate.
        advantages: before they are normalised.
        entropy: of the update, in nats.
        largest_entropy: mean of the largest that the policy can have, in nats.
        layers: weight and gradient of each linear layer, before the newest step.
    """
    fields: BatchFields = {}
    if values is not None and returns is not None:
        fields["explained_variance"] = diagnostics.explained_variance(values, returns)
    if advantages is not None:
        fields["advantage_mean"] = float(advantages.mean())
        fields["advantage_std"] = float(advantages.std(correction=0))
    if largest_entropy is not None:
        fields["entropy_collapsed"] = diagnostics.entropy_collapsed(entropy, largest_entropy)
    if layers:
        health = diagnostics.layer_health(layers)
        fields["dead_layers"] = len(health.dead)
        fields["exploding_layers"] = len(health.exploding)
        fields["layer_gradient_health"] = health.ratios
    return fields


def linear_layers(modules: Iterable[tuple[str, nn.Module]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return weight and gradient, copied, of each linear layer among named modules that has a gradient."""
    return {
        name: (layer.weight.detach().clone(), layer.weight.grad.clone())
        for name, layer in modules
        if isinstance(layer, nn.Linear) and layer.weight.grad is not None
    }


def _tensor(numbers: _Numbers) -> Tensor:
    """Return numbers of any kind apart from the graph: a tensor where it lies, in float32 or better, others exactly."""
    if not isinstance(numbers, Tensor):
        return torch.from_numpy(np.array(numbers, dtype=np.float64))
    return numbers.detach() if numbers.dtype is torch.float64 else numbers.detach().float()


def mean(numbers: Sequence[float]) -> float:
    """Return the mean of one or more numbers; `fmean` refuses inf beside -inf, and sums that are beyond floats."""
    try:
        return fmean(numbers)
    except (ValueError, OverflowError):
        return sum(number / len(numbers) for number in numbers)


def _floats(column: Sequence[Tensor]) -> list[float]:
    """Return numbers that lie on a device, in one transfer."""
    numbers: list[float] = torch.stack(list(column)).tolist()
    return numbers
