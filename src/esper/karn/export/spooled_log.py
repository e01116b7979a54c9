"""A log, read once and put aside as Arrow, because only its end says what a resume took back.

Events go to one Arrow file a kind, each with the number of its place; a place is where all events of one environment
and episode stand, so there are few. When the log was read, the places are known, and the files are read back with them.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from esper.karn.export.arrays import schema_of, spooled
from esper.karn.export.columns import KINDS, columns_of
from esper.leyline.invalid_lines import InvalidLines
from esper.leyline.position import Position, Positions, Shard
from esper.leyline.run_names import unicode_text
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import InvalidRecord, Source, log_files, read_shards, shard_of

__all__ = ["ROWS", "SpooledLog", "spool"]

ROWS: Final = 2_048
"""Rows of a batch, at most."""
_INVALID: Final = "invalid_lines"
_LARGEST: Final = 1 << 63
_TABLES: Final = {cls: table for table, cls in KINDS.items()}
_OFTEN: Final = 512
"""Records between two looks at how far the reading is."""


@dataclass(frozen=True, slots=True)
class SpooledLog:
    """A log that was read; `batches` gives it back."""

    directory: Path
    """Where the Arrow files are, one a table."""
    flat: bool
    places: pa.RecordBatch
    """Run, batch, episode and whether it was taken back, by the number of the place."""
    rows: dict[str, int]
    """How many a table has."""
    invalid: InvalidLines = field(default_factory=InvalidLines)
    """The lines that are no events, which are in a table of their own."""

    def batches(self, run_name: str) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Yield every table in batches, the tables in the contract's order, rows in that of the log.

        Args:
            run_name: what the run is called.
        """
        for table in self.rows:
            schema = schema_of(table, flat=self.flat)
            with pa.ipc.open_stream(pa.OSFile(str(self.directory / f"{table}.arrow"), "rb")) as reader:
                for batch in reader:
                    yield table, self._finished(table, batch, run_name).select(schema.names).cast(schema)

    def remove(self) -> None:
        """Let go of the disk space."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _finished(self, table: str, batch: pa.RecordBatch, run_name: str) -> pa.RecordBatch:
        columns: dict[str, pa.Array[Any]] = {name: batch.column(name) for name in batch.schema.names}
        columns["run_name"] = pa.array([run_name], pa.string()).take(pa.array([0] * batch.num_rows, pa.int32()))
        if table in KINDS:
            place = columns.pop("place")
            names = {each.field: each.name for each in columns_of(table) if each.of == "place"}
            for known in self.places.schema.names:
                columns[names[known]] = self.places.column(known).take(place)
        return pa.RecordBatch.from_pydict(columns)


def spool(
    source: Source, directory: Path, *, flat: bool = False, progress: Callable[[int], None] | None = None
) -> SpooledLog:
    """Read a log and put it aside.

    Args:
        source: a log file, a run directory, ``-`` or an open stream.
        directory: an empty one, where the Arrow files go.
        flat: whether containers stand as JSON text.
        progress: called now and then with how many records were read since.

    Raises:
        FileNotFoundError: there is no log.
        OSError: it cannot be read, or the disk is full.
    """
    with ExitStack() as stack:
        spooling = _Spooling(directory, stack, flat=flat)
        names = _file_names(source)
        for number, (shard, record) in enumerate(read_shards(source), 1):
            spooling.add(shard, names.get(shard, ""), record)
            if progress is not None and number % _OFTEN == 0:
                progress(_OFTEN)
        return spooling.finish()


def _file_names(source: Source) -> dict[Shard, str]:
    """Return what the log's files are called, without where they are: that is nobody's business who gets the export."""
    if not isinstance(source, str | os.PathLike) or os.fspath(source) == "-":
        return {}
    return {shard_of(path): unicode_text(path.name) for path in log_files(source)}


class _Pending:
    """Rows of one table that are not in Arrow yet."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.places: list[int] = []
        self.files: list[str] = []
        self.lines: list[int] = []


