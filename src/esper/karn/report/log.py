"""A log, read to its end: the snapshot, a series for each arm, and what was wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from esper.karn.aggregator import RunSnapshot, TelemetryAggregator
from esper.karn.bounds import WHOLE_RUN
from esper.karn.health import assess
from esper.karn.report.episodes import Episodes
from esper.karn.report.history import ArmSeries
from esper.karn.verdict import Verdict
from esper.leyline.invalid_lines import InvalidLines
from esper.leyline.limits import Limits
from esper.leyline.run_directory import info_beside
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import TelemetryEvent, TrainingStartedPayload
from esper.leyline.validate import rejected_events
from esper.leyline.wire import InvalidRecord, read_shards

__all__ = ["INVALID_KEPT", "NOTABLE_KEPT", "STARTS_KEPT", "RunLog", "read_log"]

INVALID_KEPT = 200
NOTABLE_KEPT = 200
_SHOWN = 1_000
"""Characters of a line that is no event."""
STARTS_KEPT = 20
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_NOTABLE = {"warning", "error", "critical"}


@dataclass(slots=True)
class RunLog:
    """What one source amounts to."""

    source: str
    snapshot: RunSnapshot
    arms: dict[str, ArmSeries]
    """By group_id; the newest run of each group in the log."""
    first: datetime = _LATEST
    """When the first event was built."""
    last: datetime = _EARLIEST
    """When the last one was."""
    invalid: list[InvalidRecord] = field(default_factory=list)
    """The first lines that are no events, at most `INVALID_KEPT`."""
    n_invalid: int = 0
    notable: deque[TelemetryEvent] = field(default_factory=lambda: deque(maxlen=NOTABLE_KEPT))
    """The newest events of severity warning and above."""
    severities: Counter[str] = field(default_factory=Counter)
    starts: dict[str, list[TrainingStartedPayload]] = field(default_factory=dict)
    """By group_id, the starts of its newest run and of the resumes that went on with it, by one of its ranks."""
    info: RunInfo | None = None
    """What run.json beside the log says."""
    no_info: str = ""
    """Why there is none."""
    verdict: Verdict = field(default_factory=lambda: Verdict(()))
    """Over all groups."""

    @property
    def directory(self) -> Path | None:
        """The run directory; None for standard input."""
        path = Path(self.source)
        return None if self.source == "-" else path if path.is_dir() else path.parent


def read_log(source: str) -> RunLog:
    """Read a log file, a run directory or ``-``.

    Raises:
        FileNotFoundError: there is no log.
        NoEventsError: the log holds no event.
    """
    log = RunLog(source, TelemetryAggregator().snapshot(), {})
    _join_info(log)
    aggregator = TelemetryAggregator(WHOLE_RUN, Limits.of_run({} if log.info is None else log.info.configuration))
    episodes = defaultdict[str, Episodes](Episodes)
    invalid = InvalidLines()
    for shard, record in read_shards(source):
        if isinstance(record, InvalidRecord):
            log.n_invalid += 1
            invalid.add(record)
            if log.n_invalid <= INVALID_KEPT:
                log.invalid.append(replace(record, text=record.text[:_SHOWN]))
            continue
        position = aggregator.process(record, shard)
        if position is not None:
            episodes[record.group_id].add(record, position)
        log.first, log.last = min(log.first, record.timestamp), max(log.last, record.timestamp)
        log.severities[record.severity] += 1
        if isinstance(record.data, TrainingStartedPayload):
            _add_start(log.starts, record.group_id, record.data)
        if record.severity in _NOTABLE:
            log.notable.append(record)
    if not log.severities:
        raise invalid.no_events(source)
    log.snapshot = aggregator.snapshot()
    for group_id, group in log.snapshot.groups.items():
        log.arms[group_id] = ArmSeries(group, episodes[group_id], partial(aggregator.settled, group_id))
    rejected = None if log.directory is None else sum(1 for _ in rejected_events(Path(source)))
    log.verdict = assess(log.snapshot, log.info, invalid=log.n_invalid, rejected=rejected)
    return log


def _add_start(starts: dict[str, list[TrainingStartedPayload]], group_id: str, start: TrainingStartedPayload) -> None:
    """Take in a start; another rank starts no other session."""
    if group_id not in starts or (start.rank == starts[group_id][-1].rank and not start.start_episode):
        starts[group_id] = [start]
    elif start.rank == starts[group_id][-1].rank:
        starts[group_id] = [*starts[group_id][-STARTS_KEPT + 1 :], start]


def _join_info(log: RunLog) -> None:
    """Read run.json; one that cannot be read is reported, and does not take the report with it."""
    directory = log.directory
    if directory is None:
        log.no_info = "a log from standard input has no run.json"
        return
    log.info, log.no_info = info_beside(directory)
