from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.progress import Best, best_of, eta_seconds, stale_after
from esper.karn.snapshot import GroupSnapshot
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent, TelemetryPayload, TrainingStartedPayload

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STARTED: dict[str, Any] = {
    "n_envs": 4,
    "max_epochs": 24,
    "task": "digits",
    "host_params": 706,
    "slot_ids": ("r0",),
    "seed": 0,
    "n_episodes": 100,
    "lr": 0.1,
    "clip_ratio": 0.2,
    "entropy_coef": 0.1,
    "param_budget": 10,
    "policy_device": "cpu",
    "env_devices": ("cpu",),
}


def batch(done: int, total: int = 100) -> BatchEpochCompletedPayload:
    return BatchEpochCompletedPayload(done, done // 4 - 1, 0.5, 1.0, total, 4)


def group(*payloads: tuple[float, TelemetryPayload]) -> GroupSnapshot:
    aggregator = TelemetryAggregator()
    for seconds, payload in payloads:
        aggregator.process(TelemetryEvent(data=payload, timestamp=NOON + timedelta(seconds=seconds)))
    return aggregator.snapshot().groups["default"]


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_eta_goes_by_the_pace_since_the_start() -> None:
    run = group((0, TrainingStartedPayload(**STARTED)), (10, batch(4)), (20, batch(8)))
    assert eta_seconds(run, after(20)) == pytest.approx(92 * 20 / 8)


def test_eta_counts_down_between_batches_and_not_below_nothing() -> None:
    run = group((0, TrainingStartedPayload(**STARTED)), (10, batch(96)))
    left = 4 * 10 / 96
    assert eta_seconds(run, after(10.2)) == pytest.approx(left - 0.2)
    assert eta_seconds(run, after(100)) == 0


def test_eta_of_a_long_run_goes_by_its_newest_ten_batches() -> None:
    slow = [(1000.0 * index, batch(4 * index + 4, 400)) for index in range(20)]
    fast = [(20_000.0 + index, batch(4 * index + 84, 400)) for index in range(11)]
    run = group((0, TrainingStartedPayload(**STARTED)), *slow, *fast)
    assert eta_seconds(run, after(20_010)) == pytest.approx((400 - 124) / 4)


def test_eta_after_a_resume_counts_what_was_done_since() -> None:
    run = group((0, TrainingStartedPayload(**STARTED, start_episode=40)), (10, batch(44)))
    assert eta_seconds(run, after(10)) == pytest.approx(56 / 4 * 10)


def test_the_pause_before_a_resume_is_nobodys_pace() -> None:
    day = 86_400.0
    before = [(10.0 * index, batch(4 * index)) for index in range(1, 11)]
    resumed = (day, TrainingStartedPayload(**STARTED, start_episode=40))
    run = group((0, TrainingStartedPayload(**STARTED)), *before, resumed)
    assert eta_seconds(run, after(day + 1)) is None
    assert stale_after(run) == 10
    run = group((0, TrainingStartedPayload(**STARTED)), *before, resumed, (day + 20, batch(44)))
    assert eta_seconds(run, after(day + 20)) == pytest.approx(56 / 4 * 20)
    assert stale_after(run) == pytest.approx(60)


def test_eta_is_unknown_before_there_is_a_pace() -> None:
    assert eta_seconds(group((0, TrainingStartedPayload(**STARTED))), after(5)) is None
    assert eta_seconds(group((0, batch(4))), after(5)) is None


def test_a_run_is_stale_after_ten_seconds_or_thrice_a_batch_without_an_event() -> None:
    assert stale_after(None) == 10
    assert stale_after(group((0, TrainingStartedPayload(**STARTED)), (1, batch(4)))) == 10
    assert stale_after(group((0, TrainingStartedPayload(**STARTED)), (60, batch(4)))) == pytest.approx(180)


def test_the_best_is_the_first_of_the_highest_and_finite() -> None:
    assert best_of([1.0, math.nan, 3.0, math.inf, 3.0, -5.0]) == Best(3.0, 2)
    assert best_of([math.nan]) is None
    assert best_of([]) is None
