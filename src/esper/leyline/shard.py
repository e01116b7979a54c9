"""Where the events of one shard stand: the log of one process, in its own order.

Environments in lock-step (``n_envs`` and ``max_epochs`` are known, and batches have as many episodes as there are
environments) play one episode a batch. What comes after the end of its batch but goes on with its epochs came late and
belongs to that batch. An environment that skipped a batch is *unknown* until the next batch ends: what it did
meanwhile may be late or may have been lost. Others end episodes when they like, and go by the intervals between
batches; where their shard has no batches, their position is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from esper.leyline.attempts import Attempt
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
)

__all__ = ["Position", "ShardState"]

_MOST_ENVS: Final = 1 << 14
"""Environments of a shard that are followed; beyond, a log names environments at random, and positions are unknown."""
_SEED_EVENTS = (SeedGerminatedPayload, SeedStageChangedPayload, SeedFossilizedPayload, SeedPrunedPayload)


@dataclass(frozen=True, slots=True)
class Position:
    """Where events stand; all events of one environment and episode share one. The epoch is for `epoch_of` to say."""

    run: int
    """Runs of the group that the log holds before this one. Unit: runs; 0 or more."""
    resume: int
    """Resumes of the run before this. Unit: resumes; 0 or more."""
    rank: int | None
    """Process that emitted it; None when unknown. Unit: index; 0 or more."""
    batch: int | None
    """Batch, the first being 0; None when unknown. Unit: index; 0 or more."""
    episodes: int | None
    """Episodes that had been completed before the batch began, over all ranks; None when unknown.
    Unit: episodes; 0 or more."""
    episode: int | None = None
    """The episode it is about, over all ranks, the first being 0; of the end of a batch the last one of it. None when
    it is about no single episode, or that is unknown. Unit: index; 0 or more."""

    @property
    def about(self) -> int | None:
        """The latest episode that it is known to be about: the first of its batch, where it is about all of them."""
        return self.episodes if self.episode is None else self.episode

    def is_before(self, other: Position) -> bool:
        """Whether it is known to be about an earlier episode than another one."""
        return self.episode is not None and other.episode is not None and self.episode < other.episode

    def is_from(self, episode: int) -> bool:
        """Whether it is known to be about this episode or a later one."""
        about = self.about
        return about is not None and about >= episode


@dataclass(slots=True)
class _Env:
    """How far one environment is within an attempt."""

    position: Position
    batches: int
    """Ends of batches that the shard had seen when this episode was last in step with them."""
    done: int
    """Episodes that were completed, as far as the shard said, when this one began: those before its batch at most."""
    earliest: int
    """Episodes completed before the first batch that this episode can be of."""
    epoch: int = 0
    """The newest epoch of the episode; 0 before one."""
    validated: int = 0
    """The newest that an EPOCH_COMPLETED was about."""
    rewarded: int = 0
    """The newest that a REWARD_COMPUTED was about."""
    closed: int = 0
    """The newest of both."""
    free: bool = False
    """Whether it was seen to end episodes when it likes."""
    rewards: int = 0
    """Rewards of the episode that had no epoch."""
    timed: bool = False
    """Whether any event of the attempt has had an epoch."""
    assumed: bool = False
    """Whether the position is that of the present batch because nothing was seen of the environment before."""


class ShardState:
    """How far one shard is."""

    def __init__(self) -> None:
        self.begin(Attempt(-1, 0, 0, None), rank=None, anchored=True)

    def begin(self, attempt: Attempt, *, rank: int | None, anchored: bool) -> None:
        """Begin an attempt. Anchored are the environments whose order among the ends of batches is known."""
        self.attempt = attempt
        self.rank = rank
        self.anchored = anchored
        self.envs: dict[int, _Env] = {}
        self.batches = 0
        start = attempt.start
        self.width = 0 if start is None else start.n_envs
        self.max_epochs = 0 if start is None else start.max_epochs
        self.in_step = self.width > 0 and self.max_epochs > 0
        """Whether environments play one episode a batch."""
        self.falls_out = False
        """Whether one was seen that does not. It holds for all from the next end of a batch on, so that it does not
        matter how events of different environments interleave."""
        self.done = None if start is None else start.start_episode
        """Episodes completed, as far as this shard says."""
        self.furthest = attempt.start_episode
        """Episodes completed before the latest batch that an environment has begun."""
        self.present = self.at(self.done, 0 if self.done == 0 else self.batch_after(self.done))
        """Where what is global stands; and what goes by intervals."""
        self.before = self.present
        """The same for the batch before."""
        self.unknown = self.at(None, None)

    def at(self, episodes: int | None, batch: int | None, episode: int | None = None) -> Position:
        """Return a position in the present attempt."""
        return Position(self.attempt.run, self.attempt.resume, self.rank, batch, episodes, episode)

    def batch_after(self, episodes: int | None) -> int | None:
        """Return the batch that begins after so many episodes; None when that is unknown."""
        return -(-episodes // self.width) if self.in_step and episodes is not None else None

    def of_batch(self, episodes: int, env_id: int) -> Position:
        """Return where the episode of an environment is, in lock-step, in the batch after so many episodes."""
        episode = episodes + env_id if 0 <= env_id < self.width else None
        return self.at(episodes, self.batch_after(episodes), episode)

    # ── what is global ──────────────────────────────────────────────────────────────────────────────────────────

    def end_batch(self, data: BatchEpochCompletedPayload) -> Position:
        """Return where the end of a batch stands; what is global comes after it from here on."""
        completed, before = data.episodes_completed, self.done
        self.in_step = self.in_step and not self.falls_out
        first = completed - max(data.n_envs, 1)
        if before is not None and before < completed:
            first = max(first, before)
        position = self.at(first, data.batch_idx, completed - 1)
        if before is None or completed > before:
            if before is not None and self.in_step and not self._is_in_step(data, before):
                self.in_step = False
            self.done = completed
            self.before = self.at(first, data.batch_idx)
            self.present = self.at(completed, data.batch_idx + 1)
            self.batches += self.anchored
            if self.anchored and self.furthest > completed:
                self.in_step = False  # an environment was in the batch after next
        return position

    def _is_in_step(self, data: BatchEpochCompletedPayload, before: int) -> bool:
        """Whether a batch can be one of an episode of each environment, others before it having been lost."""
        lost = data.episodes_completed - data.n_envs - before
        return 0 < data.n_envs <= self.width and lost >= 0 and lost % self.width == 0

    def of_update(self, data: PPOUpdatePayload) -> Position:
        """Return the batch an update learnt from, whose end may have come before it."""
        if "batch" not in data.supplied or data.batch == self.present.batch:
            return self.present
        if data.batch == self.before.batch:
            return self.before
        if self.in_step:
            assert self.done is not None
            assert self.present.batch is not None
            episodes = self.done + (data.batch - self.present.batch) * self.width
            return self.at(max(episodes, 0), data.batch)
        return self.at(None, data.batch)

    # ── what is about one environment ───────────────────────────────────────────────────────────────────────────

    def locate(self, env_id: int, event: TelemetryEvent) -> Position:  # noqa: C901 - a call less an event
        """Return where the next event of an environment stands."""
        data = event.data
        if not self.in_step:
            return self.by_interval()
        if env_id in self.envs:
            env = self.envs[env_id]
            if env.free:
                return self.by_interval()
        elif len(self.envs) < _MOST_ENVS:
            env = self.envs[env_id] = self._first_episode(env_id)
        else:
            return self.unknown
        validates, pays = type(data) is EpochCompletedPayload, type(data) is RewardComputedPayload
        epoch = data.inner_epoch if validates else event.epoch  # type: ignore[union-attr]
        if epoch is None:
            return self._untimed(env_id, env, data)
        if epoch > self.max_epochs:  # episodes are longer than the start said
            env.free = self.falls_out = True
            return self.by_interval()
        seen = env.validated if validates else env.rewarded if pays else env.closed
        if epoch < env.epoch or (epoch == seen and self._begins(env, epoch, data)):
            env, position = self._start_over(env_id, env, epoch)
        else:
            if env.batches != self.batches:
                env = self._go_on(env_id, env, epoch)
            position = env.position
        env.epoch, env.timed = epoch, True
        if validates:
            env.validated = env.closed = epoch
        elif pays:
            env.rewarded = env.closed = epoch
        return position

    def by_interval(self) -> Position:
        """Return the position of whoever ends episodes when it likes: the batch between whose ends it was."""
        return self.present if self.anchored else self.unknown

    def _begins(self, env: _Env, epoch: int, data: object) -> bool:
        """Whether an event begins the next episode, because this epoch of the present one has had all of its kind.

        An epoch is validated and paid once; where an episode is one epoch, its seeds come before both.
        """
        if data.__class__ is EpochCompletedPayload:
            return True
        if data.__class__ is RewardComputedPayload:
            return env.batches != self.batches or epoch == self.max_epochs
        return self.max_epochs == 1 and isinstance(data, _SEED_EVENTS)

    def _first_episode(self, env_id: int) -> _Env:
        start = self.attempt.start_episode
        if not self.anchored or self.done == start:
            return self._episode(env_id, start, timed=False)
        assert self.done is not None
        env = self._episode(env_id, self.done, timed=False)
        env.assumed = True
        return env

    def _episode(self, env_id: int, earliest: int, *, timed: bool) -> _Env:
        """Begin an episode that is of no batch before ``earliest`` episodes were completed."""
        done = self.done
        assert done is not None
        position = self.unknown
        if not self.anchored or earliest >= done:
            position = self.of_batch(earliest, env_id)
            self.furthest = max(self.furthest, earliest)
        return _Env(position, self.batches, done, earliest, timed=timed)

    def _start_over(self, env_id: int, env: _Env, epoch: int) -> tuple[_Env, Position]:
        """Return the next episode of an environment, and where its first event stands."""
        episodes = env.position.episodes
        done = self.done
        assert done is not None
        if env.assumed and episodes == done:
            episodes = done - self.width  # it was late, since this one can be of no later batch
        elif episodes is None:  # late if no batch ended since it began; else it was of the batch that did
            episodes = env.earliest if env.done == done else env.done
        elif self.anchored and episodes == done and epoch <= 1 and env.timed and env.epoch < self.max_epochs:
            env.free = self.falls_out = True  # an episode shorter than the start said, and no batch ended with it
            return env, self.present
        env = self.envs[env_id] = self._episode(env_id, episodes + self.width, timed=True)
        return env, env.position

    def _go_on(self, env_id: int, env: _Env, epoch: int) -> _Env:
        """Return the episode of which an epoch is that came after the end of a batch and does not start over."""
        if not env.timed:
            self.envs[env_id] = self._first_episode(env_id)
            return self.envs[env_id]
        episodes = env.position.episodes
        assert self.done is not None
        if episodes is not None:
            if episodes >= self.done:
                env.batches = self.batches
            elif episodes + self.width < self.done or epoch > env.epoch + 1:  # late, or the rest of it was lost
                env.position, env.earliest, env.done = self.unknown, episodes, self.done
        return env

    def _untimed(self, env_id: int, env: _Env, data: object) -> Position:
        """Return the position of an event without an epoch: of the present batch, unless it is missing before."""
        if env.batches == self.batches:
            env.rewards += data.__class__ is RewardComputedPayload
            return env.position
        if not env.timed:
            return self.present
        episodes, done = env.position.episodes, self.done
        assert done is not None
        if episodes is None or episodes + self.width < done:
            return self.unknown
        if data.__class__ is RewardComputedPayload and 0 < env.rewards < env.validated:
            env.rewards += 1  # every epoch has its reward: this one came late
            return env.position
        return self.of_batch(done, env_id)
