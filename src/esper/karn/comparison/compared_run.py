"""What a comparison needs of one run, or of one arm within it: its settings, its course, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from esper.karn.comparison.settings import of_info, of_start
from esper.karn.derived import accuracy_of, evaluation_of, planned_episodes, return_of
from esper.karn.folding import fold
from esper.karn.health import assess
from esper.karn.listing.row import WHOLE_SERIES
from esper.leyline.limits import real

if TYPE_CHECKING:
    from esper.karn.snapshot import GroupSnapshot, LifecycleTotals, RunSnapshot
    from esper.karn.verdict import Verdict
    from esper.leyline.run_info import Evaluation, RunInfo

__all__ = ["ComparedRun", "Course", "read_run", "runs_in"]

_MOST_EPISODES: Final = 2**53
"""A count beyond is a mistake."""


@dataclass(frozen=True, slots=True)
class Course:
    """A quantity by batches."""

    episodes: tuple[int, ...] = ()
    """Completed at the end of each batch that measured it, ascending."""
    values: tuple[float, ...] = ()
    """As long as ``episodes``."""

    def until(self, episodes: int | None) -> Course:
        """Return the batches that ended by then; None for all."""
        if episodes is None or not self.episodes or self.episodes[-1] <= episodes:
            return self
        n = sum(at <= episodes for at in self.episodes)
        return Course(self.episodes[:n], self.values[:n])


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One run, or one arm of an A/B run."""

    run: str
    """Its directory, or its log."""
    group: str
    task: str | None
    seed: int | None
    start: Mapping[str, str]
    """What TRAINING_STARTED says."""
    configuration: Mapping[str, str]
    """What run.json says; empty without it."""
    versions: Mapping[str, str]
    status: str | None
    """As run.json has it; None without it."""
    verdict: str
    headline: str
    episodes: int
    """Completed in the end. Unit: episodes; 0 or more."""
    planned: int | None
    returns: Course
    """Mean episode returns."""
    accuracies: Course
    """Validation accuracies."""
    evaluation: float | None
    """Mean return of the learnt policy on fresh episodes."""
    test_accuracy: float | None
    """Its mean accuracy on held-out data."""
    lifecycle: Mapping[str, LifecycleTotals]
    """What became of seeds, by blueprint."""

    @property
    def is_whole(self) -> bool:
        """Whether it came to the end that was planned, as far as anybody says."""
        if self.status == "completed" or (self.planned is not None and self.episodes >= self.planned):
            return True
        return self.status is None and self.planned is None

    @property
    def settings(self) -> dict[str, str]:
        """Everything that is known of its configuration; what the log says counts before run.json."""
        group = {} if self.group == "default" else {"group": self.group}
        return {**self.configuration, **self.start, **group}


def read_run(source: str) -> Iterator[ComparedRun]:
    """Read a run; of an A/B run each arm.

    Raises:
        NoEventsError: there is no event.
        OSError: it cannot be read.
    """
    log = fold(source, bounds=WHOLE_SERIES)
    if not log.snapshot.groups:
        raise log.invalid_lines.no_events(source)
    verdict = assess(log.snapshot, log.info, invalid=log.invalid, rejected=log.rejected)
    yield from runs_in(source, log.snapshot, log.info, verdict)


def runs_in(source: str, snapshot: RunSnapshot, info: RunInfo | None, verdict: Verdict) -> Iterator[ComparedRun]:
    """Yield what was folded, arm by arm.

    Args:
        source: what it was folded from.
        snapshot: with all of its batches.
        info: what run.json says; None without it.
        verdict: over the whole log.
    """
    for group_id, group in snapshot.groups.items():
        yield _compared(source, group, info, verdict.of(group_id), evaluation_of(snapshot, info, group_id))


def _compared(
    source: str, group: GroupSnapshot, info: RunInfo | None, verdict: Verdict, evaluation: Evaluation | None
) -> ComparedRun:
    started = None if group.started is None else group.started.data
    batches = [entry.data for entry in group.batches if 0 <= entry.data.episodes_completed < _MOST_EPISODES]
    ends = [batch.episodes_completed for batch in batches]
    learnt = None if evaluation is None else evaluation.learnt
    return ComparedRun(
        run=source,
        group=group.group_id,
        task=None if started is None else started.task,
        seed=None if started is None else started.seed,
        start=of_start(started),
        configuration=of_info(info),
        versions={} if info is None else info.versions,
        status=None if info is None else info.status,
        verdict=verdict.status.name,
        headline=verdict.headline,
        episodes=max(ends, default=0),
        planned=planned_episodes(batches[-1]) if batches else None,
        returns=_course(ends, [return_of(batch, started) for batch in batches]),
        accuracies=_course(ends, [accuracy_of(batch) for batch in batches]),
        evaluation=None if learnt is None else learnt.reward.mean,
        test_accuracy=None if learnt is None else learnt.test_accuracy.mean,
        lifecycle={"—" if name is None else name: totals for name, totals in group.lifecycle.items()},
    )


def _course(ends: list[int], values: list[float | None]) -> Course:
    """Return what was measured; a batch that does not go on from the one before has no place in a course."""
    reached, kept = -1, list[tuple[int, float]]()
    for end, value in zip(ends, values, strict=True):
        if value is not None and end > reached:
            kept.append((end, real(value)))
            reached = end
    return Course(tuple(end for end, _ in kept), tuple(value for _, value in kept))
