from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.kasmina.schedules import AlphaSchedule, blend_epochs
from esper.leyline.actions import ALPHA_TARGETS, TEMPOS, AlphaCurve, AlphaSpeed

schedules = st.builds(
    AlphaSchedule,
    target=st.floats(0.01, 1.0),
    epochs=st.integers(1, 60),
    curve=st.sampled_from(AlphaCurve),
)


@settings(deadline=None)
@given(schedules)
def test_alpha_begins_at_zero_and_ends_exactly_at_its_target(schedule: AlphaSchedule) -> None:
    assert schedule.alpha(0) == 0
    assert schedule.alpha(schedule.epochs) == schedule.target
    assert schedule.alpha(schedule.epochs + 1) == schedule.target


@settings(deadline=None)
@given(schedules)
def test_alpha_never_falls_and_moves_from_the_first_epoch_on(schedule: AlphaSchedule) -> None:
    alphas = [schedule.alpha(epoch) for epoch in range(schedule.epochs + 1)]
    assert alphas == sorted(alphas)
    assert alphas[1] > 0
    assert max(alphas) == schedule.target


@pytest.mark.parametrize("curve", AlphaCurve)
def test_every_curve_is_halfway_at_half_time(curve: AlphaCurve) -> None:
    assert AlphaSchedule(0.5, 8, curve).alpha(4) == pytest.approx(0.25)


def test_the_curves_differ_where_they_should() -> None:
    quarter = {curve: AlphaSchedule(1.0, 4, curve).alpha(1) for curve in AlphaCurve}
    assert quarter[AlphaCurve.SIGMOID] < quarter[AlphaCurve.COSINE] < quarter[AlphaCurve.LINEAR] == 0.25


@pytest.mark.parametrize(
    ("tempo", "speed", "epochs"),
    [
        (1, AlphaSpeed.FAST, 1),
        (1, AlphaSpeed.NORMAL, 1),
        (1, AlphaSpeed.SLOW, 2),
        (2, AlphaSpeed.FAST, 1),
        (4, AlphaSpeed.FAST, 2),
        (4, AlphaSpeed.SLOW, 8),
        (5, AlphaSpeed.FAST, 3),
    ],
)
def test_speed_divides_the_tempo(tempo: int, speed: AlphaSpeed, epochs: int) -> None:
    assert blend_epochs(tempo, speed) == epochs


def test_every_choice_of_the_policy_blends_for_at_least_one_epoch() -> None:
    for tempo in TEMPOS:
        for speed in AlphaSpeed:
            for target in ALPHA_TARGETS:
                epochs = blend_epochs(tempo, speed)
                assert AlphaSchedule(target, epochs, AlphaCurve.LINEAR).alpha(epochs) == target
