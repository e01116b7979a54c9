from __future__ import annotations

import pytest
import torch

from esper.kasmina.blueprints import BLUEPRINTS, initialise, parameter_count

CPU = torch.device("cpu")


def build(blueprint_id: str, seed: int = 0, tokens: int = 8, width: int = 12) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    return initialise(lambda: BLUEPRINTS[blueprint_id](tokens, width), generator, CPU)


def test_the_blueprints_have_the_stated_sizes_on_digits() -> None:
    sizes = {blueprint_id: parameter_count(blueprint_id, 8, 12) for blueprint_id in BLUEPRINTS}
    assert list(sizes.items()) == [("norm", 24), ("mlp", 812), ("mixer", 144), ("attention", 624)]


@pytest.mark.parametrize("blueprint_id", BLUEPRINTS)
@pytest.mark.parametrize(("tokens", "width"), [(8, 12), (13, 5), (1, 1)])
def test_a_seed_keeps_the_shape_of_its_features(blueprint_id: str, tokens: int, width: int) -> None:
    module = build(blueprint_id, tokens=tokens, width=width)
    output = module(torch.ones(3, tokens, width))
    assert output.shape == (3, tokens, width)
    assert output.isfinite().all()
    assert sum(parameter.numel() for parameter in module.parameters()) == parameter_count(blueprint_id, tokens, width)


def test_only_mixer_and_attention_act_across_tokens() -> None:
    features = torch.randn(1, 8, 12, generator=torch.Generator().manual_seed(1))
    disturbed = features.clone()
    disturbed[0, 0] += torch.arange(12.0)
    for blueprint_id in BLUEPRINTS:
        module = build(blueprint_id)
        untouched_token = (module(features) - module(disturbed))[0, 5].abs().max()
        assert (untouched_token > 1e-4) == (blueprint_id in {"mixer", "attention"}), blueprint_id


@pytest.mark.parametrize("blueprint_id", ["mlp", "mixer", "attention"])
def test_parameters_come_from_the_given_generator_alone(blueprint_id: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (
        torch.nn.utils.parameters_to_vector(build(blueprint_id, seed).parameters()) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.isfinite().all()


def test_a_norm_begins_as_the_identity_of_normalised_features() -> None:
    norm = build("norm")
    assert torch.equal(torch.cat([*norm.parameters()]), torch.cat([torch.ones(12), torch.zeros(12)]))


def test_a_mixer_is_two_linear_layers_along_the_tokens() -> None:
    mixer = build("mixer")
    features = torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(1))
    first, second = mixer.children()
    expected = second(first(features.transpose(1, 2)).relu()).transpose(1, 2)
    assert torch.allclose(mixer(features), expected, atol=1e-6)
