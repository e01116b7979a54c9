from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from esper.karn.report.log import RunLog, read_log
from esper.karn.snapshot import Ending
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
from esper.leyline.wire import encode_event

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def log_of(write_log: Callable[..., Path]) -> Callable[..., RunLog]:
    def make(*emitted: TelemetryPayload | TelemetryEvent) -> RunLog:
        events = [one if isinstance(one, TelemetryEvent) else TelemetryEvent(data=one) for one in emitted]
        return read_log(str(write_log("run", events)))

    return make


def started(**settings: Any) -> TrainingStartedPayload:
    emitted: dict[str, Any] = {
        "n_envs": 1, "max_epochs": 4, "task": "digits", "host_params": 1, "slot_ids": ("r0",), "seed": 0,
        "n_episodes": 9, "lr": 1.0, "clip_ratio": 0.2, "entropy_coef": 0.0, "param_budget": 9, "policy_device": "cpu",
        "env_devices": ("cpu",),
    }  # fmt: skip
    return TrainingStartedPayload(**{**emitted, **settings})


def batch(index: int, *, episodes: int = 1) -> BatchEpochCompletedPayload:
    return BatchEpochCompletedPayload(
        episodes_completed=(index + 1) * episodes, batch_idx=index, avg_accuracy=0.5, avg_reward=float(index),
        total_episodes=9, n_envs=episodes,
    )  # fmt: skip


def update(**emitted: Any) -> PPOUpdatePayload:
    return PPOUpdatePayload(
        policy_loss=0.0, value_loss=0.0, entropy=1.0, grad_norm=1.0, kl_divergence=0.0, clip_fraction=0.0,
        nan_grad_count=0, **emitted,
    )  # fmt: skip


def reward(env_id: int, epoch: int, total: float = 1.0) -> TelemetryEvent:
    data = RewardComputedPayload(
        env_id=env_id, total_reward=total, action_name="WAIT", value_estimate=0.0, action_confidence=1.0
    )
    return TelemetryEvent(data=data, epoch=epoch)


def test_a_resume_takes_back_the_batches_it_runs_again(log_of: Callable[..., RunLog]) -> None:
    emitted = [started(), reward(0, 1, 10.0), batch(0), reward(0, 1, 20.0), batch(1), reward(0, 1, 30.0)]
    again = [started(start_episode=1), reward(0, 1, 50.0), batch(1)]
    arm = log_of(*emitted, *again).arms["default"]

    assert [(episodes, part.returns[0].total) for episodes, _, part in arm.completed] == [(1, 10.0), (2, 50.0)]


def test_a_second_run_in_the_log_replaces_the_first(log_of: Callable[..., RunLog]) -> None:
    arm = log_of(started(), batch(0), batch(1), started(), reward(0, 1, 5.0), batch(0)).arms["default"]
    assert [part.returns[0].total for _, _, part in arm.completed] == [5.0]


def test_another_rank_that_starts_replaces_nothing(log_of: Callable[..., RunLog]) -> None:
    ranks = [started(world_size=2, rank=rank, episode_id="x") for rank in (0, 1)]
    arm = log_of(ranks[0], reward(0, 1, 3.0), ranks[1], batch(0)).arms["default"]
    assert arm.batches[0].returns[0].total == 3.0


def test_an_environment_whose_episode_starts_over_is_in_the_next_batch(log_of: Callable[..., RunLog]) -> None:
    emitted = [reward(0, 1), reward(1, 1), reward(0, 2), reward(1, 2), reward(1, 1, 100.0), batch(0, episodes=2)]
    again = [reward(0, 1), reward(1, 2), batch(1, episodes=2)]
    arm = log_of(started(n_envs=2, max_epochs=2), *emitted, *again).arms["default"]

    first, second = (part for _, _, part in arm.completed)
    assert {env_id: spread.total for env_id, spread in first.returns.items()} == {0: 2.0, 1: 2.0}
    assert {env_id: spread.total for env_id, spread in second.returns.items()} == {0: 1.0, 1: 101.0}


def test_a_lost_end_of_a_batch_leaves_the_batches_after_it_in_place(log_of: Callable[..., RunLog]) -> None:
    emitted = [
        [reward(0, 1, value), reward(0, 2, value), batch(index)] for index, value in enumerate((1.0, 2.0, 3.0, 4.0))
    ]
    del emitted[1][2]
    arm = log_of(started(max_epochs=2), *(event for events in emitted for event in events)).arms["default"]

    assert [(end, part.returns[0].total) for end, _, part in arm.completed] == [(1, 2.0), (3, 6.0), (4, 8.0)]
    assert arm.batches[1].returns[0].total == 4.0
    assert [arm.position(part, 0) for part in arm.batches[:4]] == [0, 1, 2, 3]


