"""Exporting runs: every log read, put aside, and written as tables."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esper.leyline.atomic import atomic_directory
from esper.leyline.invalid_lines import InvalidLines, NoEventsError
from esper.leyline.run_directory import RunDirectory, info_beside
from esper.leyline.run_names import run_names
from esper.leyline.strict_json import strict_json

try:
    import duckdb as _duckdb  # noqa: F401 - asked for here, so that nothing is begun without it
    import pyarrow as pa
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "exports need pyarrow and DuckDB: pip install 'esper-telemetry[export]'", name="esper-telemetry[export]"
    ) from error

from esper.karn.export.arrays import schema_of
from esper.karn.export.files import FORMATS, Format, Write, writing
from esper.karn.export.parallel import spooled_logs
from esper.karn.export.spooled_log import SpooledLog, spool

if TYPE_CHECKING:
    from esper.leyline.wire import Source

__all__ = ["FORMATS", "Exported", "Format", "export", "format_of", "tables"]


def tables(source: Source, *, run_name: str = "") -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read a log as Arrow: tables in the contract's order, each in batches of at most 2,048 rows, at flat memory.

    The log is read to its end, and put aside in a temporary directory, before the first batch is yielded: only its
    end says what a resume took back.

    Args:
        source: a log file, a run directory, ``-`` for standard input, or an open stream.
        run_name: what the column ``run_name`` says; by default the name of the directory or file.

    Yields:
        The name of a table and rows of it: that of a kind of event (``ppo_update_completed``) or ``invalid_lines``.

    Raises:
        FileNotFoundError: there is no log.
    """
    if not run_name and isinstance(source, str | os.PathLike):
        (run_name,) = run_names([source])
    with tempfile.TemporaryDirectory(prefix="esper-") as directory:
        yield from spool(source, Path(directory)).batches(run_name)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds."""

    path: Path
    runs: int
    events: int
    invalid: dict[str, InvalidLines]
    """The lines that are no events, by run; runs without any are left out."""
    empty: dict[str, NoEventsError]
    """The runs without a single event, and what there is instead."""


def format_of(output: str | os.PathLike[str]) -> Format:
    """Return what a name asks for by its suffix: ``.csv``, ``.duckdb``, and Parquet by any other."""
    suffix = Path(output).suffix.lower()
    return "csv" if suffix == ".csv" else "duckdb" if suffix in {".duckdb", ".db"} else "parquet"


def export(
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    form: Format | None = None,
    processes: int | None = 1,
    progress: Callable[[int], None] | None = None,
) -> Exported:
    """Write runs as tables, one a kind of event, with all runs in each; whole or not at all.

    Args:
        sources: run directories, log files or ``-``; 1 or more.
        output: what to make, a directory or a DuckDB file; nothing may be there.
        form: what to write; None for what the name asks for (`format_of`).
        processes: how many read logs side by side; None for as many as are worth it. They are spawned, so that a script
            needs its ``if __name__ == "__main__":``.
        progress: called now and then with how many lines were read since.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: a source does not exist.
        FileExistsError: there is something at ``output``.
        NoEventsError: no source holds an event.
        OSError: something cannot be read or written; nothing is left at ``output``.
    """
    form = form or format_of(output)
    names = run_names(sources)
    target = Path(output)
    invalid, empty, events = dict[str, InvalidLines](), dict[str, NoEventsError](), 0
    with atomic_directory(target) as directory, tempfile.TemporaryDirectory(dir=directory, prefix=".spool-") as aside:
        written = directory / target.name if form == "duckdb" else directory
        with (
            writing(written, form) as write,
            spooled_logs(list(names.values()), Path(aside), form == "csv", processes, progress) as logs,
        ):
            for (name, source), log in zip(names.items(), logs, strict=True):
                in_log = sum(rows for table, rows in log.rows.items() if table != "invalid_lines")
                if not in_log:
                    empty[name] = log.invalid.no_events(source)
                _write(name, source, log, in_log, write)
                events += in_log
                if log.invalid.total:
                    invalid[name] = log.invalid
        if not events:
            raise next(iter(empty.values()))
    return Exported(target, len(names), events, invalid, empty)


def _write(name: str, source: str, log: SpooledLog, events: int, write: Write) -> None:
    info = None
    if source != "-":
        directory = RunDirectory.local(source)
        info, _ = info_beside(directory.path)
    columns: list[list[Any]] = [[name], [events], [log.invalid.total], [None if info is None else strict_json(info)]]
    schema = schema_of("runs", flat=False)
    write("runs", pa.RecordBatch.from_pydict(dict(zip(schema.names, columns, strict=True)), schema))
    for table, rows in log.batches(name):
        write(table, rows)
    log.remove()
