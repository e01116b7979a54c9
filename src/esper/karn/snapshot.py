"""What a log amounts to, at one moment: frozen, and made of the events themselves.

No value is copied into a second schema. Whatever an event says stands in the snapshot under the contract's own
name: ``snapshot.groups["default"].envs[0].reward.data.total_reward``. What is added is counted, never measured.
Nothing here reads a clock: how old an event is, is for the view to say.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, overload

from esper.karn.tally import HealthSnapshot
from esper.leyline.position import Position
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryEventType,
    TelemetryPayload,
    TrainingStartedPayload,
)

__all__ = [
    "Counterfactual",
    "Ending",
    "Entry",
    "EntryHistory",
    "EnvSnapshot",
    "Epochs",
    "EventHistory",
    "GroupSnapshot",
    "History",
    "LastAction",
    "LifecycleTotals",
    "Rewards",
    "RunSnapshot",
    "SeedEntry",
    "SeedOutcome",
    "SeedRecord",
    "SlotSnapshot",
    "Slots",
    "new_record",
]

new_record: Final = tuple.__new__
"""Makes a named tuple of its fields, in half of its constructor's time: a look makes hundreds of them."""
_new_object: Final = object.__new__
T_co = TypeVar("T_co", covariant=True)
P_co = TypeVar("P_co", bound=TelemetryPayload, covariant=True)


class Entry(NamedTuple, Generic[P_co]):
    """A payload, the event that carried it, and when in the run that was."""

    data: P_co
    """What happened; the same object as ``event.data``, with its class known."""
    event: TelemetryEvent
    """The envelope: timestamp, epoch, seed_id, message, severity."""
    position: Position
    """Where in the run that was."""

    @property
    def episodes(self) -> int | None:
        """Episodes that had been completed before the batch that this is about; None when unknown."""
        return self.position.episodes


class History(Sequence[T_co]):
    """The newest items of something that grows, oldest first."""

    __slots__ = ("_events", "_start", "_stop")

    def __init__(self, events: list[TelemetryEvent], start: int, stop: int) -> None:
        self._events = events
        self._start = start
        self._stop = stop

    @abstractmethod
    def _item(self, at: int) -> T_co: ...

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T_co, ...]: ...
    def __getitem__(self, index: int | slice) -> T_co | tuple[T_co, ...]:
        at = range(self._start, self._stop)[index]
        return self._item(at) if isinstance(at, int) else tuple(map(self._item, at))

    def __iter__(self) -> Iterator[T_co]:
        return map(self._item, range(self._start, self._stop))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # what it holds has no hash either

    def __repr__(self) -> str:
        return f"History({list(self)!r})"

    @property
    def newest(self) -> T_co | None:
        """The last item; None before there is one."""
        return self._item(self._stop - 1) if self._stop > self._start else None


class EventHistory(History[TelemetryEvent]):
    """The newest events, whatever they carry."""

    __slots__ = ()

    def _item(self, at: int) -> TelemetryEvent:
        return self._events[at]


class EntryHistory(History[Entry[P_co]]):
    """The newest events that carry one kind of payload; a view that costs the same however long it is.

    Each `Entry` is made when it is looked at: one kept for every event would be one more object for the garbage
    collector to walk through, again and again. The lists are shared with their writer, who only ever appends to them,
    behind the end of this view.
    """

    __slots__ = ("_positions",)

    def __init__(self, events: list[TelemetryEvent], positions: list[Position], start: int, stop: int) -> None:
        self._events = events
        self._positions = positions
        self._start = start
        self._stop = stop

    @staticmethod
    def of(events: list[TelemetryEvent], positions: list[Position], start: int, stop: int) -> EntryHistory[P_co]:
        """Return what the constructor does, in half of its time."""
        made: EntryHistory[P_co] = _new_object(EntryHistory)
        made._events = events
        made._positions = positions
        made._start = start
        made._stop = stop
        return made

    def _item(self, at: int) -> Entry[P_co]:
        event = self._events[at]
        data: Any = event.data  # of the one kind, as its writer knows
        return Entry(data, event, self._positions[at])


