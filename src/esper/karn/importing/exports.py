"""An export read back: the events of its tables, run by run, in the order of their logs."""

from __future__ import annotations

import heapq
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from esper.karn.export.columns import EXACT, INVALID, KINDS, RUNS, Column, columns_of, inner_type, is_list, is_nested
from esper.leyline._payload.types import NONFINITE_NAMES
from esper.leyline.errors import PayloadError, WireError
from esper.leyline.schema import sql_path
from esper.leyline.telemetry import EVENT_TYPES, SCHEMA_VERSION, TelemetryEvent, TelemetryPayload
from esper.leyline.wire import decode_event

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["ExportedLine", "ExportedRun", "exported_lines", "exported_runs", "is_export"]

_FETCHED: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_Row: TypeAlias = tuple[Any, ...]
_Form: TypeAlias = Literal["parquet", "csv", "duckdb"]


@dataclass(frozen=True, slots=True)
class ExportedRun:
    """A run of an export."""

    name: str
    events: int
    info: str | None
    """What its run.json said; None where there was none."""


@dataclass(frozen=True, slots=True)
class ExportedLine:
    """A line of the log of an exported run."""

    run: str
    file: str
    """Name of the log file; empty for a stream."""
    line: int
    record: TelemetryEvent | str
    """The event; the text of a line that is none."""


def is_export(path: Path) -> bool:
    """Whether a path is what `esper.karn.export.export` made, by the look of it."""
    if path.is_dir():
        return any((path / f"runs.{suffix}").is_file() for suffix in ("parquet", "csv"))
    try:
        with path.open("rb") as file:
            return file.read(12)[8:] == b"DUCK"
    except OSError:
        return False


def exported_runs(path: Path) -> list[ExportedRun]:
    """Return the runs of an export, in its order.

    Raises:
        ValueError: it is no export that this esper reads.
        ModuleNotFoundError: DuckDB is not installed.
    """
    with _reading(path) as reading:
        return [ExportedRun(*row) for row in reading.rows("runs", ("run_name", "events"), ("run_info",), "")]


def exported_lines(path: Path) -> Iterator[ExportedLine]:
    """Yield the lines of an export, sorted by run, file and line: the events, and the lines that are none.

    Raises:
        ValueError: it is no export that this esper reads; the message says what is wrong with it.
        ModuleNotFoundError: DuckDB is not installed.
    """
    with _reading(path) as reading:
        tables = [_events(reading, table, cls) for table, cls in KINDS.items()]
        for place, record in heapq.merge(*tables, _invalid(reading), key=itemgetter(0)):
            yield ExportedLine(*place, record)


_Keyed: TypeAlias = tuple[tuple[str, str, int], TelemetryEvent | str]


def _invalid(reading: _Reading) -> Iterator[_Keyed]:
    for run, file, line, text in reading.rows("invalid_lines", ("run_name", "file", "line", "text"), (), _ORDER):
        yield (run, file, line), text


_ORDER: Final = "ORDER BY 1, 2, 3"


