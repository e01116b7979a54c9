"""One writer a log, also where there is no flock; Windows is played by a module of its own, not seen in the flesh."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from tests.builders import numbers_in

from esper.nissa.sinks.jsonl import JsonlSink

WITHOUT_POSIX = """
import fcntl, os, sys, types
flock, both, single = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_NB
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK = 2
where = []

def locking(descriptor, mode, count):
    assert (mode, count) == (2, 1)
    where.append(os.lseek(descriptor, 0, os.SEEK_CUR))
    try:
        flock(descriptor, both)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None

msvcrt.locking = locking
sys.modules["fcntl"], sys.modules["msvcrt"] = None, msvcrt
for name in ("pread", "register_at_fork", "fork"):
    delattr(os, name)
for name in ("SIGHUP", "SIGQUIT"):
    delattr(__import__("signal"), name)
import logging
logging.basicConfig(format="%(message)s")
from tests.builders import numbered
from esper.karn.aggregator import TelemetryAggregator
from esper.leyline.wire import read_events
from esper.nissa import JsonlSink, TelemetryHub, open_run
from esper.nissa.sinks.jsonl import LogInUseError
"""


def run(program: str, log: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + program, str(log)],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip


def test_the_core_logs_and_reads_without_fcntl_and_locks_by_msvcrt(tmp_path: Path) -> None:
    log = tmp_path / "run" / "events.jsonl"
    done = run(
        """
with open_run(sys.argv[1].removesuffix("/events.jsonl")) as run:
    for number in range(3):
        run.emit(numbered(number))
    assert run.flush()
assert run.exit_status == 0, run.info
assert where and set(where) == {2**31 - 1}
aggregator = TelemetryAggregator()
for event in read_events(sys.argv[1]): aggregator.process(event)
assert aggregator.snapshot().n_events == 3
""",
        log,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers_in(log) == [0, 1, 2]


def test_by_msvcrt_a_second_process_learns_which_log_is_in_use_and_a_torn_line_is_repaired(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    with contextlib.closing(JsonlSink(log)):  # holds what the module played above holds
        second = run("JsonlSink(sys.argv[1])", log)
    assert "LogInUseError" in second.stderr
    assert f"another run is writing this log: '{log}'" in second.stderr
    log.write_bytes(b'{"torn')
    third = run("sink = JsonlSink(sys.argv[1]); sink.write(numbered(7)); sink.flush(); sink.close()", log)
    assert third.returncode == 0, third.stderr
    assert "was torn by a crash" in third.stderr
    assert numbers_in(log) == [7]


def test_without_either_the_log_is_written_and_the_lack_said_once(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    program = WITHOUT_POSIX.replace('sys.modules["msvcrt"] = None, msvcrt', 'sys.modules["msvcrt"] = None, None')
    program += "sink = JsonlSink(sys.argv[1]); sink.write(numbered(1)); sink.flush(); sink.close()"
    done = subprocess.run(
        [sys.executable, "-c", program, str(log)],
        capture_output=True, text=True, check=True, timeout=60, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert done.stderr == f"{log} gets no lock (not on this system): nothing stops another process from writing it\n"
    assert numbers_in(log) == [1]


def test_a_log_never_takes_the_place_of_a_closed_standard_stream(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    program = f"""
import os, sys
for number in (0, 1, 2): os.close(number)
from tests.builders import numbered
from esper.nissa import JsonlSink
sink = JsonlSink({str(log)!r})
for number in (1, 2):
    try: os.write(number, b"said by a library in C")
    except OSError: pass
sink.write(numbered(1)); sink.flush(); sink.close()
os._exit(0)
"""
    subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    assert numbers_in(log) == [1]
