from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from esper.kasmina.host import Host
from esper.kasmina.network import GrowingNetwork
from esper.kasmina.slot import SeedSlot
from esper.leyline.actions import AlphaCurve, AlphaSpeed, BlendStyle
from esper.leyline.stages import SeedStage

CPU = torch.device("cpu")
TOKENS, FEATURES, WIDTH, CLASSES, SLOTS = 8, 8, 12, 10, 3


def network(seed: int = 0, learning_rate: float = 2e-2) -> GrowingNetwork:
    generator = torch.Generator().manual_seed(seed)
    # seeds draw from a generator of their own here, so that hosts with and without seeds are born alike
    seeds = torch.Generator().manual_seed(seed)
    slots = [
        SeedSlot(
            f"r{index}",
            env_id=0,
            tokens=TOKENS,
            width=WIDTH,
            generator=seeds,
            device=CPU,
            serials=itertools.count(),
            emit=lambda _event: None,
        )
        for index in range(SLOTS)
    ]
    return GrowingNetwork(
        lambda: Host(features=FEATURES, width=WIDTH, classes=CLASSES, n_slots=SLOTS),
        slots,
        learning_rate=learning_rate,
        generator=generator,
        device=CPU,
    )


def batch(n: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, TOKENS, FEATURES, generator=generator), torch.randint(CLASSES, (n,), generator=generator)


def germinate(net: GrowingNetwork, *indices: int, blueprint_id: str = "mixer") -> None:
    for index in indices:
        net.slots[index].germinate(blueprint_id, style=BlendStyle.ADD, tempo=1, val_accuracy=0.0)


def epoch(net: GrowingNetwork, seed: int = 0) -> None:
    for slot in net.slots:
        slot.begin_epoch()
    net.train_epoch(iter([batch(seed=seed)]))
    for slot in net.slots:
        slot.end_epoch(0.0, None)


def advance(net: GrowingNetwork, index: int) -> None:
    net.slots[index].advance(target=1.0, speed=AlphaSpeed.NORMAL, curve=AlphaCurve.LINEAR)


def host_gradients(net: GrowingNetwork) -> list[Tensor]:
    gradients = [parameter.grad for parameter in net.host.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return [gradient.clone() for gradient in gradients if gradient is not None]


def weights(module: torch.nn.Module) -> Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).clone()


def test_the_bare_host_for_digits_has_706_parameters() -> None:
    assert network().host_params == 706


def test_an_empty_slot_passes_features_through() -> None:
    net = network()
    inputs, _ = batch()
    through_slots = net.host(inputs, [slot.join for slot in net.slots])
    assert torch.equal(through_slots, net.host(inputs, [lambda features: features] * SLOTS))


def test_the_bare_host_cannot_see_the_order_of_its_tokens() -> None:
    net = network()
    inputs, _ = batch()
    joins = [slot.join for slot in net.slots]
    assert torch.allclose(net.host(inputs, joins), net.host(inputs.flip(1), joins), atol=1e-6)


@pytest.mark.parametrize("blueprint_id", ["norm", "mlp", "mixer", "attention"])
@pytest.mark.parametrize("indices", [(0,), (2,), (0, 1, 2)])
def test_training_a_seed_leaves_the_host_gradients_bit_identical(blueprint_id: str, indices: tuple[int, ...]) -> None:
    bare, grown = network(), network()
    germinate(grown, *indices, blueprint_id=blueprint_id)
    for slot in grown.slots:
        slot.begin_epoch()
    bare.backward(*batch())
    grown.backward(*batch())
    assert all(map(torch.equal, host_gradients(bare), host_gradients(grown)))
    for index in indices:
        gradients = [parameter.grad for parameter in grown.slots[index].parameters]
        assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_a_host_with_a_seed_in_training_grows_up_as_if_it_were_bare() -> None:
    bare, grown = network(), network()
    germinate(grown, 1)
    for seed in range(3):
        epoch(bare, seed)
        epoch(grown, seed)
    assert torch.equal(weights(bare.host), weights(grown.host))
    assert bare.evaluator(*batch()).evaluate() == grown.evaluator(*batch()).evaluate()


def test_a_seed_in_training_does_not_depend_on_another_one() -> None:
    alone, together = network(), network()
    germinate(alone, 0)
    germinate(together, 0, 2)
    for seed in range(3):
        epoch(alone, seed)
        epoch(together, seed)
    assert torch.equal(*(torch.cat([p.flatten() for p in net.slots[0].parameters]) for net in (alone, together)))


def test_a_seed_in_training_learns_to_lower_the_loss_at_alpha_one() -> None:
    net = network()
    germinate(net, 0)
    inputs, labels = batch()

    def loss() -> float:
        joins = [net.slots[0].join_fully, *(slot.join for slot in net.slots[1:])]
        return cross_entropy(net.host(inputs, joins), labels).item()

    before = loss()
    # a host that stands still, so that what is gained is the seed's
    still = {name: weight.clone() for name, weight in net.host.state_dict().items()}
    for _ in range(20):
        epoch(net)
        net.host.load_state_dict(still)
    assert loss() < before - 0.02


