"""The joint distribution against brute force over every action there is."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import tries

from esper.leyline.actions import HEADS, HEADS_USED, ActionMasks, Head, Op
from esper.tamiyo.distribution import FactoredDistribution, MaskBatch, head_sizes

if TYPE_CHECKING:
    from torch import Tensor

OPS = tuple(Op)
N_SLOTS, N_BLUEPRINTS = 2, 2
SIZES = head_sizes(N_SLOTS, N_BLUEPRINTS)
OPEN = ActionMasks(
    op=(True,) * len(OPS), slot=((False,) * N_SLOTS, *(((True,) * N_SLOTS,) * 4)), blueprint=(True,) * N_BLUEPRINTS
)
ONLY_WAIT = ActionMasks(
    op=(True, False, False, False, False), slot=((False,) * N_SLOTS,) * 5, blueprint=(False,) * N_BLUEPRINTS
)


@st.composite
def masks(draw: st.DrawFn) -> ActionMasks:
    blueprint = tuple(draw(st.lists(st.booleans(), min_size=N_BLUEPRINTS, max_size=N_BLUEPRINTS)))
    rows = [(False,) * N_SLOTS]
    for op in OPS[1:]:
        row = tuple(draw(st.lists(st.booleans(), min_size=N_SLOTS, max_size=N_SLOTS)))
        rows.append(row if op is not Op.GERMINATE or any(blueprint) else (False,) * N_SLOTS)
    return ActionMasks(op=(True, *(any(row) for row in rows[1:])), slot=tuple(rows), blueprint=blueprint)


@st.composite
def logits(draw: st.DrawFn) -> dict[Head, Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.0, 1.0, 20.0, 1e4]))
    return {head: scale * torch.randn(1, size, generator=generator) for head, size in SIZES.items()}


def softmax(scores: list[float], allowed: tuple[bool, ...]) -> list[float]:
    """As one would write it on paper."""
    top = max((score for score, ok in zip(scores, allowed, strict=True) if ok), default=0.0)
    weights = [math.exp(score - top) if ok else 0.0 for score, ok in zip(scores, allowed, strict=True)]
    return [weight / sum(weights) if any(weights) else 0.0 for weight in weights]


def brute_force(scores: dict[Head, Tensor], mask: ActionMasks) -> dict[tuple[int, ...], float]:
    """Probability of every action, unused heads at 0, in plain Python."""
    joint = {}
    for index, op in enumerate(OPS):
        allowed = {head: (True,) * size for head, size in SIZES.items()}
        allowed |= {"op": mask.op, "slot": mask.slot[index], "blueprint": mask.blueprint}
        tables = {head: softmax(scores[head][0].tolist(), allowed[head]) for head in HEADS}
        used = HEADS_USED[op]
        choices = [[index], *(range(SIZES[head]) if head in used else [0] for head in HEADS[1:])]
        for action in itertools.product(*choices):
            factors = [tables[head][choice] for head, choice in zip(HEADS, action, strict=True) if head in used]
            joint[action] = math.prod(factors)
    return joint


@settings(max_examples=tries(40))
@given(logits(), masks())
def test_joint_probabilities_and_entropy_are_those_of_full_enumeration(
    scores: dict[Head, Tensor], mask: ActionMasks
) -> None:
    expected = brute_force(scores, mask)
    actions = torch.tensor(list(expected))
    n = len(actions)
    every = {head: score.expand(n, -1) for head, score in scores.items()}
    computed = FactoredDistribution(every, MaskBatch.stack([mask] * n)).log_prob(actions).exp()

    assert computed.tolist() == pytest.approx(list(expected.values()), abs=1e-5)
    assert math.fsum(computed.tolist()) == pytest.approx(1.0, abs=1e-4)
    assert all(p == 0.0 for p, e in zip(computed.tolist(), expected.values(), strict=True) if e == 0.0)

    distribution = FactoredDistribution(scores, MaskBatch.stack([mask]))
    entropy = -math.fsum(p * math.log(p) for p in expected.values() if p > 0.0)
    assert float(distribution.entropy()) == pytest.approx(entropy, abs=1e-4)


@settings(max_examples=tries(40))
@given(masks())
def test_the_largest_entropy_counts_the_valid_actions_and_bounds_every_policy(mask: ActionMasks) -> None:
    zeros = {head: torch.zeros(1, size) for head, size in SIZES.items()}
    distribution = FactoredDistribution(zeros, MaskBatch.stack([mask]))
    valid = sum(p > 0.0 for p in brute_force(zeros, mask).values())
    largest = float(distribution.largest_entropy())
    assert largest == pytest.approx(math.log(valid), abs=1e-5)
    assert float(distribution.entropy()) <= largest + 1e-5


@settings(max_examples=tries(40))
@given(logits(), masks(), st.integers(0, 2**32))
def test_a_sample_is_valid_and_unused_heads_stay_at_zero(
    scores: dict[Head, Tensor], mask: ActionMasks, seed: int
) -> None:
    n = 64
    every = {head: score.expand(n, -1) for head, score in scores.items()}
    distribution = FactoredDistribution(every, MaskBatch.stack([mask] * n))
    actions = distribution.sample(torch.Generator().manual_seed(seed))
    joint = brute_force(scores, mask)
    assert all(tuple(action) in joint for action in actions.tolist())
    assert bool((distribution.log_prob(actions) > -1e30).all()), "a masked choice was drawn"


@settings(max_examples=tries(40))
@given(logits(), masks())
def test_nothing_is_nan_and_neither_is_any_gradient(scores: dict[Head, Tensor], mask: ActionMasks) -> None:
    leaves = {head: score.clone().requires_grad_() for head, score in scores.items()}
    distribution = FactoredDistribution(leaves, MaskBatch.stack([mask]))
    actions = distribution.sample(torch.Generator().manual_seed(0))
    outputs = [distribution.log_prob(actions), distribution.entropy(), distribution.head_entropies(actions)]
    assert all(bool(output.isfinite().all()) for output in outputs)
    torch.autograd.backward(outputs[0].sum() + outputs[1].sum())
    assert all(leaf.grad is not None and bool(leaf.grad.isfinite().all()) for leaf in leaves.values())


@settings(max_examples=tries(40))
@given(logits(), masks())
def test_masked_choices_have_probability_exactly_zero(scores: dict[Head, Tensor], mask: ActionMasks) -> None:
    distribution = FactoredDistribution(scores, MaskBatch.stack([mask]))
    stacked = MaskBatch.stack([mask])
    assert not distribution.probabilities("op")[~stacked.op].any()
    assert not distribution.probabilities("slot")[~stacked.slot].any()
    assert not distribution.probabilities("blueprint")[~stacked.blueprint].any()


@settings(max_examples=tries(40))
@given(logits(), masks(), st.integers(0, 2**32))
def test_alternatives_are_the_best_other_pairs(scores: dict[Head, Tensor], mask: ActionMasks, seed: int) -> None:
    distribution = FactoredDistribution(scores, MaskBatch.stack([mask]))
    actions = distribution.sample(torch.Generator().manual_seed(seed))
    pairs: dict[tuple[Op, int | None], float] = {}
    for action, p in brute_force(scores, mask).items():
        op = OPS[action[0]]
        pair = (op, action[1] if "slot" in HEADS_USED[op] else None)
        pairs[pair] = pairs.get(pair, 0.0) + p
    chosen = OPS[int(actions[0, 0])]
    del pairs[chosen, int(actions[0, 1]) if "slot" in HEADS_USED[chosen] else None]
    expected = sorted((p for p in pairs.values() if p > 1e-30), reverse=True)[:3]

    (computed,) = distribution.alternatives(actions, 3)
    assert all(told_pair.probability > 0.0 for told_pair in computed)
    assert [pair.probability for pair in computed][: len(expected)] == pytest.approx(expected, abs=1e-5)
    assert [pair.probability for pair in computed] == pytest.approx([pairs[pair[:2]] for pair in computed], abs=1e-5)


def test_sampling_follows_the_joint_probabilities() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = {head: torch.randn(1, size, generator=generator) for head, size in SIZES.items()}
    n = 20_000
    distribution = FactoredDistribution(
        {head: score.expand(n, -1) for head, score in scores.items()}, MaskBatch.stack([OPEN] * n)
    )
    actions = distribution.sample(generator)
    pairs = [tuple(pair) for pair in actions[:, :2].tolist()]
    expected: dict[tuple[int, ...], float] = {}
    for action, p in brute_force(scores, OPEN).items():
        expected[action[:2]] = expected.get(action[:2], 0.0) + p
    for pair, p in expected.items():
        assert pairs.count(pair) / n == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / n) + 1e-9)


def test_the_same_generator_state_draws_the_same_actions() -> None:
    scores = {head: torch.zeros(8, size) for head, size in SIZES.items()}
    distribution = FactoredDistribution(scores, MaskBatch.stack([OPEN] * 8))
    first, second = (distribution.sample(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_a_state_without_a_choice_has_certainty_and_no_alternative() -> None:
    scores = {head: torch.randn(1, size, generator=torch.Generator().manual_seed(1)) for head, size in SIZES.items()}
    distribution = FactoredDistribution(scores, MaskBatch.stack([ONLY_WAIT]))
    actions = distribution.sample(torch.Generator().manual_seed(0))
    assert actions.tolist() == [[0] * len(HEADS)]
    assert float(distribution.log_prob(actions)) == 0.0
    assert float(distribution.entropy()) == 0.0
    assert float(distribution.largest_entropy()) == 0.0
    assert distribution.alternatives(actions, 3) == [()]


def test_head_entropies_are_those_of_the_chosen_op() -> None:
    scores = {head: torch.zeros(1, size) for head, size in SIZES.items()}
    one_slot = OPEN._replace(slot=(*OPEN.slot[:4], (True, False)))
    distribution = FactoredDistribution(scores, MaskBatch.stack([one_slot]))
    prune = torch.tensor([[4, 0, 0, 0, 0, 0, 0, 0]])
    germinate = torch.tensor([[1, 0, 0, 0, 0, 0, 0, 0]])
    slot = HEADS.index("slot")
    assert float(distribution.head_entropies(prune)[0, slot]) == 0.0
    assert float(distribution.head_entropies(germinate)[0, slot]) == pytest.approx(math.log(2))
    assert float(distribution.head_entropies(germinate)[0, HEADS.index("tempo")]) == pytest.approx(math.log(3))
    assert [head for head, used in zip(HEADS, distribution.heads_used(prune)[0].tolist(), strict=True) if used] == [
        "op",
        "slot",
    ]


def test_half_precision_logits_are_assessed_in_float32() -> None:
    scores = {head: torch.zeros(1, size, dtype=torch.bfloat16) for head, size in SIZES.items()}
    distribution = FactoredDistribution(scores, MaskBatch.stack([OPEN]))
    assert distribution.probabilities("op").dtype is torch.float32
    assert float(distribution.probabilities("op").sum()) == pytest.approx(1.0, abs=1e-6)


def test_batches_of_masks_join_and_select() -> None:
    joined = MaskBatch.join([MaskBatch.stack([OPEN]), MaskBatch.stack([ONLY_WAIT])])
    stacked = MaskBatch.stack([OPEN, ONLY_WAIT])
    assert torch.equal(joined.slot, stacked.slot)
    assert torch.equal(joined.select(torch.tensor([1])).op, MaskBatch.stack([ONLY_WAIT]).op)
    assert torch.equal(joined.select(torch.tensor([1])).blueprint, MaskBatch.stack([ONLY_WAIT]).blueprint)
