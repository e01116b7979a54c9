"""Learnt, random and do-nothing on the same fresh episodes."""

from __future__ import annotations

import math

import pytest
import torch

from esper.leyline.actions import Op
from esper.leyline.run_info import Estimate
from esper.simic.config import TrainingConfig
from esper.simic.evaluation import evaluate
from esper.simic.observation import observation_size
from esper.simic.training.trained import TrainedPolicy
from esper.tamiyo.policy import Policy, PolicyShape

SHAPE = PolicyShape(observation_size(3), 3, 4)
CONFIG = TrainingConfig(max_epochs=4, episodes=1, envs=1)


def trained(*, always: Op | None = None) -> TrainedPolicy:
    policy = Policy(SHAPE, torch.Generator().manual_seed(0))
    if always is not None:
        op = policy.heads["op"]
        assert isinstance(op, torch.nn.Linear)
        with torch.no_grad():
            op.bias[list(Op).index(always)] = 1e4
    return TrainedPolicy.of(policy, CONFIG, SHAPE)


def test_an_estimate_is_mean_and_standard_error() -> None:
    estimate = Estimate.of([1.0, 2.0, 3.0, 4.0])
    assert estimate.mean == 2.5
    assert estimate.standard_error == pytest.approx(math.sqrt(5 / 3) / 2)


def test_a_distance_is_counted_in_standard_errors_of_the_difference() -> None:
    assert Estimate(2.0, 0.3).errors_above(Estimate(0.5, 0.4)) == pytest.approx(3.0)
    assert Estimate(0.5, 0.4).errors_above(Estimate(2.0, 0.3)) == pytest.approx(-3.0)
    assert Estimate(1.0, 0.0).errors_above(Estimate(0.0, 0.0)) == math.inf
    assert Estimate(0.0, 0.0).errors_above(Estimate(1.0, 0.0)) == -math.inf
    assert Estimate(1.0, 0.0).errors_above(Estimate(1.0, 0.0)) == 0.0


def test_a_policy_that_learnt_to_wait_scores_exactly_as_doing_nothing() -> None:
    result = evaluate(trained(always=Op.WAIT), episodes=2)
    assert result.learnt == result.do_nothing, "all three play the same episodes"
    assert result.random != result.do_nothing
    assert result.episodes == 2
    for score in (result.learnt, result.random):
        assert 0.0 < score.val_accuracy.mean < 1.0
        assert 0.0 < score.test_accuracy.mean < 1.0
        assert score.reward.standard_error > 0.0


def test_the_same_policy_gets_the_same_evaluation() -> None:
    assert evaluate(trained(), episodes=2) == evaluate(trained(), episodes=2)


@pytest.mark.parametrize("episodes", [1, 0, -1])
def test_too_few_episodes_for_an_error_are_refused(episodes: int) -> None:
    with pytest.raises(ValueError, match=f"episodes must be at least 2 to give a standard error, got {episodes}"):
        evaluate(trained(), episodes=episodes)
