"""A run directory as anybody's loop writes it: whatever happens, its log and run.json are whole and true."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.builders import event, numbered, numbers_in

from esper.leyline.run_directory import RunDirectory, RunDirectoryError
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent
from esper.nissa.output import Durable, FunctionSink, TelemetryHub
from esper.nissa.run import open_run
from esper.nissa.signals import Stopped
from esper.nissa.sinks.jsonl import LogInUseError

PREAMBLE = """
import os, signal, sys, threading, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
from esper.leyline.telemetry import EpochCompletedPayload, TelemetryEvent
from esper.nissa.output import Durable, FunctionSink
from esper.nissa.run import open_run

def event(number):
    return TelemetryEvent(data=EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=number))
"""
LOOP = """
with open_run("run") as run:
    print("ready", flush=True)
    for number in range(20_000):  # ten seconds at most
        run.emit(event(number))
        time.sleep(0.0005)
"""


def info(path: Path) -> RunInfo:
    found = RunDirectory(path).read_info()
    assert found is not None
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def begin(body: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(body)],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


class TestRun:
    def test_it_holds_the_log_and_says_how_it_went(self, tmp_path: Path) -> None:
        seen: list[TelemetryEvent] = []
        with open_run(
            tmp_path / "run", config={"lr": 0.1}, sinks=[FunctionSink("seen", seen.append, Durable())]
        ) as run:
            assert info(run.path).status == "running"
            for number in range(100):
                run.emit(numbered(number))
            assert run.flush()
            assert run.hub.stats()[0].delivered == 100
            run.configure({"gamma": 0.9})
        assert numbers_in(tmp_path / "run" / "events.jsonl") == [*range(100)]
        assert len(seen) == 100
        ended = info(tmp_path / "run")
        assert (ended.status, ended.configuration) == ("completed", {"lr": 0.1, "gamma": 0.9})
        assert [sink.delivered for sink in ended.sinks] == [100, 100]
        assert "python" in ended.versions
        assert run.exit_status == 0

    def test_run_json_is_rewritten_at_every_barrier(self, tmp_path: Path) -> None:
        with open_run(tmp_path / "run") as run:
            run.emit(event(BatchEpochCompletedPayload, episodes_completed=1))
            assert info(run.path).sinks[0].emitted == 1

    def test_options_of_any_kind_are_kept_as_far_as_json_goes(self, tmp_path: Path) -> None:
        numpy = pytest.importorskip("numpy")
        options = {"path": Path("a"), "f": numpy.float64(0.5), "n": numpy.int64(3), "odd": object, "inf": float("inf")}
        with open_run(tmp_path / "run", config=options | {"nested": {1: [True, None, {"x"}]}}):
            pass
        configuration = info(tmp_path / "run").configuration
        assert configuration["path"] == "a"
        assert (configuration["f"], configuration["n"], configuration["inf"]) == (0.5, 3, "Infinity")
        assert "object" in configuration["odd"]
        assert configuration["nested"] == {"1": [True, None, ["x"]]}

    @pytest.mark.parametrize(
        ("config", "says"), [([1], "mapping of names.*not a list"), (Namespace(lr=1), r"vars\(…\)")]
    )
    def test_options_that_are_no_mapping_are_refused_before_anything_is_made(
        self, tmp_path: Path, config: Any, says: str
    ) -> None:
        with pytest.raises(TypeError, match=says), open_run(tmp_path / "run", config=config):
            pass
        assert not (tmp_path / "run").exists()

    def test_options_that_are_no_mapping_are_refused_later_too(self, tmp_path: Path) -> None:
        given: Any = Namespace(lr=0.1)
        with open_run(tmp_path / "run", config=vars(given)) as run:
            with pytest.raises(TypeError, match=r"not a Namespace; vars\(…\)"):
                run.configure(given)
            assert run.info.configuration == {"lr": 0.1}

    def test_the_same_options_come_to_the_same_in_every_process(self, tmp_path: Path) -> None:
        options = {"heads": {"op", "slot", "style", "tempo"}, "main": print, "act": lambda: 0, "odd": object()}
        with open_run(tmp_path / "run", config=options):
            pass
        configuration = info(tmp_path / "run").configuration
        assert configuration["heads"] == ["op", "slot", "style", "tempo"]
        assert configuration["odd"] == "<object object>"
        assert " at 0x" not in str(configuration["act"])

    def test_an_error_is_the_runs_end_and_goes_on_to_its_caller(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), open_run(tmp_path / "run") as run:  # noqa: PT012 - both are the point
            run.emit(numbered(1))
            _ = 1 / 0
        ended = info(tmp_path / "run")
        assert (ended.status, ended.error) == ("failed", "ZeroDivisionError: division by zero")
        assert run.exit_status == 1
        assert numbers_in(tmp_path / "run" / "events.jsonl") == [1]

    @pytest.mark.parametrize(("code", "status"), [(None, "completed"), (0, "completed"), (4, "failed")])
    def test_leaving_by_sys_exit_is_an_end_like_its_status(self, tmp_path: Path, code: Any, status: str) -> None:
        with pytest.raises(SystemExit), open_run(tmp_path / "run"):
            sys.exit(code)
        assert info(tmp_path / "run").status == status

    def test_a_block_that_is_never_left_is_a_failure_that_says_so_and_the_log_is_whole(self, tmp_path: Path) -> None:
        cells = ExitStack()
        cells.enter_context(open_run(tmp_path / "run")).emit(numbered(1))
        del cells  # as when a notebook's kernel ends
        gc.collect()
        assert (info(tmp_path / "run").status, info(tmp_path / "run").error) == (
            "failed",
            "the block of open_run was never left",
        )
        assert numbers_in(tmp_path / "run" / "events.jsonl") == [1]

    def test_a_lost_event_stands_in_run_json_and_in_the_exit_status(self, tmp_path: Path) -> None:
        def fail(_event: TelemetryEvent) -> None:
            raise RuntimeError("no room")

        with open_run(tmp_path / "run", sinks=[FunctionSink("mine", fail, Durable(max_wait=0.0))]) as run:
            for number in range(10):
                run.emit(numbered(number))
        assert run.exit_status == 3
        assert info(tmp_path / "run").lost

    def test_a_run_json_that_cannot_be_written_ends_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with open_run(tmp_path / "run") as run:
            run.path.joinpath("run.json").unlink()
            run.path.joinpath("run.json").mkdir()
            for _ in range(3):
                run.emit(event(BatchEpochCompletedPayload))
        assert caplog.text.count("run.json cannot be written") == 1
        assert run.exit_status == 0

    def test_in_another_thread_it_works_without_signals(self, tmp_path: Path) -> None:
        def work() -> None:
            with open_run(tmp_path / "run") as run:
                run.emit(numbered(1))

        before = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert info(tmp_path / "run").status == "completed"
        assert signal.getsignal(signal.SIGTERM) is before


class TestDirectory:
    def test_a_run_that_is_there_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        with open_run(tmp_path / "run") as run:
            run.emit(numbered(1))
        before = (tmp_path / "run" / "run.json").read_bytes()
        with pytest.raises(RunDirectoryError, match="holds a run already"), open_run(tmp_path / "run"):
            pass
        assert (tmp_path / "run" / "run.json").read_bytes() == before

    def test_a_resume_goes_on_with_log_and_configuration(self, tmp_path: Path) -> None:
        with open_run(tmp_path / "run", config={"lr": 0.1}) as run:
            run.emit(numbered(1))
        began = info(tmp_path / "run").started
        with open_run(tmp_path / "run", resume=True) as run:
            run.emit(numbered(2))
        assert numbers_in(tmp_path / "run" / "events.jsonl") == [1, 2]
        ended = info(tmp_path / "run")
        assert (ended.started, ended.configuration) == (began, {"lr": 0.1})

    def test_the_evaluation_of_a_policy_does_not_outlive_a_resume(self, tmp_path: Path) -> None:
        estimate = Estimate(1.0, 0.1)
        score = PolicyScore(estimate, estimate, estimate)
        with open_run(tmp_path / "run") as run:
            run.emit(numbered(1))
            run.record(evaluation=Evaluation(2, score, score, score))
        assert info(tmp_path / "run").evaluation is not None
        with open_run(tmp_path / "run", resume=True) as run:
            run.emit(numbered(2))
        assert info(tmp_path / "run").evaluation is None

    def test_what_a_log_lacks_is_still_lost_after_a_resume(self, tmp_path: Path) -> None:
        for sitting in range(3):
            with open_run(tmp_path / "run", resume=sitting > 0) as run:
                run.emit(numbered(sitting))
                if sitting == 0:
                    run.emit(event(BatchEpochCompletedPayload, batch_idx=object()))
            assert run.exit_status == 3
        sinks = {sink.name: (sink.emitted, sink.delivered, sink.rejected) for sink in info(tmp_path / "run").sinks}
        assert sinks == {"jsonl": (1, 1, 0), "jsonl, earlier": (2, 1, 1)}

    def test_the_accounts_of_other_ranks_are_in_run_json_and_in_the_exit_status(self, tmp_path: Path) -> None:
        with open_run(tmp_path / "run", rank=1) as other:
            other.emit(event(BatchEpochCompletedPayload, batch_idx=object()))
            other.flush()
            with open_run(tmp_path / "run", rank=0) as run:
                run.emit(numbered(1))
                run.include({1: other.hub.stats()})
        assert [sink.name for sink in info(tmp_path / "run").sinks] == ["jsonl", "jsonl of rank 1"]
        assert run.exit_status == 3

    def test_there_must_be_a_run_to_resume(self, tmp_path: Path) -> None:
        with pytest.raises(RunDirectoryError, match="no such run"), open_run(tmp_path / "run", resume=True):
            pass

    def test_a_run_opened_twice_in_one_process_says_what_to_close(self, tmp_path: Path) -> None:
        with (
            open_run(tmp_path / "run"),
            pytest.raises(RunDirectoryError, match="still open in this process"),
            open_run(tmp_path / "run"),
        ):
            pass

    def test_a_run_of_another_process_is_refused(self, tmp_path: Path, start: Any) -> None:
        ready(start(LOOP))
        with pytest.raises(LogInUseError), open_run(tmp_path / "run", resume=True):
            pass

    def test_a_run_of_another_process_that_has_emitted_nothing_yet_keeps_its_log(
        self, tmp_path: Path, start: Any
    ) -> None:
        ready(start('with open_run("run"):\n    print("ready", flush=True)\n    time.sleep(60)'))
        with pytest.raises(LogInUseError), open_run(tmp_path / "run", resume=True):
            pass
        assert (tmp_path / "run" / "events.jsonl").exists()

    def test_the_home_directory_is_expanded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        with open_run("~/run") as run:
            assert run.path == tmp_path / "run"

    @pytest.mark.parametrize("path", ["s3://bucket/run", "gs://b/r", "https://example.org/run"])
    def test_an_address_is_refused_in_a_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(RunDirectoryError, match="is no local path"), open_run(path):
            pass
        assert not [*tmp_path.iterdir()]

    def test_a_start_that_failed_leaves_nothing_that_stops_the_next_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_sinks: object) -> None:
            raise ValueError("a sink is wrong")

        monkeypatch.setattr("esper.nissa.run.TelemetryHub", fail)
        with pytest.raises(ValueError, match="a sink is wrong"), open_run(tmp_path / "run"):
            pass
        monkeypatch.undo()
        assert not (tmp_path / "run").exists()
        with open_run(tmp_path / "run"):
            pass

    def test_two_runs_of_one_name_get_two_directories(self, tmp_path: Path) -> None:
        made = [RunDirectory.create_numbered(tmp_path / "20260301-120000-digits").path.name for _ in range(3)]
        assert made == [f"20260301-120000-digits{number}" for number in ("", "-2", "-3")]

    def test_ranks_share_a_directory_and_rank_0_writes_run_json(self, tmp_path: Path) -> None:
        with open_run(tmp_path / "run", rank=1) as one:
            one.emit(numbered(1))
            assert not (tmp_path / "run" / "run.json").exists()
            with open_run(tmp_path / "run", rank=0) as zero:
                zero.emit(numbered(0))
        assert info(tmp_path / "run").status == "completed"
        assert [numbers_in(tmp_path / "run" / f"events-rank{rank}.jsonl") for rank in (0, 1)] == [[0], [1]]


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_the_run_as_interrupted_with_everything_delivered(
        self, tmp_path: Path, start: Any, number: signal.Signals
    ) -> None:
        process = start(LOOP)
        ready(process)
        time.sleep(0.2)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (128 + number, "")
        ended = info(tmp_path / "run")
        assert ended.status == "interrupted"
        assert ended.ended is not None
        found = numbers_in(tmp_path / "run" / "events.jsonl")
        assert found == [*range(len(found))]
        assert ended.sinks[0].emitted == ended.sinks[0].delivered == len(found)

    def test_an_ignored_signal_stays_ignored(self, tmp_path: Path, start: Any) -> None:
        process = start("signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + LOOP)
        ready(process)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 143

    def test_the_second_signal_is_answered_and_the_third_ends_at_once(self, tmp_path: Path, start: Any) -> None:
        process = start(
            """
            with open_run("run") as run:
                run.emit(event(1))
                try:
                    print("ready", flush=True)
                    time.sleep(30)
                finally:
                    print("ready", flush=True)
                    time.sleep(0.2)
                    time.sleep(30)
            """
        )
        ready(process)
        process.send_signal(signal.SIGINT)
        ready(process)
        assert info(tmp_path / "run").status == "interrupted"
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "SIGINT again" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
        assert info(tmp_path / "run").status == "interrupted"

    def test_winding_up_that_takes_too_long_is_ended(self, tmp_path: Path, start: Any) -> None:
        process = start(
            """
            import esper.nissa.signals
            esper.nissa.signals.SECONDS_TO_END = 0.3
            with open_run("run") as run:
                run.emit(event(1))
                try:
                    print("ready", flush=True)
                    time.sleep(30)
                finally:
                    time.sleep(30)
            """
        )
        ready(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
        assert info(tmp_path / "run").status == "interrupted"

    def test_a_kill_at_any_moment_leaves_run_json_whole(self, tmp_path: Path, start: Any) -> None:
        for attempt in range(5):
            process = start(
                f"""
                with open_run("run{attempt}") as run:
                    print("ready", flush=True)
                    for number in range(3_000):
                        run.configure({{"n": "x" * number}})
                """
            )
            ready(process)
            time.sleep(0.02 * attempt)
            process.kill()
            process.wait()
            assert info(tmp_path / f"run{attempt}").status == "running"

    def test_for_sigint_it_is_a_keyboard_interrupt(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt) as caught, open_run(tmp_path / "run"):  # noqa: PT012 - as above
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        assert isinstance(caught.value, Stopped)
        assert caught.value.exit_status == 130

    def test_a_signal_that_comes_while_the_run_is_closed_is_its_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        close = TelemetryHub.close

        def interrupted(hub: TelemetryHub, timeout: float = 30.0) -> bool:
            os.kill(os.getpid(), signal.SIGTERM)
            return close(hub, timeout)

        monkeypatch.setattr(TelemetryHub, "close", interrupted)
        with pytest.raises(SystemExit) as caught, open_run(tmp_path / "run") as run:
            run.emit(numbered(1))
        assert caught.value.code == 143
        assert run.exit_status == 143
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
        assert numbers_in(tmp_path / "run" / "events.jsonl") == [1]
