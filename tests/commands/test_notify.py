"""A command that is told how a run is: when it went bad, ended or crashed, and never in the way."""

from __future__ import annotations

import io
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benchmarks.verdict_logs import HEALTHY, TROUBLE, Log, info

from esper.cli import main
from esper.commands.notify import Notifier
from esper.karn import TelemetryAggregator, Verdict, assess
from esper.leyline.run_directory import RunDirectory


def verdict_of(log: Log) -> Verdict:
    aggregator = TelemetryAggregator()
    for event in log.events():
        aggregator.process(event)
    return assess(aggregator.snapshot())


WELL, ILL = verdict_of(HEALTHY["learns at once"]), verdict_of(TROUBLE["collapsed to nothing"])


def told(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def keeping(file: Path) -> str:
    return f"cat >> {shlex.quote(str(file))}; echo >> {shlex.quote(str(file))}"


def test_it_is_told_once_that_a_run_went_bad_and_once_more_when_it_ends(tmp_path: Path) -> None:
    notifier = Notifier(keeping(tmp_path / "told"), "runs/mine")
    for verdict in (WELL, ILL, ILL, WELL):
        notifier.look(verdict)
    notifier.end(WELL, crashed=False)
    first, last = told(tmp_path / "told")
    assert (first["run"], first["reason"], first["status"]) == ("runs/mine", "bad", "BAD")
    assert first["headline"] == ILL.headline
    assert {one["rule"] for one in first["findings"]} == {one.rule for one in ILL.findings}
    assert (last["reason"], last["status"]) == ("end", "OK")


def test_whoever_watches_hears_of_an_end_that_comes_and_of_none_that_was(tmp_path: Path) -> None:
    running, failed = info(status="running", ended=None), info(status="failed")
    late = Notifier(keeping(tmp_path / "late"), "run")
    late.look(WELL, failed)
    early = Notifier(keeping(tmp_path / "early"), "run")
    for each in (running, running, failed, failed):
        early.look(WELL, each)
    for thread in (*late._threads, *early._threads):
        thread.join()
    assert told(tmp_path / "late") == []
    assert [one["reason"] for one in told(tmp_path / "early")] == ["crash"]


def test_the_bell_rings_on_a_terminal_only() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, rung in ((Terminal(), "\a"), (io.StringIO(), "")):
        notifier = Notifier("true", "run", stream)
        notifier.end(WELL, crashed=True)
        assert stream.getvalue() == rung


def test_a_terminal_that_was_closed_costs_the_bell_alone(tmp_path: Path) -> None:
    closed = io.StringIO()
    closed.close()
    Notifier(keeping(tmp_path / "told"), "run", closed).end(WELL, crashed=False)
    assert [one["reason"] for one in told(tmp_path / "told")] == ["end"]


def test_what_a_command_leaves_running_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    notifier = Notifier("sleep 8 & true", "run")
    began = time.monotonic()
    notifier.end(WELL, crashed=False)
    assert time.monotonic() - began < 6
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["exit 3", "no-such-command-at-all"])
def test_a_command_that_fails_is_said_once_and_ends_nothing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    notifier = Notifier(command, "run")
    notifier.look(ILL)
    notifier.look(WELL)
    notifier.look(ILL)
    notifier.end(ILL, crashed=False)
    assert capsys.readouterr().err.count("--notify: status") == 1


def test_a_slow_command_makes_nobody_wait(tmp_path: Path) -> None:
    notifier = Notifier(f"sleep 1; touch {tmp_path}/done", "run")
    began = time.monotonic()
    notifier.look(ILL)
    assert time.monotonic() - began < 0.5
    notifier._threads[0].join()
    assert (tmp_path / "done").exists()


def test_train_stops_when_it_cannot_recover_tells_it_and_keeps_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    ruinous = ["--lr", "1.0", "--target-kl", "1000", "--episodes", "40", "--envs", "1", "--max-epochs", "4"]
    options = ["--evaluate-episodes", "0", "--stop-on-bad", "--notify", keeping(tmp_path / "told")]
    assert main(["train", *ruinous, *options, "--run-dir", str(run)]) == 1
    err = capsys.readouterr().err
    assert "esper train: error: stopped after 5 batches in a row: BAD " in err
    record = RunDirectory(run).read_info()
    assert record is not None
    assert record.status == "failed"
    assert record.verdict is not None
    assert record.verdict.status == "BAD"
    assert [one["reason"] for one in told(tmp_path / "told")][-1] == "crash"


def test_a_bad_verdict_alone_changes_nothing_about_train(tmp_path: Path) -> None:
    ruinous = ["--lr", "1.0", "--target-kl", "1000", "--episodes", "8", "--envs", "1", "--max-epochs", "3"]
    run = tmp_path / "run"
    assert main(["train", *ruinous, "--evaluate-episodes", "0", "--quiet", "--run-dir", str(run)]) == 0
    record = RunDirectory(run).read_info()
    assert record is not None
    assert record.verdict is not None
    assert (record.status, record.verdict.status) == ("completed", "BAD")


def test_a_playback_notifies_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "run", "--speed", "2", "--notify", "true"]) == 2
    assert "leave out --speed" in capsys.readouterr().err
    assert sys.stdout is not None
