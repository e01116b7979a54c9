"""``esper compare``: patterns in, an answer out; the report on several runs says the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.karn.written_runs import log_of, write_run

from esper.cli import main
from esper.karn.report import report


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for lr in (0.1, 0.2):
        for seed in range(4):
            path = tmp_path / "runs" / f"lr-{lr}" / f"seed-{seed}"
            write_run(path, log_of([lr * 10 + seed / 10] * 3, seed=seed, lr=lr), configuration={"lr": lr})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "runs"


SENTENCE = "B lr=0.2 is better than A lr=0.1: a final mean episode return of 2.15 against 1.15"


@pytest.mark.parametrize(
    "arguments",
    [["runs"], ["runs/lr-0.1", "runs/lr-0.2"], ["runs/*"], ["runs/**/events.jsonl"], ["runs", "runs/lr-0.1/seed-0"]],
    ids=str,
)
def test_directories_patterns_and_logs_name_the_same_runs(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["compare", *arguments]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("8 runs in 2 arms, compared over 12 episodes\n  A  lr=0.1  4 runs  seeds 0–3\n")
    assert SENTENCE in " ".join(out.split())
    assert err == ""


def test_json_and_a_page_say_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "runs", "--json", "-o", "page.html"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["conclusions"][0]["sentence"].startswith(SENTENCE)
    assert err == "page.html\n"
    assert SENTENCE in Path("page.html").read_text()


def test_the_report_on_several_runs_says_the_same(runs: Path) -> None:
    page = report(sorted(runs.glob("*/*")), "report.html").read_text()
    assert SENTENCE in page
    assert page.index(SENTENCE) < page.index("<h2>What came out")


def test_without_scipy_the_report_says_what_to_do_and_compare_ends(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    page = report(sorted(runs.glob("*/seed-0")), "report.html").read_text()
    assert "comparing runs needs scipy: pip install &#x27;esper-telemetry[compare]&#x27;." in page
    assert main(["compare", "runs"]) == 2
    assert capsys.readouterr().err == (
        "esper compare: error: comparing runs needs scipy: pip install 'esper-telemetry[compare]'\n"
    )


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_compared(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "lr-0.1" / "seed-0" / "events.jsonl").write_text("")
    (runs / "lr-0.1" / "seed-1" / "events.jsonl").unlink()
    assert main(["compare", "runs"]) == 0
    out = capsys.readouterr().out
    assert "6 runs in 2 arms" in out
    assert "it is empty" in out
    assert "no log in" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 2, "no run fits nowhere: a run is a directory with"),
        (["runs", "nothing-*"], 2, "no run fits nothing-*"),
        (["runs", "-o", "runs"], 2, "runs is a directory: name the file to write"),
        (["runs", "-o", "none/page.html"], 2, "no such directory: none"),
        (["empty"], 1, "no events in empty"),
    ],
)
def test_a_mistake_is_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    (write_run(Path("empty"), []) / "events.jsonl").write_text("")
    assert main(["compare", *arguments]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_the_threshold_and_ignored_settings_are_heeded(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "runs", "--ignore", "lr", "--threshold", "2", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [arm["reached_threshold"] for arm in made["arms"]] == [4]
    assert made["unheeded"] == {"lr": ["0.1", "0.2"]}
