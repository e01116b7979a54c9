"""``esper replay``: a run's closing summary, from its log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from esper.commands.streams import say, show
from esper.karn.aggregator import TelemetryAggregator
from esper.karn.summary import snapshot_json, summary
from esper.leyline.invalid_lines import InvalidLines
from esper.leyline.run_directory import RunDirectory, info_beside
from esper.leyline.validate import rejected_events
from esper.leyline.wire import InvalidRecord, read_shards

if TYPE_CHECKING:
    import os

    from esper.karn.snapshot import RunSnapshot

__all__ = ["fold", "replay_command"]


def fold(source: str | os.PathLike[str]) -> tuple[RunSnapshot, InvalidLines]:
    """Return what a log amounts to, and its lines that are no events.

    Raises:
        OSError: there is no such log, or it cannot be read.
    """
    aggregator = TelemetryAggregator()
    invalid = InvalidLines()
    for shard, record in read_shards(source):
        if isinstance(record, InvalidRecord):
            invalid.add(record)
        else:
            aggregator.process(record, shard)
    return aggregator.snapshot(), invalid


def replay_command(source: str, *, as_json: bool) -> int:
    """Fold a log and print what it came to.

    Args:
        source: a run directory, a log, or ``-``.
        as_json: the whole snapshot as JSON instead of the summary.

    Raises:
        NoEventsError: the log holds no event.
        OSError: there is no such log, or it cannot be read.
    """
    where = Path(source)
    info = None
    if where.is_dir():
        info, problem = info_beside(RunDirectory.open(where).path)
        if problem and (where / "run.json").exists():
            say(f"{problem}: the summary is from the log alone\n")
    snapshot, invalid = fold(source)
    if not snapshot.n_events:
        raise invalid.no_events(source)
    show(snapshot_json(snapshot) + "\n" if as_json else summary(snapshot, info, where))
    rejected = sum(1 for _ in rejected_events(where))
    if rejected:
        events = "1 event was" if rejected == 1 else f"{rejected:,} events were"
        say(f"{events} rejected and cannot be shown: esper validate {source}\n")
    if invalid.total:
        lines = "1 line is no event" if invalid.total == 1 else f"{invalid.total:,} lines are no events"
        say(f"{lines}: esper validate {source}\n")
    return 0
