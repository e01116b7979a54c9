from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from esper.karn.dashboard.feed import Feed, LogTail, NewRecords, Playback, Record, Tap
from esper.leyline.telemetry import EpochCompletedPayload, TelemetryEvent
from esper.leyline.wire import InvalidRecord, encode_event

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(number: int, *, env: int = 0) -> TelemetryEvent:
    return TelemetryEvent(
        event_id=f"{env}-{number}",
        timestamp=NOON + timedelta(seconds=number),
        data=EpochCompletedPayload(env, 0.5, 1.0, number),
    )


def line(number: int, *, env: int = 0) -> str:
    return encode_event(event(number, env=env)) + "\n"


def lines(*numbers: int) -> str:
    return "".join(map(line, numbers))


def ids(records: tuple[Record, ...]) -> list[str]:
    return [record.event_id if isinstance(record, TelemetryEvent) else record.kind for record in records]


def everything(feed: Feed) -> list[str]:
    taken = feed.take()
    found = ids(taken.records)
    while taken.more:
        taken = feed.take()
        found += ids(taken.records)
    return found


def test_it_waits_for_a_run_that_does_not_exist_yet_and_then_follows_it(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "run")
    assert tail.take() == NewRecords()
    (tmp_path / "run").mkdir()
    assert tail.take() == NewRecords()
    log = tmp_path / "run" / "events.jsonl"
    log.write_text(lines(0, 1))
    assert everything(tail) == ["0-0", "0-1"]
    assert tail.take() == NewRecords(share=1.0)
    with log.open("a") as stream:
        stream.write(lines(2))
    assert everything(tail) == ["0-2"]


