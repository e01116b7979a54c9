"""What the fold keeps for the verdict: the right counts, at a size that does not grow."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from benchmarks.verdict_logs import TROUBLE, Log, rises
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import event, payload

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.health_fold import HealthFold
from esper.karn.history_writer import HistoryWriter
from esper.karn.snapshot import Entry, GroupSnapshot
from esper.leyline.health import judge_update
from esper.leyline.limits import Limits, Status
from esper.leyline.position import Position
from esper.leyline.strict_json import strict_json
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.leyline.typical import Typical

WELL: dict[str, Any] = {
    "policy_loss": 0.0, "value_loss": 0.1, "entropy": 1.0, "grad_norm": 1.0, "kl_divergence": 0.01,
    "clip_fraction": 0.1, "nan_grad_count": 0,
}  # fmt: skip


def group_of(log: Log) -> GroupSnapshot:
    aggregator = TelemetryAggregator()
    for made in log.events():
        aggregator.process(made)
    return aggregator.snapshot().groups["default"]


def fold(kls: list[float]) -> GroupSnapshot:
    aggregator = TelemetryAggregator()
    for batch, kl in enumerate(kls):
        update = PPOUpdatePayload(**WELL | {"kl_divergence": kl, "batch": batch})
        aggregator.process(TelemetryEvent(data=update))
    return aggregator.snapshot().groups["default"]


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.01, 0.1, 0.4, 0.3, float("nan")]), min_size=1, max_size=40))
def test_each_rule_keeps_how_often_and_the_first_newest_and_worst(kls: list[float]) -> None:
    tally = fold(kls).health.rules["kl"]
    bad = [at for at, kl in enumerate(kls) if not kl <= 0.15]
    watch = [at for at, kl in enumerate(kls) if not kl <= 0.05]
    assert (tally.judged, tally.bad.count, tally.watch.count) == (len(kls), len(bad), len(watch))
    for trips, at in ((tally.bad, bad), (tally.watch, watch)):
        assert trips.recently(4) == sum(one >= len(kls) - 4 for one in at)
        if not at:
            assert trips.first is trips.newest is trips.extreme is None
            continue
        assert trips.first is not None
        assert trips.newest is not None
        assert trips.extreme is not None
        assert (trips.first.ordinal, trips.newest.ordinal) == (at[0] + 1, at[-1] + 1)
        worst = max(at, key=lambda one: (kls[one] != kls[one], kls[one], -one))
        assert trips.extreme.ordinal == worst + 1
        assert [update.batch for update in trips.before] == list(range(max(at[0] - 5, 0), at[0]))


def test_its_size_does_not_depend_on_how_long_the_run_is() -> None:
    def size(batches: int) -> int:
        log = Log(rises(of=batches), batches=batches, update=lambda b: {"kl_divergence": 0.4 if b % 3 else 0.01})
        return len(strict_json(replace(group_of(log).health, hosts={}, rewards={})))

    assert size(1500) < 1.2 * size(500)


def test_batches_with_a_diverged_host_are_kept_and_bounded() -> None:
    health = group_of(TROUBLE["hosts diverge again and again"]).health
    assert list(health.hosts) == list(range(0, 60, 3))
    assert health.hosts[0].epoch == 1
    always = Log(rises(), batches=1100, envs=1, loss=lambda _env, _b: float("inf"))
    assert len(group_of(always).health.hosts) == 1024


def test_a_snapshot_does_not_change_with_what_comes_later() -> None:
    aggregator = TelemetryAggregator()
    events = list(TROUBLE["KL too large throughout"].events())
    for made in events[:200]:
        aggregator.process(made)
    before = aggregator.snapshot().groups["default"].health
    text = strict_json(before)
    assert aggregator.snapshot().groups["default"].health == before
    for made in events[200:]:
        aggregator.process(made)
    assert strict_json(before) == text


def test_the_start_says_how_the_run_clips_unless_limits_did() -> None:
    assert group_of(Log(rises(), clip_ratio=0.1)).health.limits.clip_ratio == 0.1
    own = TelemetryAggregator(limits=Limits(clip_ratio=0.3))
    for made in Log(rises(), batches=1, clip_ratio=0.1).events():
        own.process(made)
    assert own.snapshot().groups["default"].health.limits.clip_ratio == 0.3


def test_the_fold_judges_each_update_as_who_emits_it_does() -> None:
    log = TROUBLE["value loss explodes"]
    updates = [event.data for event in log.events() if isinstance(event.data, PPOUpdatePayload)]
    typical, severe = Typical(), 0
    for update in updates:
        found = {one.rule.name: one.status for one in judge_update(update, Limits(), typical)}
        severe += found["value_loss"] is Status.BAD
        typical = typical.after(update)
    assert group_of(log).health.rules["value_loss"].bad.count == severe > 0


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def add_batch(health: HealthFold, batch: int, seconds: float = 0.0, **fields: Any) -> None:
    """Add the end of a batch, after somebody has looked."""
    health.freeze()
    data = payload(BatchEpochCompletedPayload, batch_idx=batch, **fields)
    health.add_batch(TelemetryEvent(data=data, timestamp=NOON + timedelta(seconds=seconds)), data)


@pytest.mark.parametrize(("host_params", "judged"), [(706, 4), (0, 2)])
def test_a_return_that_is_not_finite_is_bad_but_for_a_rollout_of_anothers_trainer_that_ended_no_episode(
    host_params: int, judged: int
) -> None:
    health = HealthFold(Limits(), None)
    health.start(payload(TrainingStartedPayload, host_params=host_params))
    for batch, reward in enumerate((1.0, math.nan, 3.0, math.nan)):
        add_batch(health, batch, avg_reward=reward, avg_accuracy=10.0 * batch)
    found = health.freeze()
    assert [block.mean for block in found.series["avg_reward"]] == [1.0, 3.0]
    assert [block.mean for block in found.series["avg_accuracy"]] == [0.0, 10.0, 20.0, 30.0]
    finite = found.rules["return_finite"]
    assert (found.batches, finite.judged, finite.bad.count) == (4, judged, judged - 2)
    if finite.bad.first is not None:
        assert (finite.bad.first.ordinal, finite.bad.first.batch) == (2, 1)
        assert finite.bad.first.value != finite.bad.first.value


def test_a_pause_between_batches_does_not_become_typical_and_a_clock_set_back_is_counted() -> None:
    health = HealthFold(Limits(), None)
    told = []
    for batch, seconds in enumerate((0, 10, 20, 120, 120, 119, 117, 114)):
        add_batch(health, batch, seconds)
        found = health.freeze()
        told.append((found.typical_interval, found.longest_interval, found.set_back))
    assert told == [
        (None, 0.0, 0), (10.0, 10.0, 0), (10.0, 10.0, 0), (11.0, 100.0, 0), (11.0, 100.0, 0), (11.0, 100.0, 0),
        (11.0, 100.0, 0), (11.0, 100.0, 1),
    ]  # fmt: skip
    health.start(payload(TrainingStartedPayload))
    add_batch(health, 8, 9999)
    assert health.freeze().longest_interval == 100.0


def test_batches_that_the_log_skips_are_counted() -> None:
    health = HealthFold(Limits(), None)
    for batch in (0, 1, 4, 3, 4, 6):
        add_batch(health, batch)
    assert health.freeze().missing == 3


def test_the_course_of_the_entropy_is_that_of_the_updates_that_were_not_skipped() -> None:
    health = HealthFold(Limits(), None)
    for fields in ({"entropy": 1.0}, {"entropy": 9.0, "skipped": True}, {"entropy": 0.5}):
        health.freeze()
        update = PPOUpdatePayload(**WELL | fields)
        health.add_update(TelemetryEvent(data=update), update, None)
    assert [block.mean for block in health.freeze().series["entropy"]] == [1.0, 0.5]


def failed(rank: int) -> Entry[AnalyticsSnapshotPayload]:
    data = payload(AnalyticsSnapshotPayload, kind="training_failed")
    return Entry(data, TelemetryEvent(data=data, message=f"of rank {rank}"), Position(0, 0, rank, None, None))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 1)])
def test_of_several_ranks_that_failed_the_lowest_says_why(order: tuple[int, ...]) -> None:
    health = HealthFold(Limits(), None)
    for rank in order:
        health.freeze()
        health.fail(failed(rank))
        health.start(payload(TrainingStartedPayload, world_size=3, rank=rank))
    assert (found := health.freeze().failed) is not None
    assert found.message == f"of rank {min(order)}"
    again = failed(min(order))
    health.fail(again)
    assert health.freeze().failed is again.event
    health.resume()
    assert health.freeze().failed is None


@pytest.mark.parametrize(("world_size", "rank", "longest"), [(2, 0, 10.0), (2, 1, 20.0), (1, 1, 10.0)])
def test_it_is_the_start_of_the_rank_that_ends_batches_before_which_nothing_is_timed(
    world_size: int, rank: int, longest: float
) -> None:
    health = HealthFold(Limits(), None)
    add_batch(health, 0, 0)
    add_batch(health, 1, 10)
    health.start(payload(TrainingStartedPayload, world_size=world_size, rank=rank))
    add_batch(health, 2, 30)
    assert health.freeze().longest_interval == longest


def diverged(batch: int, epoch: int, env_id: int = 0) -> Entry[EpochCompletedPayload]:
    data = payload(EpochCompletedPayload, env_id=env_id, inner_epoch=epoch, val_loss=math.inf)
    return Entry(data, TelemetryEvent(data=data, epoch=epoch), Position(0, 0, 0, batch, batch, batch))


def test_of_what_diverged_in_a_batch_the_first_is_kept_in_whatever_order_they_come() -> None:
    health = HealthFold(Limits(), None)
    for entry, shown in (
        (late := diverged(0, 3), late), (diverged(0, 4), late), (first := diverged(0, 2, 1), first),
        (diverged(0, 2, 1), first), (before := diverged(0, 2, 0), before), (diverged(0, 2, 2), before),
    ):  # fmt: skip
        health.freeze()
        health.mark(health.hosts, entry)
        assert health.freeze().hosts == {0: shown.event}


@pytest.mark.parametrize(("kept", "n", "incomplete"), [(None, 9, False), (3, 3, False), (3, 4, True)])
def test_after_a_resume_everything_is_counted_anew_from_what_is_kept(
    kept: int | None, n: int, incomplete: bool
) -> None:
    health = HealthFold(Limits(), kept)
    updates, batches = HistoryWriter[PPOUpdatePayload](kept), HistoryWriter[BatchEpochCompletedPayload](kept)
    for batch in range(n):
        where = Position(0, 0, 0, batch, batch, batch)
        update = PPOUpdatePayload(**WELL | {"kl_divergence": 0.4 if batch == n - 2 else 0.01})
        made, ended = TelemetryEvent(data=update), event(BatchEpochCompletedPayload, batch_idx=batch)
        updates.append(made, where)
        batches.append(ended, where)
        health.add_update(made, update, batch)
        health.add_batch(ended, payload(BatchEpochCompletedPayload, batch_idx=batch))
        health.mark(health.hosts, diverged(batch, 1))
    for history in (updates, batches):
        history.take_back(n - 1)
    health.take_back(updates.view(), batches.view(), n - 1)
    found, left = health.freeze(), len(updates.view())
    assert (found.updates, found.batches, found.incomplete) == (left, left, incomplete)
    assert list(found.hosts) == list(range(n - 1))
    bad = found.rules["kl"].bad
    assert bad.first is not None
    assert (bad.count, bad.first.batch, bad.first.ordinal) == (1, n - 2, left)
    health.take_back(updates.view(), batches.view(), n)
    assert health.freeze().incomplete == incomplete
