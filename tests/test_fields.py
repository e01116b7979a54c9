"""Every field of the contract is supplied and changes in some mode, or stands on a short list with its reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.builders import event
from tests.field_census import CONSTANT, Use, census, problems, run_modes, shown_in, table
from tests.golden.contract import CONTRACT

from esper.leyline.telemetry import EVENT_TYPES, EpochCompletedPayload

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),  # importing inductor warns
    pytest.mark.no_cover,  # what it runs has tests of its own, and the tracer would take a third of the time
]
PAGE = Path(__file__).parents[1] / "docs" / "fields.md"


@pytest.fixture(scope="module")
def uses() -> list[Use]:
    return census(run_modes())


def test_every_field_is_supplied_and_changes_or_has_a_reason_not_to(uses: list[Use]) -> None:
    assert problems(uses) == []
    assert len(uses) == sum(map(len, CONTRACT.values()))


def test_the_page_in_the_docs_lists_the_same_fields_reasons_and_views(uses: list[Use]) -> None:
    """Counts may differ between machines; `make fields` prints the page anew."""

    def comparable(text: str) -> list[tuple[str, str]]:
        rows = [line.split("|") for line in text.splitlines()]
        return [(row[1], row[-2]) if len(row) > 2 else (row[0], "") for row in rows]

    assert comparable(PAGE.read_text()) == comparable(table(uses))


def test_a_field_that_stays_as_it_is_is_named() -> None:
    found = problems(census([event(EpochCompletedPayload, val_loss=float(n)) for n in range(2)]))
    assert "EpochCompletedPayload.env_id never changes" in found
    assert "EpochCompletedPayload.seeds is never supplied" in found
    assert not any("val_loss" in problem for problem in found)


def test_a_reason_that_holds_no_longer_is_named() -> None:
    (cls,) = [cls for cls in EVENT_TYPES if cls.__name__ == "SeedGerminatedPayload"]
    (alpha,) = [field for field in dataclasses.fields(cls) if field.name == "alpha"]
    assert problems([Use(cls, alpha, 4, 2, non_default=True)]) == [
        "SeedGerminatedPayload.alpha changes: take it off the list"
    ]
    assert "SeedGerminatedPayload.alpha" in CONSTANT


def test_views_are_asked_what_they_name() -> None:
    assert "report" in shown_in("val_accuracy")
    assert shown_in("no_such_field") == []
