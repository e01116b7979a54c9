from __future__ import annotations

import itertools
import math

import pytest
import torch
from tests.kasmina.test_network import SLOTS, advance, batch, epoch, germinate, network
from torch.nn.functional import cross_entropy

SUBSETS = [frozenset(itertools.compress(("r0", "r1", "r2"), out)) for out in itertools.product((0, 1), repeat=SLOTS)]


@pytest.mark.parametrize("order", [1, -1])
def test_every_subset_is_evaluated_as_if_it_were_the_only_one(order: int) -> None:
    net = network()
    germinate(net, 0, 1, 2)
    epoch(net)
    for index in range(SLOTS):
        advance(net, index)
    epoch(net)
    inputs, labels = batch()
    evaluator = net.evaluator(inputs, labels)
    for ablated in SUBSETS[::order]:
        joins = [(lambda features: features) if slot.slot_id in ablated else slot.join for slot in net.slots]
        logits = net.host(inputs, joins).detach()
        loss = float(cross_entropy(logits, labels))
        assert evaluator.evaluate(ablated) == (int((logits.argmax(1) == labels).sum()) / len(labels), loss)
        assert evaluator.accuracy(ablated) == evaluator.evaluate(ablated)[0]
    assert len({evaluator.evaluate(ablated)[1] for ablated in SUBSETS}) == len(SUBSETS)


@pytest.mark.parametrize("logit", [math.nan, math.inf, -math.inf, 1e38, -3e38, 1e31, 1e29])
def test_the_accuracy_alone_is_nan_exactly_where_the_loss_is_not_finite(logit: float) -> None:
    net = network()
    with torch.no_grad():
        net.host.head.bias[3] = logit
    evaluator = net.evaluator(*batch())
    accuracy, loss = evaluator.evaluate()
    assert math.isnan(accuracy) is not math.isfinite(loss)
    assert evaluator.accuracy(frozenset()) == pytest.approx(accuracy, abs=0, nan_ok=True)


def test_what_the_seeds_before_are_the_same_for_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    passed: list[int] = []
    refine = net.host.refine

    def counted(index: int, joined: torch.Tensor) -> torch.Tensor:
        passed.append(index)
        return refine(index, joined)

    monkeypatch.setattr(net.host, "refine", counted)
    evaluator = net.evaluator(*batch())
    for ablated in SUBSETS:
        evaluator.accuracy(ablated)
    assert [passed.count(index) for index in range(SLOTS)] == [2, 4, 8]