def _events(reading: _Reading, table: str, cls: type[TelemetryPayload]) -> Iterator[_Keyed]:
    columns = columns_of(table)
    names = {each.field: each.name for each in columns if each.of == "place"}
    fields = [each for each in columns if each.of != "place"]
    values = [f"epoch_us({each.name})" if each.sql == "TIMESTAMP" else each.name for each in fields]
    place = [names[each] for each in ("run_name", "file", "line")]
    as_text = [(each, encode_basestring_ascii(each.field), reading.is_flat and is_nested(each.sql)) for each in fields]
    event_type = EVENT_TYPES[cls].name
    for run, file, line, exact, *row in reading.rows(table, place, (EXACT, *values), _ORDER):
        try:
            text = _line(event_type, as_text, row, exact)
            yield (run, file, line), decode_event(text)
        except (PayloadError, WireError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{reading.path}: {table}: {run}, {file} line {line}: no event: {error}") from None


def _line(event_type: str, columns: list[tuple[Column, str, bool]], row: list[Any], exact: str | None) -> str:
    """Return an event as a line of a log, for the decoder to check."""
    beside: dict[str, Any] = {} if exact is None else json.loads(exact)
    event = [f'"schema_version":{SCHEMA_VERSION}', f'"event_type":"{event_type}"']
    payload: list[str] = []
    for (column, name, is_text), value in zip(columns, row, strict=True):
        if column.name in beside:
            text = json.dumps(beside[column.name], allow_nan=False)
        elif value is None and column.optional:
            continue
        else:
            text = value if is_text and value is not None else _json(column.sql, value)
        (event if column.of == "event" else payload).append(f"{name}:{text}")
    return f'{{{",".join(event)},"data":{{{",".join(payload)}}}}}'


def _json(sql: str, value: Any) -> str:
    """Return the value of a column as the JSON that stands for it in a log."""
    if value is None:
        return "null"
    if sql == "JSON":
        return str(value)
    if sql == "DOUBLE":
        return repr(value) if value - value == 0.0 else f'"{NONFINITE_NAMES[repr(value)]}"'
    if sql == "TIMESTAMP":
        return f'"{(_EPOCH + timedelta(microseconds=value)).isoformat()}"'
    if is_list(sql):
        return f"[{','.join(_json(inner_type(sql), item) for item in value)}]"
    if is_nested(sql):
        inner = inner_type(sql)
        return f"{{{','.join(f'{encode_basestring_ascii(key)}:{_json(inner, item)}' for key, item in value.items())}}}"
    return json.dumps(value)


@contextmanager
def _reading(path: Path) -> Iterator[_Reading]:
    try:
        import duckdb  # noqa: PLC0415 - an extra, and asked for here only
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("reading an export needs DuckDB: pip install 'esper-telemetry[export]'") from error
    form: _Form = "duckdb" if not path.is_dir() else "parquet" if (path / "runs.parquet").is_file() else "csv"
    try:
        with tempfile.TemporaryDirectory(prefix="esper-") as aside:
            config: dict[str, Any] = {"temp_directory": aside}
            name, is_file = (os.fspath(path), True) if form == "duckdb" else (":memory:", False)
            with duckdb.connect(name, read_only=is_file, config=config) as database:
                if is_file:  # it may hold views as well as tables, of which none may open another file
                    database.execute("SET enable_external_access = false")
                yield _Reading(path, form, database)
    except duckdb.Error as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} is no export that this esper reads: {first}") from None


class _Reading:
    """An export that is open."""

    def __init__(self, path: Path, form: _Form, database: DuckDBPyConnection) -> None:
        self.path = path
        self._form = form
        self._database = database

    @property
    def is_flat(self) -> bool:
        """Whether containers stand as JSON text."""
        return self._form == "csv"

    def rows(self, table: str, needed: Sequence[str], others: Sequence[str], order: str) -> Iterator[_Row]:
        """Yield columns of a table: first those without which a row says nothing, then the others."""
        selected = ", ".join((*needed, *others))
        with self._database.cursor() as cursor:
            cursor.execute(f"SELECT {selected} FROM {self._relation(table)} {order}")  # noqa: S608 - all of it is ours
            while rows := cursor.fetchmany(_FETCHED):
                for row in rows:
                    if None in row[: len(needed)]:
                        raise ValueError(f"{self.path}: {table}: a row without {needed[row.index(None)]}")
                    yield row

    def _relation(self, table: str) -> str:
        if self._form == "duckdb":
            return f"log.{table}"
        path = sql_path(os.fspath(self.path.resolve() / f"{table}.{self._form}"))
        if self._form == "parquet":
            return f"read_parquet({path}, hive_partitioning = false)"
        columns = ", ".join(f"'{name}': '{sql}'" for name, sql in _flat_columns(table).items())
        return (
            f"read_csv({path}, auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"', "
            f"nullstr = '', allow_quoted_nulls = false, max_line_size = {_LONGEST}, hive_partitioning = false, "
            f"compression = 'none', columns = {{{columns}}})"
        )


_LONGEST: Final = 1 << 28


def _flat_columns(table: str) -> dict[str, str]:
    if table == "runs":
        return RUNS | {"run_info": "VARCHAR"}  # as it is, for whoever wants to parse it
    if table == "invalid_lines":
        return INVALID
    flat = {each.name: "VARCHAR" if is_nested(each.sql) else each.sql for each in columns_of(table)}
    return flat | {EXACT: "VARCHAR"}
