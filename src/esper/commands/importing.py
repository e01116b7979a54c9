"""``esper import``: logs of untyped dicts, and exports, as run directories."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path, PurePosixPath

from esper.commands.progress_bar import progress_bar
from esper.commands.streams import say, show
from esper.karn.formatting import plural
from esper.karn.importing.exports import exported_lines, exported_runs, is_export
from esper.karn.importing.lines import numbered_lines
from esper.karn.importing.log import Conversion, convert_log
from esper.karn.importing.mapping import read_map
from esper.karn.importing.survey import map_to_start_from
from esper.karn.importing.writer import SET_ASIDE, RunWriter
from esper.leyline.atomic import atomic_directory
from esper.leyline.invalid_lines import NoEventsError
from esper.leyline.printable import printable
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo, RunInfoError, parse_run_info
from esper.leyline.telemetry import TelemetryEvent
from esper.nissa.run import installed_versions

__all__ = ["import_command"]

_ASIDE = 1
_WRONG_USE = 2


def import_command(source: str, output: str | None, map_file: str | None) -> int:
    """Make a run directory of a log of dicts, by a map, or of an export; without a map, print one to start from.

    Args:
        source: the log, plain or compressed by gzip, ``-`` for standard input; or an export.
        output: the run directory to make.
        map_file: what becomes of the log's records.

    Returns:
        The exit status: 0 when every line is an event now, or was skipped as the map says; 1 when some were set
        aside; 2 when there is an ``output`` and no map.

    Raises:
        NoEventsError: nothing of the log is an event by the map; nothing was written.
        ValueError: the map or the source cannot be used.
        OSError: something cannot be read or written, or exists already.
    """
    if source != "-" and is_export(Path(source)):
        if map_file is not None or output is None:
            raise ValueError(f"{source} is an export: it needs -o RUN and no --map")
        return _import_export(Path(source), RunDirectory.local(output).path)
    if source != "-" and Path(source).is_dir():
        raise IsADirectoryError(f"{source} is a directory and no export of esper's: name the log in it")
    if map_file is None:
        with numbered_lines(source) as lines:
            show(map_to_start_from(lines, source))
        if output is not None:
            say("nothing was imported: this is a map to start from; name it by --map\n")
        return 0 if output is None else _WRONG_USE
    if output is None:
        raise ValueError("-o RUN is missing: the run directory to make")
    return _import_log(source, RunDirectory.local(output).path, Path(map_file))


def _import_log(source: str, output: Path, map_file: Path) -> int:
    log_map = read_map(map_file)
    size = 0 if source == "-" else Path(source).stat().st_size
    with (
        progress_bar(size, "bytes") as progress,
        numbered_lines(source, progress) as lines,
        atomic_directory(output) as directory,
        RunWriter(directory) as writer,
    ):
        done = convert_log(lines, log_map, writer)
        if not writer.events:
            _report_aside(done)
            raise NoEventsError(f"nothing of {source} is an event by {map_file}, and nothing was written")
        imported = {
            "from": source,
            "map": log_map.text,
            "events": writer.events.total(),
            "skipped": dict(done.skipped),
            "set_aside": writer.set_aside,
        }
        writer.finish(imported, installed_versions())
    show(f"{printable(str(output))}: {_counted(writer.events)}\n")
    if done.skipped:
        say(f"skipped, as {printable(str(map_file))} says: {printable(_counted(done.skipped))}\n")
    if done.doubtful:
        events = plural(done.doubtful, "event", "holds", "hold")
        say(f"{events} a value that is hardly true: esper validate {printable(str(output))}\n")
    if writer.set_aside:
        say(f"set aside, unchanged, into {printable(str(output / SET_ASIDE))}: {plural(writer.set_aside, 'line')}\n")
        _report_aside(done)
    return _ASIDE if writer.set_aside else 0


def _report_aside(done: Conversion) -> None:
    for sentence in done.sentences():
        say(f"  {sentence}\n")


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())


def _import_export(export: Path, output: Path) -> int:
    runs = {run.name: run for run in exported_runs(export)}
    places = {name: _place(export, name) if len(runs) > 1 else PurePosixPath() for name in runs}
    if len({*places.values()}) < len(places):
        raise ValueError(f"{export}: two of its runs would be one directory: {', '.join(places)}")
    events, aside = Counter[str](), 0
    with (
        progress_bar(sum(run.events for run in runs.values()), "events") as progress,
        atomic_directory(output) as directory,
    ):
        for name, logged in groupby(exported_lines(export), key=lambda line: line.run):
            if name not in runs:
                raise ValueError(f"{export}: the table runs does not name {name!r}")
            place = directory / places[name]
            place.mkdir(parents=True, exist_ok=True)
            with RunWriter(place) as writer:
                for number, line in enumerate(logged):
                    if isinstance(line.record, TelemetryEvent):
                        writer.write(line.record, _log_name(line.file))
                    else:
                        writer.put_aside(line.record.encode())
                    if progress is not None and number % 512 == 0:
                        progress(512)
                if writer.events:
                    imported = {"from": str(export), "events": writer.events.total(), "set_aside": writer.set_aside}
                    writer.finish(imported, installed_versions(), _info(export, name, runs[name].info))
                events += writer.events
                aside += writer.set_aside
        if not events:
            raise NoEventsError(f"{export} holds no event, and nothing was written")
    show(f"{printable(str(output))}: {_counted(events)}\n")
    if aside:
        lines = plural(aside, "line", "was no event", "were no events")
        say(f"{lines} when this was exported, left in {SET_ASIDE} beside the log\n")
    return _ASIDE if aside else 0


def _place(export: Path, name: str) -> PurePosixPath:
    """Return where a run goes below the directory; a name is data, and leads nowhere else."""
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or not place.parts or "\0" in name or "\\" in name:
        raise ValueError(f"{export}: {name!r} cannot be the name of a directory")
    return place


def _log_name(file: str) -> str:
    if file in {"", "events.jsonl"}:
        return "events.jsonl"
    rank = file.removeprefix("events-rank").removesuffix(".jsonl")
    if file == f"events-rank{rank}.jsonl" and rank.isascii() and rank.isdecimal():
        return file
    return "events.jsonl"  # a log on its own may be called as it likes


def _info(export: Path, name: str, text: str | None) -> RunInfo | None:
    if text is None:
        return None
    try:
        return parse_run_info(text, "run.json")
    except RunInfoError as error:
        say(f"{printable(str(export))}: what {printable(name)} said of itself is left out: {printable(str(error))}\n")
        return None
