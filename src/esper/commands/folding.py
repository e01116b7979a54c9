"""A log, folded, with what lies beside it: where every command that judges or sums up a run begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from esper.commands.streams import say
from esper.karn.aggregator import TelemetryAggregator
from esper.leyline.invalid_lines import InvalidLines
from esper.leyline.limits import Limits
from esper.leyline.run_directory import RunDirectory, info_beside
from esper.leyline.validate import rejected_events
from esper.leyline.wire import InvalidRecord, read_shards

if TYPE_CHECKING:
    from collections.abc import Callable

    from esper.karn.snapshot import RunSnapshot
    from esper.leyline.run_info import RunInfo

__all__ = ["FoldedLog", "fold_log"]


@dataclass(frozen=True, slots=True)
class FoldedLog:
    """What a log amounts to."""

    where: Path
    """The run directory or the log, as the user named it."""
    snapshot: RunSnapshot
    info: RunInfo | None
    """What run.json says; None when there is none, or the log stands alone."""
    invalid: int
    """Lines that are no events."""
    rejected: int
    """Events set aside beside the log."""


def fold_log(source: str, adapt: Callable[[Limits], Limits] | None = None) -> FoldedLog:
    """Fold a log, under the limits of its run.

    Args:
        source: a run directory, a log, or ``-``.
        adapt: changes the limits; None to take the run's own.

    Raises:
        NoEventsError: the log holds no event.
        OSError: there is no such log, or it cannot be read.
    """
    where = Path(source)
    info = None
    if where.is_dir():
        info, problem = info_beside(RunDirectory.open(where).path)
        if problem and (where / "run.json").exists():
            say(f"{problem}: what follows is from the log alone\n")
    limits = Limits.of_run({} if info is None else info.configuration)
    aggregator = TelemetryAggregator(limits=limits if adapt is None else adapt(limits))
    invalid = InvalidLines()
    for shard, record in read_shards(source):
        if isinstance(record, InvalidRecord):
            invalid.add(record)
        else:
            aggregator.process(record, shard)
    snapshot = aggregator.snapshot()
    if not snapshot.n_events:
        raise invalid.no_events(source)
    return FoldedLog(where, snapshot, info, invalid.total, sum(1 for _ in rejected_events(where)))
