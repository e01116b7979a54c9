"""A log, read to its end: what every view folds of it, a series for each arm, and what a page names besides."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from esper.karn.bounds import WHOLE_RUN
from esper.karn.folding import FoldedLog, fold
from esper.karn.health import assess
from esper.karn.report.episodes import Episodes
from esper.karn.report.history import ArmSeries
from esper.karn.snapshot import RunSnapshot
from esper.karn.verdict import Verdict
from esper.leyline.position import Position
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import InvalidRecord

__all__ = ["INVALID_KEPT", "NOTABLE_KEPT", "STARTS_KEPT", "RunLog", "Seen", "read_log"]

INVALID_KEPT = 200
NOTABLE_KEPT = 200
_SHOWN = 1_000
"""Characters of a line that is no event."""
STARTS_KEPT = 20
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_NOTABLE = {"warning", "error", "critical"}


@dataclass(slots=True)
class Seen:
    """What a page names of a log that no fold keeps."""

    first: datetime = _LATEST
    """When the first event was built."""
    last: datetime = _EARLIEST
    """When the last one was."""
    invalid: list[InvalidRecord] = field(default_factory=list)
    """The first lines that are no events, at most `INVALID_KEPT`."""
    notable: deque[TelemetryEvent] = field(default_factory=lambda: deque(maxlen=NOTABLE_KEPT))
    """The newest events of severity warning and above."""
    severities: Counter[str] = field(default_factory=Counter)
    starts: dict[str, list[TrainingStartedPayload]] = field(default_factory=dict)
    """By group_id, the starts of its newest run and of the resumes that went on with it, by one of its ranks."""
    episodes: defaultdict[str, Episodes] = field(default_factory=lambda: defaultdict(Episodes))
    """By group_id."""

    def add(self, record: TelemetryEvent | InvalidRecord, position: Position | None) -> None:
        """Take in a record and where it stands."""
        if isinstance(record, InvalidRecord):
            if len(self.invalid) < INVALID_KEPT:
                self.invalid.append(replace(record, text=record.text[:_SHOWN]))
            return
        if position is not None:
            self.episodes[record.group_id].add(record, position)
        built = record.timestamp
        self.first = min(self.first, built)
        self.last = max(self.last, built)
        self.severities[record.severity] += 1
        if isinstance(record.data, TrainingStartedPayload):
            self._add_start(record.group_id, record.data)
        if record.severity in _NOTABLE:
            self.notable.append(record)

    def _add_start(self, group_id: str, start: TrainingStartedPayload) -> None:
        """Take in a start; another rank starts no other session."""
        starts = self.starts
        if group_id not in starts or (start.rank == starts[group_id][-1].rank and not start.start_episode):
            starts[group_id] = [start]
        elif start.rank == starts[group_id][-1].rank:
            starts[group_id] = [*starts[group_id][-STARTS_KEPT + 1 :], start]


@dataclass(frozen=True, slots=True)
class RunLog:
    """What one source amounts to."""

    source: str
    folded: FoldedLog
    seen: Seen
    arms: dict[str, ArmSeries]
    """By group_id; the newest run of each group in the log."""
    verdict: Verdict
    """Over all groups."""

    @property
    def snapshot(self) -> RunSnapshot:
        """The whole run, folded."""
        return self.folded.snapshot

    @property
    def info(self) -> RunInfo | None:
        """What run.json beside the log says."""
        return self.folded.info

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
    seen = Seen()
    folded = fold(source, bounds=WHOLE_RUN, seen=seen.add)
    if not seen.severities:
        raise folded.invalid_lines.no_events(source)
    arms = {
        group_id: ArmSeries(group, seen.episodes[group_id], partial(folded.settled, group_id))
        for group_id, group in folded.snapshot.groups.items()
    }
    verdict = assess(folded.snapshot, folded.info, invalid=folded.invalid, rejected=folded.rejected)
    return RunLog(source, folded, seen, arms, verdict)
