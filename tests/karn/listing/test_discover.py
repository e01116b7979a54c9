"""No run below a directory is passed over without a word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.karn.written_runs import log_of, write_run

from esper.karn.listing import discover
from esper.karn.listing.discover import natural
from esper.leyline.wire import encode_event


def paths(root: Path) -> list[str]:
    return [os.path.relpath(run.path, root) for run in discover(root).runs]


def test_runs_are_found_however_deep_also_within_another_run(tmp_path: Path) -> None:
    for name in ("seed-2", "seed-10", "deep/er/still", "seed-2/continued"):
        write_run(tmp_path / name, log_of([1.0]))
    assert paths(tmp_path) == ["deep/er/still", "seed-2", "seed-2/continued", "seed-10"]
    assert discover(tmp_path).notes == []


def test_shards_are_one_run_and_logs_that_lie_about_are_one_each(tmp_path: Path) -> None:
    line = encode_event(log_of([1.0])[0]) + "\n"
    (tmp_path / "many").mkdir()
    for rank in range(3):
        (tmp_path / "many" / f"events-rank{rank}.jsonl").write_text(line)
    (tmp_path / "old.jsonl").write_text(line)
    (tmp_path / "copy of old.jsonl").write_text("not json\n" + line)
    assert paths(tmp_path) == ["copy of old.jsonl", "many", "old.jsonl"]
    assert [len(run.files) for run in discover(tmp_path).runs] == [1, 3, 1]


def test_a_directory_with_run_json_alone_is_a_run(tmp_path: Path) -> None:
    write_run(tmp_path / "run", log_of([1.0]))
    (tmp_path / "run" / "events.jsonl").unlink()
    assert paths(tmp_path) == ["run"]


def test_what_looks_like_a_log_and_is_none_is_named(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"prompt": "hello"}\n')
    found = discover(tmp_path)
    assert found.runs == []
    assert found.notes == [f"not a log of esper: {tmp_path / 'a.jsonl'} and 1 more"]


def test_a_link_adds_no_second_run_and_a_circle_ends(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "seed-1", log_of([1.0]))
    (tmp_path / "runs" / "latest").symlink_to(tmp_path / "runs" / "seed-1")
    (tmp_path / "runs" / "seed-1" / "up").symlink_to(tmp_path / "runs")
    write_run(tmp_path / "elsewhere", log_of([2.0]))
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "broken").symlink_to(tmp_path / "nowhere")
    assert paths(tmp_path / "runs") == ["linked", "seed-1"]


def test_a_directory_that_cannot_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").mkdir()
    look = os.scandir

    def refuse(path: str) -> object:
        if os.fspath(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert discover(tmp_path).notes == [f"{tmp_path / 'secret'}: Permission denied"]


def test_a_path_that_is_not_utf_8_is_found(tmp_path: Path) -> None:
    write_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff")), log_of([1.0]))
    assert len(discover(tmp_path).runs) == 1


def test_there_has_to_be_such_a_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory"):
        discover(tmp_path / "none")


def test_numbers_in_names_are_sorted_as_numbers() -> None:
    names = ["lr-0.003/seed-10", "lr-0.003/seed-9", "lr-0.0003/seed-1", "seed-2", "seed-02"]
    assert sorted(names, key=natural) == [
        "lr-0.0003/seed-1",
        "lr-0.003/seed-9",
        "lr-0.003/seed-10",
        "seed-02",
        "seed-2",
    ]
