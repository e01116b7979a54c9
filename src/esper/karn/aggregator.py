"""Events in, snapshot out: folds telemetry into what a view shows.

The order of events is the order in which they are processed; nothing is sorted and nothing de-duplicated. What is
unusual has an outcome all the same:

- *An environment, slot or group not heard of before* begins to exist with its first event.
- *An event before its TRAINING_STARTED*: kept; the start joins it.
- *TRAINING_STARTED of another rank* joins the run when ``episode_id``, ``world_size`` and ``start_episode`` agree and
  the rank has not started yet.
- *Any other TRAINING_STARTED with ``start_episode`` 0* is a second run in the log: the group starts afresh and counts
  the earlier run.
- *Any other with ``start_episode`` above 0* is a resume: whatever was emitted once that many episodes were complete is
  superseded, then the run goes on. Where no batch reported exactly that many, or too long ago, everything after the
  last known batch before it is superseded and the totals begin anew; ``counted_from`` says so.
- *A seed event* belongs to the newest seed of its slot that carries its ``seed_id``; one without ``seed_id``, to the
  newest seed of the slot. When there is none, it begins a seed of which the rest is None until an event says it.
- *A second germination, a second leave from DORMANT or a second end* begins another seed, whatever its ``seed_id``.
- *A germination after the end of its seed* begins another one too: nothing distinguishes it from a re-used ``seed_id``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, replace
from threading import Lock
from types import MappingProxyType
from typing import Generic, TypeAlias, TypeVar, assert_never

from esper.karn.snapshot import (
    Entry,
    EntryHistory,
    EnvSnapshot,
    EventHistory,
    GroupSnapshot,
    LifecycleTotals,
    RunSnapshot,
    SeedOutcome,
    SeedRecord,
    SlotSnapshot,
)
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import (
    EVENT_TYPES,
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
    TelemetryPayload,
    TrainingStartedPayload,
)

__all__ = [
    "ENV_HISTORY",
    "LOG_EVENTS",
    "RESUME_REACH",
    "RUN_HISTORY",
    "SEEDS_KEPT",
    "STAGES_KEPT",
    "RunSnapshot",
    "TelemetryAggregator",
]

LOG_EVENTS = 2000
ENV_HISTORY = 240
"""Epochs and steps kept of each environment."""
_ENV_NEWEST = 8
"""Where only the newest is shown, a few are kept: a resume may take some back."""
RUN_HISTORY = 2000
"""Updates, batches and analytics kept."""
SEEDS_KEPT = 16
STAGES_KEPT = 32
RESUME_REACH = 256
"""Batches that a resume can reach back with its totals."""

P = TypeVar("P", bound=TelemetryPayload)
_SeedEntry: TypeAlias = Entry[SeedGerminatedPayload] | Entry[SeedStageChangedPayload] | SeedOutcome


class TelemetryAggregator:
    """Folds events into a `RunSnapshot`, at a cost an event that depends on neither environments nor run length.

    One thread may call `snapshot` while another calls `process`.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._groups = _Groups()
        self._log = deque[TelemetryEvent](maxlen=LOG_EVENTS)
        self._counts = dict.fromkeys(EVENT_TYPES, 0)

    def process(self, event: TelemetryEvent) -> None:  # noqa: C901 - one branch a payload, and there are eleven
        """Fold one event in."""
        data = event.data
        with self._lock:
            self._counts[data.__class__] += 1
            self._log.append(event)
            group = self._groups[event.group_id]
            group.events += 1
            if isinstance(data, RewardComputedPayload):
                group.actions[data.action_name] += 1
                group.envs[data.env_id].rewards.append(event, group.episodes)
            elif isinstance(data, EpochCompletedPayload):
                group.envs[data.env_id].epochs.append(event, group.episodes)
            elif isinstance(data, CounterfactualMatrixPayload):
                group.envs[data.env_id].counterfactuals.append(Entry(data, event, group.episodes))
            elif isinstance(data, AnalyticsSnapshotPayload):
                group.add_analytics(Entry(data, event, group.episodes))
            elif isinstance(data, SeedStageChangedPayload):
                group.envs[data.env_id].add_stage(Entry(data, event, group.episodes))
            elif isinstance(data, SeedGerminatedPayload):
                group.add_germination(Entry(data, event, group.episodes))
            elif isinstance(data, SeedFossilizedPayload):
                group.add_fossilization(Entry(data, event, group.episodes))
            elif isinstance(data, SeedPrunedPayload):
                group.add_prune(Entry(data, event, group.episodes))
            elif isinstance(data, PPOUpdatePayload):
                group.ppo.append(event, group.episodes)
            elif isinstance(data, BatchEpochCompletedPayload):
                group.add_batch(Entry(data, event, group.episodes))
            elif isinstance(data, TrainingStartedPayload):
                self._groups[event.group_id] = group.add_start(Entry(data, event, data.start_episode))
            else:
                assert_never(data)

    def snapshot(self) -> RunSnapshot:
        """Return what the events so far amount to; later events do not change it."""
        with self._lock:
            return RunSnapshot(
                groups=MappingProxyType({group_id: group.freeze() for group_id, group in self._groups.items()}),
                log=EventHistory(list(self._log), 0, len(self._log)),
                events=MappingProxyType(
                    {EVENT_TYPES[payload]: count for payload, count in self._counts.items() if count}
                ),
            )


