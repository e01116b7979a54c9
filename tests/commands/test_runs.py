"""``esper runs``: every run below a directory, in a table or as JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from tests.karn.written_runs import log_of, write_run

from esper.cli import main
from esper.commands import progress_bar
from esper.commands.progress_bar import with_bar
from esper.karn.listing import cache


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, value in ((1, 3.0), (2, 1.0), (10, 2.0)):
        write_run(tmp_path / "runs" / f"seed-{seed}", log_of([value], seed=seed))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def seeds(out: str) -> list[int]:
    return [row["seed"] for row in json.loads(out)]


def test_runs_below_the_default_directory_are_listed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["run", "runs/seed-1", "runs/seed-2", "runs/seed-10", "3"]
    assert err == ""


def test_rows_are_chosen_and_sorted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs), "--json", "--sort", "return", "-r", "--where", "return>1.5"]) == 0
    assert seeds(capsys.readouterr().out) == [1, 10]
    assert main(["runs", str(runs), "--where", "task=digits", "--where", "seed<=2"]) == 0
    assert capsys.readouterr().out.endswith("2 of 3 runs\n")


def test_that_nothing_fits_is_said_and_is_no_failure(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--where", "task=wine"]) == 0
    assert capsys.readouterr() == ("", "none of 3 runs fits\n")


def test_that_there_is_no_run_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"no run below {tmp_path}: a run is a directory with")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such directory: nowhere"),
        (["--sort", "lr"], "'lr' is no column; there are run, group, task, seed,"),
        (["--where", "seed"], "expected KEY, one of"),
    ],
)
def test_a_mistake_is_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["runs", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_a_listing_leaves_nothing_among_the_runs(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_SETTLED", -60.0)  # the runs are as good as old
    before = sorted(runs.rglob("*"))
    main(["runs"])
    assert sorted(runs.rglob("*")) == before
    assert len(list((tmp_path / "cache" / "esper").iterdir())) == 1


def test_what_is_no_log_is_said_beside_the_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "data.jsonl").write_text("{}\n")
    assert main(["runs"]) == 0
    assert capsys.readouterr().err == "not a log of esper: runs/data.jsonl\n"


def test_a_bar_is_shown_on_a_terminal_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress_bar, "_PATIENCE", -1.0)
    assert list(with_bar(range(3), 3, "runs read")) == [0, 1, 2]
    assert "1 of 3 runs read" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_no_bar_is_shown_where_there_is_no_terminal(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress_bar, "_PATIENCE", -1.0)
    assert list(with_bar(range(3), 3, "runs read")) == [0, 1, 2]
    assert stream is None or stream.getvalue() == ""
