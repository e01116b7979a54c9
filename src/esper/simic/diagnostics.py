"""What every PPO author measures, as functions of tensors.

Nothing here knows this project's policy or its payloads: pass gradients, ratios, values and entropies of any PPO loop
and put the results into a `PPOUpdatePayload`; `UpdateRecorder` does that
for a whole update. Nothing is hidden by a default: what is not finite comes back as NaN or
inf, and what was not measured (no samples under a mask) is left out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the diagnostics need {error.name}: pip install 'esper-telemetry[train]'", name=error.name
    ) from error

from torch import Tensor

from esper.leyline._lazy import lazy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from esper.simic.recorder import UpdateFields, UpdateRecorder
else:
    __getattr__, __dir__ = lazy(__name__, UpdateFields="esper.simic.recorder", UpdateRecorder="esper.simic.recorder")

__all__ = [
    "COLLAPSE_SHARE",
    "CONSTANT_VARIANCE",
    "DEAD_SHARE",
    "EXPLODING_RATIO",
    "LEAST_LOSS_SCALE",
    "GradientTotals",
    "LayerHealth",
    "RatioStatistics",
    "UpdateFields",
    "UpdateRecorder",
    "amp_overflowed",
    "approximate_kl",
    "clip_fraction",
    "entropy_collapsed",
    "explained_variance",
    "gradient_totals",
    "head_entropy",
    "layer_health",
    "ratio_statistics",
    "row_norms",
    "totals_on_device",
]

DEAD_SHARE = 0.9
"""Share of exact zeros in a layer's gradient from which the layer counts as dead."""
EXPLODING_RATIO = 100.0
"""Gradient norm over weight norm above which a layer counts as exploding."""
COLLAPSE_SHARE = 0.01
"""Share of the largest possible entropy below which a policy counts as collapsed."""
CONSTANT_VARIANCE = 1e-8
"""Variance of the returns below which explaining it means nothing."""
LEAST_LOSS_SCALE = 1.0
"""Factor of a gradient scaler that cannot usefully fall: what is not finite without scaling is no overflow of it."""


class GradientTotals(NamedTuple):
    """All gradients of one optimizer step, taken together."""

    norm: float
    """L2 norm over all elements. Unit: 1; 0 or more, inf or NaN when an element is."""
    nan_count: int
    """Elements that are NaN. Unit: elements; 0 or more."""
    inf_count: int
    """Elements that are +inf or -inf. Unit: elements; 0 or more."""

    @property
    def finite(self) -> bool:
        """Whether every element is finite."""
        return self.nan_count == 0 and self.inf_count == 0


class LayerHealth(NamedTuple):
    """Gradients of one optimizer step, layer by layer."""

    ratios: dict[str, float]
    """‖g‖/‖w‖ by layer; inf where the weight is all zeros and the gradient is not. Unit: 1; 0 or more."""
    dead: tuple[str, ...]
    """Layers of which at least 90 % of the gradient is exactly zero."""
    exploding: tuple[str, ...]
    """Layers whose ratio exceeds 100 or is not finite."""


class RatioStatistics(NamedTuple):
    """The probability ratios r = π_new(a|s) / π_old(a|s) of a set of samples."""

    mean: float
    """Unit: 1; 0 or more."""
    min: float
    """Unit: 1; 0 or more."""
    max: float
    """Unit: 1; 0 or more."""
    std: float
    """Population standard deviation, so that a single sample has 0. Unit: 1; 0 or more."""


def gradient_totals(gradients: Iterable[Tensor | None]) -> GradientTotals:
    """Norm and non-finite elements of all gradients, in one pass over one flat vector.

    ‖g‖₂ = √Σ gᵢ². Call it after unscaling and before clipping: afterwards the norm is the clip limit.

    Args:
        gradients: of any shapes; None (a parameter that took no part) is passed over. No gradient at all has norm 0.
    """
    norm, not_finite = totals_on_device(gradients)
    return GradientTotals(float(norm), *not_finite.tolist())


def totals_on_device(gradients: Iterable[Tensor | None]) -> tuple[Tensor, Tensor]:
    """As `gradient_totals`, without waiting for the device: the norm, and how many elements are NaN and inf."""
    parts = [gradient.detach().flatten().float() for gradient in gradients if gradient is not None]
    flat = torch.cat(parts) if parts else torch.zeros(0)
    return torch.linalg.vector_norm(flat), torch.stack([flat.isnan().sum(), flat.isinf().sum()])


def layer_health(layers: Mapping[str, tuple[Tensor, Tensor]]) -> LayerHealth:
    """‖g‖/‖w‖ of every layer, and which layers are dead or exploding.

    A layer with an all-zero gradient has ratio 0 and is dead, whatever its weight.

    Args:
        layers: weight and gradient, of one shape, by layer name; the weight as the gradient was taken, before the
            step.
    """
    ratios: dict[str, float] = {}
    dead: list[str] = []
    exploding: list[str] = []
    weights, gradients = (_norms([pair[index] for pair in layers.values()]) for index in (0, 1))
    zeros = _transferred([(gradient == 0).sum() for _, gradient in layers.values()])
    for (name, (weight, _)), weight_norm, gradient_norm, zero in zip(
        layers.items(), weights, gradients, zeros, strict=True
    ):
        if weight_norm == 0.0:
            ratios[name] = 0.0 if gradient_norm == 0.0 else gradient_norm * math.inf
        else:
            ratios[name] = gradient_norm / weight_norm
        if zero and zero / weight.numel() >= DEAD_SHARE:
            dead.append(name)
        if not ratios[name] <= EXPLODING_RATIO:  # so that NaN counts as exploding
            exploding.append(name)
    return LayerHealth(ratios, tuple(dead), tuple(exploding))