def test_a_log_that_begins_in_the_middle_does_not_stretch_its_first_batch(log_of: Callable[..., RunLog]) -> None:
    arm = log_of(reward(0, 3), reward(0, 4), batch(2), reward(0, 1), batch(3)).arms["default"]
    assert arm.span == (2, 4)


def test_a_batch_is_whole_when_every_environment_emitted_every_reward(log_of: Callable[..., RunLog]) -> None:
    def episode(*env_ids: int) -> list[TelemetryEvent]:
        return [reward(env_id, epoch) for epoch in (1, 2) for env_id in env_ids]

    end = {"episodes": 2}
    emitted = [*episode(0, 1)[1:], batch(0, **end), *episode(0, 1), batch(1, **end), *episode(0), batch(2, **end)]
    arm = log_of(started(n_envs=2), *emitted, *episode(0, 1)).arms["default"]

    assert [arm.is_whole(part) for part in arm.batches[:3]] == [False, True, False]


def test_a_batch_that_broke_off_reaches_as_far_as_it_was_emitted(log_of: Callable[..., RunLog]) -> None:
    arm = log_of(started(max_epochs=4), reward(0, 4), batch(0), reward(0, 1), reward(0, 2)).arms["default"]
    assert [arm.reach(part) for part in arm.batches] == [4, 2]
    assert arm.span == (0, 1.5)


def test_an_update_stands_where_its_batch_ended_whichever_was_emitted_first(log_of: Callable[..., RunLog]) -> None:
    before = log_of(started(), update(batch=0), batch(0), update(batch=1), batch(1)).arms["default"]
    after = log_of(started(), batch(0), update(batch=0), batch(1), update(batch=1)).arms["default"]
    assert [x for x, _ in before.updates()] == [x for x, _ in after.updates()] == [1, 2]


def test_a_log_of_updates_alone_counts_in_updates(log_of: Callable[..., RunLog]) -> None:
    arm = log_of(*[update() for _ in range(5)]).arms["default"]
    assert [x for x, _ in arm.updates()] == [1, 2, 3, 4, 5]
    assert arm.span == (0, 5)


def test_time_on_the_axis_is_in_episodes_of_all_environments(log_of: Callable[..., RunLog]) -> None:
    arm = log_of(started(n_envs=4), batch(0, episodes=4), reward(0, 1)).arms["default"]
    assert [arm.position(part, epoch) for part in arm.batches for epoch in (0, 2, 4)] == [0, 2, 4, 4, 6, 8]


def test_a_seed_lives_as_long_as_its_stages_say(log_of: Callable[..., RunLog]) -> None:
    where: dict[str, Any] = {"slot_id": "r0", "env_id": 0}

    def stage(left: str, entered: str, spent: int, epoch: int) -> TelemetryEvent:
        data = SeedStageChangedPayload(from_stage=left, to_stage=entered, epochs_in_stage=spent, **where)
        return TelemetryEvent(data=data, epoch=epoch, seed_id="s1")

    log = log_of(
        started(max_epochs=24),
        TelemetryEvent(data=SeedGerminatedPayload(blueprint_id="norm", params=24, **where), epoch=3, seed_id="s1"),
        stage("DORMANT", "GERMINATED", 0, 3),
        stage("GERMINATED", "TRAINING", 0, 3),
        stage("TRAINING", "BLENDING", 4, 7),
        TelemetryEvent(data=SeedPrunedPayload(reason="policy", **where), epoch=9, seed_id="s1"),
        stage("BLENDING", "PRUNED", 2, 9),
        stage("PRUNED", "EMBARGOED", 0, 9),
    )
    (seed,) = log.arms["default"].batches[0].seeds
    assert seed.stages == [(2, "GERMINATED"), (2, "TRAINING"), (6, "BLENDING")]
    assert (seed.ended, seed.seed.ending, seed.seed.blueprint_id) == (8, Ending.PRUNED_BY_POLICY, "norm")


def test_a_value_that_is_not_finite_stays_out_of_the_mean_and_is_counted(log_of: Callable[..., RunLog]) -> None:
    losses = [0.5, float("nan"), float("inf")]
    emitted = [
        EpochCompletedPayload(env_id=env_id, val_accuracy=0.5, val_loss=loss, inner_epoch=1)
        for env_id, loss in enumerate(losses)
    ]
    spread = log_of(started(n_envs=3), *emitted).arms["default"].batches[0].loss[1]
    assert (spread.mean, spread.n, spread.not_finite) == (0.5, 1, 2)


