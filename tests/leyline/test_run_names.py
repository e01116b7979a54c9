"""Runs are named by as much of the end of their paths as tells them apart."""

from __future__ import annotations

from pathlib import Path

from esper.leyline.run_names import run_names


def test_a_run_is_called_as_its_directory_also_when_its_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    log = tmp_path / "demo" / "events.jsonl"
    log.touch()
    assert [*run_names([tmp_path / "demo"])] == ["demo"]
    assert [*run_names([log])] == ["demo"]
    assert run_names(["-", "old.jsonl"]) == {"standard input": "-", "old.jsonl": "old.jsonl"}


def test_runs_of_one_name_are_told_apart_by_what_is_above_them_and_by_numbers_when_they_are_the_same() -> None:
    assert [*run_names(["a/run", "b/run", "c/b/run"])] == ["run", "b/run", "c/b/run"]
    names = run_names(["run", "run", "run"])
    assert [*names.values()] == ["run", "run", "run"]
    assert len(names) == 3
