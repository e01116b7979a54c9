"""One synthetic batch through the formulas of three trainers: the page's table is what comes out."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from esper.simic.diagnostics import UpdateRecorder

PAGE = Path(__file__).parents[2] / "docs" / "what-your-numbers-mean.md"
CLIP, VALUE_CLIP, MAX_NORM = 0.2, 0.2, 0.5
EPOCHS = 2


class Minibatch(NamedTuple):
    log_ratio: Tensor
    advantages: Tensor
    old_values: Tensor
    values: Tensor
    returns: Tensor
    entropy: Tensor
    gradient: Tensor


def synthetic() -> list[list[Minibatch]]:
    """Two passes over ten samples, in minibatches of four, four and two; policy and critic move with every step."""
    sample = torch.arange(10, dtype=torch.float32)
    advantages, old_values = torch.sin(1.7 * sample) * 3.0 + 0.5, torch.cos(0.9 * sample) * 2.0 + 10.0
    returns = old_values + advantages
    epochs = []
    for epoch in range(EPOCHS):
        minibatches = []
        for number, index in enumerate(torch.split(((sample * 7 + 3 * epoch) % 10).long(), 4)):
            moved = 0.04 * (3 * epoch + number)
            log_ratio = moved * torch.sin(2.3 * sample[index] + 1.0) * 3.0
            values = old_values[index] + 4.0 * moved * (returns - old_values)[index]
            entropy = 0.69 - moved * (0.3 + 0.05 * sample[index])
            gradient = torch.tensor([3.0, 4.0]) * (0.1 + moved)
            minibatches.append(
                Minibatch(log_ratio, advantages[index], old_values[index], values, returns[index], entropy, gradient)
            )
        epochs.append(minibatches)
    return epochs


def surrogate(part: Minibatch) -> Tensor:
    """The clipped surrogate loss, on which all three agree: advantages normalised within the minibatch."""
    ratio = part.log_ratio.exp()
    normal = (part.advantages - part.advantages.mean()) / (part.advantages.std() + 1e-8)
    return -torch.min(normal * ratio, normal * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()


def k1(part: Minibatch) -> float:
    return float(-part.log_ratio.mean())


def k3(part: Minibatch) -> float:
    return float((part.log_ratio.exp() - 1 - part.log_ratio).mean())


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def clipped_share(part: Minibatch) -> float:
    return float(((part.log_ratio.exp() - 1).abs() > CLIP).float().mean())


def clipped_values(part: Minibatch) -> Tensor:
    return part.old_values + (part.values - part.old_values).clamp(-VALUE_CLIP, VALUE_CLIP)


def variance_explained(epochs: list[list[Minibatch]]) -> float:
    values, returns = (torch.cat([getattr(part, name) for part in epochs[0]]) for name in ("old_values", "returns"))
    return 1.0 - float((returns - values).var(correction=0) / returns.var(correction=0))


def stable_baselines3(epochs: list[list[Minibatch]]) -> dict[str, float]:
    every = [part for epoch in epochs for part in epoch]
    return {
        "train/policy_gradient_loss": mean([surrogate(part).item() for part in every]),
        "train/value_loss": mean([(part.returns - part.values).square().mean().item() for part in every]),
        "train/value_loss (clip_range_vf=0.2)": mean(
            [(part.returns - clipped_values(part)).square().mean().item() for part in every]
        ),
        "train/entropy_loss": mean([-part.entropy.mean().item() for part in every]),
        "train/approx_kl": mean([k3(part) for part in epochs[-1]]),
        "train/clip_fraction": mean([clipped_share(part) for part in every]),
        "train/explained_variance": variance_explained(epochs),
    }


def cleanrl(epochs: list[list[Minibatch]]) -> dict[str, float]:
    last = epochs[-1][-1]
    every = [part for epoch in epochs for part in epoch]
    errors = (last.values - last.returns).square(), (clipped_values(last) - last.returns).square()
    return {
        "losses/policy_loss": surrogate(last).item(),
        "losses/value_loss": 0.5 * torch.max(*errors).mean().item(),
        "losses/entropy": last.entropy.mean().item(),
        "losses/old_approx_kl": k1(last),
        "losses/approx_kl": k3(last),
        "losses/clipfrac": mean([clipped_share(part) for part in every]),
        "losses/explained_variance": variance_explained(epochs),
    }


def esper(epochs: list[list[Minibatch]]) -> dict[str, float]:
    recorder, weight = UpdateRecorder(clip_ratio=CLIP), nn.Parameter(torch.zeros(2))
    for epoch in epochs:
        for part in epoch:
            weight.grad = part.gradient.clone()
            recorder.step(
                policy_loss=surrogate(part),
                value_loss=(part.values - part.returns).square(),
                entropy=part.entropy,
                log_ratio=part.log_ratio,
                parameters=[weight],
            )
            nn.utils.clip_grad_norm_([weight], MAX_NORM)
        recorder.end_epoch()
    values, returns = (torch.cat([getattr(part, name) for part in epochs[0]]) for name in ("old_values", "returns"))
    fields = recorder.fields(values=values, returns=returns, advantages=returns - values)
    return {name: value for name, value in fields.items() if isinstance(value, float)}


def computed() -> dict[str, float]:
    epochs = synthetic()
    return stable_baselines3(epochs) | cleanrl(epochs) | esper(epochs)


def test_the_page_says_what_the_formulas_give() -> None:
    numbers = computed()
    said = re.findall(r"`([\w/]+(?: \(clip_range_vf=0\.2\))?)` = (-?\d+\.\d+)", PAGE.read_text())
    assert len(said) >= 20
    for name, text in said:
        assert f"{numbers[name]:.4f}" == text, name


def test_where_the_page_says_that_numbers_agree_they_do() -> None:
    numbers = computed()
    for ours, theirs in {
        "policy_loss": "train/policy_gradient_loss",
        "value_loss": "train/value_loss",
        "entropy_loss": "train/entropy_loss",
        "kl_divergence": "train/approx_kl",
        "explained_variance": "train/explained_variance",
    }.items():
        assert numbers[ours] == pytest.approx(numbers[theirs], rel=1e-5, abs=1e-7), ours


def test_where_it_says_that_they_differ_they_do() -> None:
    numbers = computed()
    for ours, *others in (
        ("policy_loss", "losses/policy_loss"),
        ("value_loss", "losses/value_loss", "train/value_loss (clip_range_vf=0.2)"),
        ("kl_divergence", "losses/approx_kl", "losses/old_approx_kl"),
        ("clip_fraction", "train/clip_fraction"),
    ):
        assert all(not math.isclose(numbers[ours], numbers[other], rel_tol=0.02) for other in others), ours
    assert numbers["losses/old_approx_kl"] < 0 < numbers["kl_divergence"], "k1 of a sample can be negative"
    assert numbers["grad_norm"] > MAX_NORM, "as it is before clipping"
