"""The command line: a run from nothing to its summary, and every mistake reported in one line."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.builders import numbered

from esper.cli import _parser, main
from esper.karn.aggregator import TelemetryAggregator
from esper.leyline.run_directory import RunDirectory
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import encode_event, read_events
from esper.nissa import run as run_module
from esper.nissa.output import Durable, FunctionSink, Rejected

TINY = ["--envs", "2", "--max-epochs", "6", "--episodes", "4", "--evaluate-episodes", "2"]


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    status: int
    out: str
    err: str
    run: RunDirectory


def command(*arguments: str, run_dir: Path = Path()) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([*arguments, "--run-dir", str(run_dir)] if arguments[0] == "train" else arguments)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
    return Ran(status, out.getvalue(), err.getvalue(), RunDirectory(run_dir))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return command("train", *TINY, run_dir=tmp_path_factory.mktemp("runs") / "tiny")


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_ends_well_and_leaves_its_files(ran: Ran) -> None:
    assert ran.status == 0, ran.err
    files = ["checkpoint.pt", "events.jsonl", "policy.pt", "run.json"]
    assert sorted(file.name for file in ran.run.path.iterdir()) == files


def test_run_json_says_what_the_events_do_not(ran: Ran) -> None:
    info = ran.run.read_info()
    assert info is not None
    assert (info.status, info.error) == ("completed", None)
    assert info.ended is not None
    assert info.ended > info.started
    assert (info.configuration["envs"], info.configuration["task"]) == (2, "digits")
    assert {"python", "torch", "esper-telemetry"} <= info.versions.keys()
    assert info.evaluation is not None
    assert info.evaluation.episodes == 2
    events = len(list(read_events(ran.run.path)))
    assert [sink.name for sink in info.sinks] == ["jsonl", "aggregator", "console"]
    assert [sink.delivered for sink in info.sinks] == [events, events, events]


def test_a_run_has_an_identifier_of_its_own(ran: Ran) -> None:
    first = next(iter(read_events(ran.run.path)))
    assert isinstance(first, TelemetryEvent)
    assert (
        first.data.to_dict()["episode_id"] == json.loads(ran.run.info.read_text())["configuration"]["episode_id"] != ""
    )


def test_progress_goes_to_stderr_a_line_a_batch(ran: Ran) -> None:
    lines = ran.err.splitlines()
    assert lines[0].split() == ["episodes", "return", "accuracy", "policy", "entropy", "KL", "elapsed", "left"]
    rows = [line for line in lines[1:] if re.match(r" +\d/4 ", line)]
    assert [row.split()[0] for row in rows] == ["2/4", "4/4"]
    assert re.fullmatch(r" +2/4 +-?\d+\.\d+ +0\.\d+ +\d\S* +\d\S* +\d\S* s +\d\S* s", rows[0])


def test_replay_prints_the_live_summary(ran: Ran) -> None:
    replayed = command("replay", str(ran.run.path))
    assert (replayed.status, replayed.err) == (0, "")
    assert replayed.out == ran.out
    assert "Did it learn?" in ran.out


def test_replay_prints_the_snapshot_as_strict_json(ran: Ran) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    output = json.loads(command("replay", "--json", str(ran.run.path)).out, parse_constant=refuse)
    aggregator = TelemetryAggregator()
    events = [event for event in read_events(ran.run.path) if isinstance(event, TelemetryEvent)]
    for event in events:
        aggregator.process(event)
    group = aggregator.snapshot().groups["default"]
    assert group.update is not None
    assert output["groups"]["default"]["ppo"][-1]["event"]["data"] == group.update.data.to_dict()
    assert output["groups"]["default"]["actions"] == dict(group.actions)
    assert sum(output["events"].values()) == len(events)
    reward = group.envs[1].reward
    assert reward is not None
    assert output["groups"]["default"]["envs"]["1"]["rewards"][-1]["event"]["data"] == reward.data.to_dict()


def test_replay_counts_what_is_no_event(ran: Ran, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(ran.run.log.read_bytes() + b"nonsense\n{")
    replayed = command("replay", str(log))
    assert replayed.status == 0
    assert replayed.err == f"2 lines are no events: esper validate {log}\n"
    assert "no run.json beside the log" in replayed.out


def test_evaluate_repeats_the_runs_own_evaluation(ran: Ran) -> None:
    evaluated = command("evaluate", str(ran.run.path), "--episodes", "2")
    assert evaluated.status == 0, evaluated.err
    assert evaluated.out.strip() in ran.out
    other = command("evaluate", str(ran.run.path), "--episodes", "2", "--seed", "7")
    assert other.out != evaluated.out


def test_a_task_of_ones_own_is_trained_on_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_wine.py").write_text(
        "from sklearn.datasets import load_wine\n"
        "from esper.simic.tasks import Task\n"
        "def wine():\n"
        "    inputs, labels = load_wine(return_X_y=True)\n"
        "    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)\n"
        "    return Task.from_arrays('wine', inputs, labels, train=96, validation=48, batch_size=32)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    out = io.StringIO()
    with redirect_stdout(out):
        status = main(["train", "--task", "my_wine:wine", *TINY[:-1], "0", "--slots", "2", "--quiet"])
    assert status == 0
    assert "Task my_wine:wine, seed 0, 2 environments, 2 slots" in out.getvalue()
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-my_wine-wine", run.name)


def test_two_arms_are_trained_in_one_run_and_compared_with_an_interval(tmp_path: Path) -> None:
    ran = command("train", *TINY, "--quiet", "--ab", "shaped", "sparse", run_dir=tmp_path / "ab")
    assert ran.status == 0
    assert "Comparison of the arms on 2 fresh episodes" in ran.out
    assert re.search(r"validation accuracy, \w+ less \w+: [+-]\d.*95 % interval", ran.out)
    assert {path.name for path in ran.run.path.glob("policy*.pt")} == {
        "policy.pt", "policy-shaped.pt", "policy-sparse.pt",
    }  # fmt: skip
    groups = {event.group_id for event in read_events(ran.run.path) if isinstance(event, TelemetryEvent)}
    assert groups == {"shaped", "sparse"}


def test_quiet_shows_no_progress_but_the_summary(tmp_path: Path) -> None:
    quiet = command("train", *TINY[:-1], "0", "--quiet", run_dir=tmp_path / "quiet")
    assert (quiet.status, quiet.err) == (0, "")
    assert "Did it learn?\n  No" in quiet.out


def test_a_run_that_lost_telemetry_says_so_by_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_path: Path) -> FunctionSink:
        def fail(_event: TelemetryEvent) -> None:
            raise RuntimeError("no disk")

        return FunctionSink("log", fail, Durable(max_wait=0.0))

    monkeypatch.setattr(run_module, "JsonlSink", broken)
    lost = command("train", *TINY[:-1], "0", "--quiet", run_dir=tmp_path / "lost")
    assert lost.status == 3
    assert "no disk" in lost.out
    info = lost.run.read_info()
    assert info is not None
    assert info.status == "completed"
    assert info.sinks[0].dropped > 0


def test_events_that_were_rejected_are_lost_and_the_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(_path: Path) -> FunctionSink:
        def reject(_event: TelemetryEvent) -> None:
            raise Rejected("not to my taste")

        return FunctionSink("log", reject, Durable())

    monkeypatch.setattr(run_module, "JsonlSink", picky)
    assert command("train", *TINY[:-1], "0", "--quiet", run_dir=tmp_path / "picky").status == 3


def test_a_training_that_breaks_is_reported_with_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("esper.simic.evaluation.evaluate", explode)
    failed = command("train", *TINY, run_dir=tmp_path / "failed")
    assert failed.status == 1
    assert "Traceback" in failed.err
    assert "RuntimeError: a bug" in failed.out
    assert "4 of 4 episodes" in failed.out
    info = failed.run.read_info()
    assert info is not None
    assert (info.status, info.error) == ("failed", "RuntimeError: a bug")


def test_other_sinks_are_written_beside_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output: list[TelemetryEvent] = []
    monkeypatch.setattr(
        "esper.nissa.sinks.wandb.WandbSink", lambda path: FunctionSink(f"wandb in {path.name}", output.append)
    )
    run = command("train", *TINY[:-1], "0", "--quiet", "--tensorboard", "--wandb", run_dir=tmp_path / "run")
    assert run.status == 0, run.err
    assert list((run.run.path / "tensorboard").rglob("events.out.tfevents.*"))
    info = run.run.read_info()
    assert info is not None
    assert [sink.name for sink in info.sinks] == ["jsonl", "aggregator", "tensorboard", "wandb in run"]
    assert len(output) == info.sinks[0].delivered == info.sinks[2].delivered


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_dashboard_is_a_process_of_its_own_that_its_user_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    class Watch:
        def __init__(self, line: list[str]) -> None:
            happened.append(" ".join(line[1:]))

        def wait(self) -> None:
            while (info := RunDirectory(tmp_path / "run").read_info()) is None or info.status == "running":
                time.sleep(0.01)
            happened.append(info.status)

        def terminate(self) -> None:
            happened.append("terminated")

    monkeypatch.setattr(subprocess, "Popen", Watch)
    with redirect_stdout(Terminal()) as out:
        status = main(["train", *TINY, "--dashboard", "--run-dir", str(tmp_path / "run")])
    assert status == 0
    assert happened[0] == f"-m esper watch {tmp_path / 'run'}"
    assert happened[1] == "completed"
    assert "Did it learn?" in out.getvalue()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_cleanly_with_the_summary_so_far(tmp_path: Path, number: int, status: int) -> None:
    run = RunDirectory(tmp_path / "run")
    long = ["--envs", "1", "--max-epochs", "4", "--episodes", "100000", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "esper", "train", *long, "--run-dir", str(run.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 90
    while not (run.log.exists() and b"BATCH_EPOCH_COMPLETED" in run.log.read_bytes()):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, "")
    assert f"Run {run.path}: interrupted after" in out
    info = run.read_info()
    assert info is not None
    assert info.status == "interrupted"
    events = list(read_events(run.path))
    assert all(isinstance(event, TelemetryEvent) for event in events)
    assert info.sinks[0].delivered == len(events)
    assert command("replay", str(run.path)).out == out


def test_validate_finds_nothing_wrong_with_a_run(ran: Ran) -> None:
    output = command("validate", str(ran.run.path))
    assert output.status == 0
    assert re.fullmatch(r"\d+ events, 0 invalid lines\n", output.out)


def test_validate_fails_for_a_log_with_a_line_that_is_no_event(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("nonsense\n" + encode_event(numbered(1)) + "\n")
    output = command("validate", str(tmp_path / "log.jsonl"))
    assert output.status == 1
    assert "log.jsonl:1: json:" in output.out


def test_schema_is_json_and_its_views_are_sql(ran: Ran) -> None:
    assert json.loads(command("schema").out)["$schema"].endswith("2020-12/schema")
    assert "CREATE OR REPLACE VIEW" in command("schema", "--duckdb", str(ran.run.path)).out


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--envs", "-1"], "envs must be at least 1, got -1"),
        (["--lr", "fast"], "argument --lr: invalid float value: 'fast'"),
        (["--task", "nope"], "unknown task 'nope'"),
        (["--task", "no.such:thing"], "cannot load task 'no.such:thing'"),
        (["--device", "cuda:99"], "device must be one that torch can use here, got 'cuda:99'"),
        (["--evaluate-episodes", "1"], "evaluate-episodes must be 0 or at least 2, got 1"),
        (["--amp-dtype", "float8"], "argument --amp-dtype: invalid choice: 'float8'"),
        (["--dashboard"], "the dashboard needs a terminal"),
        (["--wings"], "unrecognized arguments: --wings (see esper train --help)"),
        (
            ["--epsiodes", "4"],
            "unrecognized arguments: --epsiodes 4; did you mean --episodes? (see esper train --help)",
        ),
    ],
)
def test_a_mistake_costs_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    refused = command("train", *arguments, run_dir=tmp_path / "run")
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.startswith(f"esper train: error: {message}")
    assert refused.err.count("\n") == 1
    assert not refused.run.path.exists()


def test_an_occupied_run_directory_is_refused_and_left_alone(ran: Ran) -> None:
    before = ran.run.log.read_bytes()
    refused = command("train", *TINY, run_dir=ran.run.path)
    assert refused.status == 2
    assert "holds a run already" in refused.err
    assert ran.run.log.read_bytes() == before


@pytest.mark.parametrize("arguments", [["replay"], ["evaluate"], ["report"]])
def test_a_run_that_is_not_there_costs_one_line(tmp_path: Path, arguments: list[str]) -> None:
    refused = command(*arguments, str(tmp_path / "none"))
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert refused.err.startswith(f"esper {arguments[0]}: error: no such")


def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "esper.simic.tasks", raising=False)
    refused = command("train", run_dir=tmp_path / "run")
    assert refused.status == 2
    assert refused.err == "esper train: error: it needs torch: pip install 'esper-telemetry[train]'\n"


def test_evaluating_a_run_without_a_policy_costs_one_line(ran: Ran, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(ran.run.log.read_bytes())
    refused = command("evaluate", str(tmp_path))
    assert refused.status == 2
    assert "holds no policy.pt" in refused.err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "run.json: status is missing"),
        ("[]", "expected an object"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "recursion"),
        ('{"status":"running","started":' + "9" * 5001 + "}", "digits"),
        ('{"status":"completed","started":"2026-01-01T00:00:00","configuration":{},"versions":{}}', "started"),
        (json.dumps({"status": "running", "\x1b]0;owned\x07": 1}), r"\x1b]0;owned\x07"),
    ],
    ids=["empty", "list", "deep", "digits", "naive", "escape"],
)
def test_a_run_json_that_is_wrong_costs_one_line_and_not_the_summary(
    ran: Ran, tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "events.jsonl").write_bytes(ran.run.log.read_bytes())
    (tmp_path / "run.json").write_text(text)
    replayed = command("replay", str(tmp_path))
    assert replayed.status == 0
    assert problem in replayed.err
    assert replayed.err.count("\n") == 1
    assert "4 of 4 episodes were played" in replayed.out
    assert "\x1b" not in replayed.out + replayed.err


@pytest.mark.parametrize("name", ["validate", "replay", "report"])
def test_a_log_without_events_is_no_success(tmp_path: Path, name: str) -> None:
    log = tmp_path / "other.jsonl"
    log.write_text('{"loss": 1}\n' * 4_180)
    found = command(name, str(log))
    assert found.status == 1
    sentence = f"no events in {log}: 4,180 lines without schema_version, first in line 1\n"
    assert (found.out + found.err).startswith(("" if name == "validate" else f"esper {name}: ") + sentence)
    log.write_text("")
    assert command(name, str(log)).status == 1


def test_a_policy_file_only_names_a_task_of_ones_own(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    saved = torch.load(ran.run.policy, weights_only=True)
    saved["config"]["task"] = "named_by_a_file:task"
    torch.save(saved, tmp_path / "policy.pt")
    (tmp_path / "named_by_a_file.py").write_text("raise SystemExit('executed')")
    monkeypatch.chdir(tmp_path)
    refused = command("evaluate", str(tmp_path))
    assert refused.status == 2
    assert "--task 'named_by_a_file:task'" in refused.err
    assert command("evaluate", str(tmp_path), "--episodes", "2", "--task", "digits").status == 0


# --- the front door --------------------------------------------------------------------------------------------------


def test_help_shows_every_command_and_loads_nothing_slow() -> None:
    code = "import sys; from esper.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'numpy', 'rich', 'textual', 'plotly') if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.endswith("[]\n")
    for name in ("train", "evaluate", "watch", "replay", "report", "validate", "schema", "export", "import"):
        assert f"\n    {name} " in out


def parsers() -> dict[str, argparse.ArgumentParser]:
    (commands,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    found: dict[str, argparse.ArgumentParser] = commands.choices
    return found


@pytest.mark.parametrize("name", parsers())
def test_every_command_has_examples_that_its_own_parser_takes(name: str) -> None:
    epilog = parsers()[name].epilog or ""
    examples = re.findall(rf"^  (?:\S.* \| )?esper ({name}\b[^|>#\n]*)", epilog, re.MULTILINE)
    assert epilog.startswith("examples:")
    assert examples
    for example in examples:
        words = example.split("  ")[0]  # what follows is a remark
        _parser().parse_args(shlex.split(words))


@pytest.mark.parametrize("name", parsers())
def test_every_option_says_what_it_does_and_what_holds_without_it(name: str) -> None:
    for action in parsers()[name]._actions:
        assert action.help, action.dest
        if action.option_strings and action.default not in {None, False, argparse.SUPPRESS}:
            assert f"default {action.default}" in action.help, action.dest


def test_train_help_names_every_default() -> None:
    output = " ".join(command("train", "--help").out.split())
    for text in (
        "--lr FLOAT",
        "(default 0.003)",
        "(default digits)",
        "esper train --episodes 400",
        "exit status: 0 done",
    ):
        assert text in output


def test_the_package_runs_as_a_module() -> None:
    output = subprocess.run([sys.executable, "-m", "esper", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"esper \d+\.\d+\.\d+\S*\n", output.stdout)


def test_a_reader_that_has_seen_enough_is_no_error(ran: Ran) -> None:
    line = f"{sys.executable} -m esper replay --json {ran.run.path} | head -c 10"
    output = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert (output.returncode, output.stderr) == (0, "")


def test_validate_lists_what_a_terminal_cannot_show_and_goes_on(tmp_path: Path) -> None:
    line = '{"schema_version":1,"\\ud800\\u001b[31m":1,"é":2}\n'
    (tmp_path / "odd.jsonl").write_text(line * 2 + encode_event(numbered(1)) + "\n", encoding="utf-8")
    output = subprocess.run(
        [sys.executable, "-m", "esper", "validate", str(tmp_path / "odd.jsonl")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    first, second, summary = output.stdout.splitlines()
    assert (output.returncode, output.stderr, summary) == (1, "", "1 events, 2 invalid lines: 2 missing")
    assert r"unknown '\ud800\x1b[31m', \xe9" in first
    assert second == first.replace(":1:", ":2:", 1)


def test_a_run_that_learns_nothing_is_a_sentence_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--episodes", "1", "--envs", "1", "--max-epochs", "2", "--inject", "nan-grad", "--inject-at", "0"]
    assert main(["train", "--run-dir", str(tmp_path / "run"), "--quiet", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("esper train: error: nothing was learnt in 1 update; it began with update 0")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "options", [["--lr", "1e38"], ["--device", "cuda:99"], ["--inject", "nan-grad", "--inject-at", "40"]]
)
def test_a_mode_that_cannot_be_is_one_sentence(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--run-dir", str(tmp_path / "run"), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
