"""The aggregator: nothing emitted is lost, nothing that was not emitted appears, and a snapshot stays what it was."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from esper.karn import aggregator as module
from esper.karn.aggregator import TelemetryAggregator
from esper.karn.bounds import LIVE, Bounds
from esper.karn.snapshot import Entry, GroupSnapshot, History, LifecycleTotals, RunSnapshot
from esper.leyline.position import Position
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
    TelemetryEventType,
    TelemetryPayload,
    TrainingStartedPayload,
)


def bound(kept: int | None) -> int:
    assert kept
    return kept


LOG, SEEDS, STAGES = map(bound, (LIVE.log, LIVE.seeds, LIVE.stages))


def started(**changes: Any) -> TrainingStartedPayload:
    return TrainingStartedPayload(
        **{
            "n_envs": 2, "max_epochs": 6, "task": "digits", "host_params": 706, "slot_ids": ("a", "b"), "seed": 1,
            "n_episodes": 8, "lr": 3e-3, "clip_ratio": 0.2, "entropy_coef": 0.05, "param_budget": 2000,
            "policy_device": "cpu", "env_devices": ("cpu", "cpu"), **changes,
        }
    )  # fmt: skip


def batch(episodes: int) -> BatchEpochCompletedPayload:
    return BatchEpochCompletedPayload(
        episodes_completed=episodes, batch_idx=0, avg_accuracy=0.5, avg_reward=0.0, total_episodes=8, n_envs=2
    )


def reward(env_id: int = 0, **changes: Any) -> RewardComputedPayload:
    emitted = {"total_reward": 0.0, "action_name": "WAIT", "value_estimate": 0.0, "action_confidence": 0.5}
    return RewardComputedPayload(env_id=env_id, **{**emitted, **changes})


def epoch(env_id: int = 0, inner_epoch: int = 1) -> EpochCompletedPayload:
    return EpochCompletedPayload(env_id=env_id, val_accuracy=0.5, val_loss=1.0, inner_epoch=inner_epoch)


def germinated(slot: str = "a", env_id: int = 0, blueprint: str = "mlp") -> SeedGerminatedPayload:
    return SeedGerminatedPayload(slot_id=slot, env_id=env_id, blueprint_id=blueprint, params=812)


def stage(left: str, entered: str, slot: str = "a", env_id: int = 0) -> SeedStageChangedPayload:
    return SeedStageChangedPayload(slot_id=slot, env_id=env_id, from_stage=left, to_stage=entered)


def pruned(**changes: Any) -> SeedPrunedPayload:
    return SeedPrunedPayload(**{"slot_id": "a", "env_id": 0, "reason": "policy", **changes})


def fossilized(slot: str = "a", env_id: int = 0, blueprint: str = "mlp") -> SeedFossilizedPayload:
    return SeedFossilizedPayload(
        slot_id=slot, env_id=env_id, blueprint_id=blueprint, improvement=0.1, params_added=812
    )  # fmt: skip


def fold(emitted: Sequence[TelemetryPayload | TelemetryEvent], bounds: Bounds = LIVE) -> RunSnapshot:
    aggregator = TelemetryAggregator(bounds)
    for one in emitted:
        aggregator.process(one if isinstance(one, TelemetryEvent) else TelemetryEvent(data=one))
    return aggregator.snapshot()


def group_of(*emitted: TelemetryPayload | TelemetryEvent) -> GroupSnapshot:
    return fold(emitted).groups["default"]


def test_no_event_shows_nothing() -> None:
    snapshot = fold([])
    assert (len(snapshot.groups), len(snapshot.log), len(snapshot.events)) == (0, 0, 0)


def test_what_was_emitted_before_training_started_is_kept() -> None:
    group = group_of(reward(3), germinated(), started())
    assert group.envs[3].reward is not None
    assert group.started is not None
    assert (group.earlier_runs, group.resumes) == (0, 0)


def test_an_env_exists_from_its_first_event_on() -> None:
    group = group_of(started(n_envs=64), epoch(7))
    assert list(group.envs) == [7]
    env = group.envs[7]
    assert env.epoch is not None
    assert (env.reward, env.last_action, env.counterfactual, dict(env.slots)) == (None, None, None, {})


def test_a_group_without_updates_shows_none_of_them() -> None:
    group = group_of(reward())
    assert (group.started, group.update, group.batch, group.action_distribution) == (None, None, None, None)


def test_envs_and_ranks_stand_in_ascending_order() -> None:
    ranks = [started(rank=rank, world_size=3, episode_id="r") for rank in (2, 0, 1)]
    group = group_of(*ranks, epoch(5), epoch(1), epoch(3))
    assert list(group.envs) == [1, 3, 5]
    assert list(group.ranks) == [0, 1, 2]
    assert group.started is not None
    assert group.started.data.rank == 0


def test_every_ranks_start_is_kept_and_starts_no_second_run() -> None:
    ranks = [started(rank=rank, world_size=2, episode_id="r") for rank in (0, 1)]
    group = group_of(ranks[0], reward(0), ranks[1], reward(1))
    assert [emitted.data for emitted in group.ranks.values()] == ranks
    assert (group.earlier_runs, list(group.envs)) == (0, [0, 1])


def test_a_second_run_starts_afresh_and_the_earlier_one_is_counted() -> None:
    snapshot = fold([started(), reward(5), batch(2), started(seed=2), reward(0)])
    group = snapshot.groups["default"]
    assert (group.earlier_runs, list(group.envs), len(group.batches), group.actions) == (1, [0], 0, {"WAIT": 1})
    assert snapshot.n_events == 5
    assert snapshot.events[TelemetryEventType.TRAINING_STARTED] == 2


def test_a_resumed_run_shows_what_an_uninterrupted_one_would() -> None:
    first: list[TelemetryPayload] = [
        reward(0),
        germinated(),
        stage("DORMANT", "GERMINATED"),
        epoch(0),
        fossilized(),
        batch(2),
    ]
    interrupted: list[TelemetryPayload] = [
        reward(0, action_name="PRUNE"),
        germinated("b"),
        epoch(1),
        pruned(slot_id="b"),
    ]
    second: list[TelemetryPayload] = [reward(1), germinated(), epoch(0), batch(4)]
    events = {id(emitted): TelemetryEvent(data=emitted) for emitted in (*first, *interrupted, *second)}
    start, resume = TelemetryEvent(data=started()), TelemetryEvent(data=started(start_episode=2))
    resumed = fold([start, *(events[id(t)] for t in (*first, *interrupted)), resume, *(events[id(t)] for t in second)])
    whole = fold([start, *(events[id(t)] for t in (*first, *second))])
    group = resumed.groups["default"]
    assert (group.resumes, group.superseded, group.counted_from) == (1, 4, 0)
    assert without_resumes(group) == without_resumes(whole.groups["default"])
    assert resumed.n_events == whole.n_events + 5


def without_resumes(group: GroupSnapshot) -> object:
    """Return a group as JSON, but for what says that it was resumed."""
    health = dataclasses.replace(group.health, typical_interval=None, longest_interval=0.0)  # a pause is nobody's pace
    text = strict_json(dataclasses.replace(group, ranks={}, resumes=0, superseded=0, health=health))
    return json.loads(text, object_hook=lambda made: {key: made[key] for key in made if key != "resume"})


def test_totals_of_a_resume_without_its_past_say_where_they_begin() -> None:
    group = group_of(started(start_episode=6), reward())
    assert (group.counted_from, group.actions, group.resumes) == (6, {"WAIT": 1}, 0)


def test_a_resume_within_a_batch_takes_back_the_episodes_from_there_on() -> None:
    group = group_of(started(), reward(), batch(2), reward(), batch(4), started(start_episode=3), reward())
    assert (group.counted_from, group.actions) == (0, {"WAIT": 3})
    assert [emitted.data.episodes_completed for emitted in group.batches] == [2]


def test_a_resume_from_further_back_than_is_remembered_claims_no_totals_of_before() -> None:
    many = [batch(2 * (n + 1)) for n in range(9)]
    events: list[TelemetryPayload] = [started(), reward(), *many, started(start_episode=4), reward()]
    group = fold(events, Bounds(episodes=5)).groups["default"]
    assert (group.counted_from, group.actions) == (4, {"WAIT": 1})


def test_events_out_of_order_are_taken_as_they_come() -> None:
    group = group_of(started(), batch(4), batch(2), epoch(0, 5), epoch(0, 4))
    assert group.batch is not None
    assert group.batch.data.episodes_completed == 2
    newest = group.envs[0].epoch
    assert newest is not None
    assert (newest.data.inner_epoch, newest.episodes) == (4, 4)


def test_a_stage_before_its_germination_waits_for_it() -> None:
    changed, germination = stage("DORMANT", "GERMINATED"), germinated()
    waiting = group_of(changed).envs[0].slots["a"]
    assert (waiting.seed.germinated, waiting.seed.blueprint_id) == (None, None)
    (seed,) = group_of(changed, germination).envs[0].slots["a"].seeds
    assert seed.germinated is not None
    assert (seed.germinated.data, seed.blueprint_id, [emitted.data for emitted in seed.stages]) == (
        germination,
        "mlp",
        [changed],
    )


def test_a_seed_keeps_its_whole_history_after_the_next_one_has_germinated() -> None:
    first: list[TelemetryPayload] = [
        germinated(), stage("DORMANT", "GERMINATED"), pruned(), stage("GERMINATED", "PRUNED"),
        stage("PRUNED", "EMBARGOED"), stage("EMBARGOED", "DORMANT"),
    ]  # fmt: skip
    slot = group_of(*first, germinated(blueprint="norm"), stage("DORMANT", "GERMINATED")).envs[0].slots["a"]
    assert [seed.blueprint_id for seed in slot.seeds] == ["mlp", "norm"]
    assert [len(seed.stages) for seed in slot.seeds] == [4, 1]
    assert slot.seeds[0].outcome is not None
    assert slot.seed.outcome is None
    assert slot.seed.stage is not None
    assert slot.seed.stage.data.to_stage == "GERMINATED"


def test_an_event_out_of_order_goes_to_the_seed_it_names() -> None:
    def emitted(data: TelemetryPayload, seed_id: str) -> TelemetryEvent:
        return TelemetryEvent(data=data, seed_id=seed_id)

    delayed = stage("PRUNED", "EMBARGOED")
    slot = group_of(
        emitted(germinated(), "one"), emitted(pruned(), "one"), emitted(germinated(), "two"), emitted(delayed, "one")
    ).envs[0].slots["a"]  # fmt: skip
    assert [(seed.seed_id, len(seed.stages)) for seed in slot.seeds] == [("one", 1), ("two", 0)]


def test_prunes_are_counted_by_who_chose_them_and_under_the_blueprint_that_is_known() -> None:
    group = group_of(
        germinated(), pruned(), pruned(reason="stagnation"), pruned(auto_pruned=True), pruned(blueprint_id="norm")
    )
    assert group.lifecycle == {
        "mlp": LifecycleTotals(germinated=1, pruned_by_policy=1),
        None: LifecycleTotals(pruned=1, pruned_by_rule=1),
        "norm": LifecycleTotals(pruned_by_policy=1),
    }


def test_groups_stay_apart() -> None:
    snapshot = fold([TelemetryEvent(data=reward(), group_id=group_id) for group_id in ("a", "b", "a")])
    assert {group_id: group.actions for group_id, group in snapshot.groups.items()} == {
        "a": {"WAIT": 2},
        "b": {"WAIT": 1},
    }


def test_a_second_run_of_one_group_leaves_the_other_alone() -> None:
    emitted: list[tuple[TelemetryPayload, str]] = [
        (started(), "a"),
        (started(), "b"),
        (reward(), "b"),
        (started(), "a"),
    ]
    snapshot = fold([TelemetryEvent(data=data, group_id=group_id) for data, group_id in emitted])
    assert (snapshot.groups["a"].earlier_runs, snapshot.groups["b"].earlier_runs) == (1, 0)
    assert snapshot.groups["b"].actions == {"WAIT": 1}


def test_histories_are_bounded_and_keep_the_newest() -> None:
    group = group_of(*(reward(value_estimate=float(n)) for n in range(5 * LIVE.env_history)))
    values = [emitted.data.value_estimate for emitted in group.envs[0].rewards]
    assert values == [float(n) for n in range(4 * LIVE.env_history, 5 * LIVE.env_history)]
    assert group.actions == {"WAIT": 5 * LIVE.env_history}


def test_an_old_snapshot_keeps_what_the_histories_have_let_go() -> None:
    aggregator = TelemetryAggregator()
    for n in range(2 * LIVE.env_history):
        aggregator.process(TelemetryEvent(data=reward(value_estimate=float(n))))
    old = aggregator.snapshot().groups["default"].envs[0].rewards
    emitted = tuple(old)
    for _ in range(5 * LOG):
        aggregator.process(TelemetryEvent(data=reward()))
    assert tuple(old) == emitted
    assert len(emitted) == LIVE.env_history


def test_seeds_and_their_stages_are_bounded_and_keep_the_newest() -> None:
    stages = [stage("TRAINING", f"S{n}") for n in range(2 * STAGES)]
    slot = group_of(*(germinated() for _ in range(2 * SEEDS)), *stages).envs[0].slots["a"]
    assert len(slot.seeds) == SEEDS
    assert [emitted.data for emitted in slot.seed.stages] == stages[STAGES:]


def rewards_of(aggregator: TelemetryAggregator) -> History[Entry[RewardComputedPayload]]:
    return aggregator.snapshot().groups["default"].envs[0].rewards


def test_equal_histories_are_equal_and_others_are_not() -> None:
    events = [TelemetryEvent(data=reward(value_estimate=float(n))) for n in range(3)]
    one, same, shorter = (fold(emitted).groups["default"].envs[0].rewards for emitted in (events, events, events[:2]))
    assert one == same
    assert one != shorter
    assert one != tuple(one)
    assert fold(events).log == fold(events).log
    assert fold(events).log != fold(events[:2]).log
    assert repr(one) == f"History({list(one)!r})"


BOUND = 5
STEPS = st.lists(st.one_of(st.integers(1, 2 * BOUND), st.sampled_from(["look", "batch", "resume"])), max_size=40)


@given(STEPS)
@example([BOUND, "look", BOUND - 1, "batch", 1, "resume", "look"])
def test_every_view_of_a_history_reads_for_ever_like_the_list_that_it_was_taken_of(
    steps: list[int | str],
) -> None:
    """Events are emitted, views are taken, and resumes take back; all views are compared at the very end."""
    aggregator = TelemetryAggregator(Bounds(env_history=BOUND))
    aggregator.process(TelemetryEvent(data=started()))
    emitted: list[tuple[TelemetryEvent, int]] = []
    looked: list[tuple[History[Entry[RewardComputedPayload]], list[tuple[TelemetryEvent, int]]]] = []
    episodes = 0
    for step in steps:
        if step == "look":
            if 0 in aggregator.snapshot().groups["default"].envs:
                looked.append((rewards_of(aggregator), emitted[-BOUND:]))
        elif step == "batch":
            episodes += 2
            aggregator.process(TelemetryEvent(data=batch(episodes)))
        elif step == "resume":
            if episodes:
                aggregator.process(TelemetryEvent(data=started(start_episode=episodes)))
                emitted = [(event, at) for event, at in emitted[-BOUND:] if at < episodes]
        else:
            for _ in range(int(step)):
                emitted.append((TelemetryEvent(data=reward()), episodes))
                aggregator.process(emitted[-1][0])
    for view, expected in looked:
        assert [(one.event, one.episodes) for one in view] == expected
        assert all(one.data is one.event.data for one in view)
    if looked:
        assert max(len(view) for view, _ in looked) <= BOUND


@given(st.integers(1, 30), st.integers(-12, 12), st.integers(-12, 12))
def test_a_history_reads_like_the_tuple_it_stands_for(length: int, first: int, second: int) -> None:
    events = [TelemetryEvent(data=reward(value_estimate=float(n))) for n in range(length)]
    snapshot = fold(events)
    rewards = tuple(Entry(event.data, event, Position(0, 0, None, None, None)) for event in events)
    pairs: tuple[tuple[Sequence[object], tuple[object, ...]], ...] = (
        (snapshot.groups["default"].envs[0].rewards, rewards),
        (snapshot.log, tuple(events)),
    )
    for history, plain in pairs:
        assert isinstance(history, History)
        assert tuple(history) == plain
        assert len(history) == length
        assert history[first:second] == plain[first:second]
        assert history[::-1] == plain[::-1]
        assert history.newest == plain[-1]
        if -length <= first < length:
            assert history[first] == plain[first]
        else:
            with pytest.raises(IndexError):
                history[first]


def test_once_histories_are_full_as_many_objects_die_as_are_made() -> None:
    """Else the garbage collector walks through everything that is kept, again and again."""
    aggregator = TelemetryAggregator()

    def measure() -> int:
        for n in range(LOG):
            aggregator.process(TelemetryEvent(data=reward(n % 8)))
        return len(gc.get_objects())

    measure()
    gc.collect()
    full = measure()
    assert all(abs(measure() - full) < LOG // 20 for _ in range(3))


def test_a_snapshot_refuses_to_be_changed() -> None:
    snapshot = fold([started(), reward()])
    group = snapshot.groups["default"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        group.resumes = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        group.actions["WAIT"] = 3  # type: ignore[index]
    with pytest.raises(TypeError):
        snapshot.groups["other"] = group  # type: ignore[index]
    with pytest.raises(KeyError):
        group.envs[99]
    with pytest.raises(KeyError):
        group.actions["DANCE"]


def test_a_reader_in_another_thread_sees_only_whole_events() -> None:
    aggregator = TelemetryAggregator()
    done, torn = Event(), []

    def read() -> None:
        while not done.is_set():
            snapshot = aggregator.snapshot()
            seen = sum(sum(group.actions.values()) for group in snapshot.groups.values())
            if seen != snapshot.n_events:
                torn.append(seen)

    reader = Thread(target=read)
    reader.start()
    for n in range(20_000):
        aggregator.process(TelemetryEvent(data=reward(n % 8)))
    done.set()
    reader.join()
    assert torn == []
    assert aggregator.snapshot().n_events == 20_000


def test_no_default_is_read_off_a_mapping_or_an_object() -> None:
    for source in (Path(str(module.__file__)), Path(str(module.__file__)).with_name("snapshot.py")):
        assert not re.search(r"\.get\(|getattr|except KeyError|or 0", source.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("limit", "many"),
    [
        ("_GROUPS", [TelemetryEvent(data=reward(), group_id=f"g{n}") for n in range(5)]),
        ("_ENVS", [TelemetryEvent(data=reward(n)) for n in range(5)]),
        ("_SLOTS", [TelemetryEvent(data=germinated(f"s{n}")) for n in range(5)]),
        ("_NAMES", [TelemetryEvent(data=reward(action_name=f"A{n}")) for n in range(5)]),
        ("_NAMES", [TelemetryEvent(data=germinated(blueprint=f"b{n}")) for n in range(5)]),
    ],
)
def test_what_a_log_names_beyond_all_measure_is_counted_and_left_out(
    limit: str, many: list[TelemetryEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"esper.karn.bounds.{limit}", 3)
    aggregator = TelemetryAggregator()
    for event in [*many, *many]:
        aggregator.process(event)
    snapshot = aggregator.snapshot()
    assert (snapshot.omitted, snapshot.n_events) == (4, 10)


def test_a_second_run_has_the_room_that_the_first_one_took(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_ENVS", "_SLOTS", "_NAMES"):
        monkeypatch.setattr(f"esper.karn.bounds.{limit}", 3)
    seeds = (germinated(f"s{n}", n, blueprint="mlp") for n in range(3))
    run: list[TelemetryPayload] = [started(), *seeds, reward()]
    assert fold([*run, *run, *run]).omitted == 0


def test_what_a_resume_takes_back_leaves_room_for_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esper.karn.bounds._NAMES", 2)
    again = started(start_episode=2)
    snapshot = fold([
        started(), batch(2), reward(action_name="A"), germinated(), again, reward(action_name="B"), germinated("b"),
    ])  # fmt: skip
    assert snapshot.omitted == 0
    assert snapshot.groups["default"].actions == {"B": 1}


def test_an_event_of_an_attempt_that_was_resumed_is_left_out_also_when_it_comes_later() -> None:
    """As with the shards of two ranks whose clocks differ."""
    aggregator = TelemetryAggregator()
    ranks = [started(rank=rank, world_size=2, episode_id="r") for rank in (0, 1)]
    again = [started(rank=rank, world_size=2, episode_id="r", start_episode=2) for rank in (0, 1)]
    steps = [TelemetryEvent(data=epoch(1, n), epoch=n) for n in (1, 2, 3, 4, 5, 6, 1, 2)]
    stands = [
        aggregator.process(TelemetryEvent(data=ranks[0]), 0),
        aggregator.process(TelemetryEvent(data=again[0]), 0),
        aggregator.process(TelemetryEvent(data=ranks[1]), 1),
        *(aggregator.process(step, 1) for step in steps),
    ]
    assert [stand is None for stand in stands] == [False] * 9 + [True, True]
    group = aggregator.snapshot().groups["default"]
    assert (group.superseded, len(group.envs[1].epochs), list(group.ranks)) == (2, 6, [0])


def test_of_an_episode_that_a_resume_takes_back_everything_is_counted_and_nothing_taken_any_more() -> None:
    aggregator = TelemetryAggregator()
    ranks = [started(rank=rank, world_size=2, episode_id="r") for rank in (0, 1)]
    again = started(rank=0, world_size=2, episode_id="r", start_episode=2)
    whole = [TelemetryEvent(data=epoch(1, n), epoch=n) for n in (1, 2, 3, 4, 5, 6)]
    seen = TelemetryEvent(data=AnalyticsSnapshotPayload(kind="seen", env_id=1))
    for shard, rank in enumerate(ranks):
        aggregator.process(TelemetryEvent(data=rank), shard)
    assert None not in [aggregator.process(event, 1) for event in (*whole, *whole[:2], seen)]
    aggregator.process(TelemetryEvent(data=again), 0)
    assert [aggregator.process(event, 1) for event in (whole[2], seen, TelemetryEvent(data=update(1)))] == [None] * 3
    group = aggregator.snapshot().groups["default"]
    assert (group.superseded, len(group.envs[1].epochs)) == (6, 6)


def update(batch: int, **changes: Any) -> PPOUpdatePayload:
    emitted = {
        "policy_loss": 0.0, "value_loss": 0.1, "entropy": 1.0, "grad_norm": 1.0, "kl_divergence": 0.01,
        "clip_fraction": 0.1, "nan_grad_count": 0, "batch": batch,
    }  # fmt: skip
    return PPOUpdatePayload(**{**emitted, **changes})


def matrix(env_id: int = 0) -> CounterfactualMatrixPayload:
    return CounterfactualMatrixPayload(env_id=env_id, slot_ids=("a",), configs=())


def test_a_look_shows_what_has_come_since_the_look_before() -> None:
    seed: list[TelemetryPayload] = [germinated(), stage("DORMANT", "GERMINATED"), pruned()]
    last = AnalyticsSnapshotPayload(kind="last_action", env_id=0, action_name="WAIT")
    first: list[TelemetryPayload] = [*seed, epoch(), reward(), matrix(), last, update(0), batch(2)]
    told: list[TelemetryPayload] = [
        started(),
        *first,
        *seed,
        matrix(),
        last,
        update(1),
        started(start_episode=2),
        *first,
    ]
    events = [TelemetryEvent(data=data) for data in told]
    looked = TelemetryAggregator()
    for at, event in enumerate(events):
        looked.process(event)
        alone = TelemetryAggregator()
        for earlier in events[: at + 1]:
            alone.process(earlier)
        assert looked.snapshot() == alone.snapshot()


def test_each_kind_of_analytics_is_kept_where_it_is_shown() -> None:
    kinds: list[dict[str, Any]] = [
        {"kind": "last_action", "env_id": 1}, {"kind": "last_action"}, {"kind": "action_distribution"},
        {"kind": "training_failed"}, {"kind": "other", "env_id": 1},
    ]  # fmt: skip
    events = [TelemetryEvent(data=AnalyticsSnapshotPayload(**fields)) for fields in kinds]
    aggregator = TelemetryAggregator()
    for event in events:
        aggregator.process(event)
    group = aggregator.snapshot().groups["default"]
    last = group.envs[1].last_action
    assert last is not None
    assert [last.event] == events[:1]
    assert [entry.event for entry in group.action_distributions] == [events[2]]
    assert [entry.event for entry in group.analytics] == [events[1], events[3], events[4]]
    assert group.health.failed is events[3]


@pytest.mark.parametrize("resumes_first", [False, True])
def test_what_ended_a_rank_is_over_when_a_resume_goes_on_whichever_of_both_is_read_first(resumes_first: bool) -> None:
    aggregator = TelemetryAggregator()
    start, resume = (
        [TelemetryEvent(data=started(start_episode=at, world_size=2, rank=rank)) for rank in range(2)] for at in (0, 2)
    )
    failed = TelemetryEvent(data=AnalyticsSnapshotPayload(kind="training_failed"))
    for rank, event in enumerate(start):
        aggregator.process(event, rank)
    if resumes_first:
        aggregator.process(resume[0], 0)
    aggregator.process(failed, 1)
    if not resumes_first:
        assert aggregator.snapshot().groups["default"].health.failed is failed
        aggregator.process(resume[0], 0)
    aggregator.process(resume[1], 1)
    assert aggregator.snapshot().groups["default"].health.failed is None


def test_updates_and_ablations_are_kept_and_updates_judged() -> None:
    group = group_of(started(), matrix(1), update(0), update(1, kl_divergence=9.0))
    assert group.envs[1].counterfactual is not None
    assert [entry.data.batch for entry in group.ppo] == [0, 1]
    assert (group.health.updates, group.health.rules["kl"].bad.count) == (2, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_of_a_host_or_a_reward_is_kept_for_the_verdict_and_nothing_else(value: float) -> None:
    diverged = dataclasses.replace(epoch(), val_loss=value)
    health = group_of(started(), epoch(), reward(total_reward=1.5), diverged, reward(total_reward=value)).health
    assert [event.data for event in health.hosts.values()] == [diverged]
    assert [
        event.data.total_reward for event in health.rewards.values() if isinstance(event.data, RewardComputedPayload)
    ] == (pytest.approx([value], nan_ok=True))


def test_a_resume_has_its_own_ranks_and_limits_and_a_verdict_without_what_it_took_back() -> None:
    ranks = [started(rank=rank, world_size=2, episode_id="x") for rank in (0, 1)]
    told: list[TelemetryPayload] = [
        *ranks,
        update(0),
        batch(2),
        update(1),
        batch(4),
        started(start_episode=2, clip_ratio=0.1),
    ]
    group = group_of(*told)
    assert (list(group.ranks), group.health.limits.clip_ratio) == ([0], 0.1)
    assert (group.health.updates, group.health.batches) == (1, 1)


def test_a_start_from_the_beginning_keeps_the_totals_of_what_came_before_it() -> None:
    assert group_of(reward(), started()).actions == {"WAIT": 1}


def test_what_is_known_by_now_of_a_place_is_none_once_it_was_taken_back() -> None:
    aggregator = TelemetryAggregator()
    first = [aggregator.process(TelemetryEvent(data=data)) for data in (reward(), batch(2), reward(), batch(4))]
    places = [place for place in first if place is not None]
    settled = [aggregator.settled("default", place) for place in places]
    assert [place and place.episodes for place in settled] == [0, 0, 2, 2]
    aggregator.process(TelemetryEvent(data=started(start_episode=2)))
    assert [aggregator.settled("default", place) is None for place in places] == [False, False, True, True]
    aggregator.process(TelemetryEvent(data=started()))
    assert [aggregator.settled("default", place) for place in places] == [None] * 4
