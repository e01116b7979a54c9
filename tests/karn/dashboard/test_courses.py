"""The whole run at constant memory: no extreme is lost, nothing not finite is hidden, a resume takes back."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import payload
from tests.effort import tries

from esper.karn.dashboard.courses import MOST, Course, Extent
from esper.karn.dashboard.following import FollowedRun
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedPrunedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)

if TYPE_CHECKING:
    from tests.karn.dashboard.conftest import Story


def course(values: list[float | None]) -> Course:
    drawn = Course(("value",))
    for at, value in enumerate(values):
        drawn.add([value], at, at)
    return drawn


@settings(max_examples=tries(12))
@given(
    n=st.integers(1, 3 * MOST),
    odd=st.dictionaries(st.integers(0, 3 * MOST), st.sampled_from([1e6, -1e6, math.nan, math.inf, -math.inf, None])),
)
def test_whatever_the_length_the_extremes_and_what_is_not_finite_stay(n: int, odd: dict[int, float | None]) -> None:
    values = [odd.get(at, math.sin(at)) for at in range(n)]
    drawn = course(values)
    finite = [value for value in values if value is not None and math.isfinite(value)]
    lost = [value for value in values if value is not None and not math.isfinite(value)]
    whole = drawn.whole("value")
    expected = Extent(min(finite, default=None), max(finite, default=None), len(lost), math.inf in lost)
    assert whole == expected
    assert len(drawn.stretches) <= MOST
    assert sum(stretch.n for stretch in drawn.stretches) == n
    at = 0
    for stretch in drawn.stretches:  # each says of its own items alone
        own = [v for v in values[at : at + stretch.n] if v is not None and math.isfinite(v)]
        assert (stretch.extents[0].low, stretch.extents[0].high) == (min(own, default=None), max(own, default=None))
        assert stretch.batch == at
        at += stretch.n


def batch_of(index: int, avg_reward: float) -> BatchEpochCompletedPayload:
    return payload(
        BatchEpochCompletedPayload,
        episodes_completed=index + 1,
        batch_idx=index,
        avg_reward=avg_reward,
        total_episodes=10_000,
        n_envs=1,
    )


def begun(start_episode: int = 0) -> TrainingStartedPayload:
    return payload(
        TrainingStartedPayload, n_envs=1, max_epochs=2, n_episodes=10_000, start_episode=start_episode, episode_id="one"
    )


def run(*payloads: TelemetryPayload, epochs: dict[int, int] | None = None) -> list[TelemetryEvent]:
    return [TelemetryEvent(data=data, epoch=(epochs or {}).get(at)) for at, data in enumerate(payloads)]


@pytest.mark.parametrize("length", [100, 5000])
def test_a_resume_takes_back_what_it_supersedes_and_nothing_else(
    look: Callable[..., FollowedRun], make_story: type[Story], length: int
) -> None:
    kept, again = length - length // 10 + 1, 7.0
    events = run(
        begun(),
        *(batch_of(index, 99.0 if index >= kept else float(index % 5)) for index in range(length)),
        begun(kept),
        *(batch_of(index, again) for index in range(kept, kept + 3)),
    )
    followed = look(events, make_story().now)
    batches = followed.courses["default"].batches
    assert batches.whole("avg_reward").high == again  # nothing of the 99s is left
    assert batches.whole("avg_reward").low == 0.0
    assert sum(stretch.n for stretch in batches.stretches) == kept + 3
    assert batches.last_batch == kept + 2


def test_a_second_run_in_the_log_begins_its_charts_anew(
    look: Callable[..., FollowedRun], make_story: type[Story]
) -> None:
    second = payload(TrainingStartedPayload, n_envs=1, max_epochs=2, n_episodes=10_000, episode_id="two")
    events = run(begun(), batch_of(0, 5.0), batch_of(1, 6.0), second, batch_of(0, 1.0))
    batches = look(events, make_story().now).courses["default"].batches
    assert [stretch.extents[0].high for stretch in batches.stretches] == [1.0]


def step(reward: float) -> RewardComputedPayload:
    return payload(RewardComputedPayload, env_id=0, total_reward=reward)


def test_the_best_episode_is_the_one_with_the_highest_return_and_says_what_grew_in_it(
    look: Callable[..., FollowedRun], make_story: type[Story]
) -> None:
    events = run(
        begun(),
        step(1.0),
        step(2.0),
        batch_of(0, 3.0),
        step(5.0),
        SeedFossilizedPayload("r0", 0, "mixer", 0.25, 144),
        SeedPrunedPayload("r1", 0, "policy", "norm", auto_pruned=False),
        step(4.0),
        batch_of(1, 9.0),
        step(6.0),  # an episode that has not ended is none
        epochs={1: 1, 2: 2, 4: 1, 5: 2, 6: 2, 7: 2, 9: 1},
    )
    best = look(events, make_story().now).courses["default"].best.best
    assert best is not None
    assert (best.total, best.env_id, best.position.batch, best.position.episode) == (9.0, 0, 1, 1)
    assert [seed.blueprint_id for seed in best.kept] == ["mixer"]
    assert [seed.ending.value for seed in best.seeds] == ["fossilized", "pruned by policy"]


def test_an_episode_of_which_a_step_is_missing_is_never_the_best(
    look: Callable[..., FollowedRun], make_story: type[Story]
) -> None:
    events = run(
        begun(), step(1.0), step(1.0), batch_of(0, 2.0), step(50.0), batch_of(1, 0.0), epochs={1: 1, 2: 2, 4: 1}
    )
    best = look(events, make_story().now).courses["default"].best.best
    assert best is not None
    assert best.total == 2.0


def test_where_episodes_have_no_length_none_is_the_best(
    look: Callable[..., FollowedRun], make_story: type[Story]
) -> None:
    events = run(payload(TrainingStartedPayload, n_envs=1, max_epochs=0), step(1.0), batch_of(0, 1.0))
    assert look(events, make_story().now).courses["default"].best.best is None


def test_the_best_that_a_resume_takes_back_gives_way_to_the_best_before_it(
    look: Callable[..., FollowedRun], make_story: type[Story]
) -> None:
    events = run(
        begun(),
        step(1.0),
        step(1.0),
        batch_of(0, 2.0),
        step(5.0),
        step(5.0),
        batch_of(1, 10.0),
        begun(1),
        epochs={1: 1, 2: 2, 4: 1, 5: 2},
    )
    best = look(events, make_story().now).courses["default"].best.best
    assert best is not None
    assert best.total == 2.0


def update(at: int, kl: float) -> TelemetryEvent:
    data = payload(PPOUpdatePayload, kl_divergence=kl, batch=at)
    return TelemetryEvent(data=data)


def test_a_skipped_update_measured_nothing(look: Callable[..., FollowedRun], make_story: type[Story]) -> None:
    skipped = payload(PPOUpdatePayload, kl_divergence=0.0, batch=0, skipped=True)
    followed = look([TelemetryEvent(data=skipped), update(1, 0.5)], make_story().now + timedelta(seconds=1))
    extents = followed.courses["default"].updates.extents("kl_divergence")
    assert [one.low for one in extents] == [None, 0.5]
