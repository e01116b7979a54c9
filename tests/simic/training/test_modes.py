"""Reward modes, arms side by side, hosts elsewhere, and runs that end badly."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.simic.evaluation import ArmDifference, compare_arms
from esper.simic.tasks import load_task
from esper.simic.training.vectorized import (
    TRAINING_FAILED,
    NothingLearntError,
    TrainedPolicy,
    TrainingConfig,
    train,
    train_arms,
)

SMALL: dict[str, Any] = {"episodes": 4, "envs": 2, "max_epochs": 6, "seed": 3}


def run(**options: Any) -> tuple[list[TelemetryEvent], tuple[TrainedPolicy, ...]]:
    emitted: list[TelemetryEvent] = []
    return emitted, train_arms(TrainingConfig(**(SMALL | options)), emitted.append)


def rewards(events: list[TelemetryEvent]) -> list[RewardComputedPayload]:
    return [event.data for event in events if isinstance(event.data, RewardComputedPayload)]


def updates(events: list[TelemetryEvent]) -> list[PPOUpdatePayload]:
    return [event.data for event in events if isinstance(event.data, PPOUpdatePayload)]


@pytest.mark.parametrize("mode", ["shaped", "sparse", "simplified"])
def test_the_reward_mode_is_emitted_with_the_run(mode: str) -> None:
    emitted, _ = run(reward_mode=mode, episodes=1, envs=1, max_epochs=2)
    started = emitted[0].data
    assert isinstance(started, TrainingStartedPayload)
    assert started.reward_mode == mode


def test_sparse_pays_at_the_last_step_only() -> None:
    emitted, _ = run(reward_mode="sparse")
    paid = [
        event.epoch for event in emitted if isinstance(event.data, RewardComputedPayload) and event.data.total_reward
    ]
    assert set(paid) == {6}


def test_arms_take_turns_on_the_same_episodes_and_are_kept_apart() -> None:
    emitted, (first, second) = run(ab=("shaped", "sparse"))
    order = [event.group_id for event in emitted if isinstance(event.data, BatchEpochCompletedPayload)]
    assert order == ["shaped", "sparse"] * 2
    assert [started.reward_mode for event in emitted if isinstance(started := event.data, TrainingStartedPayload)] == [
        "shaped",
        "sparse",
    ]
    for event in emitted:
        if isinstance(event.data, RewardComputedPayload):
            assert event.data.ab_group == event.group_id
    openings = {
        name: next(data.val_acc for data in rewards(emitted) if data.ab_group == name) for name in ("shaped", "sparse")
    }
    assert openings["shaped"] == openings["sparse"], "the same host, the same draw"
    assert (first.config.group_id, second.config.group_id) == ("shaped", "sparse")


def test_an_arm_trains_as_it_would_alone() -> None:
    _, (_, together) = run(ab=("shaped", "sparse"))
    alone = train(TrainingConfig(**SMALL, reward_mode="sparse"), lambda _event: None)
    assert all(torch.equal(alone.state[name], weight) for name, weight in together.state.items())


def test_a_mode_can_be_compared_with_itself() -> None:
    emitted, _ = run(ab=("shaped", "shaped"), episodes=2, max_epochs=2)
    assert {event.group_id for event in emitted} == {"shaped-1", "shaped-2"}


def test_an_arm_called_default_is_an_arm() -> None:
    emitted, _ = run(group_id="default", episodes=1, envs=1, max_epochs=1)
    assert {data.ab_group for data in rewards(emitted)} == {"default"}
    emitted, _ = run(episodes=1, envs=1, max_epochs=1)
    assert {event.group_id for event in emitted} == {"default"}
    assert not any("ab_group" in data.supplied for data in rewards(emitted))


def test_equal_arms_do_not_differ_and_say_so() -> None:
    _, arms = run(ab=("shaped", "shaped"), episodes=2, max_epochs=3)
    validation, test, reward = compare_arms(arms, episodes=2)
    assert [each.quantity for each in (validation, test, reward)] == [
        "validation accuracy",
        "test accuracy",
        "episode return (shaped)",
    ]
    for each in (validation, test, reward):
        assert (each.mean, each.low, each.high) == (0.0, 0.0, 0.0)
        assert each.text().endswith("no difference shown")


def test_an_interval_that_leaves_zero_out_names_the_better_arm() -> None:
    better = ArmDifference("test accuracy", ("a", "b"), 0.1, 0.05, 0.15)
    assert better.text() == "test accuracy, a less b: +0.100 (95 % interval +0.050 to +0.150): a is better"
    assert ArmDifference("test accuracy", ("a", "b"), -0.1, -0.15, -0.05).text().endswith("b is better")


def test_too_few_episodes_for_an_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="episodes must be at least 2 to give an interval, got 1"):
        compare_arms((), episodes=1)


def test_hosts_may_live_on_a_device_of_their_own() -> None:
    emitted, _ = run(env_device="cpu:0", episodes=2, max_epochs=2)
    started = emitted[0].data
    assert isinstance(started, TrainingStartedPayload)
    assert (started.policy_device, started.env_devices) == ("cpu", ("cpu:0", "cpu:0"))


def test_a_decision_does_not_depend_on_who_is_stepped_beside() -> None:
    """Episode 0 of environment 0 is the same with one environment and with four."""
    alone, beside = (
        [
            (data.action_name, data.action_confidence, data.total_reward)
            for data in rewards(run(envs=n)[0])
            if not data.env_id
        ]
        for n in (1, 4)
    )
    assert alone[:6] == beside[:6]


def test_float16_really_overflows_at_first_and_then_learns() -> None:
    emitted, _ = run(amp_dtype="float16")
    first, second = updates(emitted)
    assert first.amp_overflow_detected
    assert first.update_skipped
    assert first.grad_norm == math.inf
    assert first.loss_scale is not None
    assert second.loss_scale is not None
    assert second.loss_scale <= first.loss_scale < 2.0**24
    assert math.isfinite(second.policy_loss)


def fail(error: type[Exception], match: str, **options: Any) -> list[TelemetryEvent]:
    emitted: list[TelemetryEvent] = []
    with pytest.raises(error, match=match):
        train(TrainingConfig(**(SMALL | options)), emitted.append)
    return emitted


def test_a_run_that_learns_nothing_fails_with_its_first_cause_and_an_event_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diverging = dataclasses.replace(load_task("digits"), learning_rate=1e30)
    monkeypatch.setattr("esper.simic.training.environments.load_task", lambda _name: diverging)
    cause = "nothing was learnt in 5 updates in a row; it began with update 0 skipped: rewards of env 0, 1 not finite"
    emitted = fail(NothingLearntError, cause, episodes=20, max_epochs=2)
    assert len(updates(emitted)) == 5
    last = emitted[-1]
    assert isinstance(last.data, AnalyticsSnapshotPayload)
    assert last.data.kind == TRAINING_FAILED
    assert last.severity == "critical"
    assert "nothing was learnt" in last.message


def test_a_run_shorter_than_that_fails_when_it_learnt_nothing_at_all() -> None:
    fail(
        NothingLearntError,
        "nothing was learnt in 1 update; .*24 of 24 steps skipped",
        inject="nan-grad",
        inject_at=0,
        episodes=2,
    )


def test_a_single_update_that_learns_nothing_is_an_error_and_the_run_goes_on() -> None:
    emitted, _ = run(inject="nan-grad", inject_at=0)
    first = next(event for event in emitted if isinstance(event.data, PPOUpdatePayload))
    assert first.severity == "error"
    assert "24 of 24 steps skipped" in first.message


def test_nan_is_no_overflow_under_float16_and_the_loss_scale_stays() -> None:
    emitted, _ = run(amp_dtype="float16", episodes=8, inject="nan-grad", inject_at=2)
    struck = updates(emitted)[2]
    assert struck.nan_grad_count > 0
    assert not struck.amp_overflow_detected
    assert not struck.update_skipped
    assert struck.loss_scale == updates(emitted)[1].loss_scale


def test_an_error_out_of_emit_is_the_one_that_comes_through() -> None:
    def emit(event: TelemetryEvent) -> None:
        if isinstance(event.data, RewardComputedPayload | AnalyticsSnapshotPayload):
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        train(TrainingConfig(**SMALL), emit)