def test_a_line_counts_once_it_is_complete(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(lines(0) + line(1)[:30])
    tail = LogTail(log)
    first = tail.take()
    assert (ids(first.records), first.torn, tail.take().torn) == (["0-0"], True, True)
    with log.open("a") as stream:
        stream.write(line(1)[30:])
    second = tail.take()
    assert (ids(second.records), second.torn) == (["0-1"], False)


def test_a_torn_line_that_a_resume_repairs_is_no_new_log(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(lines(0) + line(1)[:30])
    tail = LogTail(log)
    tail.take()
    os.truncate(log, len(lines(0)))
    with log.open("a") as stream:
        stream.write(lines(2))
    taken = tail.take()
    assert (ids(taken.records), taken.restarted) == (["0-2"], False)


def renamed_over(log: Path) -> None:
    other = log.with_name("other")
    other.write_text(lines(7, 8, 9))
    other.replace(log)


def truncated(log: Path) -> None:
    log.write_text(lines(9))


def overwritten_at_the_same_length(log: Path) -> None:
    with log.open("r+") as stream:
        stream.write(lines(7, 8, 9))


def removed_and_made_again(log: Path) -> None:
    log.unlink()
    log.write_text(lines(9))


@pytest.mark.parametrize("replace", [renamed_over, truncated, overwritten_at_the_same_length, removed_and_made_again])
def test_a_log_that_is_replaced_is_read_from_its_beginning(tmp_path: Path, replace: Callable[[Path], None]) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(lines(0, 1, 2))
    tail = LogTail(tmp_path)
    tail.take()
    replace(log)
    os.utime(log, (5, 5))  # as a file system with coarse times might show it
    taken = tail.take()
    assert taken.restarted
    assert ids(taken.records)[-1] == "0-9"


def test_a_run_that_is_removed_is_said_to_be_gone_until_another_takes_its_place(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(lines(0))
    tail = LogTail(tmp_path)
    tail.take()
    log.unlink()
    assert tail.take() == NewRecords(problem=f"gone: {tmp_path}")
    (tmp_path / "events-rank0.jsonl").write_text(lines(5))
    taken = tail.take()
    assert (ids(taken.records), taken.restarted) == (["0-5"], True)


def test_shards_are_merged_by_time_also_when_they_are_long(tmp_path: Path) -> None:
    for env in (0, 1):
        (tmp_path / f"events-rank{env}.jsonl").write_text("".join(line(2 * n + env, env=env) for n in range(3000)))
    found = everything(LogTail(tmp_path))
    assert found == [f"{n % 2}-{n}" for n in range(6000)]


def test_a_shard_that_comes_later_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "events-rank0.jsonl").write_text(lines(0))
    tail = LogTail(tmp_path)
    tail.take()
    (tmp_path / "events-rank1.jsonl").write_text(line(1, env=1))
    taken = tail.take()
    assert (ids(taken.records), taken.restarted) == (["1-1"], False)


def test_lines_that_are_no_events_keep_their_place(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(lines(0) + "nonsense\n")
    tail = LogTail(log)
    first = tail.take().records[1]
    with log.open("a") as stream:
        stream.write(lines(1) + "more nonsense\n")
    second = tail.take().records[1]
    assert isinstance(first, InvalidRecord)
    assert isinstance(second, InvalidRecord)
    assert (first.file, first.line, second.line, second.text) == (str(log), 2, 4, "more nonsense")


def test_a_line_longer_than_a_slice_is_read(tmp_path: Path) -> None:
    long = TelemetryEvent(data=EpochCompletedPayload(0, 0.5, 1.0, 1), message="x" * 1_000_000)
    (tmp_path / "events.jsonl").write_text(encode_event(long) + "\n" + lines(1))
    assert everything(LogTail(tmp_path)) == [long.event_id, "0-1"]


def test_a_log_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").mkdir()
    assert "directory" in str(LogTail(tmp_path).take().problem)


def test_a_pipe_is_read_without_waiting() -> None:
    outlet, inlet = os.pipe()
    with os.fdopen(outlet, "rb") as stream, os.fdopen(inlet, "w") as writer:
        tap = Tap(stream, "<stdin>")
        assert tap.take() == NewRecords()
        writer.write(lines(0) + "nonsense\n")
        writer.flush()
        found: list[Record] = []
        while len(found) < 2:
            time.sleep(0.005)
            found += tap.take().records
    assert ids(tuple(found)) == ["0-0", "json"]
    assert isinstance(found[1], InvalidRecord)
    assert (found[1].file, found[1].line) == ("<stdin>", 2)


class Wall:
    def __init__(self) -> None:
        self.time = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def pass_(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def wall() -> Wall:
    return Wall()


def played(wall: Wall, *seconds: int, speed: float = 1.0) -> Playback:
    stream = io.BytesIO(lines(*seconds).encode())
    tap = Tap(stream, "<stream>")
    playback = Playback(tap, speed, wall)
    while not (first := playback.take().records):
        time.sleep(0.005)
    assert ids(first) == [f"0-{seconds[0]}"]
    while playback.take().more:
        time.sleep(0.005)
    return playback


def test_playback_keeps_the_pace_of_the_run(wall: Wall) -> None:
    playback = played(wall, 0, 1, 2)
    wall.pass_(0.9)
    assert playback.take().records == ()
    wall.pass_(0.2)
    assert ids(playback.take().records) == ["0-1"]
    assert playback.now() == NOON + timedelta(seconds=1.1)


def test_playback_at_a_speed(wall: Wall) -> None:
    playback = played(wall, 0, 10, 19, speed=10)
    wall.pass_(1.95)
    assert ids(playback.take().records) == ["0-10", "0-19"]


def test_a_pause_stops_the_clock_of_the_run(wall: Wall) -> None:
    playback = played(wall, 0, 1)
    playback.pause(True)
    wall.pass_(100)
    assert playback.now() == NOON
    playback.pause(False)
    wall.pass_(0.5)
    assert playback.take().records == ()
    wall.pass_(0.6)
    assert ids(playback.take().records) == ["0-1"]


def test_a_long_pause_is_cut_short(wall: Wall) -> None:
    playback = played(wall, 0, 100_000)
    assert playback.take().records == ()
    wall.pass_(3.1)
    assert ids(playback.take().records) == ["0-100000"]


def test_the_clock_of_the_run_stands_still_when_all_of_it_was_played(wall: Wall) -> None:
    playback = played(wall, 0, 2, speed=10.0)
    playback.take()
    wall.pass_(1)
    assert ids(playback.take().records) == ["0-2"]
    end = playback.now()
    wall.pass_(60)
    assert playback.now() == end == event(2).timestamp


def test_a_stream_that_was_closed_is_said_to_have_ended() -> None:
    tap = Tap(io.BytesIO(lines(0, 1).encode()), "<stdin>")
    found: list[str] = []
    while not (taken := tap.take()).ended:
        found += ids(taken.records)
    assert found + ids(taken.records) == ["0-0", "0-1"]


@pytest.mark.parametrize("speed", [1e-300, 1e6])
def test_playback_goes_no_further_than_the_calendar(wall: Wall, speed: float) -> None:
    last = datetime.max.replace(tzinfo=UTC)
    moments = [replace(event(0), timestamp=last - timedelta(days=days)) for days in (3_000_000, 0)]
    stream = io.BytesIO("".join(encode_event(moment) + "\n" for moment in moments).encode())
    playback = Playback(Tap(stream, "<stream>"), speed, wall)
    while not playback.take().records:
        time.sleep(0.005)
    for _ in range(5):
        wall.pass_(1e7)
        playback.take()
        assert playback.now() <= last
