"""What is kept of each episode: sums and extremes, of everything that is about it and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tests.builders import event

from esper.karn.report.episodes import Episodes, Spread
from esper.leyline.position import Position
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
)


def spread(values: Iterable[float]) -> Spread:
    found = Spread()
    for value in values:
        found.add(value)
    return found


def test_a_spread_has_sum_and_extremes_of_what_is_finite_and_counts_the_rest() -> None:
    found = spread([2.0, -1.0, math.nan, 5.0, -math.inf, 10**400])
    assert found == Spread(3, 6.0, -1.0, 5.0, 3)
    assert (found.mean, spread([math.nan]).mean) == (2.0, None)


def test_spreads_are_put_together_as_if_one_had_taken_everything_in() -> None:
    one, other = [2.0, math.nan, 3.0], [-7.0, 9.0, math.inf, math.nan]
    found = spread(one)
    found.merge(spread(other))
    assert found == spread([*one, *other])


def test_an_episode_keeps_the_parts_of_its_rewards_and_the_worth_of_its_seeds() -> None:
    episodes, place = Episodes(), Position(0, 0, 0, 0, 0, 0)
    configs = ({"seed_mask": [True], "accuracy": 0.9}, {"seed_mask": [False], "accuracy": 0.5})
    for made in (
        event(RewardComputedPayload, action_name="WAIT", total_reward=1.0, compute_rent=-0.5, epoch=2),
        event(RewardComputedPayload, action_name="WAIT", total_reward=1.0, compute_rent=-0.25, epoch=1),
        event(EpochCompletedPayload, inner_epoch=1, val_accuracy=0.5, val_loss=2.0),
        event(CounterfactualMatrixPayload, slot_ids=("a",), configs=configs),
    ):
        episodes.add(made, place)
    (episode,) = episodes
    assert (episode.events, episode.epoch, episode.rewards.total, episode.ops) == (4, 2, 2.0, {"WAIT": 2})
    assert episode.epochs == [(1, 0.5, 2.0)]
    assert dict(episode.components) == {"compute_rent": Spread(2, -0.75, -0.5, -0.25)}
    assert episode.contributions["a"].n == 1


def test_what_is_about_no_environment_or_says_what_it_did_last_is_of_no_episode() -> None:
    episodes, place = Episodes(), Position(0, 0, 0, 0, 0, 0)
    episodes.add(event(BatchEpochCompletedPayload), place)
    episodes.add(event(AnalyticsSnapshotPayload, kind="last_action", env_id=0), place)
    assert list(episodes) == []
