from __future__ import annotations

import math

import pytest
from tests.builders import event

from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedGerminatedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)
from esper.nissa.plotting import Plotter, Point


@pytest.fixture
def plotter() -> Plotter:
    return Plotter()


def made(data: TelemetryPayload, epoch: int | None = None, group_id: str = "default") -> TelemetryEvent:
    return TelemetryEvent(data=data, epoch=epoch, group_id=group_id)


def epoch_completed(inner_epoch: int, env_id: int = 0, group_id: str = "default") -> TelemetryEvent:
    return made(EpochCompletedPayload(env_id, 0.5, 1.0, inner_epoch), inner_epoch, group_id)


def rewarded(epoch: int) -> TelemetryEvent:
    return made(RewardComputedPayload(0, 1.0, "WAIT", 0.0, 0.5), epoch)


def updated(batch: int | None = None) -> TelemetryEvent:
    values = (0.1, 0.2, 1.5, 0.4, 0.01, 0.1, 0)
    return made(PPOUpdatePayload(*values) if batch is None else PPOUpdatePayload(*values, batch=batch))


def batch_completed(batch: int, group_id: str = "default") -> TelemetryEvent:
    return made(BatchEpochCompletedPayload(4, batch, 0.5, 1.0, 8, 4), group_id=group_id)


def started(start_episode: int) -> TelemetryEvent:
    return made(
        TrainingStartedPayload(
            n_envs=4,
            max_epochs=3,
            task="digits",
            host_params=706,
            slot_ids=("r0",),
            seed=7,
            n_episodes=80,
            lr=1e-3,
            clip_ratio=0.2,
            entropy_coef=0.01,
            param_budget=1000,
            policy_device="cpu",
            env_devices=("cpu",) * 4,
            start_episode=start_episode,
        )
    )


def places(plotter: Plotter, *events: TelemetryEvent) -> list[tuple[str, int | None]]:
    points = [plotter.point(event) for event in events]
    return [(point.axis, point.step) for point in points]


class TestSteps:
    def test_an_environments_epochs_count_on_over_its_episodes(self, plotter: Plotter) -> None:
        events = [epoch_completed(1), epoch_completed(2), batch_completed(0), epoch_completed(1), epoch_completed(2)]
        steps = [plotter.point(event).step for event in events]
        assert steps == [1, 2, 0, 3, 4]

    def test_they_do_so_without_an_end_of_batch(self, plotter: Plotter) -> None:
        events = [epoch_completed(epoch) for epoch in (1, 2, 3, 1, 2, 3, 1)]
        assert [plotter.point(event).step for event in events] == [1, 2, 3, 4, 5, 6, 7]

    def test_a_reward_emitted_before_or_after_its_epoch_stands_at_the_same_step(self, plotter: Plotter) -> None:
        events = [rewarded(1), epoch_completed(1), epoch_completed(2), rewarded(2), batch_completed(0), rewarded(1)]
        assert [plotter.point(event).step for event in events] == [1, 1, 2, 2, 0, 3]

    def test_what_has_no_epoch_stands_where_its_environment_is(self, plotter: Plotter) -> None:
        seed = made(SeedGerminatedPayload(slot_id="r0", env_id=0, blueprint_id="mlp", params=8))
        assert places(plotter, epoch_completed(1), epoch_completed(2), seed)[-1] == ("env_epoch", 2)

    def test_environments_and_groups_are_counted_apart(self, plotter: Plotter) -> None:
        events = [
            epoch_completed(1),
            epoch_completed(1, env_id=1),
            epoch_completed(1, group_id="B"),
            batch_completed(0),
            epoch_completed(1),
            epoch_completed(2, group_id="B"),
        ]
        assert [plotter.point(event).step for event in events] == [1, 1, 1, 0, 2, 2]

    def test_an_update_stands_at_its_batch_or_else_at_its_number(self, plotter: Plotter) -> None:
        assert places(plotter, updated(batch=7), updated(batch=8)) == [("batch", 7), ("batch", 8)]
        assert places(Plotter(), updated(), updated()) == [("batch", 0), ("batch", 1)]

    def test_a_resumed_run_continues_the_curves(self, plotter: Plotter) -> None:
        actions = made(AnalyticsSnapshotPayload(kind="action_distribution", action_counts={"WAIT": 3}))
        assert places(plotter, started(8), epoch_completed(1), actions, updated()) == [
            ("batch", 2),
            ("env_epoch", 7),
            ("batch", 2),
            ("batch", 2),
        ]


