"""Where events come from: a log that somebody may still be writing, standard input, or either at its own old pace."""

from __future__ import annotations

import errno
import heapq
import io
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import IO, Protocol, TypeAlias

from esper.leyline.lines import LONGEST_LINE, open_file
from esper.leyline.position import Shard
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import InvalidRecord, log_files, read_events, shard_of

__all__ = ["Clock", "Feed", "LogTail", "NewRecords", "Playback", "Record", "Tap"]

Record: TypeAlias = TelemetryEvent | InvalidRecord
Clock: TypeAlias = Callable[[], datetime]

_SLICE = 1 << 17
"""Bytes read of each file at a time: a few hundred lines, so that the screen stays responsive."""
_SHOWN = 10_000
"""Characters of a line that is no event: a thousand of them are kept."""
_HEAD = 512
"""First bytes of a file that show whether it is still the same one."""
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NewRecords:
    """What one look at a feed brought."""

    records: tuple[Record, ...] = ()
    shards: tuple[Shard, ...] = ()
    """The shard that each came from; empty where there is but one."""
    restarted: bool = False
    """Whether the log was replaced: what came before is of another run."""
    more: bool = False
    """Whether another look would bring more at once."""
    torn: bool = False
    """Whether the log ends within a line, which its writer may still be at."""
    problem: str | None = None
    """Why the log cannot be read just now."""
    ended: bool = False
    """Whether this was the last: the stream was closed."""
    share: float | None = None
    """Of what there is to be read, how much has been; None when nobody knows. Unit: fraction; 0 to 1."""

    def with_shards(self) -> Iterator[tuple[Record, Shard]]:
        """Return every record with the shard it came from."""
        return zip(self.records, self.shards or repeat(None), strict=False)


class Feed(Protocol):
    """Something that can be looked at again and again for new events."""

    def take(self) -> NewRecords:
        """Return what is new, without waiting."""
        ...


@dataclass(slots=True)
class _Shard:
    """One file, and how far it has been read."""

    path: Path
    shard: Shard
    endless: bool = False
    """Whether it has a line that no reader takes."""
    seen: tuple[int, int] = (-1, -1)
    """Size and modification time at the last look."""
    head: bytes = b""
    position: int = 0
    """End of the last complete line."""
    lines: int = 0
    newest: datetime = field(default_factory=lambda: datetime.min.replace(tzinfo=UTC))
    more: bool = False
    torn: bool = False

    def read(self) -> list[Record] | None:
        """Return the records of the next complete lines; None when this is no longer the file that it was."""
        if self.endless:
            raise OSError(errno.EFBIG, f"a line of more than {LONGEST_LINE >> 20} MiB")
        with open_file(self.path) as stream:
            status = os.fstat(stream.fileno())
            seen = status.st_size, status.st_mtime_ns
            if seen == self.seen and not self.more:
                return []
            # Not by the inode's number, which some network file systems make up at every look.
            head = stream.read(_HEAD)
            if status.st_size < self.position or head[: len(self.head)] != self.head:
                return None
            stream.seek(self.position)
            chunk = stream.read(_SLICE)
            if len(chunk) == _SLICE and not chunk.endswith(b"\n"):
                chunk += stream.readline(LONGEST_LINE)
                self.endless = len(chunk) >= LONGEST_LINE and not chunk.endswith(b"\n")
        self.seen = seen
        complete = chunk[: chunk.rfind(b"\n") + 1]
        self.more = self.position + len(chunk) < status.st_size
        self.torn = not self.more and len(complete) < len(chunk)
        self.position += len(complete)
        self.head = head[: self.position]
        return self._decode(complete)

    def _decode(self, lines: bytes) -> list[Record]:
        records = [
            replace(record, file=str(self.path), line=record.line + self.lines, text=record.text[:_SHOWN])
            if isinstance(record, InvalidRecord)
            else record
            for record in read_events(io.BytesIO(lines))
        ]
        self.lines += lines.count(b"\n")
        return records


