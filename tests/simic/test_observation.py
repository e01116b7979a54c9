from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.kasmina.seed import GradientHealth
from esper.kasmina.slot import SeedSlot
from esper.leyline.actions import BlendStyle
from esper.simic.observation import BOUND, Observation, encode, observation_size

anything = st.floats(allow_nan=True, allow_infinity=True)
USUAL = {
    "progress": 0.5,
    "accuracy": 0.5,
    "accuracy_change": 0.01,
    "gain": 0.1,
    "loss": 1.0,
    "host_gradient": 0.3,
    "growth": 0.2,
    "budget_used": 0.1,
}


def slot() -> SeedSlot:
    return SeedSlot(
        "r0",
        env_id=0,
        tokens=2,
        width=3,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        serials=itertools.count(),
        emit=lambda _event: None,
    )


def in_training(accuracy: float, contribution: float | None, seed_norm: float) -> SeedSlot:
    occupied = slot()
    occupied.germinate("mlp", style=BlendStyle.MULTIPLY, tempo=4, val_accuracy=0.25)
    occupied.begin_epoch()
    occupied.end_training(GradientHealth(seed_norm, host_norm=1.0))
    occupied.end_epoch(accuracy, contribution)
    return occupied


def check(observation: Observation, slots: int) -> None:
    assert observation.shape == (observation_size(slots),)
    assert observation.dtype == np.float32
    assert np.isfinite(observation).all()
    assert np.abs(observation).max() <= BOUND


@settings(deadline=None)
@given(st.fixed_dictionaries({name: anything for name in USUAL if name != "growth"}), st.floats(0, 1e30), anything)
def test_an_observation_is_finite_and_bounded_whatever_was_measured(
    observed: dict[str, float], growth: float, seed_norm: float
) -> None:
    check(encode([slot(), in_training(0.5, None, seed_norm)], growth=growth, **observed), slots=2)


def test_a_loss_that_is_not_finite_differs_from_none() -> None:
    fine, lost = (encode([], **USUAL | {"loss": loss}) for loss in (0.0, float("nan")))
    assert not np.array_equal(fine, lost)


def test_everything_that_matters_to_a_decision_is_seen() -> None:
    seen = [
        encode([case], **USUAL)
        for case in (
            slot(),
            in_training(0.25, None, 1.0),
            in_training(0.5, None, 1.0),
            in_training(0.5, 0.125, 1.0),
            in_training(0.5, 0.125, 10.0),
        )
    ]
    seen += [encode([slot()], **USUAL | {name: value + 0.125}) for name, value in USUAL.items()]
    for left, right in itertools.combinations(seen, 2):
        assert not np.array_equal(left, right)
