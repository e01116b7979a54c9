"""A whole, tiny training run on real data: what is emitted, in which order, and that it repeats."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, TypeVar

import pytest
import torch

from esper.leyline.actions import Op
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.leyline.wire import encode_event
from esper.simic.ppo import Learner
from esper.simic.training.vectorized import TrainedPolicy, TrainingConfig, train

P = TypeVar("P")
WALL_TIME = {"update_time_ms", "compute_time_ms"}
SMALL: dict[str, Any] = {"episodes": 5, "envs": 2, "max_epochs": 6, "seed": 3}


def run(**options: Any) -> tuple[list[TelemetryEvent], TrainedPolicy]:
    emitted: list[TelemetryEvent] = []
    trained = train(TrainingConfig(**(SMALL | options)), emitted.append)
    return emitted, trained


@pytest.fixture(scope="module")
def emitted() -> list[TelemetryEvent]:
    return run()[0]


def of(events: list[TelemetryEvent], kind: type[P]) -> list[P]:
    return [event.data for event in events if isinstance(event.data, kind)]


def batches(events: list[TelemetryEvent]) -> list[list[TelemetryEvent]]:
    """Split after each batch's last event."""
    found: list[list[TelemetryEvent]] = [[]]
    for event in events[1:]:
        found[-1].append(event)
        if isinstance(event.data, BatchEpochCompletedPayload):
            found.append([])
    return found[:-1]


def test_the_run_opens_with_its_configuration(emitted: list[TelemetryEvent]) -> None:
    started = emitted[0].data
    assert isinstance(started, TrainingStartedPayload)
    assert len(of(emitted, TrainingStartedPayload)) == 1
    assert started.host_params == 706
    assert started.n_episodes == 5
    assert started.slot_ids == ("r0", "r1", "r2")
    assert started.env_devices == ("cpu", "cpu")
    assert started.entropy_anneal == {"start": 0.05, "end": 0.01, "episodes": 5.0}
    assert not started.supplied & {"episode_id", "amp_dtype", "compile_backend", "compile_mode"}


def test_each_batch_ends_with_its_commit_barrier_and_nothing_follows_the_last(emitted: list[TelemetryEvent]) -> None:
    assert isinstance(emitted[-1].data, BatchEpochCompletedPayload)
    for index, events in enumerate(batches(emitted)):
        kinds = [event.data for event in events]
        (update,) = (data for data in kinds if isinstance(data, PPOUpdatePayload))
        assert update.batch == index
        after = kinds[kinds.index(update) + 1 :]
        analytics = [data.kind for data in after if isinstance(data, AnalyticsSnapshotPayload)]
        n_envs = 2 if index < 2 else 1
        assert analytics == ["action_distribution", *["last_action"] * n_envs]
        assert len(after) == len(analytics) + 1


def test_episodes_that_do_not_fill_a_batch_are_played_by_fewer_environments(emitted: list[TelemetryEvent]) -> None:
    results = of(emitted, BatchEpochCompletedPayload)
    assert [result.n_envs for result in results] == [2, 2, 1]
    assert [result.episodes_completed for result in results] == [2, 4, 5]
    assert [result.batch_idx for result in results] == [0, 1, 2]
    assert all(result.total_episodes == 5 for result in results)
    last = batches(emitted)[-1]
    assert {data.env_id for data in of(last, RewardComputedPayload)} == {0}


def test_every_environment_emits_its_reward_after_its_epoch_at_every_step(emitted: list[TelemetryEvent]) -> None:
    for events in batches(emitted):
        for env_id in {data.env_id for data in of(events, RewardComputedPayload)}:
            mine = [
                event
                for event in events
                if isinstance(event.data, RewardComputedPayload | EpochCompletedPayload) and event.data.env_id == env_id
            ]
            assert [type(event.data) for event in mine] == [EpochCompletedPayload, RewardComputedPayload] * 6
            assert [event.epoch for event in mine] == [epoch for epoch in range(1, 7) for _ in range(2)]


def test_batch_means_are_those_of_the_rewards_and_accuracies_emitted(emitted: list[TelemetryEvent]) -> None:
    averages = []
    for events in batches(emitted):
        result = events[-1].data
        assert isinstance(result, BatchEpochCompletedPayload)
        rewards = of(events, RewardComputedPayload)
        assert result.avg_reward == pytest.approx(sum(data.total_reward for data in rewards) / result.n_envs, abs=1e-4)
        finals = {data.env_id: data.val_accuracy for data in of(events, EpochCompletedPayload)}
        assert result.env_accuracies == tuple(finals.values())
        assert result.avg_accuracy == pytest.approx(sum(finals.values()) / len(finals))
        averages.append(result.avg_accuracy)
        assert result.rolling_accuracy == pytest.approx(sum(averages) / len(averages))


def test_learning_rate_and_entropy_coefficient_fall_with_the_episodes(emitted: list[TelemetryEvent]) -> None:
    updates = of(emitted, PPOUpdatePayload)
    progress = [0.0, 0.4, 0.8]
    assert [update.lr for update in updates] == pytest.approx([3e-3 * (1 - 0.9 * share) for share in progress])
    assert [update.entropy_coef for update in updates] == pytest.approx([0.05 - 0.04 * share for share in progress])


def test_action_counts_cover_every_decision_of_the_batch(emitted: list[TelemetryEvent]) -> None:
    for events in batches(emitted):
        (counts,) = [data.action_counts for data in of(events, AnalyticsSnapshotPayload) if data.action_counts]
        carried_out = Counter(data.action_name for data in of(events, RewardComputedPayload))
        assert counts == {op.name: carried_out[op.name] for op in Op}


