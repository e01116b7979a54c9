"""``esper export``: runs as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from esper.commands.progress_bar import progress_bar
from esper.commands.streams import say, show
from esper.karn.formatting import plural
from esper.leyline.printable import printable
from esper.leyline.run_directory import RunDirectory, info_beside
from esper.leyline.validate import rejected_events
from esper.leyline.wire import log_files

if TYPE_CHECKING:
    from esper.karn.export import Format

__all__ = ["export_command"]

_CHUNK = 1 << 20
_MADE: dict[Format, str] = {
    "parquet": "a directory of Parquet tables",
    "csv": "a directory of CSV tables",
    "duckdb": "a DuckDB file",
}


def export_command(sources: list[str], output: str, *, form: Format | None) -> int:
    """Export runs, and say what they hold that is no event.

    Args:
        sources: run directories, logs or ``-``.
        output: what to make.
        form: of what kind; None for what its name asks for.

    Returns:
        The exit status: 0; 1 when a source holds no event.

    Raises:
        NoEventsError: none of them does; nothing was written.
        ModuleNotFoundError: the extra is not installed.
        OSError: something cannot be read or written, or exists already.
    """
    from esper.karn.export import export, format_of  # noqa: PLC0415 - needs the extra

    with progress_bar(sum(map(_lines, sources)), "lines") as progress:
        done = export(sources, output, form=form, processes=None, progress=progress)
    made = _MADE[form or format_of(output)]
    show(f"{printable(str(done.path))}: {plural(done.events, 'event')} of {plural(done.runs, 'run')}, {made}\n")
    for run, invalid in done.invalid.items():
        if run in done.empty:
            continue
        lines = plural(invalid.total, "line", "is no event", "are no events")
        say(f"{printable(run)}: {lines}, and in the table invalid_lines: {printable('; '.join(invalid.sentences()))}\n")
    for source in sources:
        _, problem = info_beside(RunDirectory.local(source).path) if source != "-" else (None, "")
        if problem and (Path(source) / "run.json").exists():
            say(f"{printable(problem)}: the table runs has nothing of it\n")
        rejected = sum(1 for _ in rejected_events(Path(source))) if source != "-" else 0
        if rejected:
            events = plural(rejected, "event", "was", "were")
            say(f"{printable(source)}: {events} rejected when the run was made: esper validate {printable(source)}\n")
    for error in done.empty.values():
        say(f"{printable(str(error))}\n")
    return 1 if done.empty else 0


def _lines(source: str) -> int:
    """Count the lines of a log, which takes a hundredth of reading it."""
    count = 0
    for path in filter(Path.is_file, log_files(source)) if source != "-" else ():  # what is none may have no end
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                count += chunk.count(b"\n")
    return count
