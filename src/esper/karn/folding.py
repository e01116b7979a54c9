"""A log, folded, with what lies beside it: where every view of a finished run begins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.bounds import LIVE, Bounds
from esper.leyline.invalid_lines import InvalidLines
from esper.leyline.limits import Limits
from esper.leyline.run_directory import RunDirectory, info_beside
from esper.leyline.validate import rejected_events
from esper.leyline.wire import InvalidRecord, read_shards

if TYPE_CHECKING:
    from collections.abc import Callable

    from esper.karn.snapshot import RunSnapshot
    from esper.leyline.position import Position
    from esper.leyline.run_info import RunInfo
    from esper.leyline.telemetry import TelemetryEvent

__all__ = ["RARELY", "FoldedLog", "fold"]

RARELY: Final = (100_000, 50, 50)
"""Thresholds of the garbage collector for a process that only reads: events make no cycles, and there are many."""


@dataclass(frozen=True, slots=True)
class FoldedLog:
    """What a log amounts to."""

    where: Path
    """The run directory or the log, as the user named it; ``-`` for standard input."""
    snapshot: RunSnapshot
    info: RunInfo | None
    """What run.json says; None when there is none, or the log stands alone."""
    no_info: str
    """Why there is none; empty otherwise."""
    problem: str
    """The same, where there is a run.json that says nothing; empty otherwise."""
    invalid_lines: InvalidLines
    """What is no event."""
    rejected: int
    """Events set aside beside the log."""
    settled: Callable[[str, Position], Position | None]
    """`TelemetryAggregator.settled`."""

    @property
    def invalid(self) -> int:
        """Lines that are no events."""
        return self.invalid_lines.total


def fold(
    source: str | os.PathLike[str],
    adapt: Callable[[Limits], Limits] | None = None,
    bounds: Bounds = LIVE,
    seen: Callable[[TelemetryEvent | InvalidRecord, Position | None], None] | None = None,
) -> FoldedLog:
    """Fold a log, under the limits of its run, with what run.json beside it says.

    Args:
        source: a run directory, a log, or ``-``.
        adapt: changes the limits; None to take the run's own.
        bounds: how much is kept.
        seen: called with every record and where it stands, in order.

    Raises:
        OSError: there is no such log, or it cannot be read.
    """
    where = Path(source)
    directory = where if where.is_dir() else where.parent
    info, no_info = (None, "a log from standard input has no run.json") if source == "-" else info_beside(directory)
    limits = Limits.of_run({} if info is None else info.configuration)
    aggregator = TelemetryAggregator(bounds, limits if adapt is None else adapt(limits))
    invalid = InvalidLines()
    for shard, record in read_shards(source):
        position = None
        if isinstance(record, InvalidRecord):
            invalid.add(record)
        else:
            position = aggregator.process(record, shard)
        if seen is not None:
            seen(record, position)
    return FoldedLog(
        where,
        aggregator.snapshot(),
        info,
        no_info,
        problem=no_info if source != "-" and RunDirectory(directory).info.exists() else "",
        invalid_lines=invalid,
        rejected=sum(1 for _ in rejected_events(where)),
        settled=aggregator.settled,
    )
