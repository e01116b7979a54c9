"""What surrounds a command may be missing: streams, descriptors, names, a terminal's size, the right to write."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from tests.builders import event, numbered
from tests.every_command import COMMANDS, arguments_of, command, names

from esper.leyline.lines import open_log
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import encode_event, read_events
from esper.nissa import append_only

pytestmark = pytest.mark.no_cover  # what it runs has tests of its own, and the tracer would take a third of the time

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path.cwd())}
EVERY = """
import json, os, sys, traceback
from pathlib import Path
from tests.every_command import COMMANDS, arguments_of
from esper.cli import main
place = Path(sys.argv[1])
for stream in sys.argv[2:]:
    getattr(sys, stream).close()
tiny = "train --envs 1 --max-epochs 4 --episodes 1 --evaluate-episodes 0 --run-dir".split()
found = {}
runs = {"a training": [*tiny, str(place / "run")], "no command": [], "a wrong option": ["replay", "--wings"]}
runs |= {name: arguments_of(name, place / "run", place / "page.html") for name in COMMANDS}
runs |= {f"{name} from standard input": [name, "-"] for name in ("replay", "health", "watch", "validate")}
for name, arguments in runs.items():
    try:
        found[name] = main(arguments)
    except SystemExit as ended:
        found[name] = ended.code
    except BaseException:
        found[name] = traceback.format_exc()