class LogTail:
    """Follows a run directory or a log file: before it exists, while it grows, and when it is replaced.

    Only complete lines count: a torn last one is looked at again, since its writer may still be at it or repair it.
    Shards are merged by timestamp as far as they have been read.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self._source = Path(source)
        self._shards: dict[Path, _Shard] = {}
        self._pending: list[tuple[datetime, int, Record, Shard]] = []
        self._serial = 0

    def take(self) -> NewRecords:
        """Return what is new, without waiting."""
        try:
            found = log_files(self._source)
            replaced = not self._shards.keys() <= {*found}
            if replaced or not self._look(found):
                replaced = True
                self._shards = {}
                self._pending = []
                self._look(found)
        except FileNotFoundError:  # not there yet, or about to be replaced
            return NewRecords(problem=f"gone: {self._source}" if self._shards else None)
        except OSError as error:
            return NewRecords(problem=f"{error.strerror or error}: {self._source}")
        shards = self._shards.values()
        records, origins = self._release()
        size = sum(max(shard.seen[0], shard.position) for shard in shards)
        return NewRecords(
            records,
            origins,
            replaced,
            any(shard.more for shard in shards),
            any(shard.torn for shard in shards),
            share=sum(shard.position for shard in shards) / size if size else None,
        )

    def _look(self, paths: list[Path]) -> bool:
        """Read on in every shard; False when one is no longer the file that it was."""
        for path in paths:
            if path not in self._shards:
                self._shards[path] = _Shard(path, shard_of(path))
            shard = self._shards[path]
            records = shard.read()
            if records is None:
                return False
            for record in records:
                if isinstance(record, TelemetryEvent):
                    shard.newest = max(shard.newest, record.timestamp)
                self._serial += 1
                heapq.heappush(self._pending, (shard.newest, self._serial, record, shard.shard))
        return True

    def _release(self) -> tuple[tuple[Record, ...], tuple[Shard, ...]]:
        # What is newer than a shard that has been read in part must wait for the rest of it.
        limit = min((shard.newest for shard in self._shards.values() if shard.more), default=_LATEST)
        records, shards = [], []
        while self._pending and self._pending[0][0] <= limit:
            _, _, record, shard = heapq.heappop(self._pending)
            records.append(record)
            shards.append(shard)
        return tuple(records), tuple(shards)


class Tap:
    """Reads a stream that cannot be looked at without waiting, such as a pipe, in a thread of its own."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._records: queue.Queue[Record] = queue.Queue(maxsize=10_000)
        self._name = name
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True, name="esper-watch-tap")
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        for record in read_events(stream):
            self._records.put(
                replace(record, file=self._name, text=record.text[:_SHOWN])
                if isinstance(record, InvalidRecord)
                else record
            )

    def take(self) -> NewRecords:
        """Return what is new, without waiting."""
        records: list[Record] = []
        closed = not self._thread.is_alive()  # asked first: what it read last is in the queue by then
        while len(records) < 500:  # noqa: PLR2004 - a slice, as for files
            try:
                records.append(self._records.get_nowait())
            except queue.Empty:
                break
        more = not self._records.empty()
        return NewRecords(tuple(records), more=more, ended=closed and not more)


class Playback:
    """Plays a feed at the pace of its timestamps, times a speed; a long pause is cut short.

    Its `now` is a clock of the run's own time, so that ages and estimates read as they did then.
    """

    _AHEAD = 5000
    _LONGEST_WAIT = 3.0
    """Longest pause between two events, on the screen. Unit: seconds."""

    def __init__(self, feed: Feed, speed: float, wall: Clock) -> None:
        self._feed = feed
        self.speed = speed
        self._wall = wall
        self._buffer: deque[tuple[Record, Shard]] = deque()
        self._begun: tuple[datetime, datetime] | None = None
        """A moment of the wall clock and the moment of the run that is played at it."""
        self._played: datetime | None = None
        """The newest moment of the run that was played; where nothing is left to be played, its clock stands there."""
        self._paused = False

    def now(self) -> datetime:
        """Return the moment of the run that is being played; the wall clock's before there is one."""
        if self._begun is None:
            return self._wall()
        wall, run = self._begun
        if not self._paused:
            run = _later(run, (self._wall() - wall) * self.speed)
        return run if self._buffer or self._played is None else min(run, self._played)

    @property
    def caught_up(self) -> bool:
        """Whether everything there was to play has been played."""
        return self._played is not None and not self._buffer

    def pause(self, paused: bool) -> None:
        """Stop or start the run's clock."""
        if self._begun is not None:
            self._begun = self._wall(), self.now()
        self._paused = paused

    def take(self) -> NewRecords:
        """Return what the run has come to, without waiting."""
        taken = self._feed.take() if len(self._buffer) < self._AHEAD else NewRecords(more=True)
        if taken.restarted:
            self._buffer.clear()
            self._begun = self._played = None
        if self._begun is not None and not self._buffer:
            self._begun = self._wall(), self.now()
        self._buffer.extend(taken.with_shards())
        records, shards = [], []
        while self._buffer and self._comes_due(self._buffer[0][0]):
            record, shard = self._buffer.popleft()
            records.append(record)
            shards.append(shard)
            if isinstance(record, TelemetryEvent):
                self._played = record.timestamp if self._played is None else max(self._played, record.timestamp)
        return replace(
            taken,
            records=tuple(records),
            shards=tuple(shards),
            more=taken.more and len(self._buffer) < self._AHEAD,
            ended=taken.ended and not self._buffer,
        )

    def _comes_due(self, record: Record) -> bool:
        if isinstance(record, InvalidRecord):
            return True
        if self._begun is None:
            self._begun = self._wall(), record.timestamp
        wait = (record.timestamp - self.now()).total_seconds() / self.speed
        if wait > self._LONGEST_WAIT:
            self._begun = self._wall(), record.timestamp - timedelta(seconds=self._LONGEST_WAIT * self.speed)
        return wait <= 0


def _later(moment: datetime, by: timedelta) -> datetime:
    """Return the moment so much later, or the last there is."""
    return moment + by if by <= _LATEST - moment else _LATEST