def started_small(start_episode: int = 0, **settings: int) -> TelemetryEvent:
    return event(TrainingStartedPayload, **{"n_envs": 2, "max_epochs": 2, **settings}, start_episode=start_episode)


def ended(batch: int, *, n_envs: int = 2) -> TelemetryEvent:
    completed = (batch + 1) * n_envs
    return event(BatchEpochCompletedPayload, episodes_completed=completed, batch_idx=batch, n_envs=n_envs)


def episode(env_id: int, epochs: int = 2) -> list[TelemetryEvent]:
    return [epoch_completed(epoch, env_id) for epoch in range(1, epochs + 1)]


class TestPositions:
    def test_what_comes_after_the_end_of_its_batch_stands_in_its_batch(self, plotter: Plotter) -> None:
        told = [started_small(), *episode(0), epoch_completed(1, 1), ended(0), epoch_completed(2, 1), *episode(1)]
        assert [plotter.point(one).step for one in told] == [0, 1, 2, 1, 0, 2, 3, 4]

    def test_what_stands_nowhere_known_is_not_drawn(self, plotter: Plotter) -> None:
        told = [started_small(), *episode(0), ended(0), ended(1), *episode(0), ended(2), *episode(0)]
        steps = [plotter.point(one).step for one in told]
        assert steps == [0, 1, 2, 0, 1, None, None, 2, 7, 8]

    def test_a_resume_retracts_of_each_environment_what_it_supersedes(self, plotter: Plotter) -> None:
        """It begins with the second of the two episodes of batch 1."""
        told = [started_small(), *episode(0), *episode(1), ended(0), *episode(0), *episode(1), ended(1)]
        assert all(plotter.point(one).retracts_from is None for one in told)
        again = [started_small(3), *episode(0), *episode(1)]
        points = [plotter.point(one) for one in again]
        assert [point.retracts_from for point in points] == [1, 5, None, 3, None]
        assert {point.begun_anew for point in points} == {1}

    def test_the_start_of_another_rank_retracts_nothing(self, plotter: Plotter) -> None:
        def rank(number: int) -> TelemetryEvent:
            return event(TrainingStartedPayload, n_envs=2, max_epochs=1, world_size=2, rank=number, episode_id="x")

        assert [plotter.point(one).retracts_from for one in (rank(0), *episode(0, 1), rank(1))] == [None] * 3

    def test_another_run_in_the_log_is_drawn_anew_from_its_first_step(self, plotter: Plotter) -> None:
        for one in (started_small(), *episode(0), ended(0)):
            plotter.point(one)
        assert [plotter.point(one).retracts_from for one in (started_small(), *episode(0))] == [0, 1, None]

    def test_where_episodes_end_when_they_like_epochs_are_counted_on(self, plotter: Plotter) -> None:
        told = [started_small(max_epochs=0), *episode(0, 3), *episode(0, 1), ended(0), *episode(0, 2)]
        assert [plotter.point(one).step for one in told] == [0, 1, 2, 3, 4, 0, 5, 6]

    def test_updates_without_a_batch_are_counted_until_one_has_ended(self, plotter: Plotter) -> None:
        told = [started_small(), updated(), updated(), ended(0), updated(), updated(), ended(1), updated()]
        assert [plotter.point(one).step for one in told] == [0, 0, 1, 0, 1, 1, 1, 2]

    def test_a_run_that_begins_after_one_whose_start_was_lost_is_drawn_anew(self, plotter: Plotter) -> None:
        told = [*episode(0), ended(0), started_small(), *episode(0)]
        assert [plotter.point(one).retracts_from for one in told] == [None, None, None, 0, 1, None]
        late = [*episode(0), started_small()]
        assert [Plotter().point(one).retracts_from for one in late] == [None] * 3

    def test_the_start_of_another_rank_leaves_the_curves_where_they_are(self, plotter: Plotter) -> None:
        def rank(number: int) -> TelemetryEvent:
            return started_small(max_epochs=0, world_size=2, rank=number)

        told = [rank(0), *episode(0, 3), rank(1), epoch_completed(1)]
        assert [plotter.point(one).step for one in told] == [0, 1, 2, 3, 0, 4]

    @pytest.mark.parametrize(("max_epochs", "step"), [(2, 2), (0, 1)])
    def test_a_resume_stands_in_the_batch_that_it_goes_on_with(self, max_epochs: int, step: int) -> None:
        """Three episodes of two environments fill one batch and begin another, if they are in lock-step."""
        assert Plotter().point(started_small(3, max_epochs=max_epochs)).step == step

    @pytest.mark.parametrize("unknown", [{"max_epochs": 0}, {"n_envs": 0}])
    def test_a_resume_of_unknown_shape_draws_anew_from_where_it_is(
        self, plotter: Plotter, unknown: dict[str, int]
    ) -> None:
        points = [plotter.point(one) for one in (started_small(6, **unknown), epoch_completed(2), *episode(0))]
        begun = points[1].step
        assert begun is not None
        assert begun >= 2
        drawn = [(begun, begun), (begun + 1, None), (begun + 2, None)]
        assert [(point.step, point.retracts_from) for point in points[1:]] == drawn

    def test_where_episodes_of_one_epoch_end_when_they_like_they_are_counted(self, plotter: Plotter) -> None:
        told = [started_small(max_epochs=0), *(epoch_completed(1) for _ in range(3))]
        assert [plotter.point(one).step for one in told] == [0, 1, 2, 3]