class _History(Generic[P]):
    """The newest events that carry one kind of payload.

    The oldest goes when the newest comes, so that as many objects die as are made: the garbage collector counts the
    difference, and at a thousand environments its walks through all that is kept would cost more than all else. Once
    a view shares the lists, they are only appended to, and left to it when they are twice as long as they need be.
    """

    __slots__ = ("bound", "episodes", "events", "shared")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.events: list[TelemetryEvent] = []
        self.episodes: list[int] = []
        self.shared = False

    def append(self, event: TelemetryEvent, episodes: int) -> None:
        if len(self.events) >= self.bound:
            if not self.shared:
                del self.events[0], self.episodes[0]
            elif len(self.events) == 2 * self.bound:
                self._keep(slice(1 - self.bound, None))
        self.events.append(event)
        self.episodes.append(episodes)

    def _keep(self, part: slice) -> None:
        self.events, self.episodes, self.shared = self.events[part], self.episodes[part], False

    def view(self) -> EntryHistory[P]:
        self.shared = True
        stop = len(self.events)
        return EntryHistory(self.events, self.episodes, stop - self.bound if stop > self.bound else 0, stop)

    def supersede(self, episodes: int) -> None:
        """Forget the events about the episodes from this one on. What had no room any more does not come back."""
        start = max(len(self.events) - self.bound, 0)
        self._keep(slice(start, bisect_left(self.episodes, episodes)))  # they only ever grow


class _Tally(dict[str, int]):
    def __missing__(self, name: str) -> int:
        return 0


class _Lifecycle(dict[str | None, LifecycleTotals]):
    def __missing__(self, blueprint_id: str | None) -> LifecycleTotals:
        return LifecycleTotals()


class _Groups(dict[str, "_Group"]):
    def __missing__(self, group_id: str) -> _Group:
        self[group_id] = group = _Group(group_id)
        return group


class _Envs(dict[int, "_Env"]):
    def __missing__(self, env_id: int) -> _Env:
        self[env_id] = env = _Env(env_id)
        return env