def _norms(tensors: Iterable[Tensor]) -> list[float]:
    return _transferred([torch.linalg.vector_norm(each.detach().float()) for each in tensors])


def _transferred(numbers: Sequence[Tensor]) -> list[float]:
    """Return numbers that lie on a device, in one transfer."""
    moved: list[float] = torch.stack(list(numbers)).tolist() if numbers else []
    return moved


def row_norms(gradient: Tensor, choices: Sequence[str]) -> dict[str, float]:
    """L2 norm of each row of a head's weight gradient, by the choice the row stands for.

    Args:
        gradient: of shape (choices, features).
        choices: names of the rows.

    Raises:
        ValueError: there are more or fewer names than rows.
    """
    if len(choices) != len(gradient):
        raise ValueError(f"every row needs one name: {len(gradient)} rows, {len(choices)} names")
    norms: list[float] = torch.linalg.vector_norm(gradient.detach().float(), dim=-1).tolist()
    return dict(zip(choices, norms, strict=True))


def ratio_statistics(log_ratio: Tensor) -> RatioStatistics:
    """Mean, smallest, largest and spread of r = exp(log r).

    Args:
        log_ratio: log π_new(a|s) - log π_old(a|s) of one or more samples, of any shape.

    Raises:
        ValueError: there is no sample.
    """
    if log_ratio.numel() == 0:
        raise ValueError("ratio statistics need at least one sample, got none")
    ratio = log_ratio.detach().float().exp()
    return RatioStatistics(
        mean=float(ratio.mean()), min=float(ratio.min()), max=float(ratio.max()), std=float(ratio.std(correction=0))
    )


def approximate_kl(log_ratio: Tensor) -> float:
    """KL(π_old ‖ π_new) from samples of π_old: the k3 estimator, mean((r - 1) - log r).

    Unbiased, never negative and of low variance, see http://joschu.net/blog/kl-approx.html

    Args:
        log_ratio: log π_new(a|s) - log π_old(a|s), of any shape; NaN when there is no sample.
    """
    log_ratio = log_ratio.detach().float()
    return float((log_ratio.expm1() - log_ratio).mean())


def clip_fraction(log_ratio: Tensor, clip_ratio: float) -> float:
    """Share of samples whose ratio is further than ε from 1: the clipping may cut their gradient.

    Args:
        log_ratio: log π_new(a|s) - log π_old(a|s), of any shape; NaN when there is no sample.
        clip_ratio: ε.
    """
    return float((log_ratio.detach().float().expm1().abs() > clip_ratio).float().mean())


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 is perfect, 0 no better than a constant, below 0 worse.

    Args:
        values: the critic's estimates.
        returns: what they estimate, in the same unit and shape.

    Returns:
        The fraction explained, or NaN when Var(returns) < 1e-8: constant returns leave nothing to explain.
    """
    values, returns = values.detach().double(), returns.detach().double()
    variance = float(returns.var(correction=0))
    if not variance >= CONSTANT_VARIANCE:
        return math.nan
    return 1.0 - float((returns - values).var(correction=0)) / variance


def head_entropy(
    entropy: Tensor, mattered: Tensor, slots: Tensor | None = None, slot_ids: Sequence[str] = ()
) -> dict[str, float]:
    """Mean entropy of one head over the steps where it mattered, overall and by the slot that was chosen.

    Args:
        entropy: of the head at every step, shape (steps,), in nats.
        mattered: whether the chosen op uses the head, shape (steps,), bool.
        slots: index of the slot chosen at every step, shape (steps,); None for no entropies by slot.
        slot_ids: names of the slots.

    Returns:
        ``all`` and the slots in order. What no step counts towards is left out, so that the dict may be empty.
    """
    selections = {"all": mattered}
    if slots is not None:
        selections |= {slot_id: mattered & (slots == index) for index, slot_id in enumerate(slot_ids)}
    return {key: float(entropy[chosen].mean()) for key, chosen in selections.items() if bool(chosen.any())}


def entropy_collapsed(entropy: float, largest: float) -> bool:
    """Whether a policy has all but stopped exploring: its entropy is below 1 % of the largest that its masks allow.

    Args:
        entropy: mean entropy over the samples, in nats.
        largest: mean of the largest possible entropy over the same samples, in nats; 0 where there was no choice,
            and a policy without a choice has not collapsed.
    """
    return entropy < COLLAPSE_SHARE * largest


def amp_overflowed(scale_before: float, scale_after: float, gradients: GradientTotals | None = None) -> bool:
    """Whether a gradient scaler skipped a step because the scaled gradients were too large for float16.

    ``GradScaler`` backs its factor off for whatever is not finite, and says so in no other public way. But what is too
    large is inf somewhere: NaN alone is a fault of the numbers, which no smaller factor mends. So is an inf that
    remains when the factor is 1 or less.

    Args:
        scale_before: the factor that the loss was multiplied by.
        scale_after: the factor after ``scaler.update()``.
        gradients: of the step, after unscaling; None where nobody counted, and then the factor alone decides.
    """
    fell = scale_after < scale_before and scale_before > LEAST_LOSS_SCALE
    return fell and (gradients is None or gradients.inf_count > 0)
