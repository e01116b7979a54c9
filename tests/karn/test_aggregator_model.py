"""The aggregator against a naive fold, written independently: the same for every history, live and from the log."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import tries

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.snapshot import Entry, GroupSnapshot, LifecycleTotals, RunSnapshot
from esper.leyline.position import Position, Positions
from esper.leyline.strict_json import strict_json
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)
from esper.leyline.testing import events as any_events
from esper.leyline.wire import decode_event, encode_event

IDS = st.sampled_from([None, "x", "y"])
SLOT = st.sampled_from(["a", "b"])
ENV = st.integers(0, 1)
ZERO = st.just(0.0)
WIDTH = 2
STARTED = {
    name: st.just(value)
    for name, value in {
        "n_envs": WIDTH, "max_epochs": 3, "task": "digits", "host_params": 706, "slot_ids": ("a", "b"), "seed": 1,
        "n_episodes": 8, "lr": 3e-3, "clip_ratio": 0.2, "entropy_coef": 0.05, "param_budget": 2000,
        "policy_device": "cpu", "env_devices": ("cpu", "cpu"),
    }.items()
}  # fmt: skip
BATCH = {
    "batch_idx": st.just(0),
    "avg_accuracy": ZERO,
    "avg_reward": ZERO,
    "total_episodes": st.just(8),
    "n_envs": st.just(2),
}
REWARD = dict.fromkeys(("total_reward", "value_estimate", "action_confidence"), ZERO)
STAGES = st.sampled_from(["DORMANT", "GERMINATED", "PRUNED"])
PPO_FLOATS = ("policy_loss", "value_loss", "entropy", "grad_norm", "kl_divergence", "clip_fraction")

any_payloads = st.one_of(
    st.builds(
        TrainingStartedPayload,
        **STARTED,
        start_episode=st.sampled_from([0, 0, 2, 4, 6]),
        rank=st.integers(0, 1),
        world_size=st.sampled_from([1, 2]),
        episode_id=st.sampled_from(["run", "other"]),
    ),
    st.builds(BatchEpochCompletedPayload, episodes_completed=st.sampled_from([2, 4, 6, 8]), **BATCH),
    st.builds(RewardComputedPayload, env_id=ENV, action_name=st.sampled_from(["WAIT", "PRUNE"]), **REWARD),
    st.builds(EpochCompletedPayload, ENV, ZERO, ZERO, st.integers(1, 3)),
    st.builds(EpochCompletedPayload, ENV, ZERO, ZERO, st.integers(1, 3)),
    st.builds(SeedGerminatedPayload, SLOT, ENV, st.sampled_from(["mlp", "norm"]), st.just(812)),
    st.builds(SeedStageChangedPayload, SLOT, ENV, STAGES, STAGES),
    st.builds(SeedFossilizedPayload, SLOT, ENV, st.just("mlp"), ZERO, st.just(812)),
    st.builds(
        SeedPrunedPayload,
        slot_id=SLOT,
        env_id=ENV,
        blueprint_id=st.sampled_from([None, "mlp"]),
        reason=st.sampled_from(["policy", "rule"]),
    ),
    st.builds(SeedPrunedPayload, SLOT, ENV, st.just("policy"), auto_pruned=st.booleans()),
    st.builds(
        AnalyticsSnapshotPayload,
        kind=st.sampled_from(["last_action", "action_distribution", "new"]),
        env_id=st.sampled_from([None, 0, 1]),
    ),
    st.builds(CounterfactualMatrixPayload, env_id=ENV, slot_ids=st.just(("a",)), configs=st.just(())),
    st.builds(
        PPOUpdatePayload,
        **dict.fromkeys(PPO_FLOATS, ZERO),
        nan_grad_count=st.integers(0, 3),
    ),
)  # fmt: skip
drawn_events = st.builds(TelemetryEvent, data=any_payloads, seed_id=IDS, group_id=st.sampled_from(["default", "b"]))


def fold(emitted: Sequence[TelemetryEvent]) -> RunSnapshot:
    aggregator = TelemetryAggregator()
    for event in emitted:
        aggregator.process(event)
    return aggregator.snapshot()


Placed = tuple[TelemetryEvent, Position]


class Naive:
    """One group as a plain list of events with their positions; everything shown is recomputed from it."""

    def __init__(self) -> None:
        self.positions = Positions()
        self.newest = (0, 0)
        """Run and resume."""
        self.all: list[Placed] = []
        self.counted_from = 0
        self.uncounted: list[TelemetryEvent] = []
        """What came before the totals began."""

    def add(self, event: TelemetryEvent) -> None:
        before = self.newest
        position = self.positions.locate(event)
        run, resume = self.newest = max(self.newest, (position.run, position.resume))
        if run != before[0]:
            self.all = []
            self.begin(0)
        if (run, resume) != before and resume:
            self.all = [(e, at) for e, at in self.all if not self.positions.is_superseded(at)]
        if position.run == run and not self.positions.is_superseded(position):
            data = event.data
            if isinstance(data, TrainingStartedPayload) and not self.starts() and not resume and data.start_episode:
                self.begin(data.start_episode)
            self.all.append((event, position))

    def begin(self, episode: int) -> None:
        self.counted_from, self.uncounted = episode, [event for event, _ in self.all]

    def starts(self) -> dict[int, TelemetryEvent]:
        """Return the starts of the newest attempt."""
        return {
            event.data.rank: event
            for event, at in self.all
            if isinstance(event.data, TrainingStartedPayload) and at.resume == self.newest[1]
        }

    def of(self, *classes: type[TelemetryPayload], env_id: int | None = None) -> list[Placed]:
        return [
            (event, at)
            for event, at in self.all
            if isinstance(event.data, classes) and (env_id is None or event.data.to_dict().get("env_id") == env_id)
        ]

    def counted(self, *classes: type[TelemetryPayload]) -> list[TelemetryEvent]:
        counted = [event for event, _ in self.all if not any(event is other for other in self.uncounted)]
        return [event for event in counted if isinstance(event.data, classes)]

    def seeds(self, env_id: int) -> dict[str, list[dict[str, Any]]]:
        slots: dict[str, list[dict[str, Any]]] = {}
        lifecycle = (SeedGerminatedPayload, SeedStageChangedPayload, SeedFossilizedPayload, SeedPrunedPayload)
        for event, at in self.of(*lifecycle, env_id=env_id):
            data = event.data
            assert isinstance(data, lifecycle)
            seeds = slots.setdefault(data.slot_id, [])
            named = [seed for seed in seeds if seed["id"] == event.seed_id]
            if event.seed_id is None:
                named = [seed for seed in seeds if None in (at.episode, seed["at"]) or at.episode == seed["at"]]
            seed = named[-1] if named else None
            if seed is not None:
                left, entered = getattr(data, "from_stage", ""), getattr(data, "to_stage", "")
                lives = event.seed_id is None and seed["outcome"] and entered == "GERMINATED"
                again = {
                    SeedGerminatedPayload: seed["germinated"] or seed["outcome"],
                    SeedStageChangedPayload: (left == "DORMANT" and seed["stages"]) or lives,
                    SeedFossilizedPayload: seed["outcome"],
                    SeedPrunedPayload: seed["outcome"],
                }
                if again[type(data)]:
                    seed = None
            if seed is None:
                seed = {"id": event.seed_id, "at": at.episode, "germinated": None, "stages": [], "outcome": None}
                seeds.append(seed)
            if isinstance(data, SeedGerminatedPayload):
                seed["germinated"] = event
            elif isinstance(data, SeedStageChangedPayload):
                seed["stages"].append(event)
            else:
                seed["outcome"] = event
        return slots


def pairs(history: Sequence[Entry[Any]]) -> list[Placed]:
    assert all(emitted.data is emitted.event.data for emitted in history)
    return [(emitted.event, emitted.position) for emitted in history]


def event_of(emitted: Entry[Any] | None) -> TelemetryEvent | None:
    return None if emitted is None else emitted.event


def compare(group: GroupSnapshot, naive: Naive) -> None:
    assert {rank: emitted.event for rank, emitted in group.ranks.items()} == naive.starts()
    assert (group.counted_from, group.resumes, group.earlier_runs) == (
        naive.counted_from, naive.newest[1], naive.newest[0],
    )  # fmt: skip
    assert pairs(group.ppo) == naive.of(PPOUpdatePayload)
    assert pairs(group.batches) == naive.of(BatchEpochCompletedPayload)
    analytics = [(event, at, event.data) for event, at in naive.of(AnalyticsSnapshotPayload)]
    assert pairs(group.action_distributions) == [
        (event, at)
        for event, at, data in analytics
        if isinstance(data, AnalyticsSnapshotPayload) and data.kind == "action_distribution"
    ]
    assert pairs(group.analytics) == [
        (event, at)
        for event, at, data in analytics
        if isinstance(data, AnalyticsSnapshotPayload)
        and (data.kind == "new" or (data.kind == "last_action" and data.env_id is None))
    ]
    actions = Counter(e.data.action_name for e in naive.counted(RewardComputedPayload))  # type: ignore[union-attr]
    assert group.actions == actions
    for env_id, env in group.envs.items():
        assert pairs(env.epochs) == naive.of(EpochCompletedPayload, env_id=env_id)
        assert pairs(env.rewards) == naive.of(RewardComputedPayload, env_id=env_id)
        last = [
            event
            for event, _ in naive.of(AnalyticsSnapshotPayload, env_id=env_id)
            if isinstance(event.data, AnalyticsSnapshotPayload) and event.data.kind == "last_action"
        ]
        assert event_of(env.last_action) == (last[-1] if last else None)
        matrices = naive.of(CounterfactualMatrixPayload, env_id=env_id)
        assert event_of(env.counterfactual) == (matrices[-1][0] if matrices else None)
        assert {
            slot_id: [
                {
                    "id": seed.seed_id,
                    "at": seed.position.episode,
                    "germinated": event_of(seed.germinated),
                    "stages": [emitted.event for emitted in seed.stages],
                    "outcome": event_of(seed.outcome),
                }
                for seed in slot.seeds
            ]
            for slot_id, slot in env.slots.items()
        } == naive.seeds(env_id)
    compare_lifecycle(group, naive)


def compare_lifecycle(group: GroupSnapshot, naive: Naive) -> None:
    by_kind = Counter[str]()
    for event in naive.counted(SeedGerminatedPayload, SeedFossilizedPayload, SeedPrunedPayload):
        data = event.data
        if isinstance(data, SeedPrunedPayload):
            known = "auto_pruned" in data.supplied or data.reason == "policy"
            by_kind["pruned_by_rule" if data.auto_pruned else "pruned_by_policy" if known else "pruned"] += 1
        else:
            by_kind["germinated" if isinstance(data, SeedGerminatedPayload) else "fossilized"] += 1
    for field in dataclasses.fields(LifecycleTotals):
        assert sum(getattr(totals, field.name) for totals in group.lifecycle.values()) == by_kind[field.name]
    germinations = Counter(e.data.blueprint_id for e in naive.counted(SeedGerminatedPayload))  # type: ignore[union-attr]
    assert {b: totals.germinated for b, totals in group.lifecycle.items() if totals.germinated} == germinations


@settings(max_examples=tries(300))
@given(st.lists(drawn_events, max_size=40))
def test_the_snapshot_equals_a_naive_fold(events: list[TelemetryEvent]) -> None:
    snapshot = fold(events)
    naive: dict[str, Naive] = {}
    for event in events:
        naive.setdefault(event.group_id, Naive()).add(event)
    assert snapshot.groups.keys() == naive.keys()
    for group_id, group in snapshot.groups.items():
        assert group.group_id == group_id
        compare(group, naive[group_id])
    assert list(snapshot.log) == events
    assert snapshot.events == Counter(event.event_type for event in events)
    assert snapshot.n_events == len(events)


@settings(max_examples=tries(100))
@given(st.lists(drawn_events, max_size=30))
def test_folding_the_decoded_log_gives_the_same_snapshot(events: list[TelemetryEvent]) -> None:
    assert fold([decode_event(encode_event(event)) for event in events]) == fold(events)


@settings(max_examples=tries(50))
@given(st.lists(any_events(), max_size=6))
def test_any_event_the_contract_allows_is_folded_live_as_from_the_log(events: list[TelemetryEvent]) -> None:
    live = fold(events)
    assert live.n_events == len(events)
    assert strict_json(fold([decode_event(encode_event(event)) for event in events])) == strict_json(live)


@settings(max_examples=tries(50))
@given(st.lists(drawn_events, max_size=30), st.lists(drawn_events, min_size=1, max_size=30))
def test_an_old_snapshot_never_changes(before: list[TelemetryEvent], after: list[TelemetryEvent]) -> None:
    aggregator = TelemetryAggregator()
    for event in before:
        aggregator.process(event)
    old = aggregator.snapshot()
    text = repr(old)
    for event in after:
        aggregator.process(event)
    assert repr(old) == text
    assert old == fold(before)
    assert aggregator.snapshot() != old


@settings(max_examples=tries(100))
@given(st.lists(drawn_events, max_size=30))
def test_what_is_shown_does_not_depend_on_when_somebody_looked(events: list[TelemetryEvent]) -> None:
    aggregator = TelemetryAggregator()
    for event in events:
        aggregator.process(event)
        aggregator.snapshot()
    assert aggregator.snapshot() == fold(events)
