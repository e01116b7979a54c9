"""The run directory: one run in it, and a run.json that is whole, strict and checked."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from esper.leyline.run_directory import RunDirectory, RunDirectoryError
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo, RunInfoError, SinkStats, parse_run_info
from esper.leyline.strict_json import strict_json, to_json

if TYPE_CHECKING:
    from pathlib import Path

SCORE = PolicyScore(Estimate(11.2, 0.4), Estimate(0.88, 0.01), Estimate(0.87, float("nan")))
INFO = RunInfo(
    status="completed",
    started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    ended=datetime(2026, 1, 2, 3, 6, 5, tzinfo=UTC),
    configuration={"task": "digits", "lr": 3e-3, "amp_dtype": None, "envs": 4},
    versions={"esper-telemetry": "0.1.0", "python": "3.11"},
    sinks=(SinkStats("jsonl", True, 5, 4, 1, 0, 0, 0.5, False, None),),
    evaluation=Evaluation(16, SCORE, SCORE, SCORE),
)


def text_of(**changes: Any) -> str:
    return json.dumps({**json.loads(strict_json(INFO)), **changes})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "new" / "run")
    run.write_info(INFO)
    read = run.read_info()
    assert read is not None
    assert strict_json(read) == strict_json(INFO)
    assert replace(read, evaluation=None) == replace(INFO, evaluation=None)
    assert isinstance(read.evaluation, Evaluation)
    assert [file.name for file in run.path.iterdir()] == ["run.json"]


def test_run_json_is_strict_json(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path)
    run.write_info(INFO)

    def refuse(token: str) -> None:
        raise AssertionError(token)

    written = json.loads(run.info.read_text(), parse_constant=refuse)
    assert written["evaluation"]["random"]["test_accuracy"]["standard_error"] == "NaN"


def test_a_directory_without_run_json_has_no_info(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).read_info() is None


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.create(tmp_path)
    run.write_info(INFO)
    before = run.info.read_bytes()

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="space"):
        run.write_info(replace(INFO, status="failed"))
    assert run.info.read_bytes() == before
    assert [file.name for file in run.path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"status": "happy"},
            "status: expected 'running' or 'completed' or 'interrupted' or 'failed', got str 'happy'",
        ),
        ({"started": "yesterday"}, "started: expected datetime, got str 'yesterday'"),
        ({"mood": 1}, "mood is unknown"),
        ({"sinks": [{"name": "jsonl"}]}, "sinks[0].durable is missing"),
        ({"sinks": {}}, "sinks: expected tuple"),
        ({"versions": {"python": 3.11}}, "versions['python']: expected str, got float 3.11"),
        (
            {"evaluation": {"episodes": True, "learnt": 1, "random": 1, "do_nothing": 1}},
            "evaluation.episodes: expected int",
        ),
        ({"configuration": None}, "configuration: expected dict"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RunInfoError, match=re.escape(f"run.json: {message}")):
        parse_run_info(text_of(**changes), "run.json")


def test_a_missing_field_is_named() -> None:
    text = json.dumps({"status": "running"})
    with pytest.raises(RunInfoError, match="started is missing, configuration is missing, versions is missing"):
        parse_run_info(text, "run.json")


@pytest.mark.parametrize(
    ("content", "message"), [(b"{\n,", "run.json:2: not JSON"), (b"\xff", "not UTF-8"), (b"[]", "an object")]
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunInfoError, match=f"run.json.*{message}|{message}"):
        RunDirectory(tmp_path).read_info()


@pytest.mark.parametrize("name", ["events.jsonl", "events-rank0.jsonl", "rejected.jsonl", "run.json", "policy.pt"])
def test_an_occupied_directory_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(RunDirectoryError, match=f"holds a run already \\({name}\\)"):
        RunDirectory.create(tmp_path)
    assert RunDirectory.open(tmp_path).path == tmp_path


def test_a_directory_of_runs_is_none_and_says_how_to_list_them(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"holds no run: expected events\.jsonl or run\.json in it$"):
        RunDirectory.open(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "events.jsonl").touch()
    with pytest.raises(RunDirectoryError, match=f"; esper runs {tmp_path} lists those below it"):
        RunDirectory.open(tmp_path)


def test_foreign_files_do_not_occupy_a_directory(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    RunDirectory.create(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    for path in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(RunDirectoryError, match="there is a file of that name"):
            RunDirectory.create(path)


def test_an_unwritable_directory_is_refused() -> None:
    with pytest.raises(RunDirectoryError, match="/proc/esper cannot be written"):
        RunDirectory.create("/proc/esper")


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no such run"):
        RunDirectory.open(tmp_path / "none")
    with pytest.raises(RunDirectoryError, match="holds no run"):
        RunDirectory.open(tmp_path)


def test_the_shards_of_several_processes_are_apart(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path)
    assert (run.log.name, run.shard(1).name) == ("events.jsonl", "events-rank1.jsonl")


@pytest.mark.parametrize(
    ("value", "written"),
    [(float("-inf"), "-Infinity"), ((1, None, True), [1, None, True]), ({None: 1, "a": 2.5}, {"null": 1, "a": 2.5})],
)
def test_every_value_has_one_plain_form(value: object, written: object) -> None:
    assert to_json(value) == written


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON form for object"):
        strict_json({"thing": object()})