@pytest.mark.parametrize("stage", [SeedStage.BLENDING, SeedStage.HOLDING, SeedStage.FOSSILIZED])
def test_a_seed_that_joined_learns_with_the_host_and_changes_its_output(stage: SeedStage) -> None:
    net = network()
    germinate(net, 1)
    epoch(net)
    advance(net, 1)
    if stage is not SeedStage.BLENDING:
        epoch(net)
    if stage is SeedStage.FOSSILIZED:
        net.slots[1].fossilize()
    assert net.slots[1].stage is stage
    seed = net.slots[1].seed
    assert seed is not None
    before = weights(seed.module)
    epoch(net)
    assert not torch.equal(before, weights(seed.module))
    assert net.evaluator(*batch()).evaluate()[1] != net.evaluator(*batch()).evaluate(frozenset({"r1"}))[1]


def test_ablating_every_seed_gives_the_bare_host() -> None:
    net = network()
    germinate(net, 0, 2)
    epoch(net)
    advance(net, 0)
    advance(net, 2)
    epoch(net)
    inputs, labels = batch()
    logits = net.host(inputs, [lambda features: features] * SLOTS)
    ablated = net.evaluator(inputs, labels).evaluate(frozenset({"r0", "r2"}))
    assert ablated[0] == int((logits.argmax(1) == labels).sum()) / len(labels)
    assert ablated[1] == pytest.approx(cross_entropy(logits, labels).item())


def test_the_gradient_given_to_a_slot_is_that_of_the_last_batch() -> None:
    net = network()
    germinate(net, 1)
    for slot in net.slots:
        slot.begin_epoch()
    net.train_epoch(iter([batch(seed=1), batch(seed=2)]))
    seed = net.slots[1].seed
    assert seed is not None
    assert seed.gradient is not None
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in seed.parameters if p.grad is not None))
    host = math.sqrt(sum(float((gradient**2).sum()) for gradient in host_gradients(net)))
    assert seed.gradient.seed_norm == pytest.approx(norm)
    assert seed.gradient.host_norm == net.host_gradient_norm == pytest.approx(host)
    assert seed.gradient.ratio == pytest.approx(norm / host)


def test_a_diverged_host_has_neither_a_finite_loss_nor_an_accuracy() -> None:
    net = network(learning_rate=1e30)
    germinate(net, 0)
    for _ in range(3):
        epoch(net)
    accuracy, loss = net.evaluator(*batch()).evaluate()
    assert not math.isfinite(loss)
    assert math.isnan(accuracy), "the argmax over NaN is class 0, which some examples belong to"


def test_what_a_pruned_seed_had_learnt_is_forgotten_with_its_moments() -> None:
    net = network()
    germinate(net, 0)
    epoch(net)
    net.slots[0].prune()
    epoch(net)
    assert list(net._optimizer._states) == [tuple(net.host.parameters())]


@pytest.mark.parametrize("blueprint_id", ["norm", "mlp", "mixer", "attention"])
@pytest.mark.parametrize("style", BlendStyle)
@pytest.mark.parametrize("joined", [(), (0,), (2,), (0, 1), (0, 1, 2)])
def test_gradients_are_those_of_autograd_to_the_last_bit(
    blueprint_id: str, style: BlendStyle, joined: tuple[int, ...]
) -> None:
    net = network()
    for slot in net.slots:
        slot.germinate(blueprint_id, style=style, tempo=2, val_accuracy=0.0)
    epoch(net)
    for index in joined:
        advance(net, index)
    for slot in net.slots:
        slot.begin_epoch()
    inputs, labels = batch(seed=1)
    net.backward(inputs, labels)

    joins = [slot.join for slot in net.slots]
    learning = [*net.host.parameters(), *(weight for index in joined for weight in net.slots[index].parameters)]
    expected = list(torch.autograd.grad(cross_entropy(net.host(inputs, joins), labels), learning))
    for index, slot in enumerate(net.slots):
        if slot.stage is SeedStage.TRAINING:
            with torch.no_grad():
                features = net.host.embed(inputs)
                for before, join in enumerate(joins[:index]):
                    features = net.host.refine(before, join(features))
            features = net.host.refine(index, slot.join_fully(features))
            for behind, join in enumerate(joins[index + 1 :], index + 1):
                features = net.host.refine(behind, join(features))
            learning += slot.parameters
            expected += torch.autograd.grad(cross_entropy(net.host.classify(features), labels), slot.parameters)
    assert len(learning) == sum(len(slot.parameters) for slot in net.slots) + len([*net.host.parameters()])
    for weight, gradient in zip(learning, expected, strict=True):
        assert weight.grad is not None
        assert torch.equal(weight.grad, gradient)