class _Spooling:
    def __init__(self, directory: Path, stack: ExitStack, *, flat: bool) -> None:
        self._directory = directory
        self._stack = stack
        self._flat = flat
        self._writers: dict[str, pa.ipc.RecordBatchStreamWriter] = {}
        self._pending: dict[str, _Pending] = {}
        self._rows: Counter[str] = Counter()
        self._lines: Counter[Shard] = Counter()
        self._invalid = InvalidLines()
        self._places = _Places()

    def add(self, shard: Shard, file: str, record: TelemetryEvent | InvalidRecord) -> None:
        line = self._lines[shard] = self._lines[shard] + 1
        if isinstance(record, TelemetryEvent):
            table, place = _TABLES[record.data.__class__], self._places.of(record, shard)
        else:
            self._invalid.add(record)
            table, place = _INVALID, -1
        pending = self._pending.get(table)
        if pending is None:
            pending = self._pending[table] = _Pending()
        pending.records.append(record)
        pending.places.append(place)
        pending.files.append(file)
        pending.lines.append(line)
        if len(pending.records) == ROWS:
            self._write(table)

    def _write(self, table: str) -> None:
        pending = self._pending.pop(table)
        records = pending.records
        place: dict[str, Sequence[Any]] = {"place": pending.places, "file": pending.files, "line": pending.lines}
        is_kind = table in KINDS
        batch = spooled(table, records, place, flat=self._flat) if is_kind else _invalid_rows(records, place)
        if table not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            path = str(self._directory / f"{table}.arrow")
            self._writers[table] = self._stack.enter_context(pa.ipc.new_stream(path, batch.schema, options=options))
        self._writers[table].write_batch(batch)
        self._rows[table] += batch.num_rows

    def finish(self) -> SpooledLog:
        for table in [*self._pending]:
            self._write(table)
        self._stack.close()
        rows = {table: self._rows[table] for table in (*KINDS, _INVALID) if self._rows[table]}
        return SpooledLog(self._directory, self._flat, self._places.settled(), rows, self._invalid)


def _invalid_rows(records: list[InvalidRecord], place: dict[str, Sequence[Any]]) -> pa.RecordBatch:
    columns: dict[str, Any] = {"file": place["file"], "line": place["line"]}
    for name in ("kind", "reason", "text"):
        columns[name] = [unicode_text(getattr(record, name)) for record in records]
    return pa.RecordBatch.from_pydict(columns, schema_of(_INVALID, flat=True).remove(0))


def _in_column(index: int | None) -> int | None:
    """Return an index, or None for one that no column holds."""
    return None if index is None or not -_LARGEST <= index < _LARGEST else index


class _Places:
    """Numbers the places of a log, each group's for itself."""

    def __init__(self) -> None:
        self._groups: dict[str, Positions] = {}
        self._known: list[tuple[Positions, Position]] = []
        self._by_identity: dict[int, int] = {}
        """The number of a position that is kept, by its id."""
        self._by_value: dict[tuple[int, Position], int] = {}

    def of(self, event: TelemetryEvent, shard: Shard) -> int:
        """Return the number of the place where the next event of a shard stands."""
        positions = self._groups.get(event.group_id)
        if positions is None:
            positions = self._groups[event.group_id] = Positions()
        position = positions.locate(event, shard)
        number = self._by_identity.get(id(position))
        if number is not None and self._known[number][1] is position:
            return number
        # One without a batch may turn out to stand elsewhere than another that equals it (`Positions.settled`).
        key = None if position.batch is None else (id(positions), position)
        if key is not None and key in self._by_value:
            return self._by_value[key]
        number = len(self._known)
        self._known.append((positions, position))
        self._by_identity[id(position)] = number
        if key is not None:
            self._by_value[key] = number
        return number

    def settled(self) -> pa.RecordBatch:
        """Return what is known of every place now that the log was read."""
        settled = [positions.settled(position) for positions, position in self._known]
        columns: dict[str, Any] = {
            "run": pa.array([position.run for position in settled], pa.int64()),
            "batch": pa.array([_in_column(position.batch) for position in settled], pa.int64()),
            "episode": pa.array([_in_column(position.episode) for position in settled], pa.int64()),
            "superseded": pa.array([of.is_superseded(position) for of, position in self._known], pa.bool_()),
        }
        return pa.RecordBatch.from_pydict(columns)
