"""Forks, spawned processes, signals, exits and kills: done for real, in processes of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders import numbers_in

from esper.nissa.output import TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink, LogInUseError

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"
FAULTS = SOAK.with_name("faults.py")
PREAMBLE = """
import os, signal, sys, threading, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore them, and children inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.alarm(120)  # nothing here runs for ever, whatever becomes of the test
from esper.leyline.telemetry import EpochCompletedPayload, TelemetryEvent
from esper.nissa.output import FunctionSink, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink

def event(number):
    return TelemetryEvent(data=EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=number))
"""


def script(body: str) -> list[str]:
    return [sys.executable, "-c", PREAMBLE + textwrap.dedent(body)]


def run(body: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(script(body), cwd=directory, capture_output=True, text=True, check=False, timeout=60)


@contextlib.contextmanager
def child(body: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script beside the test, which it does not outlive."""
    with subprocess.Popen(script(body), cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


class TestExit:
    def test_an_interpreter_that_exits_without_close_still_flushes(self, tmp_path: Path) -> None:
        done = run(
            """
            hub = TelemetryHub([JsonlSink("events.jsonl")])
            for number in range(5_000):
                hub.emit(event(number))
            """,
            tmp_path,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert numbers_in(tmp_path / "events.jsonl") == [*range(5_000)]

    def test_an_uncaught_exception_does_not_cost_the_log(self, tmp_path: Path) -> None:
        done = run(
            """
            hub = TelemetryHub([JsonlSink("events.jsonl")])
            hub.emit(event(0))
            sys.exit("a bug in training")
            """,
            tmp_path,
        )
        assert (done.returncode, done.stderr) == (1, "a bug in training\n")
        assert numbers_in(tmp_path / "events.jsonl") == [0]

    def test_a_hanging_sink_does_not_keep_the_interpreter_alive(self, tmp_path: Path) -> None:
        done = run(
            """
            hub = TelemetryHub([FunctionSink("hangs", lambda event: time.sleep(1_000)), JsonlSink("events.jsonl")])
            hub.emit(event(0))
            hub.close(timeout=0.2)
            """,
            tmp_path,
        )
        assert done.returncode == 0
        assert "'hangs' does not finish" in done.stderr
        assert numbers_in(tmp_path / "events.jsonl") == [0]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_that_becomes_an_exception_ends_the_run_with_everything_flushed(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        body = """
            def stop(number, frame):
                raise KeyboardInterrupt

            signal.signal(signal.SIGTERM, stop)
            emitted = 0
            hub = TelemetryHub([JsonlSink("events.jsonl")])
            try:
                with hub:
                    print("ready", flush=True)
                    while emitted < 2_000_000:
                        hub.emit(event(emitted))
                        emitted += 1
            except KeyboardInterrupt:
                stats = hub.stats()[0]
                assert stats.emitted == stats.delivered and emitted <= stats.emitted <= emitted + 1, stats
                print(stats.emitted)
            else:
                sys.exit("the signal never came")
        """
        with child(body, tmp_path) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.2)
            process.send_signal(number)
            emitted, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert numbers_in(tmp_path / "events.jsonl") == [*range(int(emitted))]


class TestFork:
    def test_a_forked_child_neither_duplicates_nor_deadlocks(self, tmp_path: Path) -> None:
        done = run(
            """
            hub = TelemetryHub([JsonlSink("events.jsonl")])
            stop = threading.Event()

            def flood():
                for _ in range(2_000_000):
                    if stop.is_set():
                        break
                    hub.emit(event(-1))

            thread = threading.Thread(target=flood)  # so that the fork finds locks held
            thread.start()
            for number in range(20):
                hub.emit(event(number))
                child = os.fork()
                if not child:
                    hub.emit(event(1_000_000))
                    stats = hub.stats()[0]
                    assert (stats.emitted, stats.dropped, stats.queued) == (1, 1, 0), stats
                    hub.flush()
                    hub.close()
                    sys.exit(0)  # exit handlers run in the child too
                _, status = os.waitpid(child, 0)
                assert os.waitstatus_to_exitcode(status) == 0
            stop.set()
            thread.join()
            assert hub.close()
            print(hub.stats()[0].emitted)
            """,
            tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("telemetry emitted in a forked child process is dropped") == 20
        found = numbers_in(tmp_path / "events.jsonl")
        assert len(found) == int(done.stdout)
        assert [number for number in found if number >= 0] == [*range(20)]

    def test_a_forked_child_may_open_a_hub_of_its_own(self, tmp_path: Path) -> None:
        done = run(
            """
            with TelemetryHub([JsonlSink("events.jsonl")]) as hub:
                hub.emit(event(0))
                child = os.fork()
                if not child:
                    with TelemetryHub([JsonlSink("child.jsonl")]) as own:
                        own.emit(event(1))
                    os._exit(0)
                os.waitpid(child, 0)
            """,
            tmp_path,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert numbers_in(tmp_path / "events.jsonl") == [0]
        assert numbers_in(tmp_path / "child.jsonl") == [1]

    def test_a_child_that_outlives_its_parent_does_not_keep_the_log_locked(self, tmp_path: Path) -> None:
        body = """
            sink = JsonlSink("events.jsonl")
            child = os.fork()
            if not child:
                print(os.getpid(), flush=True)
                time.sleep(100)
            signal.pause()
        """
        with child(body, tmp_path) as parent:
            assert parent.stdout
            orphan = int(parent.stdout.readline())
            try:
                with pytest.raises(LogInUseError):
                    JsonlSink(tmp_path / "events.jsonl")
                parent.kill()
                parent.wait()
                JsonlSink(tmp_path / "events.jsonl").close()
            finally:
                os.kill(orphan, signal.SIGKILL)


class TestOtherProcesses:
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    @pytest.mark.parametrize("how", ["process", "pool"])
    def test_a_hub_that_a_worker_left_open_is_delivered(self, tmp_path: Path, method: str, how: str) -> None:
        body = f"""
            import multiprocessing

            def work(path):
                global hub
                hub = TelemetryHub([JsonlSink(path)])
                for number in range(1_000):
                    hub.emit(event(number))

            if __name__ == "__main__":
                context = multiprocessing.get_context({method!r})
                if {how!r} == "process":
                    process = context.Process(target=work, args=("child.jsonl",))
                    process.start()
                    process.join()
                else:
                    pool = context.Pool(1)
                    pool.apply(work, ("child.jsonl",))
                    pool.close()
                    pool.join()
        """
        (tmp_path / "main.py").write_text(PREAMBLE + textwrap.dedent(body))
        subprocess.run([sys.executable, "main.py"], cwd=tmp_path, check=True, timeout=60)
        assert numbers_in(tmp_path / "child.jsonl") == [*range(1_000)]

    def test_what_a_worker_of_a_data_loader_emits_into_its_parent_s_hub_is_lost_with_a_word(
        self, tmp_path: Path
    ) -> None:
        pytest.importorskip("torch")
        done = run(
            """
            from torch.utils.data import DataLoader, Dataset

            class Emitting(Dataset):
                def __len__(self):
                    return 6

                def __getitem__(self, index):
                    hub.emit(event(index))
                    return index

            with TelemetryHub([JsonlSink("events.jsonl")]) as hub:
                hub.emit(event(100))
                assert len(list(DataLoader(Emitting(), num_workers=2, multiprocessing_context="fork"))) == 6
            """,
            tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("telemetry emitted in a forked child process is dropped; open another hub") == 2
        assert numbers_in(tmp_path / "events.jsonl") == [100]

    def test_a_forked_child_cannot_take_its_parent_s_sink_into_a_hub_of_its_own(self, tmp_path: Path) -> None:
        done = run(
            """
            sink = JsonlSink("events.jsonl")
            hub = TelemetryHub([sink])
            child = os.fork()
            if not child:
                try:
                    TelemetryHub([sink])
                except ValueError as error:
                    print(error, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            hub.emit(event(1))
            """,
            tmp_path,
        )
        assert "'jsonl' has a hub already" in done.stdout
        assert (done.returncode, numbers_in(tmp_path / "events.jsonl")) == (0, [1])

    @pytest.mark.parametrize("method", ["spawn", "forkserver"])
    def test_a_process_of_its_own_opens_a_hub_of_its_own(self, tmp_path: Path, method: str) -> None:
        body = f"""
            import multiprocessing

            def emit_one(path):
                with TelemetryHub([JsonlSink(path)]) as hub:
                    hub.emit(event(7))

            if __name__ == "__main__":
                with TelemetryHub([JsonlSink("events.jsonl")]) as hub:
                    hub.emit(event(1))
                    process = multiprocessing.get_context({method!r}).Process(target=emit_one, args=("child.jsonl",))
                    process.start()
                    process.join()
                    hub.emit(event(2))
        """
        (tmp_path / "main.py").write_text(PREAMBLE + textwrap.dedent(body))
        subprocess.run([sys.executable, "main.py"], cwd=tmp_path, check=True, timeout=60)
        assert numbers_in(tmp_path / "events.jsonl") == [1, 2]
        assert numbers_in(tmp_path / "child.jsonl") == [7]

    def test_a_hub_handed_to_a_spawned_process_is_refused_with_a_reason(self) -> None:
        with TelemetryHub([]) as hub:
            process = multiprocessing.get_context("spawn").Process(target=print, args=(hub,))
            with pytest.raises(TypeError, match="a TelemetryHub stays in its process"):
                process.start()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the failing system calls are made by a library in C")
def test_runs_under_fire_end_as_documented() -> None:
    done = subprocess.run(
        [sys.executable, FAULTS, "--runs", "12", "--seed", "1", "--seconds", "60"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class TestSoak:
    def test_a_writer_killed_at_any_moment_loses_nothing_that_was_committed(self) -> None:
        done = subprocess.run(
            [sys.executable, SOAK, "kills", "--times", "20"], capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def test_memory_stays_flat_however_many_events_there_were(self) -> None:
        done = subprocess.run(
            [sys.executable, SOAK, "events", "--count", "60000"],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
