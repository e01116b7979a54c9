"""What an export is written to: Parquet, CSV, or a DuckDB file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from esper.karn.export.arrays import schema_of
from esper.karn.export.columns import EXACT, INVALID, KINDS, RUNS, columns_of
from esper.leyline.schema import column_comments, sql_text

__all__ = ["FORMATS", "TABLES", "Format", "Write", "writing"]

Format: TypeAlias = Literal["parquet", "csv", "duckdb"]
Write: TypeAlias = Callable[[str, pa.RecordBatch], None]
"""Takes rows of a table."""
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
TABLES: Final = ("runs", *KINDS, "invalid_lines")
"""Every table of an export, in order."""
_GROUP: Final = 16 * 2_048
"""Rows of a row group in Parquet, at most."""


@contextmanager
def writing(target: Path, form: Format) -> Iterator[Write]:
    """Write tables; every one is there afterwards, without rows where there were none.

    Args:
        target: the directory, or the DuckDB file; it must not be there.
        form: what to write.

    Yields:
        What to call with rows of a table.

    Raises:
        OSError: it cannot be written.
    """
    try:
        with ExitStack() as stack:
            yield {"parquet": _parquet, "csv": _csv, "duckdb": _duckdb}[form](target, stack)
    except duckdb.Error as error:
        raise OSError(f"{target.name} cannot be written: {str(error).strip().partition(chr(10))[0]}") from error


def _parquet(target: Path, stack: ExitStack) -> Write:
    target.mkdir(exist_ok=True)
    writers, held = {}, dict[str, list[pa.RecordBatch]]()
    for table in TABLES:
        schema = schema_of(table, flat=False)
        # Texts that differ in every row, and times, are small as differences; all else repeats.
        differing = {name: "DELTA_BYTE_ARRAY" for name in ("event_id", "text") if name in schema.names}
        times = {name: "DELTA_BINARY_PACKED" for name in ("timestamp", "line") if name in schema.names}
        encoded = differing | times
        repeated: Any = [name for name in schema.names if name not in encoded]  # the stubs know all or nothing
        writers[table] = stack.enter_context(
            pq.ParquetWriter(
                str(target / f"{table}.parquet"),
                schema,
                compression="zstd",
                use_dictionary=repeated,
                column_encoding=encoded,
            )
        )
        held[table] = []

    def flush(table: str) -> None:
        if held[table]:
            writers[table].write_table(pa.Table.from_batches(held[table]), row_group_size=_GROUP)
            held[table].clear()

    def write(table: str, rows: pa.RecordBatch) -> None:
        held[table].append(rows)
        if sum(batch.num_rows for batch in held[table]) >= _GROUP:
            flush(table)

    def flush_all() -> None:
        for table in TABLES:
            flush(table)

    stack.callback(flush_all)
    return write


def _csv(target: Path, stack: ExitStack) -> Write:
    target.mkdir(exist_ok=True)
    writers = {
        table: stack.enter_context(pa_csv.CSVWriter(str(target / f"{table}.csv"), schema_of(table, flat=True)))
        for table in TABLES
    }
    return lambda table, rows: writers[table].write_batch(rows)


def _duckdb(target: Path, stack: ExitStack) -> Write:
    """Write a database: tables with every event in the schema ``log``, and the views of `esper schema --duckdb`."""
    database = stack.enter_context(duckdb.connect(str(target)))
    database.execute("CREATE SCHEMA log")
    for table in TABLES:
        columns = ", ".join(f"{name} {sql}" for name, sql in _sql_columns(table).items())
        database.execute(f"CREATE TABLE log.{table} ({columns})")
        if table in KINDS:
            database.execute(f"CREATE VIEW {table} AS FROM log.{table} WHERE NOT superseded")
        else:
            database.execute(f"CREATE VIEW {table} AS FROM log.{table}")
    common = [each for each in columns_of(TABLES[1]) if each.of != "payload"]
    selects = []
    for table, cls in KINDS.items():
        names = {each.field: each.name for each in columns_of(table) if each.of != "payload"}
        wanted = ", ".join(f"{names[each.field]} AS {each.field}" for each in common)
        selects.append(f"SELECT '{table.upper()}' AS event_type, {wanted} FROM log.{table}")  # noqa: S608 - all ours
        for name, text in column_comments(cls).items():
            if name in _sql_columns(table):
                database.execute(f"COMMENT ON COLUMN {table}.{name} IS {sql_text(text)}")
    database.execute("CREATE VIEW events AS " + " UNION ALL ".join(selects))
    database.execute("BEGIN")  # a commit for every few rows would cost more than the rows

    def commit(kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            database.execute("COMMIT")

    stack.push(commit)

    def write(table: str, rows: pa.RecordBatch) -> None:
        database.register("batch", pa.Table.from_batches([rows]))
        database.execute(f"INSERT INTO log.{table} FROM batch")
        database.unregister("batch")

    return write


def _sql_columns(table: str) -> dict[str, str]:
    if table not in KINDS:
        return RUNS if table == "runs" else INVALID
    return {each.name: each.sql for each in columns_of(table)} | {EXACT: "VARCHAR"}