def accuracy(env_id: int, epoch: int, value: float) -> TelemetryEvent:
    data = EpochCompletedPayload(env_id=env_id, val_accuracy=value, val_loss=1.0, inner_epoch=epoch)
    return TelemetryEvent(data=data, epoch=epoch)


def test_an_epoch_that_comes_after_the_end_of_its_batch_shifts_nothing(log_of: Callable[..., RunLog]) -> None:
    emitted: list[TelemetryPayload | TelemetryEvent] = [started(n_envs=2, max_epochs=2)]
    for index in range(5):
        late = accuracy(1, 2, float(index))
        emitted += [accuracy(env_id, 1, float(index)) for env_id in (0, 1)] + [accuracy(0, 2, float(index))]
        emitted += [late, batch(index, episodes=2)] if index else [batch(index, episodes=2), late]
    arm = log_of(*emitted).arms["default"]
    assert [[spread.mean for spread in part.accuracy.values()] for part in arm.batches] == [[b, b] for b in range(5)]
    assert arm.unplaced == 0


def test_what_stays_of_a_batch_that_a_resume_cuts_is_drawn_up_to_where_it_was_cut(
    log_of: Callable[..., RunLog],
) -> None:
    emitted = [reward(0, 1, 10.0), reward(1, 1, 20.0), batch(0, episodes=2), reward(0, 1, 30.0), reward(1, 1, 40.0)]
    again = [started(n_envs=2, max_epochs=1, start_episode=3), reward(0, 1, 50.0), reward(1, 1, 60.0)]
    arm = log_of(started(n_envs=2, max_epochs=1), *emitted, batch(1, episodes=2), *again).arms["default"]

    assert [(part.start, part.end) for part in arm.batches] == [(0, 2), (2, 3), (3, 5)]
    assert [{env_id: steps.total for env_id, steps in part.returns.items()} for part in arm.batches] == [
        {0: 10.0, 1: 20.0},
        {0: 30.0},
        {0: 50.0, 1: 60.0},
    ]
    assert [episodes for episodes, _, _ in arm.completed] == [2]


def test_what_comes_before_the_first_end_of_a_log_without_its_start_is_of_that_batch(
    log_of: Callable[..., RunLog],
) -> None:
    arm = log_of(update(), reward(0, 1, 5.0), batch(7), reward(0, 1, 6.0), update(), batch(8)).arms["default"]
    assert [part.returns[0].total for part in arm.batches] == [5.0, 6.0]
    assert [x for x, _ in arm.updates()] == [8.0, 9.0]


def test_what_stands_nowhere_is_counted_and_not_drawn(log_of: Callable[..., RunLog]) -> None:
    skipped = [accuracy(0, 1, 0.1), batch(0), batch(1), accuracy(0, 1, 0.2), batch(2)]
    arm = log_of(started(max_epochs=1), *skipped).arms["default"]
    assert [part.accuracy[1].mean for part in arm.batches if part.accuracy] == [0.1]
    assert arm.unplaced == 1


def test_shards_whose_clocks_are_hours_apart_are_put_together_by_their_batches(tmp_path: Path) -> None:
    for rank in (0, 1):
        begun = started(n_envs=2, max_epochs=1, world_size=2, rank=rank, episode_id="x")
        own: list[TelemetryPayload | TelemetryEvent] = [begun]
        for index in range(3):
            own += [reward(rank, 1, float(index)), *([batch(index, episodes=2)] if rank == 0 else [])]
        events = [one if isinstance(one, TelemetryEvent) else TelemetryEvent(data=one) for one in own]
        lines = [encode_event(replace(one, timestamp=NOON + timedelta(hours=5 * rank))) + "\n" for one in events]
        (tmp_path / f"events-rank{rank}.jsonl").write_text("".join(lines))
    arm = read_log(str(tmp_path)).arms["default"]
    totals = [{env_id: steps.total for env_id, steps in part.returns.items()} for part in arm.batches]
    assert totals == [{0: float(index), 1: float(index)} for index in range(3)]


def stage(left: str, entered: str, epoch: int | None = None, **fields: Any) -> TelemetryEvent:
    data = SeedStageChangedPayload(slot_id="r0", env_id=0, from_stage=left, to_stage=entered, **fields)
    return TelemetryEvent(data=data, epoch=epoch, seed_id="s1")


def pruned(epoch: int | None) -> TelemetryEvent:
    return TelemetryEvent(data=SeedPrunedPayload(slot_id="r0", env_id=0, reason="policy"), epoch=epoch, seed_id="s1")


def fossilized(epoch: int) -> TelemetryEvent:
    data = SeedFossilizedPayload(slot_id="r0", env_id=0, blueprint_id="norm", improvement=0.1, params_added=24)
    return TelemetryEvent(data=data, epoch=epoch, seed_id="s1")


