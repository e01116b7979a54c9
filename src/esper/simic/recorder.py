"""The numbers of one PPO update, taken while it is made: for any loop over minibatches."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NotRequired, TypeAlias, TypedDict

import torch
from torch import Tensor, nn

from esper.simic import diagnostics

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["UpdateFields", "UpdateRecorder"]

_Numbers: TypeAlias = "Tensor | ArrayLike"


class UpdateFields(TypedDict):
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
    explained_variance: NotRequired[float]
    advantage_mean: NotRequired[float]
    advantage_std: NotRequired[float]
    entropy_collapsed: NotRequired[bool]
    dead_layers: NotRequired[int]
    exploding_layers: NotRequired[int]
    layer_gradient_health: NotRequired[dict[str, float]]


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

    _Numbers may be tensors, NumPy's or Python's. Nothing is changed, and on an accelerator nothing waits for the device
    before `fields` is asked.
    """

    def __init__(self, *, clip_ratio: float) -> None:
        """Start the update's clock.

        Args:
            clip_ratio: PPO's epsilon.
        """
        self._clip_ratio = clip_ratio
        self._started = time.perf_counter()
        self._losses: list[tuple[Tensor, Tensor, Tensor]] = []
        self._clipped: list[Tensor] = []
        self._samples = 0
        self._norms: list[Tensor] = []
        self._not_finite: list[Tensor] = []
        self._layers: dict[str, tuple[Tensor, Tensor]] | None = None
        self._epoch: list[Tensor] = []
        self._last_epoch: list[Tensor] = []
        self._epochs = 0

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
        ratios = _tensor(log_ratio).flatten()
        if not ratios.numel():
            raise ValueError("a minibatch has at least one sample, got a log_ratio without any")
        self._epoch.append(ratios)
        self._samples += ratios.numel()
        self._clipped.append((ratios.expm1().abs() > self._clip_ratio).sum())
        self._losses.append((_tensor(policy_loss).mean(), _tensor(value_loss).mean(), _tensor(entropy).mean()))
        if parameters is not None:
            self._record_gradients(parameters)

    def end_epoch(self) -> None:
        """Say that the next minibatch begins another pass over the batch."""
        self._last_epoch, self._epoch = self._epoch, []
        self._epochs += 1

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
        epoch = self._epoch or self._last_epoch
        ratios = diagnostics.ratio_statistics(torch.cat(epoch))
        policy_loss, value_loss, entropy = (fmean(_floats(column)) for column in zip(*self._losses, strict=True))
        nan_count, inf_count = (sum(map(int, column)) for column in _columns(self._not_finite))
        fields: UpdateFields = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "entropy_loss": -entropy,
            "grad_norm": fmean(_floats(self._norms)) if self._norms else math.nan,
            "nan_grad_count": nan_count,
            "inf_grad_count": inf_count,
            "kl_divergence": fmean(diagnostics.approximate_kl(each) for each in epoch),
            "clip_fraction": sum(_floats(self._clipped)) / self._samples,
            "ratio_mean": ratios.mean,
            "ratio_min": ratios.min,
            "ratio_max": ratios.max,
            "ratio_std": ratios.std,
            "inner_epoch": self._epochs + bool(self._epoch),
            "update_time_ms": (time.perf_counter() - self._started) * 1e3,
        }
        if values is not None and returns is not None:
            fields["explained_variance"] = diagnostics.explained_variance(_tensor(values), _tensor(returns))
        if advantages is not None:
            all_advantages = _tensor(advantages).double()
            fields["advantage_mean"] = float(all_advantages.mean())
            fields["advantage_std"] = float(all_advantages.std(correction=0))
        if largest_entropy is not None:
            fields["entropy_collapsed"] = diagnostics.entropy_collapsed(entropy, largest_entropy)
        if self._layers is not None:
            health = diagnostics.layer_health(self._layers)
            fields["dead_layers"] = len(health.dead)
            fields["exploding_layers"] = len(health.exploding)
            fields["layer_gradient_health"] = health.ratios
        return fields

    def _record_gradients(self, parameters: nn.Module | Iterable[Tensor]) -> None:
        if isinstance(parameters, nn.Module):
            self._layers = {
                name: (module.weight.detach().clone(), module.weight.grad.clone())
                for name, module in parameters.named_modules()
                if isinstance(module, nn.Linear) and module.weight.grad is not None
            }
            parameters = parameters.parameters()
        gradients = [each.grad.detach().flatten().float() for each in parameters if each.grad is not None]
        flat = torch.cat(gradients) if gradients else torch.zeros(0)
        self._norms.append(torch.linalg.vector_norm(flat))
        self._not_finite.append(torch.stack([flat.isnan().sum(), flat.isinf().sum()]))


def _tensor(numbers: _Numbers) -> Tensor:
    """Return numbers of any kind as float32, apart from the graph."""
    return torch.as_tensor(numbers).detach().float()


def _floats(tensors: Sequence[Tensor]) -> list[float]:
    """Return numbers that lie on a device, in one transfer."""
    numbers: list[float] = torch.stack(list(tensors)).tolist()
    return numbers


def _columns(pairs: Sequence[Tensor]) -> tuple[list[float], list[float]]:
    if not pairs:
        return [], []
    first, second = torch.stack(list(pairs)).T.tolist()
    return first, second
