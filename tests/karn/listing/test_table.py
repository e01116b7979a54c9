"""A listing fits the terminal, says what it leaves out, and does it no harm."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.karn.formatting import columns
from esper.karn.listing import RunRow, rows_json, runs_table
from esper.karn.listing.columns import COLUMNS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FULL = RunRow(
    run="runs/sweep/lr-0.003/seed-1", group="default", task="digits", seed=1, status="completed", verdict="WATCH",
    episodes=80, planned=160, return_=1.25, best_return=13.0, accuracy=0.5, best_accuracy=0.75, evaluation=12.0213,
    evaluation_error=0.3, test_accuracy=0.87, started=NOW, newest=NOW - timedelta(hours=3, minutes=5), events=9,
    size=11_871_112,
)  # fmt: skip
EMPTY = RunRow(run="runs/empty")


def test_a_wide_terminal_shows_everything() -> None:
    head, row, empty, *rest = runs_table([FULL, EMPTY], NOW, 200).splitlines()
    assert head.split() == [
        "run", "task", "seed", "status", "verdict", "episodes", "return", "best", "ret.", "acc.", "best", "acc.",
        "evaluation", "test", "acc.", "age", "size",
    ]  # fmt: skip
    assert row.split() == [
        "runs/sweep/lr-0.003/seed-1", "digits", "1", "completed", "!", "WATCH", "80/160", "1.25", "13", "0.500",
        "0.750", "12.02±0.30", "0.870", "3", "h", "11.9", "MB",
    ]  # fmt: skip
    assert empty.split() == ["runs/empty", *["—"] * 12, "0", "B"]
    assert rest == []


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_what_is_left_out_is_named(width: int) -> None:
    lines = runs_table([FULL, replace(FULL, group="sparse"), EMPTY], NOW, width).splitlines()
    assert max(map(columns, lines)) <= width
    shown = len([column for column in COLUMNS.values() if column.cell])
    assert ("not shown for want of room" in " ".join(lines)) is (width < 160)
    assert "…" in lines[1] or "runs/sweep/lr-0.003/seed-1" in lines[1]
    assert shown == 15


def test_what_is_sorted_or_chosen_by_stays() -> None:
    head = runs_table([FULL], NOW, 80, {"size", "test_accuracy"}).splitlines()[0]
    assert {"size", "test"} <= set(head.split())


def test_arms_of_one_run_stay_told_apart() -> None:
    arms = [replace(FULL, group="shaped"), replace(FULL, group="sparse")]
    assert [line.count("shaped") for line in runs_table(arms, NOW, 60).splitlines()[:3]] == [0, 1, 0]


def test_problems_and_failures_are_said_below() -> None:
    rows = [replace(EMPTY, problem="there is no log"), replace(FULL, status="failed", error="RuntimeError: boom")]
    text = runs_table(rows, NOW, 200)
    assert "runs/empty: there is no log\n" in text
    assert "runs/sweep/lr-0.003/seed-1: failed: RuntimeError: boom\n" in text


@given(st.text(min_size=1), st.text(), st.text(), st.text(), st.integers(30, 250))
def test_nothing_from_a_file_acts_on_the_terminal(run: str, task: str, group: str, problem: str, width: int) -> None:
    row = replace(FULL, run=run, task=task, group=group, problem=problem, error=problem)
    text = runs_table([row], NOW, width)
    assert all(line.isprintable() for line in text.split("\n"))


@given(st.floats(), st.integers(), st.integers(0))
def test_any_number_has_its_place(value: float, count: int, size: int) -> None:
    row = replace(FULL, return_=value, accuracy=value, episodes=count, planned=count, seed=count, size=size)
    assert max(map(columns, runs_table([row], NOW, 200).splitlines()[:2])) <= 200


def test_json_has_every_key_null_for_what_is_not_known_and_strict_numbers() -> None:
    full, empty = json.loads(rows_json([replace(FULL, return_=math.inf), EMPTY], NOW), parse_constant=pytest.fail)
    assert list(full) == list(empty) == list(COLUMNS)
    assert (full["return"], full["age"], full["newest"]) == ("Infinity", 11100.0, "2026-03-01T08:55:00+00:00")
    known = {key for key, value in empty.items() if value is not None}
    assert known == {"run", "size", "events", "invalid", "rejected", "resumes", "ranks"}
