"""What follows from payloads: the same for every view, and nothing where nothing was measured."""

from __future__ import annotations

import math

import pytest
from tests.builders import payload

from esper.karn.derived import (
    COMPONENTS,
    MatrixRow,
    accuracy_of,
    age_text,
    contributions,
    known,
    matrix_rows,
    planned_episodes,
    reward_components,
)
from esper.karn.progress import played_text
from esper.leyline.field_docs import meanings
from esper.leyline.position import Position
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
)


def test_the_components_are_those_that_the_contract_calls_contributions_in_its_order() -> None:
    documented = meanings(RewardComputedPayload)
    assert [name for name, about in documented.items() if about.text.startswith("Contribution")] == list(COMPONENTS)


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


def test_what_is_of_an_earlier_batch_says_how_long_ago() -> None:
    def at(batch: int | None) -> Position:
        return Position(0, 0, 0, batch, None)

    assert age_text(at(3), at(4)) == "1 batch ago"
    assert age_text(at(0), at(5)) == "5 batches ago"
    assert [age_text(at(then), at(now)) for then, now in [(3, 3), (4, 3), (None, 3), (3, None)]] == [""] * 4