class _Env:
    """One environment while it grows."""

    def __init__(self, env_id: int) -> None:
        self.env_id = env_id
        self.epochs = _History[EpochCompletedPayload](ENV_HISTORY)
        self.rewards = _History[RewardComputedPayload](ENV_HISTORY)
        self.last_actions = deque[Entry[AnalyticsSnapshotPayload]](maxlen=_ENV_NEWEST)
        self.counterfactuals = deque[Entry[CounterfactualMatrixPayload]](maxlen=_ENV_NEWEST)
        self.slots: MappingProxyType[str, SlotSnapshot] = MappingProxyType({})

    def freeze(self) -> EnvSnapshot:
        return EnvSnapshot(
            self.env_id,
            self.epochs.view(),
            self.rewards.view(),
            self.last_actions[-1] if self.last_actions else None,
            self.counterfactuals[-1] if self.counterfactuals else None,
            self.slots,
        )

    def add_germination(self, entry: Entry[SeedGerminatedPayload]) -> None:
        seeds, at = self._find(entry)
        if at is None or seeds[at].germinated is not None or seeds[at].outcome is not None:
            self._put(entry, seeds, None, SeedRecord(entry.event.seed_id, entry))
        else:
            self._put(entry, seeds, at, SeedRecord(seeds[at].seed_id, entry, seeds[at].stages))

    def add_stage(self, entry: Entry[SeedStageChangedPayload]) -> None:
        seeds, at = self._find(entry)
        if at is not None and entry.data.from_stage == SeedStage.DORMANT.name and seeds[at].stages:
            at = None  # a seed leaves DORMANT but once: this is another, whose germination is still to come
        seed = SeedRecord(entry.event.seed_id) if at is None else seeds[at]
        stages = (*seed.stages[1 - STAGES_KEPT :], entry)
        self._put(entry, seeds, at, SeedRecord(seed.seed_id, seed.germinated, stages, seed.outcome))

    def add_outcome(self, entry: SeedOutcome) -> SeedRecord:
        seeds, at = self._find(entry)
        if at is not None and seeds[at].outcome is not None:
            at = None  # a seed ends but once: this is the end of another, of which there is no other event
        seed = SeedRecord(entry.event.seed_id) if at is None else seeds[at]
        ended = SeedRecord(seed.seed_id, seed.germinated, seed.stages, entry)
        self._put(entry, seeds, at, ended)
        return ended

    def supersede(self, episodes: int) -> None:
        self.epochs.supersede(episodes)
        self.rewards.supersede(episodes)
        for newest in (self.last_actions, self.counterfactuals):
            while newest and newest[-1].episodes >= episodes:
                newest.pop()
        slots = {}
        for slot in self.slots.values():
            seeds = tuple(seed for seed in (_before(episodes, seed) for seed in slot.seeds) if seed is not None)
            if seeds:
                slots[slot.slot_id] = SlotSnapshot(slot.slot_id, seeds)
        self.slots = MappingProxyType(slots)

    def _find(self, entry: _SeedEntry) -> tuple[tuple[SeedRecord, ...], int | None]:
        """Return the seeds of the slot that an event is about, and the index of the one it means, if there is one."""
        slot_id, seed_id = entry.data.slot_id, entry.event.seed_id
        seeds = self.slots[slot_id].seeds if slot_id in self.slots else ()
        at = len(seeds) - 1
        while at >= 0 and seed_id is not None and seeds[at].seed_id != seed_id:
            at -= 1
        return seeds, at if at >= 0 else None

    def _put(self, entry: _SeedEntry, seeds: tuple[SeedRecord, ...], at: int | None, seed: SeedRecord) -> None:
        slot_id = entry.data.slot_id
        seeds = (*seeds[1 - SEEDS_KEPT :], seed) if at is None else (*seeds[:at], seed, *seeds[at + 1 :])
        self.slots = MappingProxyType({**self.slots, slot_id: SlotSnapshot(slot_id, seeds)})


def _before(episodes: int, seed: SeedRecord) -> SeedRecord | None:
    """Return what is known of a seed from before these episodes; None when nothing is."""
    germinated = seed.germinated if seed.germinated is not None and seed.germinated.episodes < episodes else None
    stages = tuple(entry for entry in seed.stages if entry.episodes < episodes)
    outcome = seed.outcome if seed.outcome is not None and seed.outcome.episodes < episodes else None
    if germinated is None and outcome is None and not stages:
        return None
    return SeedRecord(seed.seed_id, germinated, stages, outcome)


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """What the totals were when a batch was complete."""

    episodes: int
    events: int
    actions: dict[str, int]
    lifecycle: dict[str | None, LifecycleTotals]


