"""A log, folded, with what lies beside it: where every view of a finished run begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.bounds import LIVE, Bounds
from esper.leyline.invalid_lines import InvalidLines
from esper.leyline.limits import Limits
from esper.leyline.run_directory import info_beside
from esper.leyline.validate import rejected_events
from esper.leyline.wire import InvalidRecord, read_shards

if TYPE_CHECKING:
    from collections.abc import Callable

    from esper.karn.snapshot import RunSnapshot
    from esper.leyline.run_info import RunInfo

__all__ = ["FoldedLog", "fold"]


@dataclass(frozen=True, slots=True)
class FoldedLog:
    """What a log amounts to."""

    where: Path
    """The run directory or the log, as the user named it."""
    snapshot: RunSnapshot
    info: RunInfo | None
    """What run.json says; None when there is none, or the log stands alone."""
    problem: str
    """Why a run.json that is there says nothing; empty otherwise."""
    invalid_lines: InvalidLines
    """What is no event."""
    rejected: int
    """Events set aside beside the log."""

    @property
    def invalid(self) -> int:
        """Lines that are no events."""
        return self.invalid_lines.total


def fold(source: str, adapt: Callable[[Limits], Limits] | None = None, bounds: Bounds = LIVE) -> FoldedLog:
    """Fold a log, under the limits of its run.

    Args:
        source: a run directory, a log, or ``-``.
        adapt: changes the limits; None to take the run's own.
        bounds: how much is kept.

    Raises:
        OSError: there is no such log, or it cannot be read.
    """
    where = Path(source)
    info, problem = info_beside(where) if where.is_dir() else (None, "")
    if info is None and not (where / "run.json").exists():
        problem = ""
    limits = Limits.of_run({} if info is None else info.configuration)
    aggregator = TelemetryAggregator(bounds, limits if adapt is None else adapt(limits))
    invalid = InvalidLines()
    for shard, record in read_shards(source):
        if isinstance(record, InvalidRecord):
            invalid.add(record)
        else:
            aggregator.process(record, shard)
    rejected = sum(1 for _ in rejected_events(where))
    return FoldedLog(where, aggregator.snapshot(), info, problem, invalid, rejected)