SeedOutcome: TypeAlias = Entry[SeedFossilizedPayload | SeedPrunedPayload]
"""How a seed ended: narrow ``outcome.data`` with ``isinstance``."""
SeedEntry: TypeAlias = Entry[SeedGerminatedPayload] | Entry[SeedStageChangedPayload] | SeedOutcome
"""Any event of a seed."""


class Ending(Enum):
    """How a seed ended; the value is what views call it."""

    FOSSILIZED = "fossilized"
    PRUNED_BY_POLICY = "pruned by policy"
    PRUNED_BY_RULE = "pruned by rule"
    PRUNED = "pruned, cause unknown"
    """``auto_pruned`` was not supplied, and ``reason`` is not ``policy``."""
    OPEN = "no end yet"


class SeedRecord(NamedTuple):
    """The life of one seed, as far as events describe it."""

    seed_id: str | None
    """The identifier that the first of its events carries; None when that carries none."""
    position: Position
    """Where the first of its events stands."""
    germinated: Entry[SeedGerminatedPayload] | None = None
    """None when there are stages of a seed whose germination is missing (a log that begins in the middle)."""
    stages: tuple[Entry[SeedStageChangedPayload], ...] = ()
    """Its newest transitions, oldest first."""
    outcome: SeedOutcome | None = None
    """None while there is neither a fossilization nor a prune."""

    @property
    def entries(self) -> tuple[SeedEntry, ...]:
        """All of its events that are kept: germination, transitions, end."""
        first = () if self.germinated is None else (self.germinated,)
        last = () if self.outcome is None else (self.outcome,)
        return (*first, *self.stages, *last)

    @property
    def ending(self) -> Ending:
        """How it ended.

        Whose a prune is, ``auto_pruned`` says. Where that was not supplied, it is the policy's when that is its
        ``reason``, and otherwise nobody knows.
        """
        if self.outcome is None:
            return Ending.OPEN
        data = self.outcome.data
        if isinstance(data, SeedFossilizedPayload):
            return Ending.FOSSILIZED
        if "auto_pruned" in data.supplied:
            return Ending.PRUNED_BY_RULE if data.auto_pruned else Ending.PRUNED_BY_POLICY
        return Ending.PRUNED_BY_POLICY if data.reason == "policy" else Ending.PRUNED

    @property
    def stage(self) -> Entry[SeedStageChangedPayload] | None:
        """The newest transition."""
        return self.stages[-1] if self.stages else None

    @property
    def blueprint_id(self) -> str | None:
        """The blueprint, from whichever event names it; None when none does."""
        if self.germinated is not None:
            return self.germinated.data.blueprint_id
        return None if self.outcome is None else self.outcome.data.blueprint_id


class SlotSnapshot(NamedTuple):
    """The seeds of one slot. Whether it is occupied just now, the newest epoch's ``seeds`` says."""

    slot_id: str
    seeds: tuple[SeedRecord, ...]
    """The newest seeds, oldest first; never empty."""

    @property
    def seed(self) -> SeedRecord:
        """The newest seed."""
        return self.seeds[-1]


Epochs: TypeAlias = History[Entry[EpochCompletedPayload]]
Rewards: TypeAlias = History[Entry[RewardComputedPayload]]
LastAction: TypeAlias = Entry[AnalyticsSnapshotPayload] | None
Counterfactual: TypeAlias = Entry[CounterfactualMatrixPayload] | None
Slots: TypeAlias = Mapping[str, SlotSnapshot]


