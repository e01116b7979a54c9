"""What one run came to, in a row; a row for each arm where a run compares several."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from esper.karn.bounds import LIVE
from esper.karn.derived import accuracies_of, evaluation_of, known, planned_episodes, returns_of
from esper.karn.folding import FoldedLog, fold
from esper.karn.health import assess
from esper.karn.progress import best_value
from esper.leyline.run_directory import info_beside

if TYPE_CHECKING:
    from esper.karn.listing.discover import FoundRun
    from esper.karn.snapshot import GroupSnapshot

__all__ = ["WHOLE_SERIES", "RunRow", "read_rows"]

WHOLE_SERIES: Final = replace(LIVE, run_history=None)
"""Every batch is kept, as its best is asked for; of environments as little as for a live view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run, or one arm of it. What is not known is None, and never a number in its place."""

    run: str
    """Its directory, or its log where that stands alone, as other commands take it."""
    group: str | None = None
    """The arm; ``default`` in most runs. None where the log holds no event."""
    task: str | None = None
    seed: int | None = None
    status: str | None = None
    """What run.json says: ``running``, ``completed``, ``interrupted`` or ``failed``; None without it.
    A run that says it is running and is not was killed."""
    verdict: str | None = None
    """``OK``, ``WATCH``, ``BAD`` or ``UNKNOWN``, as ``esper health`` gives it."""
    episodes: int | None = None
    """Completed in the end of the newest batch."""
    planned: int | None = None
    """Episodes planned."""
    return_: float | None = None
    """Mean episode return of the newest batch that measured one."""
    best_return: float | None = None
    """The highest of all batches."""
    accuracy: float | None = None
    """Validation accuracy of the newest batch that measured one; a fraction."""
    best_accuracy: float | None = None
    evaluation: float | None = None
    """Mean return of the learnt policy on fresh episodes (run.json), of the run's first arm."""
    evaluation_error: float | None = None
    """Its standard error."""
    test_accuracy: float | None = None
    """Mean accuracy of the learnt policy on held-out data (run.json)."""
    started: datetime | None = None
    """When the run began, or its first process did."""
    newest: datetime | None = None
    """When its newest event was built."""
    size: int = 0
    """Of its log and what lies beside it. Unit: bytes."""
    events: int = 0
    """All arms together, as the rest of what follows."""
    invalid: int = 0
    """Lines that are no events."""
    rejected: int = 0
    """Events that could not be written."""
    resumes: int = 0
    ranks: int = 0
    """Processes that have started."""
    error: str | None = None
    """What ended a failed run, by run.json."""
    problem: str | None = None
    """What of it could not be read."""


def read_rows(found: FoundRun, now: datetime) -> tuple[RunRow, ...]:
    """Read a run from its beginning; what is damaged costs its part of the row, and is named in it.

    Args:
        found: where it is.
        now: to tell a run that is silent from one that goes on.

    Returns:
        A row for each arm, and one for a run without any event.
    """
    size = sum(_size(file) for file in found.files)
    odd = [file for file in found.files if not _is_file(file)]
    if odd:
        return (RunRow(run=found.path, size=size, problem=f"{odd[0]}: no ordinary file"),)
    try:
        log = fold(found.path, bounds=WHOLE_SERIES)
    except FileNotFoundError:
        info, problem = info_beside(Path(found.path))
        row = RunRow(run=found.path, size=size, problem="; ".join(filter(None, ("there is no log", problem))))
        if info is None:
            return (row,)
        return (replace(row, status=info.status, started=info.started, error=info.error),)
    except (OSError, ValueError) as error:
        return (RunRow(run=found.path, size=size, problem=_reason(error)),)
    return tuple(_rows(found, log, size, now))


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size  # noqa: PTH116 - thousands
    except OSError:
        return 0


def _is_file(file: str) -> bool:
    """Whether it is an ordinary file, or gone: a pipe or a device might never answer."""
    try:
        return stat.S_ISREG(os.stat(file).st_mode)  # noqa: PTH116 - thousands
    except OSError:
        return True


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _rows(found: FoundRun, log: FoldedLog, size: int, now: datetime) -> Iterator[RunRow]:
    verdict = assess(log.snapshot, log.info, now=now, invalid=log.invalid, rejected=log.rejected)
    newest = log.snapshot.log.newest
    of_run = RunRow(
        run=found.path,
        status=None if log.info is None else log.info.status,
        started=None if log.info is None else log.info.started,
        newest=None if newest is None else newest.timestamp.astimezone(UTC),
        size=size,
        events=log.snapshot.n_events,
        invalid=log.invalid,
        rejected=log.rejected,
        error=None if log.info is None else log.info.error,
        problem=log.problem or None,
    )
    if not log.snapshot.groups:
        problems = (str(log.invalid_lines.no_events(found.path)), log.problem)
        yield replace(of_run, problem="; ".join(filter(None, problems)))
    for group_id, group in log.snapshot.groups.items():
        row = _of_group(replace(of_run, group=group_id, verdict=verdict.of(group_id).status.name), group)
        evaluation = evaluation_of(log.snapshot, log.info, group_id)
        if evaluation is not None:
            learnt = evaluation.learnt
            row = replace(
                row,
                evaluation=learnt.reward.mean,
                evaluation_error=learnt.reward.standard_error,
                test_accuracy=learnt.test_accuracy.mean,
            )
        yield row


def _of_group(row: RunRow, group: GroupSnapshot) -> RunRow:
    started = None if group.started is None else group.started.data
    batches = [entry.data for entry in group.batches]
    returns, accuracies = returns_of(group), accuracies_of(group)
    if group.started is not None and row.started is None:
        row = replace(row, started=group.started.event.timestamp.astimezone(UTC))
    return replace(
        row,
        task=None if started is None else started.task,
        seed=None if started is None else started.seed,
        episodes=batches[-1].episodes_completed if batches else None,
        planned=planned_episodes(batches[-1]) if batches else None if started is None else known(started.n_episodes),
        return_=returns[-1] if returns else None,
        best_return=best_value(returns),
        accuracy=accuracies[-1] if accuracies else None,
        best_accuracy=best_value(accuracies),
        resumes=group.resumes,
        ranks=len(group.ranks),
    )
