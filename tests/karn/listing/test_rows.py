"""A row says what a run came to, and of a damaged one what is left."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.karn.written_runs import NOON, evaluation, log_of, write_run

from esper.commands.folding import fold_log
from esper.karn.health import assess
from esper.karn.listing import RunRow, list_runs
from esper.karn.listing.discover import FoundRun
from esper.karn.listing.row import read_rows

LATER = NOON + timedelta(days=1)


def rows(root: Path) -> list[RunRow]:
    return list(list_runs(root).rows)


def test_a_row_has_the_newest_and_the_best_of_a_run(tmp_path: Path) -> None:
    events = log_of([1.0, 5.0, 3.0], seed=7, accuracies=[0.2, 0.6, 0.4])
    write_run(tmp_path / "run", events, score=evaluation(4.5, 0.55))
    (row,) = rows(tmp_path)
    assert (row.run, row.group, row.task, row.seed) == (str(tmp_path / "run"), "default", "digits", 7)
    assert (row.status, row.episodes, row.planned) == ("completed", 12, 12)
    assert (row.return_, row.best_return, row.accuracy, row.best_accuracy) == (3.0, 5.0, 0.4, 0.6)
    assert (row.evaluation, row.evaluation_error, row.test_accuracy) == (4.5, 0.1, 0.55)
    assert (row.started, row.newest) == (NOON, NOON + timedelta(minutes=3))
    assert row.size == sum(file.stat().st_size for file in (tmp_path / "run").iterdir())
    assert (row.events, row.ranks, row.problem, row.error) == (len(events), 1, None, None)


def test_what_is_not_known_is_none_and_no_number(tmp_path: Path) -> None:
    write_run(tmp_path / "run", log_of([]), status=None)
    (row,) = rows(tmp_path)
    assert (row.status, row.episodes, row.return_, row.best_return, row.accuracy, row.evaluation) == (None,) * 6
    assert row.started == NOON


def test_a_return_that_is_not_finite_is_shown_and_is_not_the_best(tmp_path: Path) -> None:
    write_run(tmp_path / "run", log_of([2.0, math.nan]))
    (row,) = rows(tmp_path)
    assert row.return_ is not None
    assert math.isnan(row.return_)
    assert (row.best_return, row.verdict) == (2.0, "BAD")


def test_each_arm_of_an_a_b_run_has_a_row_and_the_evaluation_is_the_first_one_s(tmp_path: Path) -> None:
    write_run(tmp_path / "ab", log_of([1.0], group="one"), log_of([2.0], group="two"), score=evaluation(1.5, 0.5))
    assert [(row.group, row.return_, row.evaluation) for row in rows(tmp_path)] == [
        ("one", 1.0, 1.5),
        ("two", 2.0, None),
    ]


@pytest.mark.parametrize("returns", [[1.0] * 30, [1.0, 2.0], [float(at) for at in range(30)], [3.0] * 20 + [0.0] * 10])
@pytest.mark.parametrize("status", ["completed", "running", None])
def test_the_verdict_is_that_of_esper_health(tmp_path: Path, returns: list[float], status: str | None) -> None:
    run = write_run(tmp_path / "run", log_of(returns), status=status)  # type: ignore[arg-type]
    log = fold_log(str(run))
    verdict = assess(log.snapshot, log.info, now=datetime.now(UTC), invalid=log.invalid, rejected=log.rejected)
    assert [row.verdict for row in rows(tmp_path)] == [verdict.status.name]


def test_what_is_damaged_is_named_and_costs_its_part_alone(tmp_path: Path) -> None:
    damaged = write_run(tmp_path / "a-info", log_of([1.0]))
    (damaged / "run.json").write_text("{")
    (write_run(tmp_path / "b-empty", log_of([1.0])) / "events.jsonl").write_text("")
    (write_run(tmp_path / "c-nonsense", log_of([1.0])) / "events.jsonl").write_bytes(b"\xff\xfe\n{}\n")
    (write_run(tmp_path / "d-no-log", log_of([1.0]), status="failed", error="boom") / "events.jsonl").unlink()
    pipe = write_run(tmp_path / "e-pipe", log_of([1.0])) / "events.jsonl"
    pipe.unlink()
    os.mkfifo(pipe)
    (write_run(tmp_path / "f-directory", log_of([1.0])) / "events-rank1.jsonl").mkdir()
    found = rows(tmp_path)
    assert [Path(row.run).name[0] for row in found] == list("abcdef")
    assert (found[0].return_, found[0].status) == (1.0, None)
    assert [(row.problem or "").partition(str(tmp_path))[0] for row in found[1:3]] == ["no events in "] * 2
    assert found[1].status == "completed"
    assert (found[3].status, found[3].error, found[3].problem) == ("failed", "boom", "there is no log")
    assert (found[4].problem or "").endswith("no ordinary file")
    assert all(row.problem for row in (found[0], found[5]))


def test_a_run_that_is_gone_meanwhile_is_no_error(tmp_path: Path) -> None:
    (row,) = read_rows(FoundRun(str(tmp_path / "gone"), (str(tmp_path / "gone" / "events.jsonl"),)), LATER)
    assert row.problem


def test_a_resume_is_counted_once(tmp_path: Path) -> None:
    again = log_of([9.0, 9.0], planned=16, start_episode=4)
    write_run(tmp_path / "run", [*log_of([1.0, 2.0], planned=16), again[0], again[-1]])
    (row,) = rows(tmp_path)
    assert (row.resumes, row.episodes) == (1, 8)
