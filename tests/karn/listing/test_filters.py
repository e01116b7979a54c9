"""Conditions and orders: plain, safe, and clear about mistakes."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.karn.listing import RunRow, chosen, ordered
from esper.karn.listing.columns import COLUMNS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROWS = [
    RunRow(run="runs/a", task="digits", seed=1, verdict="OK", return_=1.0, size=10, newest=NOW - timedelta(hours=1)),
    RunRow(run="runs/b[1]", task="wine", seed=10, verdict="BAD", return_=2.0, size=2_000_000, started=NOW),
    RunRow(run="runs/c", seed=2, return_=math.nan, evaluation=0.5),
]


def names(*conditions: str) -> str:
    return "".join(row.run[5] for row in chosen(ROWS, conditions, NOW))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("task=digits", "a"), ("task==DIGITS", "a"), ("task!=digits", "bc"), ("task=", "c"), ("task!=none", "ab"),
        ("verdict=bad", "b"), ("run=*b[1]", "b"), ("run!=runs/?", "b"), ("task=*i*", "ab"), ("task>e", "b"),
        ("return>1.5", "b"), ("return >= 1", "ab"), ("return<2", "a"), ("return=nan", "c"), ("return!=nan", "ab"),
        ("return!=1", "bc"), ("seed<=2", "ac"), ("size>1MB", "b"), ("size<1kB", "ac"), ("age<2h", "a"),
        ("age>90min", ""), ("age=", "bc"), ("evaluation!=", "c"), ("evaluation=50%", "c"),
        ("started>2026-02", "b"), ("seed=1_0", "b"), ("seed>-1e9", "abc"), ("return<inf", "ab"),
    ],
)  # fmt: skip
def test_a_condition_chooses(condition: str, expected: str) -> None:
    assert names(condition) == expected


def test_all_conditions_have_to_hold() -> None:
    assert names("seed>=1", "return>=1", "task=wine") == "b"
    assert names() == "abc"


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("seed", "expected KEY, one of = != < <= > >=, and a value, as in verdict=BAD"),
        ("=3", "expected KEY"),
        ("lr=3", "'lr' is no column; there are run, group, task, seed,"),
        ("seed=three", "expected a number, perhaps with s, min, h, d,"),
        ("age<2 weeks", "got '2 weeks'"),
        ("seed<", "can be asked for by = and !="),
        ("__class__=x", "is no column"),
    ],
)
def test_a_mistake_is_explained(condition: str, message: str) -> None:
    with pytest.raises(ValueError, match="--where") as error:
        names(condition)
    assert message in str(error.value)


@given(
    st.text(max_size=30)
    | st.builds("{}{}{}".format, st.sampled_from(list(COLUMNS)), st.sampled_from(["=", "<", "!="]), st.text())
)
def test_any_text_is_a_condition_or_an_error_that_names_it(text: str) -> None:
    try:
        chosen(ROWS, [text], NOW)
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017 - both are fine


@pytest.mark.parametrize(
    ("key", "up", "down"),
    [
        ("seed", "acb", "bca"),
        ("return", "abc", "bac"),
        ("task", "abc", "bac"),
        ("age", "abc", "abc"),
        ("run", "abc", "cba"),
    ],
)
def test_rows_are_ordered_and_what_is_not_known_is_last_either_way(key: str, up: str, down: str) -> None:
    for reverse, expected in ((False, up), (True, down)):
        assert "".join(row.run[5] for row in ordered(ROWS, key, NOW, reverse=reverse)) == expected


def test_an_unknown_key_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="--sort reward: 'reward' is no column; there are run, group,"):
        ordered(ROWS, "reward", NOW)


def test_every_field_of_a_row_is_a_column() -> None:
    fields: dict[str, Any] = RunRow.__dataclass_fields__
    assert [name.rstrip("_") for name in fields] == [key for key in COLUMNS if key != "age"]
