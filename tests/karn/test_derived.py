"""What follows from payloads: the same for every view, and nothing where nothing was measured."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from tests.builders import event, payload

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.derived import (
    COMPONENTS,
    MatrixRow,
    accuracies_of,
    accuracy_of,
    age_in,
    age_text,
    confidence_of,
    contributions,
    evaluation_of,
    grows,
    has_host,
    known,
    matrix_rows,
    planned_episodes,
    return_of,
    returns_of,
    reward_components,
)
from esper.karn.progress import played_text
from esper.karn.snapshot import RunSnapshot
from esper.leyline.field_docs import meanings
from esper.leyline.position import Position
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
    SeedGerminatedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)


def fold(*events: TelemetryEvent) -> RunSnapshot:
    aggregator = TelemetryAggregator()
    for made in events:
        aggregator.process(made)
    return aggregator.snapshot()


def test_the_components_are_those_that_the_contract_calls_contributions_in_its_order() -> None:
    documented = meanings(RewardComputedPayload)
    assert [name for name, about in documented.items() if about.text.startswith("Contribution")] == list(COMPONENTS)


def test_no_component_has_to_be_supplied() -> None:
    assert set(COMPONENTS) <= payload(RewardComputedPayload, **dict.fromkeys(COMPONENTS, 0.0)).supplied


def test_a_component_that_was_not_supplied_is_none_and_one_of_zero_is_zero() -> None:
    found = reward_components(payload(RewardComputedPayload, compute_rent=0.0))
    assert found == dict.fromkeys(COMPONENTS) | {"compute_rent": 0.0}


def test_a_count_of_zero_is_unknown() -> None:
    assert (known(0), known(3)) == (None, 3)


@pytest.mark.parametrize(
    ("accuracy", "loss", "expected"),
    [(0.5, 1.0, 0.5), (math.nan, 1.0, None), (math.nan, math.inf, math.nan), (0.0, math.nan, 0.0)],
)
def test_an_accuracy_of_nan_was_not_measured_unless_the_host_diverged(
    accuracy: float, loss: float, expected: float | None
) -> None:
    found = accuracy_of(payload(EpochCompletedPayload, val_accuracy=accuracy, val_loss=loss))
    assert found == expected or (found is not None and math.isnan(found))


def test_a_batch_that_measured_no_accuracy_has_none() -> None:
    assert accuracy_of(payload(BatchEpochCompletedPayload, avg_accuracy=math.nan)) is None
    assert accuracy_of(payload(BatchEpochCompletedPayload, avg_accuracy=0.25)) == 0.25


@pytest.mark.parametrize(
    ("done", "planned", "shown"), [(8, 40, "8 of 40"), (40, 40, "40 of 40"), (129, 0, "129"), (129, 40, "129")]
)
def test_a_plan_that_is_not_known_or_was_exceeded_is_not_shown(done: int, planned: int, shown: str) -> None:
    batch = payload(BatchEpochCompletedPayload, episodes_completed=done, total_episodes=planned)
    assert played_text(batch) == f"{shown} episodes"
    assert planned_episodes(batch) == (planned if "of" in shown else None)


MATRIX = payload(
    CounterfactualMatrixPayload,
    slot_ids=("a", "b"),
    configs=(
        {"seed_mask": [True, True], "accuracy": 0.9},
        {"seed_mask": [False, True], "accuracy": 0.6},
        {"seed_mask": [True, False]},
        {"seed_mask": [True], "accuracy": 0.1},
        {"accuracy": True},
    ),
)


def test_the_rows_of_a_matrix_keep_what_is_of_the_documented_form() -> None:
    assert matrix_rows(MATRIX) == [
        MatrixRow((True, True), 0.9),
        MatrixRow((False, True), 0.6),
        MatrixRow((True, False), None),
        MatrixRow(None, 0.1),
        MatrixRow(None, None),
    ]


def test_a_contribution_is_what_is_lost_without_one_seed_where_both_were_measured() -> None:
    assert dict(contributions(MATRIX)) == {"a": pytest.approx(0.3)}
    assert dict(contributions(payload(CounterfactualMatrixPayload))) == {}
    full = tuple(
        {"seed_mask": mask, "accuracy": accuracy}
        for mask, accuracy in (([1, 1, 1], 0.9), ([0, 1, 1], 0.8), ([1, 0, 1], 0.6), ([1, 1, 0], 0.1))
    )
    for configs, found in ((full, {"a": 0.1, "b": 0.3, "c": 0.8}), (full[:1], {}), (full[1:], {})):
        matrix = payload(CounterfactualMatrixPayload, slot_ids=("a", "b", "c"), configs=configs)
        assert dict(contributions(matrix)) == pytest.approx(found)


def test_what_is_of_an_earlier_batch_says_how_long_ago() -> None:
    def at(batch: int | None) -> Position:
        return Position(0, 0, 0, batch, None)

    assert age_text(at(3), at(4)) == "1 batch ago"
    assert age_text(at(0), at(5)) == "5 batches ago"
    assert [age_text(at(then), at(now)) for then, now in [(3, 3), (4, 3), (None, 3), (3, None)]] == [""] * 4


def test_the_confidence_of_a_density_is_none() -> None:
    found = [confidence_of(payload(RewardComputedPayload, action_confidence=of)) for of in (0.25, math.nan)]
    assert found == [0.25, None]


@pytest.mark.parametrize("known_of_it", [{"host_params": 706}, {"max_epochs": 3}, {"slot_ids": ("a",)}])
def test_a_host_grows_where_a_start_knows_host_or_slots_or_where_nobody_knows(known_of_it: dict[str, object]) -> None:
    assert grows(None)
    assert grows(payload(TrainingStartedPayload, **known_of_it))
    assert not grows(payload(TrainingStartedPayload))


def test_a_group_has_a_host_where_something_grew_or_nobody_knows() -> None:
    foreign = event(TrainingStartedPayload)
    told: tuple[list[TelemetryEvent], ...] = (
        [],
        [foreign],
        [foreign, event(SeedGerminatedPayload)],
        [event(TrainingStartedPayload, max_epochs=3)],
    )
    groups = [fold(*events, event(RewardComputedPayload)).groups["default"] for events in told]
    assert [has_host(group) for group in (None, *groups)] == [True, True, False, True, True]


@pytest.mark.parametrize(("host_params", "kept"), [(0, 1), (706, 2)])
def test_returns_leave_out_rollouts_in_which_no_episode_ended_and_accuracies_what_was_not_measured(
    host_params: int, kept: int
) -> None:
    start = event(TrainingStartedPayload, host_params=host_params)
    batches = [
        event(BatchEpochCompletedPayload, batch_idx=at, episodes_completed=at + 1, avg_reward=reward, avg_accuracy=seen)
        for at, (reward, seen) in enumerate([(2.0, 0.5), (math.nan, math.nan)])
    ]
    group = fold(start, *batches).groups["default"]
    returns = returns_of(group)
    assert (returns[0], len(returns), accuracies_of(group)) == (2.0, kept, [0.5])
    assert returns_of(fold(*batches).groups["default"])[0] == 2.0
    ends = [batch.data for batch in batches if isinstance(batch.data, BatchEpochCompletedPayload)]
    assert return_of(ends[0], payload(TrainingStartedPayload)) == 2.0
    assert return_of(ends[1], payload(TrainingStartedPayload)) is None


def test_the_evaluation_is_of_the_first_group_of_a_run_that_has_one() -> None:
    score = PolicyScore(*[Estimate(0.0, 1.0)] * 3)
    evaluation = Evaluation(2, score, score, score)
    info = RunInfo(status="completed", started=datetime.now(UTC), configuration={}, versions={}, evaluation=evaluation)
    snapshot = fold(event(RewardComputedPayload, group_id="B"), event(RewardComputedPayload, group_id="A"))
    assert [evaluation_of(snapshot, info, group_id) for group_id in snapshot.groups] == [evaluation, None]
    assert evaluation_of(snapshot, None, next(iter(snapshot.groups))) is None


def test_the_age_of_something_is_seen_from_the_newest_event_of_its_environment() -> None:
    start = event(TrainingStartedPayload, n_envs=1, max_epochs=1)
    end = event(BatchEpochCompletedPayload, episodes_completed=1, n_envs=1)
    then = Position(0, 0, 0, 0, 0, 0)
    for made in (event(RewardComputedPayload, epoch=1), event(EpochCompletedPayload, inner_epoch=1)):
        assert age_in(fold(start, end, made).groups["default"].envs[0], then) == "1 batch ago"
    assert age_in(fold(event(SeedGerminatedPayload)).groups["default"].envs[0], then) == ""