(place / "found.json").write_text(json.dumps(found))
"""


def test_every_command_is_known_to_these_tests() -> None:
    assert {name.partition(" ")[0] for name in COMMANDS} == names()


@pytest.mark.parametrize("how", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full", "stdin stdout stderr"])
def test_no_command_needs_its_standard_streams(tmp_path: Path, how: str) -> None:
    closed_in_python = how.split() if how.startswith("std") else []
    script = "true" if closed_in_python else how
    line = [sys.executable, "-c", EVERY, str(tmp_path), *closed_in_python]
    shell = ["bash", "-c", f'exec "$@" {"" if closed_in_python else script}', "bash", *line]
    subprocess.run(shell, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=110)
    found = json.loads((tmp_path / "found.json").read_text())
    assert {name: said for name, said in found.items() if said not in (0, 1, 2)} == {}
    assert (found["a training"], found["a wrong option"]) == (0, 2)
    if "full" not in how:
        well = ["replay", "health --json", "report", "validate", "schema --duckdb", "evaluate"]
        assert {name: found[name] for name in well} == dict.fromkeys(well, 0)
    records = list(read_events(tmp_path / "run"))
    assert records
    assert all(isinstance(record, TelemetryEvent) for record in records)  # nothing that was said stands in the log


def shards(run: Path, count: int) -> None:
    run.mkdir()
    for rank in range(count):
        lines = [
            event(TrainingStartedPayload, rank=rank, world_size=count),
            *map(numbered, (1, 2)),
        ]
        (run / f"events-rank{rank}.jsonl").write_text("".join(f"{encode_event(line)}\n" for line in lines))


def test_a_run_of_more_shards_than_a_process_may_have_files_is_read(tmp_path: Path) -> None:
    shards(tmp_path / "run", 1_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len([*Path("/proc/self/fd").iterdir()]) + 70, hard))
    try:
        assert sum(1 for _ in read_events(tmp_path / "run")) == 3_000
        for name in ("replay", "health", "validate", "schema --duckdb"):
            status, _, err = command(*arguments_of(name, tmp_path / "run", tmp_path / "page"))
            assert (status, err) == (0, ""), name
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_is_opened_again_and_again_is_read_as_one_that_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%d" % n * (n % 5_000) + b"\n" for n in range(0, 9_000, 7)))
    with open_log(path) as one, open_log(path, together=1_000) as other:
        assert one.readlines() == other.readlines()


def test_a_name_that_is_no_unicode_is_read_and_shown_escaped(tmp_path: Path) -> None:
    run = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff\xe9n"))
    run.mkdir()
    (run / "events.jsonl").write_text(encode_event(numbered(1)) + "\n")
    (run / "run.json").write_text("{")
    for name in sorted(COMMANDS.keys() - {"train", "evaluate", "watch"}):
        done = subprocess.run(
            [sys.executable, "-m", "esper", *arguments_of(name, run, tmp_path / "page.html")],
            capture_output=True, check=False, env=ENVIRONMENT, timeout=60,
        )  # fmt: skip
        assert done.returncode == (2 if name == "schema --duckdb" else 0), done.stderr
        said = (done.stdout + done.stderr).decode()  # strictly
        assert "Traceback" not in said
        if name == "schema --duckdb" or name in {"replay", "health"}:  # which name the run, or what is wrong in it
            assert "\\udcff\\udce9n" in said


def test_a_run_in_a_directory_that_is_no_unicode_is_written_and_read_back(tmp_path: Path) -> None:
    from esper.nissa import open_run

    with open_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))) as run:
        run.emit(numbered(1))
    assert len(list(read_events(run.path))) == 1
    assert run.exit_status == 0


@pytest.mark.parametrize("arguments", [["--help"], ["replay", "RUN"], ["watch", "RUN"]], ids=" ".join)
def test_a_terminal_of_no_size_is_no_obstacle(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "events.jsonl").write_text(encode_event(numbered(1)) + "\n")
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    line = [sys.executable, "-m", "esper", *(word.replace("RUN", str(tmp_path)) for word in arguments)]
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(line, stdin=child, stdout=child, stderr=child, env={**environment, "TERM": "xterm"})
    os.close(child)
    said, deadline, asked = b"", time.monotonic() + 60, False
    while time.monotonic() < deadline:
        if select.select([parent], [], [], 0.2)[0]:
            try:
                said += os.read(parent, 65_536)
            except OSError:  # nobody has the other end any more
                break
        if arguments[0] == "watch" and not asked and b"\x1b[?1049h" in said:
            os.write(parent, b"q")
            asked = time.monotonic() > deadline - 55
    os.close(parent)
    assert process.wait(30) == 0, said
    assert b"Traceback" not in said


def test_readers_lock_nothing_and_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    shards(run, 3)
    before = {path: path.stat().st_mtime_ns for path in [run, *run.iterdir()]}

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(append_only, "_open_for_appending", refuse)
    for name in sorted(COMMANDS.keys() - {"train", "evaluate", "watch"}):
        assert command(*arguments_of(name, run, tmp_path / "page.html"))[0] == 0, name
    assert {path: path.stat().st_mtime_ns for path in [run, *run.iterdir()]} == before


# ── inodes that change at every look, as sshfs and Samba may have it ─────────────────────────────────────────────────


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    real_stat, real_fstat, numbers = os.stat, os.fstat, iter(range(1, 10**9))

    def other(status: os.stat_result) -> os.stat_result:
        fields = list(status)
        fields[1] = next(numbers)
        return os.stat_result([*fields, *(getattr(status, n) for n in ("st_atime", "st_mtime", "st_ctime"))])

    monkeypatch.setattr(os, "stat", lambda *args, **more: other(real_stat(*args, **more)))
    monkeypatch.setattr(os, "fstat", lambda descriptor: other(real_fstat(descriptor)))


@pytest.mark.usefixtures("restless")
def test_a_log_whose_inode_never_stays_is_written_whole(tmp_path: Path) -> None:
    from esper.nissa import open_run

    with open_run(tmp_path / "run") as run:
        for number in range(5):
            run.emit(numbered(number))
            run.emit(event(BatchEpochCompletedPayload, batch_idx=number))
    (log, *_) = run.hub.stats()
    assert (log.delivered, log.lost, run.exit_status) == (10, False, 0)


@pytest.mark.usefixtures("restless")
def test_a_log_whose_inode_never_stays_is_followed_and_not_begun_again(tmp_path: Path) -> None:
    pytest.importorskip("textual")
    from esper.karn.dashboard.feed import LogTail

    log = tmp_path / "events.jsonl"
    log.write_text(encode_event(numbered(1)) + "\n")
    tail = LogTail(log)
    assert len(tail.take().records) == 1
    for number in range(3):
        with log.open("a") as file:
            file.write(encode_event(numbered(number)) + "\n")
        taken = tail.take()
        assert (len(taken.records), taken.restarted) == (1, False)
    assert tail.take().records == ()


# ── what has no end ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"train", "evaluate", "watch", "schema", "schema --fields"}))
def test_a_device_is_no_log(tmp_path: Path, device: str, name: str) -> None:
    status, out, err = command(*arguments_of(name, Path(device), tmp_path / "page.html"))
    assert "a device is no log" in out + err or "no ordinary file" in out + err
    if name.startswith("runs"):  # a row like any other, which says so
        assert status == 0
    else:
        assert status == (1 if name.startswith("compare") else 2)
        assert (out + err).count("\n") <= 2


def test_a_stream_that_never_ends_a_line_is_left_with_a_message() -> None:
    program = "head -c 200000000 /dev/zero; sleep 60"
    with subprocess.Popen(["bash", "-c", program], stdout=subprocess.PIPE) as endless:
        done = subprocess.run(
            [sys.executable, "-m", "esper", "validate", "-"],
            stdin=endless.stdout, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=50,
        )  # fmt: skip
        endless.kill()
    assert done.returncode == 1
    assert "more than 128 MiB, and no end in sight: what follows is not read" in done.stdout


def test_a_line_that_is_too_long_in_a_file_costs_that_line(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    with log.open("wb") as file:
        file.write(encode_event(numbered(1)).encode() + b"\n")
        file.seek((1 << 27) + 5_000_000, os.SEEK_CUR)  # a hole
        file.write(b"\n" + encode_event(numbered(2)).encode() + b"\n")
    status, out, _ = command("validate", str(log))
    assert (status, out.splitlines()[-1]) == (1, "2 events, 1 invalid lines: 1 long")
    assert re.search(r":2: long: more than 128 MiB\n", out)


@pytest.mark.parametrize("name", ["run.json", "rejected.jsonl"])
@pytest.mark.parametrize("what", ["directory", "pipe", "device", "loop"])
def test_a_side_file_that_is_no_file_costs_its_part_of_a_view(tmp_path: Path, name: str, what: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "events.jsonl").write_text(encode_event(numbered(1)) + "\n")
    if what == "directory":
        (run / name).mkdir()
    elif what == "pipe":
        os.mkfifo(run / name)
    else:
        (run / name).symlink_to("/dev/zero" if what == "device" else name)
    for each in sorted(COMMANDS.keys() - {"train", "evaluate", "watch", "schema", "schema --fields"}):
        status, _, err = command(*arguments_of(each, run, tmp_path / "page.html"))
        assert status == 0, (each, err)
        assert err.count("\n") <= 2
