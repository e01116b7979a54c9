"""The networks: shapes, separation, repeatable initialisation."""

from __future__ import annotations

import torch

from esper.leyline.actions import HEADS
from esper.tamiyo.distribution import head_sizes
from esper.tamiyo.policy import Policy, PolicyShape

SHAPE = PolicyShape(n_features=7, n_slots=3, n_blueprints=4)


def make(seed: int = 0) -> Policy:
    return Policy(SHAPE, torch.Generator().manual_seed(seed))


def test_every_head_has_one_logit_a_choice_and_every_state_one_value() -> None:
    logits, values = make()(torch.randn(5, 7, generator=torch.Generator().manual_seed(1)))
    assert {head: tuple(logit.shape) for head, logit in logits.items()} == {
        head: (5, size) for head, size in head_sizes(3, 4).items()
    }
    assert tuple(logits) == HEADS
    assert values.shape == (5,)


def test_initial_weights_follow_from_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, same, other = make(4), make(4), make(5)
    assert torch.equal(state, torch.random.get_rng_state()), "the global generator was used"
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])
    assert not torch.equal(first.value.weight, other.value.weight)


def test_an_untrained_policy_is_all_but_uniform() -> None:
    with torch.no_grad():
        logits, _ = make()(torch.randn(50, 7, generator=torch.Generator().manual_seed(1)))
    assert all(bool(((logit.softmax(-1) - 1 / logit.shape[-1]).abs() < 0.05).all()) for logit in logits.values())


def test_actor_and_critic_share_nothing() -> None:
    policy = make()
    _, values = policy(torch.ones(2, 7))
    torch.autograd.backward(values.sum())
    assert all(parameter.grad is None for parameter in (*policy.actor.parameters(), *policy.heads.parameters()))
    assert all(parameter.grad is not None for parameter in (*policy.critic.parameters(), *policy.value.parameters()))
