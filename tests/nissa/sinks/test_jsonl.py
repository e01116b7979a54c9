from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import stat
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import event, numbered, numbers_in, reported
from tests.effort import tries

from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    TelemetryEvent,
)
from esper.leyline.testing import events, same
from esper.leyline.wire import InvalidRecord, read_events
from esper.nissa import append_only, locking, rejected_events
from esper.nissa.output import Durable, Rejected, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink, LogBrokenError, LogInUseError


def long_numbered(number: int) -> TelemetryEvent:
    return numbered(number, message="x" * 50)


def holding(content: object) -> TelemetryEvent:
    return event(CounterfactualMatrixPayload, slot_ids=("r0",), configs=({"accuracy": content},))


def rejected(log: Path) -> list[dict[str, str]]:
    path = log.with_name("rejected.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


OPEN = os.open


def raise_(error: OSError) -> NoReturn:
    raise error


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


class Disk:
    """A recording file layer in place of ``os``: what has reached the disk, and what it refuses."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.real = os
        self.written: dict[int, bytes] = {}
        self.on_disk: dict[int, bytes] = {}
        self.directories_on_disk = 0
        self.calls: list[str] = []
        self.room = sys.maxsize
        self.fsync_error: OSError | None = None
        patch.setattr(append_only, "os", self)

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def write(self, descriptor: int, data: memoryview) -> int:
        self.calls.append("write")
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.written[descriptor] = self.written.get(descriptor, b"") + taken
        return self.real.write(descriptor, taken)

    def ftruncate(self, descriptor: int, length: int) -> None:
        self.calls.append("truncate")
        self.written[descriptor] = self.written.get(descriptor, b"")[:length]
        self.real.ftruncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        self.calls.append("fsync")
        if self.fsync_error:
            raise self.fsync_error
        if descriptor in self.written:
            self.on_disk[descriptor] = self.written[descriptor]
        else:
            self.directories_on_disk += 1

    def survivors(self) -> list[int]:
        """Numbers of the epochs that a reader finds after the power went off now."""
        lines = b"".join(self.on_disk.values()).splitlines()
        return [json.loads(line)["data"].get("inner_epoch", -1) for line in lines]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class TestWriting:
    @given(emitted=st.lists(events(), max_size=6))
    @settings(max_examples=tries(30))
    def test_what_is_written_is_read_back_the_same(
        self, emitted: list[TelemetryEvent], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        log = tmp_path_factory.mktemp("log") / "events.jsonl"
        with TelemetryHub([JsonlSink(log)]) as hub:
            for each in emitted:
                hub.emit(each)
        back = list(read_events(log))
        assert len(back) == len(emitted)
        assert all(same(one, other) for one, other in zip(back, emitted, strict=True))

    def test_the_directory_is_made_when_it_is_not_there(self, tmp_path: Path) -> None:
        log = tmp_path / "runs" / "one" / "events.jsonl"
        with TelemetryHub([JsonlSink(str(log))]) as hub:
            hub.emit(long_numbered(1))
        assert numbers_in(log) == [1]

    def test_a_log_is_continued_and_never_overwritten(self, log: Path) -> None:
        for number in range(3):
            with TelemetryHub([JsonlSink(log)]) as hub:
                hub.emit(long_numbered(number))
        assert numbers_in(log) == [0, 1, 2]

    def test_a_batch_is_one_write(self, log: Path, disk: Disk) -> None:
        sink = JsonlSink(log)
        for number in range(500):
            sink.write(long_numbered(number))
        sink.flush(barrier=False)
        assert disk.calls == ["write"]
        sink.close()

    def test_a_directory_that_cannot_be_written_is_refused_at_once(self, log: Path) -> None:
        log.parent.joinpath("file").touch()
        with pytest.raises(NotADirectoryError, match="file"):
            JsonlSink(log.parent / "file" / "run" / "events.jsonl")

    def test_a_read_only_directory_is_refused_at_once(self, log: Path) -> None:
        # Root may write anywhere, so another user has to try.
        log.parent.chmod(0o555)
        script = f"""
import os, sys
from esper.nissa.sinks.jsonl import JsonlSink
if os.getuid() == 0:
    os.setuid(65534)
try:
    JsonlSink({str(log.name)!r})
except PermissionError as error:
    sys.exit(str(error))
"""
        # Nor may that user write what coverage would measure.
        unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        attempt = subprocess.run(
            [sys.executable, "-c", script],
            cwd=log.parent, env=unmeasured, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert attempt.stderr == "[Errno 13] Permission denied: 'events.jsonl'\n"


class TestOneWriter:
    def test_a_second_writer_learns_which_log_is_in_use(self, log: Path) -> None:
        first = JsonlSink(log)
        with pytest.raises(LogInUseError, match=r"events\.jsonl"):
            JsonlSink(log)
        first.close()
        JsonlSink(log).close()

    def test_the_lock_dies_with_its_process(self, log: Path) -> None:
        script = f"""
import os, signal
from esper.nissa.sinks.jsonl import JsonlSink
sink = JsonlSink({str(log)!r})
print("locked", flush=True)
signal.pause()
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
            try:
                assert writer.stdout
                assert writer.stdout.readline() == b"locked\n"
                with pytest.raises(LogInUseError):
                    JsonlSink(log)
            finally:
                writer.kill()
        JsonlSink(log).close()

    def test_a_forgotten_sink_lets_go(self, log: Path) -> None:
        sink = JsonlSink(log)
        del sink
        JsonlSink(log).close()

    def test_reading_the_log_does_not_release_it(self, log: Path) -> None:
        sink = JsonlSink(log)
        assert list(read_events(log)) == []
        with pytest.raises(LogInUseError):
            JsonlSink(log)
        sink.close()


class TestCommit:
    def test_a_barrier_brings_everything_before_it_to_the_disk(self, log: Path, disk: Disk) -> None:
        sink = JsonlSink(log)
        sink.write(long_numbered(1))
        sink.flush(barrier=False)
        sink.write(long_numbered(2))
        assert disk.survivors() == []
        sink.flush(barrier=True)
        assert disk.survivors() == [1, 2]
        sink.write(long_numbered(3))
        sink.flush(barrier=False)
        assert disk.survivors() == [1, 2]
        sink.close()

    def test_the_directory_entry_of_a_new_log_reaches_the_disk_too(self, log: Path, disk: Disk) -> None:
        sink = JsonlSink(log)
        sink.write(long_numbered(1))
        sink.flush()
        sink.flush()
        assert disk.directories_on_disk == 1
        sink.close()

    def test_the_end_of_a_batch_is_a_barrier_in_the_hub(self, log: Path, disk: Disk) -> None:
        committed = threading.Event()
        fsync = disk.fsync

        def fsync_and_note(descriptor: int) -> None:
            fsync(descriptor)
            committed.set()

        disk.fsync = fsync_and_note  # type: ignore[method-assign]
        hub = TelemetryHub([JsonlSink(log)])
        hub.emit(long_numbered(1))
        hub.emit(event(BatchEpochCompletedPayload))
        assert committed.wait(20)
        assert disk.survivors() == [1, -1]
        hub.emit(long_numbered(2))
        assert hub.flush()
        assert disk.survivors() == [1, -1, 2]
        hub.close()

    def test_a_disk_that_failed_to_keep_the_log_is_never_trusted_again(self, log: Path, disk: Disk) -> None:
        sink = JsonlSink(log)
        sink.write(long_numbered(1))
        disk.fsync_error = OSError(errno.EIO, "Input/output error")
        with pytest.raises(LogBrokenError, match=r"events\.jsonl: Input/output error"):
            sink.flush()
        disk.fsync_error = None  # the kernel reports such a failure once
        with pytest.raises(LogBrokenError):
            sink.flush()
        sink.close()

    def test_such_a_log_is_set_aside_and_flush_says_no(self, log: Path, disk: Disk) -> None:
        disk.fsync_error = OSError(errno.EIO, "Input/output error")
        hub = TelemetryHub([JsonlSink(log)])
        hub.emit(long_numbered(1))
        with reported("'jsonl' is set aside.*Input/output error"):
            assert not hub.flush()
        hub.close()


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class TestQuarantine:
    @pytest.mark.parametrize(
        ("content", "field"),
        [
            (threading.Lock(), "configs[0]['accuracy']"),
            ("\ud800", "configs[0]['accuracy']"),
            ({1: 2}, "configs[0]['accuracy']"),
            (Unprintable(), ""),
            (b"bytes", "configs[0]['accuracy']"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_cannot_be_encoded_is_set_aside_by_name_and_the_next_one_is_written(
        self, log: Path, content: object, field: str
    ) -> None:
        bad = holding(content)
        hub = TelemetryHub([JsonlSink(log)])
        for each in (long_numbered(1), bad, long_numbered(2)):
            hub.emit(each)
        assert hub.close()
        assert numbers_in(log) == [1, 2]
        (record,) = rejected(log)
        assert (record["event_id"], record["event_type"]) == (bad.event_id, "COUNTERFACTUAL_MATRIX_COMPUTED")
        assert record["field"].startswith(field)
        assert record["reason"]
        stats = hub.stats()[0]
        assert (stats.delivered, stats.rejected, stats.last_error is not None) == (2, 1, True)

    def test_an_event_longer_than_any_reader_takes_is_named_and_not_written(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esper.nissa.sinks.jsonl.LONGEST_LINE", 1_000)
        bad = holding("x" * 1_000)
        hub = TelemetryHub([JsonlSink(log)])
        for each in (numbered(1), bad, numbered(2)):
            hub.emit(each)
        assert hub.close()
        assert numbers_in(log) == [1, 2]
        (record,) = rejected(log)
        assert record["event_id"] == bad.event_id
        assert "no reader takes more than 1,000" in record["reason"]

    def test_a_tensor_is_set_aside_and_not_written_as_text(self, log: Path) -> None:
        torch = pytest.importorskip("torch")
        hub = TelemetryHub([JsonlSink(log)])
        hub.emit(holding(torch.tensor(71.5)))
        hub.emit(numbered(1, val_accuracy=torch.tensor(0.5)))
        assert hub.close()
        assert log.read_bytes() == b""
        assert [record["field"] for record in rejected(log)] == ["configs[0]['accuracy']", "val_accuracy"]

    def test_what_can_be_written_of_a_rejected_event_is_kept(self, log: Path) -> None:
        bad = numbered(7, val_loss=b"half", message="almost", seeds={"r0": {"alpha": 0.5}})
        with TelemetryHub([JsonlSink(log)]) as hub:
            hub.emit(bad)
        (record,) = [json.loads(line) for line in log.with_name("rejected.jsonl").read_text().splitlines()]
        assert record["event"]["message"] == "almost"
        assert record["event"]["data"]["inner_epoch"] == 7
        assert record["event"]["data"]["seeds"] == {"r0": {"alpha": 0.5}}
        assert "val_loss" not in record["event"]["data"]
        (described,) = record["unwritable"]
        assert (described["field"], described["type"]) == ("data.val_loss", "bytes")

    def test_what_is_nested_without_end_is_set_aside(self, log: Path) -> None:
        deep: list[object] = []
        for _ in range(100_000):
            deep = [deep]
        hub = TelemetryHub([JsonlSink(log)])
        hub.emit(holding(deep))
        hub.emit(long_numbered(1))
        assert hub.close()
        assert numbers_in(log) == [1]
        assert len(rejected(log)) == 1

    def test_an_event_of_fifty_megabytes_is_only_long(self, log: Path) -> None:
        hub = TelemetryHub([JsonlSink(log)])
        hub.emit(holding("x" * 50_000_000))
        hub.emit(long_numbered(1))
        assert hub.close()
        assert [len(line) > 50_000_000 for line in log.read_bytes().splitlines()] == [True, False]
        assert all(isinstance(record, TelemetryEvent) for record in read_events(log))

    def test_a_reason_is_never_long(self, log: Path) -> None:
        sink = JsonlSink(log)
        with pytest.raises(Rejected):
            sink.write(holding({"\ud800" * 100_000: 1}))
        sink.flush()
        sink.close()
        assert len(log.with_name("rejected.jsonl").read_bytes()) < 10_000

    def test_the_shards_of_two_ranks_keep_their_rejected_events_apart(self, tmp_path: Path) -> None:
        for rank in range(2):
            with TelemetryHub([JsonlSink(tmp_path / f"events-rank{rank}.jsonl")]) as hub:
                hub.emit(holding(b""))
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "events-rank0.jsonl",
            "events-rank1.jsonl",
            "rejected-rank0.jsonl",
            "rejected-rank1.jsonl",
        ]

    def test_two_logs_of_one_directory_may_share_the_file_of_rejected_events(self, tmp_path: Path) -> None:
        with TelemetryHub([JsonlSink(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]) as hub:
            for _ in range(50):
                hub.emit(holding(b""))
        assert len(rejected(tmp_path / "a.jsonl")) == 100


class TestSomebodyElse:
    """The log is a file like any other: others may write it, cut it, move it."""

    def test_what_somebody_else_writes_stays_and_ours_goes_behind_it(self, log: Path) -> None:
        with reported("somebody else wrote into .*: 4 bytes stay") as reports, TelemetryHub([JsonlSink(log)]) as hub:
            for number in range(4):
                hub.emit(numbered(number))
                assert hub.flush()
                with log.open("a") as other:
                    other.write("note")  # without a line end
        assert len(reports) == 1
        records = list(read_events(log))
        assert [isinstance(record, TelemetryEvent) for record in records] == [True, False] * 4
        assert hub.stats()[0].delivered == 4

    @pytest.mark.parametrize("left", [0, 1, 700])
    def test_lines_that_somebody_cut_off_are_not_delivered(self, log: Path, left: int) -> None:
        hub = TelemetryHub([JsonlSink(log)])
        for number in range(10):
            hub.emit(numbered(number))
        assert hub.flush()
        os.truncate(log, left)
        with reported("lost .* events that it had delivered: somebody cut"):
            for number in range(10, 15):
                hub.emit(numbered(number))
            assert not hub.close()
        stats = hub.stats()[0]
        whole = [record for record in read_events(log) if isinstance(record, TelemetryEvent)]
        assert stats.delivered == len(whole) >= 5
        assert (stats.dropped, stats.set_aside) == (15 - len(whole), False)

    def test_lines_of_an_earlier_run_are_not_counted_as_this_run_s(self, log: Path) -> None:
        for number in range(2):
            with TelemetryHub([JsonlSink(log)]) as hub:
                hub.emit(numbered(number))
        hub = TelemetryHub([JsonlSink(log)])
        hub.emit(numbered(2))
        assert hub.flush()
        os.truncate(log, log.read_bytes().index(b"\n") + 1)
        with reported("somebody cut"):
            assert not hub.close()
        assert (hub.stats()[0].delivered, numbers_in(log)) == (0, [0])

    @pytest.mark.parametrize("how", ["deleted", "renamed", "replaced"])
    def test_nothing_counts_as_delivered_to_a_log_that_is_gone(self, log: Path, how: str) -> None:
        hub = TelemetryHub([JsonlSink(log)])
        hub.emit(numbered(1))
        assert hub.flush()
        if how == "deleted":
            log.unlink()
        else:
            log.rename(log.with_name("elsewhere"))
        if how == "replaced":
            log.mkdir()
        hub.emit(numbered(2))
        with reported(f"set aside.*{how}") as reports:
            assert not hub.close()
        assert "lost 1 events that it had delivered" in reports[0]
        stats = hub.stats()[0]
        assert (stats.delivered, stats.dropped) == (0, 2)

    def test_changing_the_directory_is_not_losing_the_log(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(log.parent)
        hub = TelemetryHub([JsonlSink(log.name)])
        hub.emit(holding(b""))
        monkeypatch.chdir("/")
        hub.emit(numbered(1))
        with reported("rejects"):
            assert hub.close()
        assert numbers_in(log) == [1]
        assert len(rejected(log)) == 1

    def test_what_has_no_size_is_written_too(self) -> None:
        with TelemetryHub([JsonlSink("/dev/null")]) as hub:
            hub.emit(numbered(1))
            assert hub.flush()
            hub.emit(numbered(2))
        assert hub.stats()[0].delivered == 2

    def test_a_closed_sink_touches_no_descriptor(self, log: Path) -> None:
        sink = JsonlSink(log)
        sink.close()
        other = os.open(log.with_name("other"), os.O_RDWR | os.O_CREAT)  # gets the number of the descriptor
        with pytest.raises(ValueError, match="is closed"):
            sink.write(numbered(1))
        with pytest.raises(ValueError, match="is closed"):
            sink.flush()
        sink.close()
        assert os.fstat(other).st_size == 0
        os.close(other)


class TestWhatTheSystemMayRefuse:
    @pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
    def test_without_locks_the_log_is_written_and_the_lack_reported_once(
        self, log: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        monkeypatch.setattr(fcntl, "flock", lambda *_: raise_(OSError(number, os.strerror(number))))
        with reported("gets no lock") as reports, TelemetryHub([JsonlSink(log)]) as hub:
            hub.emit(numbered(1))
            hub.emit(holding(b""))
            with pytest.raises(LogInUseError):  # within a process it is known all the same
                JsonlSink(log)
        assert numbers_in(log) == [1]
        assert sum("gets no lock" in report for report in reports) == 1

    def test_a_system_without_the_module_has_none(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locking, "_fcntl", None)
        with reported("gets no lock"), TelemetryHub([JsonlSink(log)]) as hub:
            hub.emit(numbered(1))
        assert numbers_in(log) == [1]

    @pytest.mark.parametrize("which", ["directory", "file"])
    @pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
    def test_without_fsync_everything_is_delivered_and_the_lack_reported_once(
        self, log: Path, monkeypatch: pytest.MonkeyPatch, which: str, code: int
    ) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) == (which == "directory"):
                raise OSError(code, os.strerror(code))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with reported("gets no commit") as reports, TelemetryHub([JsonlSink(log)]) as hub:
            for number in range(5):
                hub.emit(numbered(number))
                assert hub.flush()
        assert len(reports) == 1
        assert hub.stats()[0].delivered == 5

    def test_a_directory_that_cannot_be_opened_now_is_tried_again(
        self, log: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub = TelemetryHub([JsonlSink(log)])
        with monkeypatch.context() as full, reported("gets no commit of its directory .Too many open files"):
            full.setattr(os, "open", lambda *_: raise_(OSError(errno.EMFILE, "Too many open files")))
            hub.emit(numbered(1))
            assert hub.flush()
        assert disk.directories_on_disk == 0
        hub.emit(numbered(2))
        assert hub.close()
        assert disk.directories_on_disk == 1

    def test_what_the_closing_commit_did_not_keep_is_not_delivered(self, log: Path, disk: Disk) -> None:
        hub = TelemetryHub([JsonlSink(log)])
        hub.emit(numbered(1))
        assert hub.flush()
        hub.emit(numbered(2))
        eventually(lambda: hub.stats()[0].delivered == 2)
        disk.fsync_error = OSError(errno.EIO, "Input/output error")
        hub.emit(numbered(3))
        with reported("lost 1 events that it had delivered"):
            assert not hub.close()
        stats = hub.stats()[0]
        assert (stats.delivered, stats.dropped) == (1, 2)
        assert disk.survivors() == [1]

    def test_a_disk_that_cannot_cut_gets_every_line_once_all_the_same(
        self, log: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(disk, "ftruncate", lambda *_: raise_(OSError(errno.EPERM, "append only")))
        hub = TelemetryHub([JsonlSink(log)])
        disk.room = 700  # some lines, and a part of one
        for number in range(20):
            hub.emit(numbered(number))
        assert not hub.flush(timeout=0.1)
        disk.room = sys.maxsize
        assert hub.close()
        assert numbers_in(log) == [*range(20)]


class TestRejectedFile:
    """The side file is never in the log's way."""

    @pytest.mark.parametrize("obstacle", ["a directory", "read only", "no room"])
    def test_what_keeps_it_from_being_written_is_reported_and_the_log_is_whole(
        self, log: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        side = log.with_name("rejected.jsonl")
        if obstacle == "a directory":
            side.mkdir()
        elif obstacle == "read only":
            monkeypatch.setattr(
                os, "open", lambda path, *args: raise_(PermissionError(13, "no")) if path == side else OPEN(path, *args)
            )
        else:
            side.symlink_to("/dev/full")
        hub = TelemetryHub([JsonlSink(log)])
        with reported("rejected events cannot be written") as reports:
            for number in range(10):
                hub.emit(numbered(number))
                hub.emit(holding(b""))
                assert hub.flush()
            assert hub.close()
        assert numbers_in(log) == [*range(10)]
        assert sum("rejects an event" in report for report in reports) == 1
        assert any("10 rejected events could not be kept" in report for report in reports)
        assert (hub.stats()[0].delivered, hub.stats()[0].rejected) == (10, 10)

    def test_what_waits_for_it_is_bounded(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rejected_events, "_KEPT_BYTES", 1_000)
        log.with_name("rejected.jsonl").mkdir()
        hub = TelemetryHub([JsonlSink(log)])
        with reported("could not be kept") as reports:
            for _ in range(1_000):
                hub.emit(holding(b""))
            hub.close()
        assert int(reports[-1].split()[0]) < 10

    def test_a_torn_line_that_cannot_be_moved_stays_where_it_is(self, log: Path) -> None:
        with TelemetryHub([JsonlSink(log)]) as hub:
            hub.emit(numbered(1))
        log.write_bytes(log.read_bytes() + b'{"schema')
        log.with_name("rejected.jsonl").mkdir()
        with reported("stays in it"), TelemetryHub([JsonlSink(log)]) as hub:
            hub.emit(numbered(2))
        first, torn, last = read_events(log)
        assert isinstance(torn, InvalidRecord)
        assert isinstance(first, TelemetryEvent)
        assert isinstance(last, TelemetryEvent)


class TestTornLine:
    def written(self, log: Path) -> bytes:
        with TelemetryHub([JsonlSink(log)]) as hub:
            hub.emit(long_numbered(1))
            hub.emit(long_numbered(2))
        return log.read_bytes()

    @pytest.mark.parametrize("remains", [1, 30, -2])
    def test_a_torn_line_is_moved_away_and_the_log_goes_on(self, log: Path, remains: int) -> None:
        first, second = self.written(log).splitlines(keepends=True)
        log.write_bytes(first + second[:remains])
        with reported("torn by a crash"):
            sink = JsonlSink(log)
        assert log.read_bytes() == first
        assert rejected(log)[0]["text"] == second[:remains].decode()
        sink.write(long_numbered(3))
        sink.flush()
        sink.close()
        assert numbers_in(log) == [1, 3]

    def test_a_line_that_lacks_only_its_end_is_completed(self, log: Path) -> None:
        log.write_bytes(self.written(log)[:-1])
        with TelemetryHub([JsonlSink(log)]) as hub:
            hub.emit(long_numbered(3))
        assert numbers_in(log) == [1, 2, 3]
        assert rejected(log) == []

    def test_a_torn_line_of_any_length_and_content_is_kept(self, log: Path) -> None:
        torn = b"\0\xff" * 100_000
        log.write_bytes(self.written(log) + torn)
        with reported("torn by a crash"):
            JsonlSink(log).close()
        assert numbers_in(log) == [1, 2]
        assert rejected(log)[0]["text"] == "\0\\xff" * 100_000

    def test_a_torn_line_among_the_rejected_events_spoils_no_other(self, log: Path) -> None:
        log.with_name("rejected.jsonl").write_bytes(b'{"event_id": "to')
        with TelemetryHub([JsonlSink(log)]) as hub:
            hub.emit(holding(b""))
        torn, whole = log.with_name("rejected.jsonl").read_bytes().splitlines()
        assert torn == b'{"event_id": "to'
        assert json.loads(whole)["event_type"] == "COUNTERFACTUAL_MATRIX_COMPUTED"


class TestFullDisk:
    def test_a_batch_that_does_not_fit_leaves_nothing_behind_and_is_kept(self, log: Path, disk: Disk) -> None:
        sink = JsonlSink(log)
        sink.write(long_numbered(1))
        sink.flush()
        whole = log.read_bytes()
        sink.write(long_numbered(2))
        sink.write(long_numbered(3))
        disk.room = len(whole) + 20
        for _ in range(2):
            with pytest.raises(OSError, match=r"No space left on device: .*events\.jsonl"):
                sink.flush()
            assert log.read_bytes() == whole
        disk.room = sys.maxsize
        sink.flush()
        sink.close()
        assert numbers_in(log) == [1, 2, 3]

    def test_a_disk_that_even_refuses_to_cut_leaves_no_torn_line_once_it_works(
        self, log: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sink = JsonlSink(log)
        sink.write(long_numbered(1))
        disk.room = 20
        with monkeypatch.context() as broken:
            broken.setattr(disk, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
            with pytest.raises(OSError, match="No space left"):
                sink.flush()
        disk.room = sys.maxsize
        sink.flush()
        sink.close()
        assert numbers_in(log) == [1]

    @pytest.fixture
    def limit(self) -> Iterator[int]:
        """A real limit of the kernel on the size of a file."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        yield 20_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def test_training_goes_on_and_the_log_is_complete_once_there_is_room(self, log: Path, limit: int) -> None:
        hub = TelemetryHub([JsonlSink(log)])
        for number in range(1_000):
            hub.emit(long_numbered(number))
        assert not hub.flush(timeout=0.3)
        stats = hub.stats()[0]
        assert (stats.dropped, stats.set_aside) == (0, False)
        assert "File too large" in str(stats.last_error)
        assert numbers_in(log) == [*range(stats.delivered)]
        for number in range(1_000, 2_000):
            hub.emit(long_numbered(number))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert hub.close()
        assert numbers_in(log) == [*range(2_000)]
        assert log.stat().st_size > limit

    def test_what_no_longer_fits_the_queue_is_lost_and_counted_and_the_rest_is_whole(
        self, log: Path, limit: int
    ) -> None:
        hub = TelemetryHub([JsonlSink(log, policy=Durable(max_wait=0.01, high_water=500))])
        with reported("losing events"):
            deque(map(hub.emit, map(long_numbered, range(5_000))), maxlen=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert not hub.close()
        stats = hub.stats()[0]
        found = numbers_in(log)
        assert len(found) == stats.delivered == 5_000 - stats.dropped
        assert found == sorted(set(found))
        assert found[-1] == 4_999


def test_an_invalid_record_is_what_a_reader_makes_of_a_torn_line(log: Path) -> None:
    with TelemetryHub([JsonlSink(log)]) as hub:
        hub.emit(long_numbered(1))
        hub.emit(long_numbered(2))
    log.write_bytes(log.read_bytes()[:-10])
    records = list(read_events(log))
    assert isinstance(records[-1], InvalidRecord)
    assert records[-1].kind == "torn"
