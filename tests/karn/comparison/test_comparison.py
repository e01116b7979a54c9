"""What is compared is comparable, what is not counted is named, and every view says the same."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import tries
from tests.karn.written_runs import evaluation, log_of, write_run

from esper.karn.comparison import Comparison, compare, comparison_text, read_run
from esper.karn.comparison.compared_run import Course
from esper.karn.comparison.comparison import _reached
from esper.karn.comparison.results import By
from esper.karn.formatting import columns, mean
from esper.karn.report.comparison_page import write_page
from esper.leyline.run_info import RunStatus
from esper.leyline.strict_json import strict_json


def compared(*paths: Path, **options: Any) -> Comparison:
    return compare([run for path in paths for run in read_run(str(path))], **options)


def arm(root: Path, lr: float, courses: Sequence[Sequence[float]], *, planned: int = 40, **options: Any) -> list[Path]:
    """Write a run for each course, with seeds 1, 2, …"""
    options.setdefault("configuration", {"lr": lr})
    return [
        write_run(root / f"{lr}-{seed}", log_of(course, seed=seed, lr=lr, planned=planned, n_envs=4), **options)
        for seed, course in enumerate(courses, 1)
    ]


def rising(to: float, n: int = 10) -> list[float]:
    return [to * (at + 1) / n for at in range(n)]


def test_a_clear_difference_is_real_and_said_so(tmp_path: Path) -> None:
    low = arm(tmp_path, 0.1, [rising(to) for to in (1.0, 1.1, 1.2, 1.3, 1.4)])
    high = arm(tmp_path, 0.2, [rising(to) for to in (5.0, 5.1, 5.2, 5.3, 5.4)])
    found = compared(*low, *high)
    (conclusion,) = found.conclusions
    assert (conclusion.arm, conclusion.baseline, conclusion.answer) == ("B", "A", "better")
    assert conclusion.difference == pytest.approx(4.0)
    assert conclusion.p == pytest.approx(2 / 252)
    assert conclusion.improvement == 1.0
    assert conclusion.sentence.startswith(
        "B lr=0.2 is better than A lr=0.1: a final mean episode return of 5.2 against 1.2"
    )
    assert compared(*high, *low).conclusions[0].answer == "worse"
    assert found.arms[1].seeds == (1, 2, 3, 4, 5)
    assert found.arms[1].germinated == {"mlp": 50} == dict(found.arms[1].fossilized)


def test_few_seeds_cannot_tell_and_it_is_said_how_many_might(tmp_path: Path) -> None:
    (conclusion,) = compared(
        *arm(tmp_path, 0.1, [rising(1), rising(2)]), *arm(tmp_path, 0.2, [rising(7), rising(9)])
    ).conclusions
    assert (conclusion.answer, conclusion.seeds_needed) == ("too few", 4)
    assert "2 seeds against 2 cannot tell" in conclusion.sentence
    assert "They do not overlap, which so few do by chance in 0.33 of all cases." in conclusion.sentence
    assert "about 4 seeds an arm would show it" in conclusion.sentence


def test_a_single_run_an_arm_says_nothing_about_seeds(tmp_path: Path) -> None:
    (conclusion,) = compared(*arm(tmp_path, 0.1, [rising(1)]), *arm(tmp_path, 0.2, [rising(7)])).conclusions
    assert (conclusion.answer, conclusion.p, conclusion.interval, conclusion.seeds_needed) == (
        "too few",
        1.0,
        None,
        None,
    )
    assert "A single run says nothing about other seeds" in conclusion.sentence


def test_what_is_not_shown_says_how_many_seeds_would_show_it(tmp_path: Path) -> None:
    one = arm(tmp_path, 0.1, [rising(to) for to in (1.0, 2.0, 3.0, 4.0, 5.0)])
    other = arm(tmp_path, 0.2, [rising(to) for to in (1.5, 2.5, 3.5, 4.5, 5.5)])
    (conclusion,) = compared(*one, *other).conclusions
    assert conclusion.answer == "not shown"
    assert conclusion.seeds_needed is not None
    assert conclusion.seeds_needed > 100
    assert f"about {conclusion.seeds_needed} seeds an arm" in conclusion.sentence


def test_runs_are_compared_over_the_episodes_that_whole_runs_have_in_common(tmp_path: Path) -> None:
    short = arm(tmp_path, 0.1, [rising(1.0, 5), rising(1.1, 5)], planned=20)
    long = arm(tmp_path, 0.2, [rising(2.0, 10), rising(2.2, 10)], planned=40)
    found = compared(*short, *long)
    assert found.horizon == 20
    assert found.arms[1].scores["final_return"].mean == pytest.approx(1.05)  # half of the way to 2.0 and 2.2
    assert found.arms[1].return_curve.episodes == (4, 8, 12, 16, 20)


def test_failed_interrupted_and_endless_runs_are_not_counted_and_are_named(tmp_path: Path) -> None:
    good = arm(tmp_path / "good", 0.1, [rising(1.0), rising(2.0)])
    broken: list[tuple[str, list[float], RunStatus]] = [
        ("failed", rising(1.0, 2), "failed"),
        ("interrupted", rising(1.0, 3), "interrupted"),
        ("live", rising(1.0, 4), "running"),
        ("nan", [*rising(1.0, 9), math.nan], "completed"),
        ("empty", [], "completed"),
    ]
    bad = [
        write_run(
            tmp_path / f"{at}-{name}",
            log_of(course, seed=10 + at, lr=0.1, planned=40),
            status=status,
            configuration={"lr": 0.1},
        )
        for at, (name, course, status) in enumerate(broken)
    ]
    found = compared(*good, *bad, *arm(tmp_path, 0.2, [rising(3.0), rising(4.0)]), unread={"runs/gone": "no such run"})
    reasons = {Path(run.run).name: run.left_out for run in found.runs if run.left_out}
    assert reasons == {
        "0-failed": "failed after 8 of 40 episodes",
        "1-interrupted": "interrupted after 12 of 40 episodes",
        "2-live": "running after 16 of 40 episodes",
        "3-nan": "its final mean episode return is not finite",
        "4-empty": "no batch measured a return",
    }
    assert (found.arms[0].seeds, found.arms[0].not_counted) == ((1, 2), 5)
    text = comparison_text(found, 80)
    assert all(name in text for name in (*reasons, "runs/gone"))
    assert "5 runs of A" in found.conclusions[0].sentence


def test_a_run_whose_first_batch_is_longer_than_what_is_compared_is_left_out_and_named(tmp_path: Path) -> None:
    short = write_run(tmp_path / "short", log_of([1.0], n_envs=4), status="completed")
    wide = write_run(tmp_path / "wide", log_of([2.0, 3.0], seed=1, n_envs=32), status="completed")
    found = compared(short, wide)
    assert found.horizon == 4
    assert [run.left_out for run in found.runs] == [None, "no batch within 4 episodes measured a return"]


def test_runs_that_all_go_on_are_compared_over_what_all_of_them_have(tmp_path: Path) -> None:
    runs = arm(tmp_path, 0.1, [rising(1.0, 4), rising(1.0, 6)], status="running")
    found = compared(*runs)
    assert (found.horizon, found.arms[0].seeds) == (16, (1, 2))


def test_trainers_that_plan_no_episodes_are_taken_at_their_own_end(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), log_of([1.0] * n, seed=n, planned=0)) for n in (3, 5)]
    assert compared(*runs).horizon is None
    assert compared(*runs).arms[0].seeds == (3, 5)


def test_a_repeated_run_is_not_counted_and_is_no_loss(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, log_of(rising(1.0), seed=1)) for name in ("a", "b")]
    found = compared(*runs)
    assert [run.left_out for run in found.runs] == [None, f"repeats {runs[0]} bit for bit"]
    assert found.arms[0].not_counted == 0


def test_arms_of_different_tasks_are_not_set_against_each_other(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path / f"{task}{lr}", log_of(rising(1.0), task=task, lr=lr), configuration={"lr": lr, "task": task}
        )
        for task in ("digits", "wine")
        for lr in (0.1, 0.2)
    ]
    assert [(one.arm, one.baseline) for one in compared(*runs).conclusions] == [("B", "A"), ("D", "C")]
    found = compared(runs[0], runs[2])
    assert found.conclusions == ()
    assert "another task" in comparison_text(found, 80)


def test_episodes_to_a_threshold_are_the_median_and_not_known_where_most_never_got_there(tmp_path: Path) -> None:
    found = compared(*arm(tmp_path, 0.1, [rising(1.0), rising(2.0), rising(4.0)]), threshold=1.0)
    assert [run.episodes_to_threshold for run in found.runs] == [40, 20, 12]
    assert (found.arms[0].reached_threshold, found.arms[0].episodes_to_threshold) == (3, 20)
    found = compared(*[Path(run.run) for run in found.runs], threshold=1.5)
    assert (found.arms[0].reached_threshold, found.arms[0].episodes_to_threshold) == (2, 32)
    found = compared(*[Path(run.run) for run in found.runs], threshold=3.0)
    assert (found.arms[0].reached_threshold, found.arms[0].episodes_to_threshold) == (1, None)


@pytest.mark.parametrize(("by", "answer"), [("return", "better"), ("accuracy", "not shown"), ("evaluation", "worse")])
def test_the_quantity_that_is_asked_for_decides(tmp_path: Path, by: By, answer: str) -> None:
    runs = [
        write_run(tmp_path / f"{lr}-{seed}", log_of(rising(10 * lr + seed / 100), seed=seed, lr=lr),
                  configuration={"lr": lr}, score=evaluation(-lr + seed / 1000, 0.5))
        for lr in (0.1, 0.2) for seed in range(5)
    ]  # fmt: skip
    assert compared(*runs, by=by).conclusions[0].answer == answer


def test_returns_that_count_different_things_are_not_passed_off_as_one(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / mode, log_of(rising(1.0), group=mode, reward_mode=mode)) for mode in ("shaped", "sparse")
    ]
    assert "their returns count different things: ask --by accuracy" in compared(*runs).conclusions[0].sentence
    assert "different things" not in compared(*runs, by="accuracy").conclusions[0].sentence


def test_a_quantity_that_nobody_measured_decides_nothing(tmp_path: Path) -> None:
    found = compared(*arm(tmp_path, 0.1, [rising(1.0)]), *arm(tmp_path, 0.2, [rising(1.0)]), by="evaluation")
    assert found.conclusions[0].answer == "not measured"
    assert "has measured the evaluated episode return" in found.conclusions[0].sentence


def test_many_arms_are_corrected_for(tmp_path: Path) -> None:
    runs = [
        path for at, to in enumerate((1.0, 1.5, 1.5, 1.5))
        for path in arm(tmp_path, (at + 1) / 10, [rising(to + seed / 10) for seed in range(4)])
    ]  # fmt: skip
    found = compared(*runs)
    assert [one.p for one in found.conclusions] == pytest.approx([3 * 2 / 70] * 3)
    assert {one.answer for one in found.conclusions} == {"too few"}  # four seeds an arm cannot carry three comparisons


# ── views ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def some(tmp_path: Path) -> Comparison:
    rng = random.Random(3)
    courses = [[[at * k + rng.gauss(0, 1) for at in range(12)] for _ in range(3)] for k in (1, 2)]
    runs = [path for lr, of in zip((0.1, 0.2), courses, strict=True) for path in arm(tmp_path, lr, of, planned=48)]
    return compared(*runs)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_text_fits_the_terminal(some: Comparison, width: int) -> None:
    lines = comparison_text(some, width).splitlines()
    assert max(map(columns, lines)) <= width
    assert lines[0] == "6 runs in 2 arms, compared over 48 episodes"


def test_json_is_strict_and_has_all_of_it(some: Comparison) -> None:
    made = json.loads(strict_json(some), parse_constant=pytest.fail)
    assert set(made) == {
        "by", "arms", "conclusions", "horizon", "threshold", "settings", "unheeded", "runs", "unread",
    }  # fmt: skip
    assert made["conclusions"][0]["sentence"] in " ".join(comparison_text(some, 10_000).split())
    assert len(made["arms"][0]["return_curve"]["mean"]) == 12


def test_the_page_says_the_same_needs_no_network_and_runs_nothing(some: Comparison, tmp_path: Path) -> None:
    page = write_page(some, tmp_path / "page.html").read_text()
    assert some.conclusions[0].sentence in page
    assert page.count("<polyline") == 4
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def test_a_page_that_cannot_be_written_leaves_nothing(some: Comparison, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory"):
        write_page(some, tmp_path / "none" / "page.html")
    with pytest.raises(IsADirectoryError, match=r"name the file to write, such as .*compare\.html"):
        write_page(some, tmp_path)


EVIL = "\x1b[2J</td><script>alert(1)</script>\u202e\u200b&amp;\n\udcff"


@settings(max_examples=tries(40))
@given(st.text() | st.just(EVIL))
def test_nothing_from_a_run_acts_on_a_screen_or_a_page(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    tmp_path = tmp_path_factory.mktemp("evil")
    runs = [
        write_run(
            tmp_path / str(value), log_of(rising(value)), configuration={text: value, "name": text, f"{text}2": text}
        )
        for value in (1.0, 2.0)
    ]
    found = compared(*runs, unread={text: text})
    assert all(line.isprintable() for line in comparison_text(found, 80).split("\n"))
    page = write_page(found, tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert all(c.isprintable() or c == "\n" for c in page)


@settings(max_examples=tries(40))
@given(st.lists(st.lists(st.floats(), max_size=6), min_size=1, max_size=5))
def test_any_returns_can_be_compared(tmp_path_factory: pytest.TempPathFactory, courses: list[list[float]]) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    runs = [
        write_run(tmp_path / str(at), log_of(course, seed=at), configuration={"lr": at % 2})
        for at, course in enumerate(courses)
    ]
    found = compared(*runs)
    comparison_text(found, 80)
    write_page(found, tmp_path / "page.html")
    assert sum(len(one.seeds) + one.not_counted for one in found.arms) <= len(courses)


@given(
    st.lists(st.sampled_from([0.1, 0.3, 1.0, -1e9, 1e9, math.nan]), max_size=60), st.sampled_from([0.1, 0.3, 1.0, 0.2])
)
def test_a_threshold_is_reached_by_the_first_tenth_whose_mean_is_that_high(
    values: list[float], threshold: float
) -> None:
    tenth = max(1, len(values) // 10)
    means = {end: mean(values[end - tenth : end]) for end in range(tenth, len(values) + 1)}
    first = next((end - 1 for end, level in means.items() if level is not None and level >= threshold), None)
    assert _reached(Course(tuple(range(len(values))), tuple(values)), threshold) == first


def test_a_threshold_costs_no_mean_of_every_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Mock(side_effect=mean)
    monkeypatch.setattr("esper.karn.comparison.comparison.mean", taken)
    long = Course(tuple(range(5_000)), tuple(at / 5_000 for at in range(5_000)))
    assert _reached(long, 0.5) == 2_750
    assert _reached(long, 2.0) is None
    assert taken.call_count < 5