def test_the_last_action_is_the_last_reward_of_its_environment(emitted: list[TelemetryEvent]) -> None:
    for events in batches(emitted):
        newest = {data.env_id: data for data in of(events, RewardComputedPayload)}
        for last in (data for data in of(events, AnalyticsSnapshotPayload) if data.kind == "last_action"):
            assert last.env_id is not None
            reward = newest[last.env_id]
            assert last.action_name == reward.action_name
            assert last.total_reward == reward.total_reward
            assert last.action_confidence == reward.action_confidence
            assert last.value_estimate == reward.value_estimate


def test_a_reward_explains_itself(emitted: list[TelemetryEvent]) -> None:
    rewards = [event for event in emitted if isinstance(event.data, RewardComputedPayload)]
    for event in rewards:
        data = event.data
        assert isinstance(data, RewardComputedPayload)
        parts = (
            data.base_acc_delta, data.bounded_attribution, data.compute_rent, data.alpha_shock, data.ratio_penalty,
            data.stage_bonus, data.fossilize_terminal_bonus, data.blending_warning, data.holding_warning,
        )  # fmt: skip
        assert math.fsum(parts) == pytest.approx(data.total_reward, abs=1e-9)
        assert 0.0 < data.action_confidence <= 1.0
        assert set(data.slot_states or ()) == {"r0", "r1", "r2"}
        assert event.slot_id == data.action_slot
        assert ("action_slot" in data.supplied) == (data.action_name != "WAIT")
        assert "ab_group" not in data.supplied
        chosen = (data.action_name, data.action_slot)
        others = [(other["action"], other["slot"]) for other in data.alternatives or ()]
        assert chosen not in others
        chances = [other["probability"] for other in data.alternatives or ()]
        assert chances == sorted(chances, reverse=True)
    assert {event.severity for event in rewards} == {"debug"}


def test_every_event_can_be_written_to_the_log(emitted: list[TelemetryEvent]) -> None:
    assert all(encode_event(event) for event in emitted)


def comparable(events: list[TelemetryEvent]) -> list[tuple[object, ...]]:
    """Everything but identity and wall time."""
    return [
        (
            type(event.data),
            {key: value for key, value in event.data.to_dict().items() if key not in WALL_TIME},
            event.epoch,
            event.slot_id,
            event.seed_id,
            event.message,
            event.severity,
        )
        for event in events
    ]


def test_two_runs_of_one_seed_emit_the_same_whatever_the_global_generator_does(emitted: list[TelemetryEvent]) -> None:
    torch.manual_seed(12345)
    again, _ = run()
    assert repr(comparable(again)) == repr(comparable(emitted))


def test_another_seed_emits_other_events(emitted: list[TelemetryEvent]) -> None:
    other, _ = run(seed=4, episodes=1)
    assert of(other, RewardComputedPayload)[0] != of(emitted, RewardComputedPayload)[0]


def test_the_arm_of_a_comparison_is_on_every_event_and_in_every_reward() -> None:
    emitted, _ = run(group_id="b", episodes=1, envs=1, max_epochs=2, episode_id="run-7")
    assert {event.group_id for event in emitted} == {"b"}
    assert {data.ab_group for data in of(emitted, RewardComputedPayload)} == {"b"}
    assert of(emitted, TrainingStartedPayload)[0].episode_id == "run-7"


class _StopAfter:
    def __init__(self, rewards: int) -> None:
        self.left = rewards

    def __call__(self, event: TelemetryEvent) -> None:
        if isinstance(event.data, RewardComputedPayload):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


def test_an_interrupt_comes_through_and_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(TrainingConfig(**SMALL), _StopAfter(3))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_weights_that_are_not_finite_stop_training_after_they_were_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    update = Learner.update

    def ruin(self: Learner, *args: Any, **kwargs: Any) -> PPOUpdatePayload:
        emitted = update(self, *args, **kwargs)
        with torch.no_grad():
            self.policy.value.bias.fill_(math.nan)
        return emitted

    monkeypatch.setattr(Learner, "update", ruin)
    emitted: list[TelemetryEvent] = []
    with pytest.raises(FloatingPointError, match="weights are not finite after update 0"):
        train(TrainingConfig(**SMALL), emitted.append)
    assert len(of(emitted, PPOUpdatePayload)) == 1
    assert not of(emitted, BatchEpochCompletedPayload)


def test_mixed_precision_is_emitted_from_start_to_update() -> None:
    emitted, _ = run(amp_dtype="float16", episodes=2)
    started, update = of(emitted, TrainingStartedPayload)[0], of(emitted, PPOUpdatePayload)[0]
    assert started.amp_enabled
    assert started.amp_dtype == "float16"
    assert {"loss_scale", "amp_overflow_detected", "update_skipped"} <= update.supplied


def test_a_compiled_policy_trains_and_saves_under_its_plain_names() -> None:
    emitted, trained = run(compile_backend="eager", episodes=2, max_epochs=2)
    started = of(emitted, TrainingStartedPayload)[0]
    assert (started.compile_enabled, started.compile_backend, started.compile_mode) == (True, "eager", None)
    assert "actor.0.weight" in trained.state


def test_an_unknown_task_is_refused_before_anything_is_emitted() -> None:
    emitted: list[TelemetryEvent] = []
    with pytest.raises(ValueError, match="unknown task 'dogs'"):
        train(TrainingConfig(task="dogs"), emitted.append)
    assert emitted == []
