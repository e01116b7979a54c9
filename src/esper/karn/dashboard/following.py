"""What the dashboard knows, without a terminal: the feed folded, the event log kept, the moment joined to both."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from heapq import merge
from itertools import count
from typing import get_args

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.dashboard.courses import Courses
from esper.karn.dashboard.feed import Clock, Feed, Playback, Record
from esper.karn.formatting import age
from esper.karn.health import assess
from esper.karn.progress import stale_after
from esper.karn.snapshot import GroupSnapshot, RunSnapshot
from esper.karn.verdict import Verdict
from esper.leyline.event_types import Severity, TelemetryEventType
from esper.leyline.limits import Limits
from esper.leyline.position import Shard, env_of
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo, RunInfoError, RunStatus
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.validate import rejected_events

__all__ = ["NO_VERDICT", "ROUTINE", "EventLog", "Filter", "FollowedRun", "Order", "Phase", "View"]

ROUTINE = frozenset(
    {
        TelemetryEventType.EPOCH_COMPLETED,
        TelemetryEventType.REWARD_COMPUTED,
        TelemetryEventType.SEED_STAGE_CHANGED,
        TelemetryEventType.ANALYTICS_SNAPSHOT,
        TelemetryEventType.COUNTERFACTUAL_MATRIX_COMPUTED,
    }
)
"""What environments emit at nearly every step; the log hides it at first, and says so."""
_URGENT: frozenset[Severity] = frozenset({"warning", "error", "critical"})
_SKEW = timedelta(seconds=2)
"""Of two clocks, that is not worth a word."""
_SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events the log shows. Lines that are no events are always shown."""

    severity: Severity = "info"
    """The least urgent that is shown."""
    envs: frozenset[int] | None = None
    """None for all, and for what is global."""
    types: frozenset[TelemetryEventType] = frozenset(TelemetryEventType) - ROUTINE
    """Of these; others only from warning on."""

    def lets_through(self, record: Record) -> bool:
        """Whether a record is shown."""
        if not isinstance(record, TelemetryEvent):
            return True
        return (
            (record.event_type in self.types or record.severity in _URGENT)
            and _SEVERITIES.index(record.severity) >= _SEVERITIES.index(self.severity)
            and (self.envs is None or env_of(record) in self.envs)
        )

    def __str__(self) -> str:
        parts = [] if self.severity == _SEVERITIES[0] else [f"from {self.severity} on"]
        if self.envs is not None:
            parts.append("env " + ",".join(map(str, sorted(self.envs))))
        hidden = len(TelemetryEventType) - len(self.types)
        if hidden:
            parts.append(f"{hidden} {'routine ' if self.types == Filter().types else ''}types hidden")
        return ", ".join(parts) or "all shown"


class Order(Enum):
    """In which order environments are listed; the value says which comes first."""

    WORST = "worst first"
    """What is not finite, then the lowest accuracy; where none is measured, the lowest reward."""
    NUMBER = "by number"
    ACCURACY = "lowest accuracy first"
    LOSS = "highest loss first"
    REWARD = "lowest reward first"
    VALUE = "lowest value first"

    @property
    def next(self) -> Order:
        """The one that a key goes on to."""
        orders = list(Order)
        return orders[(orders.index(self) + 1) % len(orders)]


class EventLog:
    """The newest records of every type, so that frequent ones do not push out rare ones."""

    KEPT = 1000
    """Of each type, and of lines that are no events."""

    def __init__(self) -> None:
        self._serial = count()
        self._kept: dict[TelemetryEventType | None, deque[tuple[int, Record]]] = {}
        self.chosen = Filter()
        """What is shown; `choose` changes it."""
        self._shown: deque[Record] = deque(maxlen=self.KEPT)

    def choose(self, chosen: Filter) -> None:
        """Show other records than until now."""
        self.chosen = chosen
        merged = merge(*self._kept.values(), key=lambda pair: pair[0])
        self._shown = deque((record for _, record in merged if chosen.lets_through(record)), maxlen=self.KEPT)

    def add(self, record: Record) -> None:
        """Keep a record."""
        kind = record.event_type if isinstance(record, TelemetryEvent) else None
        if kind not in self._kept:
            self._kept[kind] = deque(maxlen=self.KEPT)
        self._kept[kind].append((next(self._serial), record))
        if self.chosen.lets_through(record):
            self._shown.append(record)

    def everything(self) -> tuple[Record, ...]:
        """Return all that is kept, newest first, whatever the filter."""
        return tuple(record for _, record in merge(*self._kept.values(), key=lambda pair: pair[0]))[::-1]

    def newest_first(self) -> Iterator[Record]:
        """Return what the filter lets through."""
        return reversed(self._shown)


