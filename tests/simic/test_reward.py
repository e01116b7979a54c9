from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.leyline.actions import Op
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import RewardComputedPayload
from esper.simic.reward import StepMeasurements, compute_reward

NOTHING = StepMeasurements(
    op=Op.WAIT,
    accuracy_at_start=0.5,
    accuracy_before=0.5,
    accuracy=0.5,
    control=0.5,
    blending=(),
    settled=(),
    fossilized=None,
    lost_seeds=0,
    host_params=706,
    seed_params=0,
    alphas_before=(0.0, 0.0),
    alphas=(0.0, 0.0),
    stages_before=(SeedStage.DORMANT, SeedStage.DORMANT),
    stages=(SeedStage.DORMANT, SeedStage.DORMANT),
    holding_epochs=(),
    final=False,
)


def parts(**changes: Any) -> dict[str, float]:
    """Return the contributions that are not nothing."""
    reward = compute_reward(dataclasses.replace(NOTHING, **changes))
    return {name: value for name, value in reward.contributions().items() if value != 0}


fractions = st.floats(0, 1)
contributions = st.lists(st.floats(-1, 1), max_size=3).map(tuple)
pairs_of_alphas = st.tuples(fractions, fractions)
pairs_of_stages = st.tuples(st.sampled_from(SeedStage), st.sampled_from(SeedStage))
any_step = st.builds(
    StepMeasurements,
    op=st.sampled_from(Op),
    accuracy_at_start=fractions,
    accuracy_before=fractions,
    accuracy=fractions,
    control=fractions,
    blending=contributions,
    settled=contributions,
    fossilized=st.none() | st.floats(-1, 1),
    lost_seeds=st.integers(0, 3),
    host_params=st.integers(1, 10_000),
    seed_params=st.integers(0, 10_000),
    alphas_before=pairs_of_alphas,
    alphas=pairs_of_alphas,
    stages_before=pairs_of_stages,
    stages=pairs_of_stages,
    holding_epochs=st.lists(st.integers(0, 24), max_size=2).map(tuple),
    final=st.booleans(),
)


@settings(deadline=None)
@given(any_step)
def test_the_contributions_add_up_to_the_reward_exactly_and_are_finite(step: StepMeasurements) -> None:
    reward = compute_reward(step)
    assert sum(reward.contributions().values()) == reward.total_reward
    assert math.isfinite(reward.total_reward)


@settings(deadline=None)
@given(any_step)
def test_every_contribution_keeps_the_sign_and_bound_it_is_documented_with(step: StepMeasurements) -> None:
    reward = compute_reward(step)
    assert reward.base_acc_delta == 10 * (step.accuracy - step.accuracy_before)
    assert -0.6 <= reward.bounded_attribution <= 0.3
    assert -0.3 <= reward.blending_warning <= 0
    assert max(reward.compute_rent, reward.alpha_shock, reward.ratio_penalty, reward.holding_warning) <= 0
    assert -0.3 <= reward.fossilize_terminal_bonus <= 0.6


def test_the_contributions_are_fields_of_the_payload_and_the_only_ones_that_add_up() -> None:
    supplied = {field.name for field in dataclasses.fields(RewardComputedPayload)}
    names = set(compute_reward(NOTHING).contributions())
    assert names <= supplied
    assert {name for name in names if f"``{name}``" in str(RewardComputedPayload.__doc__)} == names


def test_doing_nothing_while_nothing_changes_is_worth_nothing() -> None:
    assert parts() == {}
    assert math.copysign(1, compute_reward(NOTHING).compute_rent) == 1  # no negative zero in the log


def test_accuracy_gained_is_paid_tenfold() -> None:
    assert parts(accuracy=0.75) == {"base_acc_delta": 2.5}


def test_credit_is_bounded_by_the_gain_over_the_control() -> None:
    assert parts(settled=(0.25,), control=0.375) == {"bounded_attribution": 0.125}
    assert parts(settled=(0.0625,), control=0.375) == {"bounded_attribution": 0.0625}
    assert parts(settled=(0.9,), control=0.0) == {"bounded_attribution": 0.3}
    assert parts(blending=(0.0625,), settled=(0.0625,), control=0.25) == {"bounded_attribution": 0.125}


def test_a_network_worse_than_the_control_gets_a_debit_only_with_seeds_that_claim_to_help() -> None:
    assert parts(settled=(0.25,), control=0.625) == {"bounded_attribution": -0.125}
    assert parts(control=0.625) == {}


def test_harm_is_separated_by_stage_and_bounded() -> None:
    assert parts(blending=(-0.125,)) == {"blending_warning": -0.125}
    assert parts(settled=(-0.125,)) == {"bounded_attribution": -0.125}
    assert parts(blending=(-0.2, -0.2)) == {"blending_warning": -0.3}


def test_parameters_pay_rent_by_the_logarithm_of_their_growth() -> None:
    assert parts(seed_params=706) == {"compute_rent": pytest.approx(-0.1 * math.log(2))}


def test_abrupt_alpha_costs_more_than_the_same_rise_in_steps() -> None:
    assert parts(alphas=(1.0, 0.0)) == {"alpha_shock": -0.05}
    assert parts(alphas=(0.5, 0.0)) == {"alpha_shock": -0.0125}
    assert parts(alphas_before=(1.0, 0.0)) == {"alpha_shock": -0.05}


@pytest.mark.parametrize(
    ("op", "lost", "cost"), [(Op.GERMINATE, 0, -0.02), (Op.PRUNE, 0, -0.01), (Op.WAIT, 2, -1.0), (Op.PRUNE, 1, -0.51)]
)
def test_lifecycle_costs(op: Op, lost: int, cost: float) -> None:
    assert parts(op=op, lost_seeds=lost) == {"ratio_penalty": pytest.approx(cost)}


def test_progress_through_the_stages_cancels_out_on_the_way_back() -> None:
    route = [SeedStage.DORMANT, SeedStage.TRAINING, SeedStage.BLENDING, SeedStage.HOLDING, SeedStage.PRUNED]
    steps = [
        compute_reward(
            dataclasses.replace(NOTHING, stages_before=(left, SeedStage.DORMANT), stages=(entered, SeedStage.DORMANT))
        ).stage_bonus
        for left, entered in itertools.pairwise(route)
    ]
    assert all(step > 0 for step in steps[:-1])
    assert sum(steps) == pytest.approx(0)


@pytest.mark.parametrize(
    ("contribution", "verdict"), [(0.25, 0.5), (0.9, 0.6), (0.005, -0.3), (0.0, -0.3), (-0.5, -0.3), (0.0625, 0.125)]
)
def test_fossilizing_is_assessed_by_what_the_seed_contributes(contribution: float, verdict: float) -> None:
    assert parts(op=Op.FOSSILIZE, fossilized=contribution) == {"fossilize_terminal_bonus": pytest.approx(verdict)}


@pytest.mark.parametrize(("epochs", "cost"), [((0, 2), 0), ((3,), -0.1), ((3, 9), -0.2)])
def test_holding_is_free_for_two_epochs_only(epochs: tuple[int, ...], cost: float) -> None:
    assert compute_reward(dataclasses.replace(NOTHING, holding_epochs=epochs)).holding_warning == pytest.approx(cost)


def test_fossilizing_a_useless_seed_does_not_pay() -> None:
    kept = parts(
        op=Op.FOSSILIZE,
        fossilized=0.0,
        stages_before=(SeedStage.HOLDING, SeedStage.DORMANT),
        stages=(SeedStage.FOSSILIZED, SeedStage.DORMANT),
    )
    assert sum(kept.values()) < 0