class TestNumbers:
    def numbers(self, data: TelemetryPayload) -> dict[str, float]:
        return Plotter().point(made(data)).numbers

    def test_only_what_was_supplied_is_plotted(self) -> None:
        assert set(self.numbers(EpochCompletedPayload(0, 0.5, 1.0, 1))) == {"val_accuracy", "val_loss", "inner_epoch"}
        without = PPOUpdatePayload(0.1, 0.2, 1.5, 0.4, 0.01, 0.1, 0)
        assert "explained_variance" not in self.numbers(without)
        zero = PPOUpdatePayload(0.1, 0.2, 1.5, 0.4, 0.01, 0.1, 0, explained_variance=0.0, advantage_mean=0.0)
        assert self.numbers(zero)["explained_variance"] == 0
        assert self.numbers(zero)["advantage_mean"] == 0

    def test_none_is_no_number(self) -> None:
        assert "lr" not in self.numbers(PPOUpdatePayload(0.1, 0.2, 1.5, 0.4, 0.01, 0.1, 0, lr=None))

    def test_what_is_not_finite_is_kept(self) -> None:
        numbers = self.numbers(PPOUpdatePayload(math.nan, 0.2, 1.5, math.inf, -math.inf, 0.1, 0))
        assert math.isnan(numbers["policy_loss"])
        assert (numbers["grad_norm"], numbers["kl_divergence"]) == (math.inf, -math.inf)

    def test_dicts_tuples_and_flags_become_numbers_under_their_fields_name(self) -> None:
        seeds = {"r0": {"alpha": 0.5, "stage": "BLENDING", "params": 144}}
        assert self.numbers(EpochCompletedPayload(0, 0.5, 1.0, 1, seeds=seeds)).items() >= {
            ("seeds/r0/alpha", 0.5),
            ("seeds/r0/params", 144.0),
        }
        batch = BatchEpochCompletedPayload(4, 0, 0.5, 1.0, 8, 2, env_accuracies=(1, 0.75))
        assert self.numbers(batch).items() >= {("env_accuracies/0", 1.0), ("env_accuracies/1", 0.75)}
        assert self.numbers(PPOUpdatePayload(0.1, 0.2, 1.5, 0.4, 0.01, 0.1, 0, skipped=True))["skipped"] == 1.0

    def test_what_is_written_as_text_has_no_numbers(self) -> None:
        point = Plotter().point(started_small())
        assert (point.is_text, point.numbers) == (True, {})

    def test_identity_is_no_number(self) -> None:
        point = Plotter().point(epoch_completed(1, env_id=3))
        assert isinstance(point, Point)
        assert point.env_id == 3
        assert "env_id" not in point.numbers