class Phase(Enum):
    """How the run stands; the value is what the screen says."""

    WAITING = "◌ WAITING"
    READING = "◌ READING THE LOG"
    LIVE = "● LIVE"
    STALE = "▲ STALE"
    ENDED = "■ INPUT ENDED"
    FINISHED = "■ FINISHED"
    INTERRUPTED = "■ INTERRUPTED"
    FAILED = "✗ FAILED"


_ENDINGS: dict[RunStatus, Phase] = {
    "completed": Phase.FINISHED,
    "interrupted": Phase.INTERRUPTED,
    "failed": Phase.FAILED,
}


NO_VERDICT = Verdict(())
"""Before anything was judged."""


@dataclass(frozen=True, slots=True)
class View:
    """What a screen shows at one moment."""

    source: str
    now: datetime
    heard: datetime | None
    """When the newest event of the shown group was emitted, by its own clock unless that is ahead of ours: then when
    it came. None before there is one."""
    snapshot: RunSnapshot
    group: GroupSnapshot | None
    """The arm looked at; None before the first event."""
    log: tuple[Record, ...]
    """Newest first, filtered."""
    filter: Filter
    order: Order
    """Of the environments."""
    invalid: int
    """Lines that were no events."""
    rejected: int
    """Events that could not be written, by the file beside the log."""
    torn: bool
    """Whether the log ends within a line."""
    problem: str | None
    """Why the log or run.json cannot be read."""
    info: RunInfo | None
    """What run.json says; None without one."""
    ended: bool
    """Whether nothing can come any more: the stream was closed."""
    paused: bool
    speed: float | None
    """How fast it is played back; None when it is not."""
    caught_up: bool = True
    """Whether everything there is has been shown: false while a run is played back."""
    verdict: Verdict = NO_VERDICT
    """Over the shown group, and the telemetry."""
    of_all: Verdict = NO_VERDICT
    """Over all groups."""
    courses: Mapping[str, Courses] = field(default_factory=dict)
    """How each group went, by its id."""
    reading: float | None = None
    """While a log that was there before is being read, how much of it has been; None otherwise. Unit: fraction."""

    @property
    def quiet_for(self) -> float | None:
        """Seconds since the group's newest event; None before there is one."""
        return None if self.heard is None else max((self.now - self.heard).total_seconds(), 0.0)

    @property
    def phase(self) -> Phase:
        """How the run stands; that it has ended is recorded in run.json, and never concluded from a plan."""
        if self.reading is not None:
            return Phase.READING
        if self.info is not None and self.info.status in _ENDINGS and self.caught_up:
            return _ENDINGS[self.info.status]
        if self.quiet_for is None:
            return Phase.ENDED if self.ended else Phase.WAITING
        if self.ended:
            return Phase.ENDED
        return Phase.STALE if self.quiet_for > stale_after(self.group) else Phase.LIVE


