"""Events in, snapshot out: folds telemetry into what a view shows.

Events are taken in the order in which they come; nothing is sorted and nothing de-duplicated. `esper.leyline.position`
says where one stands and what a resume takes back, `esper.karn.seeds` which seed it belongs to. Apart from that:

- *An environment, slot or group not heard of before* begins to exist with the first event about it.
- *Events before their TRAINING_STARTED* are kept; the start joins them.
- *A second run in the log* (a start with ``start_episode`` 0 that is no other rank's): the group starts afresh, counts
  the earlier run, and ignores what still comes of it.
- *A resume* takes back what earlier attempts emitted about later episodes. Where it begins further back than is
  remembered, or the log does not hold what came before, the totals begin anew; ``counted_from`` says so.
- *More groups, environments, slots or names than anybody can look at* are counted and left out.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from types import MappingProxyType
from typing import assert_never

from esper.karn.bounds import LIVE, Bounds, FullError, Rooms
from esper.karn.env_state import EnvState
from esper.karn.health_fold import HealthFold
from esper.karn.history_writer import HistoryWriter
from esper.karn.snapshot import Entry, EnvSnapshot, EventHistory, GroupSnapshot, LifecycleTotals, RunSnapshot
from esper.karn.totals import ENDINGS, EpisodeCounts, Totals
from esper.karn.views import Views
from esper.leyline.limits import Limits
from esper.leyline.position import Position, Positions, Shard
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
    TrainingStartedPayload,
)

__all__ = ["RunSnapshot", "TelemetryAggregator"]


class _SupersededError(Exception):
    """A resume has taken back what an event is about, or it is of an earlier run."""


class TelemetryAggregator:
    """Folds events into a `RunSnapshot`, at a cost an event that depends on neither environments nor run length.

    One thread may call `snapshot` while another calls `process`.

    Args:
        bounds: how much is kept: `LIVE` or `WHOLE_RUN`.
        limits: what the rules of health go by; fixed when folding starts. None for the convention's.
    """

    def __init__(self, bounds: Bounds = LIVE, limits: Limits | None = None) -> None:
        self._lock = Lock()
        self._bounds = bounds
        self._limits = Limits() if limits is None else limits
        self._rooms = Rooms()
        self._groups: dict[str, _Group] = {}
        self._newest: _Group | None = None
        """The group that the newest event is of."""
        self._log = deque[TelemetryEvent](maxlen=bounds.log)
        self._counts = dict.fromkeys(EVENT_TYPES, 0)
        self._omitted = 0

    def process(self, event: TelemetryEvent, shard: Shard = None) -> Position | None:
        """Fold one event in.

        Args:
            event: the next of its shard.
            shard: which of several logs of the run it comes from; None when there is one, as in a live run.

        Returns:
            Where it stands in the run; None when it was left out: a resume had superseded it, it is of an earlier run,
            or there is no room for what it names.
        """
        with self._lock:
            self._counts[type(event.data)] += 1
            self._log.append(event)
            try:
                group = self._newest
                if group is None or group.group_id != event.group_id:
                    group = self._newest = self._group(event.group_id)
                return group.process(event, shard)
            except _SupersededError:
                return None
            except FullError:
                self._omitted += 1
                return None

    def _group(self, group_id: str) -> _Group:
        if group_id not in self._groups:
            self._rooms.groups.take()
            self._groups[group_id] = _Group(group_id, self._bounds, self._rooms, self._limits)
        return self._groups[group_id]

    def settled(self, group_id: str, position: Position) -> Position | None:
        """Return what is known by now of a place; None when a resume or another run has taken it back.

        Args:
            group_id: a group of which an event was folded in.
            position: as `process` returned it, or a snapshot holds it.
        """
        with self._lock:
            positions = self._groups[group_id].positions
            stands = position.run == positions.run and not positions.is_superseded(position)
            return positions.settled(position) if stands else None

    def snapshot(self) -> RunSnapshot:
        """Return what the events so far amount to; later events do not change it."""
        with self._lock:
            return RunSnapshot(
                groups=MappingProxyType({group_id: group.freeze() for group_id, group in self._groups.items()}),
                log=EventHistory(list(self._log), 0, len(self._log)),
                omitted=self._omitted,
                events=MappingProxyType(
                    {EVENT_TYPES[payload]: count for payload, count in self._counts.items() if count}
                ),
            )


class _Group:
    """One arm of an A/B comparison while it grows."""

    def __init__(self, group_id: str, bounds: Bounds, rooms: Rooms, limits: Limits) -> None:
        self.group_id = group_id
        self.limits = limits
        self.bounds = bounds
        self.rooms = rooms
        self.positions = Positions()
        self.run = self.resume = self.superseded = 0
        self.totals = Totals(bounds.episodes, rooms.names)
        self.envs = _no_envs(bounds, rooms)
        self._begin_run(0)

    def _begin_run(self, run: int) -> None:
        self.rooms.envs.left += len(self.envs.all)
        self.rooms.slots.left += sum(len(env.slots.all) for env in self.envs.all.values())
        self.totals.clear()
        self.run, self.resume, self.superseded = run, 0, 0
        self.ranks: dict[int, Entry[TrainingStartedPayload]] = {}
        self.envs = _no_envs(self.bounds, self.rooms)
        self.seen_resume = 0
        """Of the last look."""
        kept = self.bounds.run_history
        self.ppo = HistoryWriter[PPOUpdatePayload](kept)
        self.batches = HistoryWriter[BatchEpochCompletedPayload](kept)
        self.distributions = HistoryWriter[AnalyticsSnapshotPayload](kept)
        self.analytics = HistoryWriter[AnalyticsSnapshotPayload](kept)
        self.health = HealthFold(self.limits, kept)

    def freeze(self) -> GroupSnapshot:
        if self.seen_resume != self.resume:
            self.seen_resume = self.resume
            for env_id in self.envs.all:
                self._up_to_date(self.envs.change(env_id))
        return GroupSnapshot(
            group_id=self.group_id,
            ranks=MappingProxyType(dict(sorted(self.ranks.items()))),
            envs=self.envs.view(),
            ppo=self.ppo.view(),
            batches=self.batches.view(),
            action_distributions=self.distributions.view(),
            analytics=self.analytics.view(),
            actions=MappingProxyType(dict(self.totals.actions)),
            lifecycle=MappingProxyType({name: LifecycleTotals(*of) for name, of in self.totals.lifecycle.items()}),
            counted_from=self.totals.counted_from,
            resumes=self.resume,
            superseded=self.superseded,
            earlier_runs=self.run,
            health=self.health.freeze(),
        )

    def process(self, event: TelemetryEvent, shard: Shard) -> Position:  # noqa: C901, PLR0912 - eleven payloads
        """Fold one event in; return where it stands.

        Raises:
            _SupersededError: it was taken back.
        """
        data = event.data
        position = self.positions.locate(event, shard)
        if type(data) is RewardComputedPayload:
            env = self._env(data.env_id, position)
            self.totals.add_action(data.action_name, env.counts)
            env.rewards.append(event, position)
            if (reward := data.total_reward) - reward != 0:
                self.health.mark(self.health.rewards, Entry(data, event, position))
        elif type(data) is EpochCompletedPayload:
            self._env(data.env_id, position).epochs.append(event, position)
            if (loss := data.val_loss) - loss != 0:
                self.health.mark(self.health.hosts, Entry(data, event, position))
        elif type(data) is CounterfactualMatrixPayload:
            self._env(data.env_id, position).counterfactuals.append(event, position)
        elif type(data) is SeedStageChangedPayload:
            self._env(data.env_id, position).slot(data.slot_id).change_stage(Entry(data, event, position))
        elif type(data) is SeedGerminatedPayload:
            env = self._env(data.env_id, position)
            env.slot(data.slot_id).germinate(Entry(data, event, position))
            self.totals.add_seed(data.blueprint_id, 0, env.counts)
        elif type(data) is SeedFossilizedPayload or type(data) is SeedPrunedPayload:
            env = self._env(data.env_id, position)
            seed = env.slot(data.slot_id).end(Entry(data, event, position))
            self.totals.add_seed(seed.blueprint_id, ENDINGS[seed.ending], env.counts)
        elif type(data) is AnalyticsSnapshotPayload:
            self._add_analytics(Entry(data, event, position))
        elif type(data) is PPOUpdatePayload:
            self._go_to(position)
            self.ppo.append(event, position)
            self.health.add_update(event, data, position.batch)
        elif type(data) is BatchEpochCompletedPayload:
            self._go_to(position)
            self.batches.append(event, position)
            self.health.add_batch(event, data)
        elif type(data) is TrainingStartedPayload:
            self._go_to(position)
            self._add_start(Entry(data, event, position))
        else:
            assert_never(data)
        return position

    def _env(self, env_id: int, position: Position) -> EnvState:
        """Return an environment, that an event which stands there may change it.

        What has changed since the last look and the last resume is up to date: an event at the same position is asked
        nothing more.

        Raises:
            _SupersededError: what stands there has been taken back.
        """
        changed = self.envs.changed
        if env_id in changed:
            env = changed[env_id]
            if env.position is position:
                if env.counts is not None:
                    env.counts.events += 1
                return env
        counts = self._go_to(position)
        env = self.envs.change(env_id)
        self._up_to_date(env)
        env.position, env.counts = position, counts
        return env

    def _up_to_date(self, env: EnvState) -> None:
        """Take back, if that has not been done yet, what resumes since have superseded."""
        if env.resume != self.resume:
            episode = self.positions.superseded_from(env.resume)
            env.resume = self.resume
            if episode is not None:
                env.take_back(episode)

    def _go_to(self, position: Position) -> EpisodeCounts | None:
        """Go where an event stands, count it there, and return the counts.

        Raises:
            _SupersededError: that has been taken back.
        """
        if position.run != self.run:
            if position.run < self.run:
                raise _SupersededError
            self._begin_run(position.run)
        if position.resume > self.resume:
            self._resume(position.resume)
        elif position.resume < self.resume and self.positions.is_superseded(position):
            self.superseded += 1
            raise _SupersededError
        counts = self.totals.at(position)
        if counts is not None:
            counts.events += 1
        return counts

    def _resume(self, resume: int) -> None:
        """Take back what a resume supersedes; of an environment, when it changes next or is looked at."""
        self.resume = resume
        self.health.resume()
        self.ranks = {}
        self.envs.changed = {}
        episode = self.positions.superseded_from(resume - 1)
        if episode is not None:
            for history in (self.ppo, self.batches, self.distributions, self.analytics):
                history.take_back(episode)
            self.health.take_back(self.ppo.view(), self.batches.view(), episode)
            self.superseded += self.totals.take_back(episode)

    def _add_start(self, entry: Entry[TrainingStartedPayload]) -> None:
        if not self.ranks and not self.resume and entry.data.start_episode > 0:
            self.totals.begin(entry.data.start_episode)
        if entry.position.resume == self.resume:
            self.ranks[entry.data.rank] = entry
            self.health.start(entry.data)

    def _add_analytics(self, entry: Entry[AnalyticsSnapshotPayload]) -> None:
        data, event, position = entry
        if data.kind == "last_action" and data.env_id is not None:
            self._env(data.env_id, position).last_actions.append(event, position)
            return
        self._go_to(position)
        if data.kind == "action_distribution":
            self.distributions.append(event, position)
        else:
            self.analytics.append(event, position)
            if data.kind == "training_failed" and position.resume == self.resume:
                self.health.fail(entry)


def _no_envs(bounds: Bounds, rooms: Rooms) -> Views[int, EnvState, EnvSnapshot]:
    return Views(rooms.envs, lambda env_id: EnvState(env_id, bounds, rooms.slots), EnvState.view, sorted)