class EnvSnapshot(NamedTuple):
    """One environment. What has not been emitted yet is None or empty."""

    env_id: int
    epochs: Epochs
    rewards: Rewards
    last_action: LastAction
    """The newest analytics snapshot of kind ``last_action``."""
    counterfactual: Counterfactual
    slots: Slots
    """Every slot that a seed event named, by slot id, in the order they were first named."""

    @property
    def epoch(self) -> Entry[EpochCompletedPayload] | None:
        """The newest host epoch."""
        return self.epochs.newest

    @property
    def reward(self) -> Entry[RewardComputedPayload] | None:
        """The newest step: the decision and its reward."""
        return self.rewards.newest


@dataclass(frozen=True, slots=True)
class LifecycleTotals:
    """What became of the seeds of one blueprint. Unit of all: seeds; 0 or more."""

    germinated: int = 0
    fossilized: int = 0
    pruned_by_policy: int = 0
    pruned_by_rule: int = 0
    pruned: int = 0
    """Pruned by nobody knows whom: see `SeedRecord.ending`."""


@dataclass(frozen=True, slots=True)
class GroupSnapshot:
    """One arm of an A/B comparison; most runs have a single one, named ``default``.

    Everything is about the newest run in the log. What an interrupted run emitted about episodes that its resume runs
    again is superseded, but for its histories' oldest items, which by then may have had to make room.
    """

    group_id: str
    ranks: Mapping[int, Entry[TrainingStartedPayload]]
    """The start of each process, by ascending rank; empty when only later events were seen."""
    envs: Mapping[int, EnvSnapshot]
    """Every environment that an event named, by ascending env_id."""
    ppo: History[Entry[PPOUpdatePayload]]
    batches: History[Entry[BatchEpochCompletedPayload]]
    action_distributions: History[Entry[AnalyticsSnapshotPayload]]
    """The analytics snapshots of kind ``action_distribution``."""
    analytics: History[Entry[AnalyticsSnapshotPayload]]
    """Analytics snapshots of any other kind, and those of kind ``last_action`` that name no environment."""
    actions: Mapping[str, int]
    """How often each op was carried out, counted over REWARD_COMPUTED. Unit: actions; 1 or more."""
    lifecycle: Mapping[str | None, LifecycleTotals]
    """By blueprint; None for prunes of seeds whose blueprint no event names."""
    counted_from: int
    """Episodes that had been completed where ``actions`` and ``lifecycle`` begin: above 0 for a resume whose past this
    log does not hold, or that reached too far back. Unit: episodes; 0 or more."""
    resumes: int
    """How often the run was resumed, within this log."""
    superseded: int
    """Events that a resume took back. Unit: events; 0 or more."""
    earlier_runs: int
    """Runs of this group in the log before the present one; nothing else here is about them."""
    health: HealthSnapshot
    """What the rules of health found: `esper.karn.assess` makes a verdict of it."""

    @property
    def started(self) -> Entry[TrainingStartedPayload] | None:
        """The start of the lowest rank."""
        return next(iter(self.ranks.values()), None)

    @property
    def update(self) -> Entry[PPOUpdatePayload] | None:
        """The newest PPO update."""
        return self.ppo.newest

    @property
    def batch(self) -> Entry[BatchEpochCompletedPayload] | None:
        """The newest batch, which has the progress: ``episodes_completed`` of ``total_episodes``."""
        return self.batches.newest

    @property
    def action_distribution(self) -> Entry[AnalyticsSnapshotPayload] | None:
        """The newest action distribution."""
        return self.action_distributions.newest


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """Everything that was emitted so far."""

    groups: Mapping[str, GroupSnapshot]
    """By group_id, in the order of their first events; empty before the first event."""
    log: History[TelemetryEvent]
    """The newest events of all groups, in the order they came."""
    omitted: int
    """Events of more groups, environments, slots or names than are kept, which nothing but ``events`` counts: a log
    that names them at random. Unit: events; 0 or more."""
    events: Mapping[TelemetryEventType, int]
    """How many events of each type came, all runs and groups counted and nothing taken back."""

    @property
    def n_events(self) -> int:
        """Events that came, of any type."""
        return sum(self.events.values())