@dataclass(slots=True)
class FollowedRun:
    """Folds a feed into what there is to see."""

    source: str
    feed: Feed
    clock: Clock
    directory: RunDirectory | None = None
    """Where run.json is; None for a stream."""
    aggregator: TelemetryAggregator | None = None
    """None before the first look: limits are fixed when folding begins, and run.json may have them."""
    log: EventLog = field(default_factory=EventLog)
    group_id: str | None = None
    """The arm looked at; None for the first there is."""
    order: Order = Order.WORST
    judged: Callable[[Verdict, RunInfo | None], None] | None = None
    """Called with the verdict after each look that brought something; None for nobody."""
    invalid: int = 0
    rejected: int = 0
    torn: bool = False
    problem: str | None = None
    ended: bool = False
    info: RunInfo | None = None
    courses: dict[str, Courses] = field(default_factory=dict)
    reading: float | None = None
    _newest: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """When the newest event of each group was emitted, by its own clock, and when it came, by ours."""
    _held: datetime | None = None
    """The moment at which everything was paused."""
    _info_seen: tuple[int, int] | None = None
    _info_problem: str | None = None
    _rejected_seen: tuple[tuple[str, int], ...] = ()
    """The files of rejected events and their sizes."""

    def advance(self) -> bool:
        """Fold in what is new; whether there is more to be had at once."""
        if self._held is not None:
            return False
        taken = self.feed.take()
        if taken.restarted:
            self.aggregator = None
            chosen, self.log = self.log.chosen, EventLog()
            self.log.choose(chosen)
            self.invalid = 0
            self._newest, self.courses = {}, {}
        self.torn, self.ended = taken.torn, taken.ended
        self.problem = taken.problem or self._read_info()
        self._read_rejected()
        if self.aggregator is None:
            self.aggregator = TelemetryAggregator(limits=Limits.of_run(self.info.configuration if self.info else {}))
        now = self.now
        for record, shard in taken.with_shards():
            self.log.add(record)
            if isinstance(record, TelemetryEvent):
                self._fold(self.aggregator, record, shard)
                self._newest[record.group_id] = record.timestamp, now
            else:
                self.invalid += 1
        self.reading = taken.share if taken.more and not isinstance(self.feed, Playback) else None
        if self.judged is not None and not taken.more:
            self.judged(self._verdict(self._snapshot()), self.info)
        return taken.more

    def _fold(self, aggregator: TelemetryAggregator, event: TelemetryEvent, shard: Shard) -> None:
        position = aggregator.process(event, shard)
        if position is None:  # taken back by a resume, of an earlier run, or one too many
            return
        group_id = event.group_id
        if group_id not in self.courses:
            self.courses[group_id] = Courses()
        self.courses[group_id].add(event, position, lambda: aggregator.snapshot().groups[group_id])

    def _read_info(self) -> str | None:
        """Read run.json when it has changed; return what is wrong with it."""
        if self.directory is None:
            return None
        try:
            status = self.directory.info.stat()
            if self._info_seen != (status.st_ino, status.st_mtime_ns):
                self._info_seen, self._info_problem = (status.st_ino, status.st_mtime_ns), None
                self.info = self.directory.read_info()
        except (FileNotFoundError, NotADirectoryError):  # a log may stand alone
            self.info = self._info_seen = self._info_problem = None
        except (RunInfoError, OSError) as error:
            self._info_problem = str(error)
        return self._info_problem

    def _read_rejected(self) -> None:
        """Count the events that could not be written, when there are more of them."""
        if self.directory is None:
            return
        with suppress(OSError):
            files = self.directory.path.glob("rejected*.jsonl")
            seen = tuple(sorted((file.name, file.stat().st_size) for file in files))
            if seen != self._rejected_seen:
                self._rejected_seen = seen
                self.rejected = sum(1 for _ in rejected_events(self.directory.path))

    def _snapshot(self) -> RunSnapshot:
        return (self.aggregator or TelemetryAggregator()).snapshot()

    def next_group(self) -> None:
        """Look at the next arm of an A/B comparison."""
        groups = list(self._snapshot().groups)
        if groups:
            at = groups.index(self.group_id) if self.group_id in groups else 0
            self.group_id = groups[(at + 1) % len(groups)]

    @property
    def now(self) -> datetime:
        """The moment looked at: that of the wall, of the run that is played back, or the one that is held."""
        if self._held is not None:
            return self._held
        return self.feed.now() if isinstance(self.feed, Playback) else self.clock()

    def pause(self) -> None:
        """Hold everything still, or let it go on; what comes meanwhile is read afterwards."""
        self._held = None if self._held is not None else self.now
        if isinstance(self.feed, Playback):
            self.feed.pause(self._held is not None)

    def view(self) -> View:
        """Return what there is to see now."""
        snapshot = self._snapshot()
        groups = snapshot.groups
        group = next((g for g in groups.values() if g.group_id == self.group_id), next(iter(groups.values()), None))
        emitted, came = (None, None) if group is None else self._newest[group.group_id]
        of_all = self._verdict(snapshot)
        ahead = None if emitted is None or came is None or emitted - came <= _SKEW else (emitted - came).total_seconds()
        return View(
            source=self.source,
            now=self.now,
            heard=emitted if ahead is None else came,
            snapshot=snapshot,
            group=group,
            log=tuple(self.log.newest_first()),
            filter=self.log.chosen,
            order=self.order,
            invalid=self.invalid,
            rejected=self.rejected,
            torn=self.torn,
            problem=self.problem or (None if ahead is None else f"the run's clock is ahead by {age(round(ahead))}"),
            info=self.info,
            ended=self.ended,
            paused=self._held is not None,
            speed=self.feed.speed if isinstance(self.feed, Playback) else None,
            caught_up=not isinstance(self.feed, Playback) or self.feed.caught_up,
            verdict=of_all.of(None if group is None else group.group_id),
            of_all=of_all,
            courses=self.courses,
            reading=self.reading,
        )

    def _verdict(self, snapshot: RunSnapshot) -> Verdict:
        now = None if isinstance(self.feed, Playback) or self.reading is not None else self.now
        return assess(snapshot, self.info, now=now, invalid=self.invalid, rejected=self.rejected)
