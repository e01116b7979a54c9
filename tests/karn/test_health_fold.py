"""What the fold keeps for the verdict: the right counts, at a size that does not grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.verdict_logs import TROUBLE, Log, rises
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.snapshot import GroupSnapshot
from esper.leyline.health import judge_update
from esper.leyline.limits import Limits, Status
from esper.leyline.strict_json import strict_json
from esper.leyline.telemetry import PPOUpdatePayload, TelemetryEvent
from esper.leyline.typical import Typical

WELL: dict[str, Any] = {
    "policy_loss": 0.0, "value_loss": 0.1, "entropy": 1.0, "grad_norm": 1.0, "kl_divergence": 0.01,
    "clip_fraction": 0.1, "nan_grad_count": 0,
}  # fmt: skip


def group_of(log: Log) -> GroupSnapshot:
    aggregator = TelemetryAggregator()
    for event in log.events():
        aggregator.process(event)
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
    for event in events[:200]:
        aggregator.process(event)
    before = aggregator.snapshot().groups["default"].health
    text = strict_json(before)
    assert aggregator.snapshot().groups["default"].health == before
    for event in events[200:]:
        aggregator.process(event)
    assert strict_json(before) == text


def test_the_start_says_how_the_run_clips_unless_limits_did() -> None:
    assert group_of(Log(rises(), clip_ratio=0.1)).health.limits.clip_ratio == 0.1
    own = TelemetryAggregator(limits=Limits(clip_ratio=0.3))
    for event in Log(rises(), batches=1, clip_ratio=0.1).events():
        own.process(event)
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