@pytest.mark.parametrize(
    ("end", "ended"),
    [
        ([pruned(9)], 8.0),
        ([pruned(None)], None),
        ([fossilized(9)], None),
        ([stage("TRAINING", "PRUNED", 7)], 6.0),
        ([stage("TRAINING", "PRUNED", 7), pruned(9)], 6.0),
        ([], None),
    ],
)
def test_a_seed_ends_where_its_stages_say_or_else_where_it_was_pruned(
    log_of: Callable[..., RunLog], end: list[TelemetryEvent], ended: float | None
) -> None:
    arm = log_of(started(max_epochs=24), stage("GERMINATED", "TRAINING", 3), *end).arms["default"]
    (life,) = arm.seeds
    assert (life.stages, life.ended) == ([(2.0, "TRAINING")], ended)
    assert arm.batches[0].seeds == [life]


def test_a_stage_is_entered_when_the_one_before_was_spent_or_else_in_its_own_epoch(
    log_of: Callable[..., RunLog],
) -> None:
    told = [
        stage("DORMANT", "GERMINATED", 3, epochs_in_stage=9), stage("GERMINATED", "TRAINING", 5),
        stage("TRAINING", "BLENDING", 9, epochs_in_stage=2), stage("BLENDING", "HOLDING"),
    ]  # fmt: skip
    (life,) = log_of(started(max_epochs=24), *told).arms["default"].seeds
    assert life.stages == [(2.0, "GERMINATED"), (4.0, "TRAINING"), (6.0, "BLENDING"), (6.0, "HOLDING")]


def test_the_seeds_of_a_blueprint_are_found_and_those_of_none(log_of: Callable[..., RunLog]) -> None:
    data = SeedGerminatedPayload(slot_id="r1", env_id=0, blueprint_id="norm", params=24)
    arm = log_of(started(), stage("A", "B", 1), TelemetryEvent(data=data, epoch=1)).arms["default"]
    assert [[life.slot_id for life in arm.lives_of(name)] for name in ("norm", None, "other")] == [["r1"], ["r0"], []]


def test_what_was_emitted_in_a_batch_is_put_together_there(log_of: Callable[..., RunLog]) -> None:
    steps = [
        RewardComputedPayload(
            env_id=env_id, total_reward=1.0, action_name="WAIT", value_estimate=0.0, action_confidence=1.0,
            compute_rent=-float(env_id),
        )
        for env_id in (0, 1)
    ]  # fmt: skip
    configs = ({"seed_mask": [True], "accuracy": 0.9}, {"seed_mask": [False], "accuracy": 0.5})
    matrices = [CounterfactualMatrixPayload(env_id=env_id, slot_ids=("r0",), configs=configs) for env_id in (0, 1)]
    counts = AnalyticsSnapshotPayload(kind="action_distribution", action_counts={"WAIT": 2})
    (part,) = log_of(started(n_envs=2), *steps, *matrices, counts).arms["default"].batches
    assert (part.components["compute_rent"].total, part.components["compute_rent"].n) == (-1.0, 2)
    assert part.contributions["r0"].n == 2
    assert part.contributions["r0"].mean == pytest.approx(0.4)
    assert part.action_counts == counts
    assert "base_acc_delta" not in part.components


def test_a_reward_that_is_not_finite_is_a_step_all_the_same(log_of: Callable[..., RunLog]) -> None:
    first = [reward(0, 1, float("nan")), reward(0, 2), batch(0)]
    arm = log_of(started(max_epochs=2), *first, reward(0, 1), reward(0, 2), batch(1)).arms["default"]
    assert [arm.is_whole(part) for part in arm.batches] == [True, True]


def test_a_completed_batch_reaches_to_its_end_whatever_is_known_of_its_epochs(log_of: Callable[..., RunLog]) -> None:
    arm = log_of(started(max_epochs=4), reward(0, 1), batch(0), reward(0, 1), batch(1)).arms["default"]
    assert [arm.reach(part) for part in arm.batches] == [4, 4]


def test_an_update_that_names_an_ended_batch_stands_there_also_where_episodes_end_when_they_like(
    log_of: Callable[..., RunLog],
) -> None:
    ends = [batch(index, episodes=2) for index in range(3)]
    arm = log_of(started(max_epochs=0, n_envs=2), *ends, update(batch=0), update(batch=7)).arms["default"]
    assert [(len(part.updates), part.start) for part in arm.batches] == [(1, 0), (0, 2), (0, 4)]
    assert [x for x, _ in arm.updates()] == [0.0, 2.0]
