"""Where an event stands in its run: one answer for every reader of a log.

No clock is compared, and nothing follows from how the events of different environments interleave. What counts is

- *the order of one shard*: the log of one process, in which TRAINING_STARTED begins an attempt at the run and, on the
  rank that emits it, BATCH_EPOCH_COMPLETED ends a batch;
- *the order of one environment within its shard*: an epoch that starts over begins another episode.

`esper.leyline.shard` follows one shard. What a resume took back, `esper.leyline.attempts` says; what is not known to be
about a superseded episode stays.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TypeAlias

from esper.leyline.attempts import Attempts
from esper.leyline.payload import is_optional
from esper.leyline.shard import Position, ShardState
from esper.leyline.telemetry import (
    EVENT_TYPES,
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    TelemetryEvent,
    TrainingStartedPayload,
)

__all__ = ["Position", "Positions", "Shard", "env_of", "epoch_of"]

Shard: TypeAlias = int | None
"""Which log of a run an event comes from: that of a rank, by its number; None for the log of a process on its own, and
where nobody knows which came from where."""

_OF_ONE_ENV = frozenset(
    cls for cls in EVENT_TYPES if any(f.name == "env_id" and not is_optional(f) for f in fields(cls))
)


def epoch_of(event: TelemetryEvent) -> int | None:
    """Return the host epoch within the episode, the first being 1; None when the event has none."""
    data = event.data
    return data.inner_epoch if isinstance(data, EpochCompletedPayload) else event.epoch


def env_of(event: TelemetryEvent) -> int | None:
    """Return the environment that an event is about; None for what is global."""
    if isinstance(event.data, TrainingStartedPayload | BatchEpochCompletedPayload | PPOUpdatePayload):
        return None
    return event.data.env_id


class Positions:
    """Finds where the events of one group stand, one after the other."""

    def __init__(self) -> None:
        self._attempts = Attempts()
        self._newest_shard: Shard = None
        self._newest = ShardState()
        """The state of the shard that the newest event came from."""
        self._shards: dict[Shard, ShardState] = {None: self._newest}
        self._before_first: Position | None = None
        """Where stands what came before the first end of a batch, the start having been lost."""
        self._first = self._newest.present
        """That batch."""

    @property
    def run(self) -> int:
        """The newest run, the first being 0."""
        return self._attempts.run

    def locate(self, event: TelemetryEvent, shard: Shard = None) -> Position:
        """Return where the next event of a shard stands."""
        state = self._newest if shard == self._newest_shard else self._shard(shard)
        data = event.data
        if type(data) in _OF_ONE_ENV:
            return state.locate(data.env_id, event)  # type: ignore[union-attr, arg-type]
        if isinstance(data, PPOUpdatePayload):
            return state.of_update(data)
        if isinstance(data, BatchEpochCompletedPayload):
            return state.end_batch(data) if state.attempt.index >= 0 else self._end_without_start(state, data)
        if isinstance(data, TrainingStartedPayload):
            return self._start(data, state, shard)
        if (
            isinstance(data, AnalyticsSnapshotPayload)
            and data.env_id is not None
            and data.kind != "action_distribution"
        ):
            return state.locate(data.env_id, event)
        return state.present

    def _shard(self, shard: Shard) -> ShardState:
        if shard not in self._shards:
            self._shards[shard] = ShardState()
        self._newest_shard, self._newest = shard, self._shards[shard]
        return self._newest

    def superseded_from(self, resume: int, run: int | None = None) -> int | None:
        """Return from which episode on the resumes after one take back; None when none does.

        Args:
            resume: the one, 0 being the start.
            run: the run that is meant; None for the newest.
        """
        return self._attempts.superseded_from(resume, self.run if run is None else run)

    def is_superseded(self, position: Position) -> bool:
        """Whether a resume of its run has taken back what stands there; False where that is unknown."""
        episode = self.superseded_from(position.resume, position.run)
        return episode is not None and position.is_from(episode)

    def settled(self, position: Position) -> Position:
        """Return what is known of a place by now: of what came before the first end of a batch, that batch.

        Args:
            position: as `locate` returned it; another one that equals it is another place.
        """
        return self._first if position is self._before_first else position

    def _end_without_start(self, state: ShardState, data: BatchEpochCompletedPayload) -> Position:
        """Begin the run whose start was lost; a start that comes next begins another run, or resumes this one."""
        is_first = not self._attempts
        state.attempt = self._attempts.without_start()
        before = state.present
        position = state.end_batch(data)
        if is_first:
            self._before_first, self._first = before, state.before
        return position

    def _start(self, data: TrainingStartedPayload, state: ShardState, shard: Shard) -> Position:
        # where the shards of all ranks come as one, a start may be another rank's of any attempt
        attempt = self._attempts.of_start(data, None if shard is None else state.attempt)
        if attempt.index > state.attempt.index:
            alone = data.world_size <= 1
            rank = data.rank if alone or shard is not None else None
            state.begin(attempt, rank=rank, anchored=alone or (shard is not None and data.rank == 0))
        return Position(attempt.run, attempt.resume, data.rank, state.present.batch, data.start_episode)
