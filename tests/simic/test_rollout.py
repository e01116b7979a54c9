"""Advantages by definition, and the unit of the critic."""

from __future__ import annotations

import math

import pytest
import torch

from esper.simic.rollout import ReturnScale, generalized_advantages


def test_advantages_are_the_discounted_sum_of_temporal_differences() -> None:
    gamma, lam = 0.9, 0.8
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(6, 2, generator=generator), torch.randn(6, 2, generator=generator)
    computed = generalized_advantages(rewards, values, gamma, lam)
    for env in range(2):
        r, v = rewards[:, env].tolist(), [*values[:, env].tolist(), 0.0]
        deltas = [r[t] + gamma * v[t + 1] - v[t] for t in range(6)]
        for t in range(6):
            expected = math.fsum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:]))
            assert float(computed[t, env]) == pytest.approx(expected, abs=1e-5)


def test_with_lambda_one_advantage_plus_value_is_the_return() -> None:
    rewards, values = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[9.0], [-3.0], [5.0]])
    returns = generalized_advantages(rewards, values, 0.5, 1.0) + values
    assert returns.flatten().tolist() == pytest.approx([3.0, 4.0, 4.0])


def test_the_scale_is_the_root_mean_square_of_everything_so_far_and_never_zero() -> None:
    scale = ReturnScale()
    assert scale.value == 1.0
    scale.update(torch.tensor([3.0, 3.0]))
    assert scale.value == pytest.approx(3.0), "not centred: equal returns still have a size"
    scale.update(torch.tensor([[5.0, 5.0]]))
    assert scale.value == pytest.approx(math.sqrt(17.0))
    zero = ReturnScale()
    zero.update(torch.zeros(4))
    assert zero.value > 0.0