class _Group:
    """One arm of an A/B comparison while it grows."""

    def __init__(self, group_id: str, *, earlier_runs: int = 0) -> None:
        self.group_id = group_id
        self.earlier_runs = earlier_runs
        self.ranks: dict[int, Entry[TrainingStartedPayload]] = {}
        self.envs = _Envs()
        self.ppo = _History[PPOUpdatePayload](RUN_HISTORY)
        self.batches = _History[BatchEpochCompletedPayload](RUN_HISTORY)
        self.distributions = _History[AnalyticsSnapshotPayload](RUN_HISTORY)
        self.analytics = _History[AnalyticsSnapshotPayload](RUN_HISTORY)
        self.events = self.resumes = self.superseded = 0
        self.episodes: int
        self.counted_from: int
        self.actions: _Tally
        self.lifecycle: _Lifecycle
        self.checkpoints: deque[_Checkpoint]
        self._count_from(0)

    def freeze(self) -> GroupSnapshot:
        return GroupSnapshot(
            group_id=self.group_id,
            ranks=MappingProxyType(dict(sorted(self.ranks.items()))),
            envs=MappingProxyType({env_id: env.freeze() for env_id, env in sorted(self.envs.items())}),
            ppo=self.ppo.view(),
            batches=self.batches.view(),
            action_distributions=self.distributions.view(),
            analytics=self.analytics.view(),
            actions=MappingProxyType(dict(self.actions)),
            lifecycle=MappingProxyType(dict(self.lifecycle)),
            counted_from=self.counted_from,
            resumes=self.resumes,
            superseded=self.superseded,
            earlier_runs=self.earlier_runs,
        )

    def add_analytics(self, entry: Entry[AnalyticsSnapshotPayload]) -> None:
        data = entry.data
        if data.kind == "last_action" and data.env_id is not None:
            self.envs[data.env_id].last_actions.append(entry)
        elif data.kind == "action_distribution":
            self.distributions.append(entry.event, entry.episodes)
        else:
            self.analytics.append(entry.event, entry.episodes)

    def add_germination(self, entry: Entry[SeedGerminatedPayload]) -> None:
        self.envs[entry.data.env_id].add_germination(entry)
        totals = self.lifecycle[entry.data.blueprint_id]
        self.lifecycle[entry.data.blueprint_id] = replace(totals, germinated=totals.germinated + 1)

    def add_fossilization(self, entry: Entry[SeedFossilizedPayload]) -> None:
        self.envs[entry.data.env_id].add_outcome(entry)
        totals = self.lifecycle[entry.data.blueprint_id]
        self.lifecycle[entry.data.blueprint_id] = replace(totals, fossilized=totals.fossilized + 1)

    def add_prune(self, entry: Entry[SeedPrunedPayload]) -> None:
        seed = self.envs[entry.data.env_id].add_outcome(entry)
        blueprint_id = seed.blueprint_id if entry.data.blueprint_id is None else entry.data.blueprint_id
        totals = self.lifecycle[blueprint_id]
        if entry.data.auto_pruned if "auto_pruned" in entry.data.supplied else entry.data.reason != "policy":
            totals = replace(totals, pruned_by_rule=totals.pruned_by_rule + 1)
        else:
            totals = replace(totals, pruned_by_policy=totals.pruned_by_policy + 1)
        self.lifecycle[blueprint_id] = totals

    def add_batch(self, entry: Entry[BatchEpochCompletedPayload]) -> None:
        self.batches.append(entry.event, entry.episodes)
        if entry.data.episodes_completed > self.episodes:
            self.episodes = entry.data.episodes_completed
            self.checkpoints.append(self._checkpoint())

    def add_start(self, entry: Entry[TrainingStartedPayload]) -> _Group:
        """Add a start and return the group that goes on: itself, or a fresh one for a second run."""
        data = entry.data
        group = self
        if not self.ranks and not self.batches.events:
            if data.start_episode > 0:
                self._count_from(data.start_episode)
        elif not self._is_of_this_run(data):
            if data.start_episode == 0:
                group = _Group(self.group_id, earlier_runs=self.earlier_runs + 1)
            else:
                self._resume(data.start_episode)
        group.ranks[data.rank] = entry
        return group

    def _is_of_this_run(self, data: TrainingStartedPayload) -> bool:
        return data.rank not in self.ranks and any(
            (data.episode_id, data.world_size, data.start_episode)
            == (entry.data.episode_id, entry.data.world_size, entry.data.start_episode)
            for entry in self.ranks.values()
        )

    def _resume(self, start_episode: int) -> None:
        while self.checkpoints and self.checkpoints[-1].episodes > start_episode:
            self.checkpoints.pop()
        kept = self.checkpoints[-1] if self.checkpoints else _Checkpoint(start_episode, 0, {}, {})
        for history in (self.ppo, self.batches, self.distributions, self.analytics):
            history.supersede(kept.episodes)
        for env in self.envs.values():
            env.supersede(kept.episodes)
        self.ranks = {}
        self.resumes += 1
        self.superseded += self.events - 1 - kept.events  # but for the start itself
        self.events = kept.events + 1
        if self.checkpoints and kept.episodes == start_episode:
            self.episodes = start_episode
            self.actions = _Tally(kept.actions)
            self.lifecycle = _Lifecycle(kept.lifecycle)
        else:
            self._count_from(start_episode)

    def _count_from(self, episodes: int) -> None:
        """Begin the totals here: what led up to these episodes is not, or no longer, known."""
        self.episodes = self.counted_from = episodes
        self.actions = _Tally()
        self.lifecycle = _Lifecycle()
        self.checkpoints = deque([self._checkpoint()], RESUME_REACH)

    def _checkpoint(self) -> _Checkpoint:
        return _Checkpoint(self.episodes, self.events, dict(self.actions), dict(self.lifecycle))
