"""Runs that differ by nothing but the seed are one arm, and every other difference makes another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.karn.written_runs import log_of, write_run

from esper.karn.comparison import ComparedRun, read_run
from esper.karn.comparison.arms import arms_of, differences, unheeded, without_repeats
from esper.karn.comparison.settings import is_setting, value_text

NONE: frozenset[str] = frozenset()


def run(path: Path, configuration: dict[str, Any] | None, **start: Any) -> ComparedRun:
    status = None if configuration is None else "completed"
    start.setdefault("n_envs", 4)
    (made,) = read_run(str(write_run(path, log_of([1.0, 2.0], **start), status=status, configuration=configuration)))  # type: ignore[arg-type]
    return made


def test_seeds_identifiers_paths_clocks_and_device_numbers_are_no_difference(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / "1", {"lr": 0.1, "seed": 1, "run_dir": "x", "start_time": 5, "device": "cuda:0"}, seed=1, lr=0.1,
            episode_id="a", resume_path="old", rank=0, env_devices=("cuda:0",)),
        run(tmp_path / "2", {"lr": 0.1, "seed": 2, "run_dir": "y", "start_time": 6, "device": "cuda:1"}, seed=2, lr=0.1,
            episode_id="b", env_devices=("cuda:1",)),
    ]  # fmt: skip
    (arm,) = arms_of(runs, NONE)
    assert (arm.key, arm.label, arm.name) == ("A", "", "A")
    assert [one.seed for one in arm.runs] == [1, 2]
    assert list(unheeded([arm], NONE)) == ["run_dir", "start_time"]


def test_every_other_setting_makes_an_arm_named_by_what_tells_it_apart(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / f"{lr}-{gamma}-{seed}", {"lr": lr, "gamma": gamma, "envs": 4}, seed=seed, lr=lr)
        for lr in (0.1, 0.2)
        for gamma in (0.9, 0.99)
        for seed in (1, 2)
    ]
    arms = arms_of(runs, NONE)
    assert [arm.name for arm in arms] == [
        "A lr=0.1, gamma=0.9", "B lr=0.1, gamma=0.99", "C lr=0.2, gamma=0.9", "D lr=0.2, gamma=0.99",
    ]  # fmt: skip
    assert [len(arm.runs) for arm in arms] == [2] * 4
    assert differences(arms, NONE) == {"lr": ["0.1", "0.1", "0.2", "0.2"], "gamma": ["0.9", "0.99", "0.9", "0.99"]}
    assert [arm.name for arm in arms_of(runs, frozenset({"gamma"}))] == ["A lr=0.1", "B lr=0.2"]


def test_groups_of_one_run_are_arms_also_when_nothing_else_tells_them_apart(tmp_path: Path) -> None:
    path = write_run(tmp_path / "ab", log_of([1.0], group="one"), log_of([2.0], group="two"))
    assert [arm.name for arm in arms_of(list(read_run(str(path))), NONE)] == ["A group=one", "B group=two"]


def test_a_log_without_run_json_joins_the_arm_that_began_alike_if_there_is_just_one(tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", None, seed=3, lr=0.1)
    one, other = (run(tmp_path / name, {"gamma": gamma}, lr=0.1) for name, gamma in (("1", 0.9), ("2", 0.99)))
    far = run(tmp_path / "far", {"gamma": 0.9}, lr=0.2)
    assert [len(arm.runs) for arm in arms_of([alone, one, far], NONE)] == [2, 1]
    assert [len(arm.runs) for arm in arms_of([alone, one, other], NONE)] == [1, 1, 1]


def test_a_run_that_repeats_another_bit_for_bit_is_no_second_seed(tmp_path: Path) -> None:
    twice = [run(tmp_path / name, {}, seed=1) for name in ("1", "2")]
    assert without_repeats([*twice, run(tmp_path / "3", {}, seed=2)]) == {1: 0}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("seed", False), ("env_seed", False), ("data_path", False), ("log_dir", False), ("episode_id", False),
        ("run_name", False), ("timestamp", False), ("resume", False), ("start_episode", False), ("hostname", False),
        ("env_id", True), ("inject_at", True), ("lr", True), ("world_size", True), ("seed_budget", True),
        ("max_time", True),
    ],
)  # fmt: skip
def test_what_is_a_setting_goes_by_its_name(key: str, expected: bool) -> None:
    assert is_setting(key) is expected
    assert not is_setting(key, frozenset({key}))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), ("cuda:0", "cuda:3"), ((1, 2), [1, 2]), ({"b": 1, "a": 2}, {"a": 2.0, "b": 1.0}), (("cpu",), "cpu")],
)
def test_equal_values_are_equal_texts(one: object, other: object) -> None:
    assert value_text(one) == value_text(other)


def test_different_values_are_different_texts() -> None:
    values = [True, 1, "x", None, (1, 2), 0.1, 0.10000001, float("nan"), float("inf"), {"a": 1}, [], "http://a:80"]
    assert len({value_text(value) for value in values}) == len(values)
