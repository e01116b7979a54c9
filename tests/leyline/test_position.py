"""Where events stand: what a known run says, whatever was late, lost, resumed or told beside each other."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import event

from esper.leyline.position import Position, Positions, Shard, env_of, epoch_of
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)


@dataclass
class Run:
    """A run of which the truth is known: for each event of each shard the batch it is about."""

    n_envs: int = 2
    max_epochs: int = 3
    world_size: int = 1
    emits: str = "seeds epochs rewards"
    shards: dict[int, list[tuple[TelemetryEvent, int | None]]] = field(default_factory=dict)

    def emit(self, rank: int, made: TelemetryEvent, batch: int | None) -> None:
        self.shards.setdefault(rank, []).append((made, batch))

    def start(self, batch: int = 0) -> None:
        for rank in range(self.world_size):
            started = event(
                TrainingStartedPayload, n_envs=self.n_envs, max_epochs=self.max_epochs, rank=rank, episode_id="run",
                world_size=self.world_size, start_episode=batch * self.n_envs,
            )  # fmt: skip
            self.emit(rank, started, batch)

    def step(self, env_id: int, batch: int, epoch: int) -> None:
        rank = env_id % self.world_size
        if "seeds" in self.emits:
            self.emit(rank, event(SeedGerminatedPayload, env_id=env_id, slot_id="a", epoch=epoch), batch)
        if "epochs" in self.emits:
            self.emit(rank, event(EpochCompletedPayload, env_id=env_id, inner_epoch=epoch), batch)
        if "rewards" in self.emits:
            self.emit(rank, event(RewardComputedPayload, env_id=env_id, epoch=epoch), batch)

    def end(self, batch: int) -> None:
        self.emit(0, event(PPOUpdatePayload, batch=batch), batch)
        completed = (batch + 1) * self.n_envs
        ended = event(BatchEpochCompletedPayload, episodes_completed=completed, batch_idx=batch, n_envs=self.n_envs)
        self.emit(0, ended, batch)

    def play(self, batch: int, epochs: int | None = None) -> None:
        for epoch in range(1, (self.max_epochs if epochs is None else epochs) + 1):
            for env_id in range(self.n_envs):
                self.step(env_id, batch, epoch)
        if epochs is None:
            self.end(batch)


def located(events: Iterable[tuple[Shard, TelemetryEvent]]) -> dict[str, Position]:
    positions = Positions()
    return {made.event_id: positions.locate(made, shard) for shard, made in events}


def in_order(run: Run) -> list[tuple[Shard, TelemetryEvent]]:
    """The shards one after the other, as if their clocks were days apart."""
    only = run.world_size == 1
    return [(None if only else rank, made) for rank, shard in run.shards.items() for made, _ in shard]


def shuffled(run: Run, seed: int) -> list[tuple[Shard, TelemetryEvent]]:
    """The shards merged at random, each in its own order."""
    rng, rest = random.Random(seed), {rank: [made for made, _ in shard] for rank, shard in run.shards.items()}
    merged: list[tuple[Shard, TelemetryEvent]] = []
    while rest:
        rank = rng.choice(sorted(rest))
        merged.append((rank, rest[rank].pop(0)))
        if not rest[rank]:
            del rest[rank]
    return merged


def truth(run: Run) -> dict[str, int | None]:
    return {made.event_id: batch for shard in run.shards.values() for made, batch in shard}


def batches(found: dict[str, Position]) -> dict[str, int | None]:
    return {event_id: position.batch for event_id, position in found.items()}


runs = st.builds(
    Run, n_envs=st.integers(1, 4), max_epochs=st.integers(1, 4), world_size=st.integers(1, 3),
    emits=st.sampled_from(["seeds epochs rewards", "epochs rewards", "rewards", "seeds rewards", "epochs"]),
)  # fmt: skip


def played(run: Run, n_batches: int, broken: int | None) -> Run:
    """Play batches; where ``broken`` is one of them, break off in the one after and resume from it."""
    run.start()
    for batch in range(n_batches):
        if batch == broken:
            run.play(batch, epochs=run.max_epochs - 1)
            run.start(batch)
        run.play(batch)
    return run


@given(runs, st.integers(1, 5), st.one_of(st.none(), st.integers(1, 4)), st.integers(0, 2**32))
def test_every_event_stands_where_it_was_emitted_however_shards_are_merged(
    run: Run, n_batches: int, broken: int | None, seed: int
) -> None:
    played(run, n_batches, broken)
    for events in (in_order(run), shuffled(run, seed)) if run.world_size > 1 else (in_order(run),):
        found = located(events)
        assert batches(found) == truth(run)
        for made_id, position in found.items():
            assert position.episodes is not None, made_id
            assert position.batch == position.episodes // run.n_envs


@given(runs, st.integers(1, 4), st.integers(0, 2**32))
def test_how_environments_interleave_changes_nothing(run: Run, n_batches: int, seed: int) -> None:
    played(run, n_batches, None)
    rng = random.Random(seed)
    mixed = []
    for shard, made in between_ends(in_order(run), rng):
        mixed.append((shard, made))
    assert located(mixed) == located(in_order(run))


def between_ends(
    events: Sequence[tuple[Shard, TelemetryEvent]], rng: random.Random
) -> Iterable[tuple[Shard, TelemetryEvent]]:
    """Mix what stands between two events that are global, each environment in its own order."""
    waiting: dict[int, list[tuple[Shard, TelemetryEvent]]] = {}
    for shard, made in events:
        env_id = env_of(made)
        if env_id is not None:
            waiting.setdefault(env_id, []).append((shard, made))
            continue
        yield from mixed(waiting, rng)
        yield shard, made
    yield from mixed(waiting, rng)


def mixed(
    waiting: dict[int, list[tuple[Shard, TelemetryEvent]]], rng: random.Random
) -> Iterable[tuple[Shard, TelemetryEvent]]:
    while waiting:
        env_id = rng.choice(sorted(waiting))
        yield waiting[env_id].pop(0)
        if not waiting[env_id]:
            del waiting[env_id]


@given(st.integers(2, 4), st.integers(2, 5), st.data())
def test_what_comes_after_the_end_of_its_batch_keeps_its_batch(
    max_epochs: int, n_batches: int, data: st.DataObject
) -> None:
    """Some of an environment's last events of an episode come late: after the end, among the others' next events."""
    run = played(Run(n_envs=3, max_epochs=max_epochs), n_batches, None)
    events = in_order(run)
    true = truth(run)
    for batch in data.draw(st.sets(st.integers(0, n_batches - 2))):
        last = [
            at
            for at, (_, made) in enumerate(events)
            if env_of(made) == 1 and true[made.event_id] == batch and epoch_of(made) != 1
        ]
        end = next(
            at
            for at, (_, m) in enumerate(events)
            if true[m.event_id] == batch and isinstance(m.data, BatchEpochCompletedPayload)
        )
        first = next(at for at, (_, m) in enumerate(events) if env_of(m) == 1 and true[m.event_id] == batch + 1)
        late = last[-data.draw(st.integers(1, len(last))) :]
        to = data.draw(st.integers(end + 1, first))
        moved = [events[at] for at in late]
        events = [*(e for at, e in enumerate(events[:to]) if at not in late), *moved, *events[to:]]
    assert batches(located(events)) == true


@given(runs.filter(lambda run: run.world_size == 1), st.integers(2, 5), st.data())
def test_losses_leave_positions_right_or_unknown_and_never_wrong(run: Run, n_batches: int, data: st.DataObject) -> None:
    """Whole episodes of an environment are lost; a whole batch's end too, where no episode is."""
    played(run, n_batches, None)
    true = truth(run)
    env_id = data.draw(st.integers(0, run.n_envs - 1))
    lost = data.draw(st.sets(st.integers(0, n_batches - 1)))
    kept = [(s, made) for s, made in in_order(run) if env_of(made) != env_id or true[made.event_id] not in lost]
    found = batches(located(kept))
    assert all(batch in (None, true[event_id]) for event_id, batch in found.items())
    whole = [event_id for event_id in found if true[event_id] not in {batch + 1 for batch in lost}]
    assert all(found[event_id] == true[event_id] for event_id in whole)


@given(st.integers(2, 5), st.integers(0, 3))
def test_the_lost_end_of_a_batch_shifts_nothing(n_batches: int, lost: int) -> None:
    run = played(Run(), n_batches, None)
    true = truth(run)
    kept = [
        (s, made)
        for s, made in in_order(run)
        if not (isinstance(made.data, BatchEpochCompletedPayload | PPOUpdatePayload) and true[made.event_id] == lost)
    ]
    found = batches(located(kept))
    assert all(found[event_id] == true[event_id] for event_id in found)


def test_a_whole_episode_that_comes_late_is_unknown_and_the_next_is_not() -> None:
    run = Run(n_envs=2, max_epochs=2)
    run.start()
    run.play(0)
    for epoch in (1, 2):
        run.step(0, 1, epoch)
    run.end(1)
    for batch in (1, 2):
        for epoch in (1, 2):
            run.step(1, batch, epoch)
            if batch == 2:
                run.step(0, 2, epoch)
    run.end(2)
    run.play(3)
    true, found = truth(run), batches(located(in_order(run)))
    unknown = {event_id for event_id, batch in found.items() if batch is None}
    assert {true[event_id] for event_id in unknown} == {1}
    assert all(found[event_id] == true[event_id] for event_id in found.keys() - unknown)


def test_rewards_without_an_epoch_are_late_only_while_one_is_missing() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=1, max_epochs=2))
    events = (
        event(EpochCompletedPayload, inner_epoch=1), event(RewardComputedPayload),
        event(EpochCompletedPayload, inner_epoch=2),
        event(BatchEpochCompletedPayload, episodes_completed=1, n_envs=1),
        event(RewardComputedPayload), event(RewardComputedPayload),
    )  # fmt: skip
    assert [positions.locate(made).batch for made in events] == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("unknown", [{"max_epochs": 0}, {"n_envs": 0}])
def test_environments_that_end_episodes_when_they_like_go_by_the_intervals_between_batches(
    unknown: dict[str, int],
) -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, **{"n_envs": 2, "max_epochs": 5, **unknown}))
    found = []
    for completed in (43, 86):
        found += [positions.locate(event(EpochCompletedPayload, inner_epoch=n)) for n in (1, 2, 1, 1)]
        positions.locate(
            event(BatchEpochCompletedPayload, episodes_completed=completed, batch_idx=completed // 43 - 1, n_envs=43)
        )
    assert [(p.batch, p.episodes, p.episode) for p in found] == [(0, 0, None)] * 4 + [(1, 43, None)] * 4


def test_a_batch_of_more_episodes_than_environments_ends_the_lock_step() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=100))
    positions.locate(event(EpochCompletedPayload, inner_epoch=30))
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=43, n_envs=43))
    goes_on = positions.locate(event(EpochCompletedPayload, inner_epoch=31))
    assert (goes_on.batch, goes_on.episodes) == (1, 43)


def test_without_its_start_a_log_is_unknown_until_a_batch_has_ended() -> None:
    positions = Positions()
    assert positions.locate(event(RewardComputedPayload)).episodes is None
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=8, batch_idx=3, n_envs=2))
    after = positions.locate(event(RewardComputedPayload))
    assert (after.batch, after.episodes) == (4, 8)


def test_an_update_belongs_to_the_batch_it_names_also_after_the_end_of_that() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=1))
    before = positions.locate(event(PPOUpdatePayload))
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=2, n_envs=2))
    late, named, far = (positions.locate(event(PPOUpdatePayload, batch=batch)) for batch in (0, 1, 5))
    assert [(p.batch, p.episodes) for p in (before, late, named, far)] == [(0, 0), (0, 0), (1, 2), (5, 10)]


def test_an_update_of_a_far_batch_says_which_also_where_nobody_knows_how_many_episodes_that_is() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=0))
    for batch, completed, width in ((0, 3, 3), (1, 8, 5)):
        positions.locate(event(BatchEpochCompletedPayload, episodes_completed=completed, batch_idx=batch, n_envs=width))
    found = [positions.locate(event(PPOUpdatePayload, batch=batch)) for batch in (0, 1, 2, 7)]
    assert [(p.batch, p.episodes) for p in found] == [(0, None), (1, 3), (2, 8), (7, None)]


def test_an_update_of_a_batch_that_nobody_can_have_played_is_of_the_first() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=1))
    assert positions.locate(event(PPOUpdatePayload, batch=-3)).episodes == 0


def test_what_came_before_the_first_end_of_a_batch_is_settled_by_it() -> None:
    positions = Positions()
    first = positions.locate(event(RewardComputedPayload))
    assert positions.settled(first) is first
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=8, batch_idx=3, n_envs=2))
    assert (positions.settled(first).batch, positions.settled(first).episodes) == (3, 6)
    after = positions.locate(event(RewardComputedPayload))
    assert positions.settled(after) is after
    other_shard = positions.locate(event(RewardComputedPayload), 1)
    assert positions.settled(other_shard) is other_shard


def test_an_epoch_is_paid_once_so_that_rewards_alone_tell_episodes_of_one_epoch_apart() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=1, max_epochs=1))
    found = []
    for batch in range(3):
        found.append(positions.locate(event(RewardComputedPayload, epoch=1)).batch)
        if batch != 1:  # whose end is lost
            end = event(BatchEpochCompletedPayload, episodes_completed=batch + 1, batch_idx=batch, n_envs=1)
            positions.locate(end)
    assert found == [0, 1, 2]


@pytest.mark.parametrize(
    ("one", "other", "before"), [(1, 2, True), (2, 2, False), (3, 2, False), (None, 2, False), (1, None, False)]
)
def test_one_place_is_before_another_where_both_are_known(one: int | None, other: int | None, before: bool) -> None:
    assert Position(0, 0, 0, 0, 0, one).is_before(Position(0, 0, 0, 0, 0, other)) == before


def test_an_ablation_after_the_reward_is_of_the_same_episode_of_one_epoch() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=1, max_epochs=1))
    told = (event(RewardComputedPayload, epoch=1), event(CounterfactualMatrixPayload, epoch=1))
    assert [positions.locate(made).batch for made in told] == [0, 0]


def test_several_rewards_of_an_epoch_are_of_one_episode_while_its_batch_lasts() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=1, max_epochs=3))
    assert [positions.locate(event(RewardComputedPayload, epoch=2)).batch for _ in range(4)] == [0] * 4


def test_the_last_batch_may_be_a_part_and_the_run_goes_on_after_it() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=4, max_epochs=1))
    for completed, width, batch in ((4, 4, 0), (6, 2, 1)):
        end = event(BatchEpochCompletedPayload, episodes_completed=completed, n_envs=width, batch_idx=batch)
        assert positions.locate(end).episode == completed - 1
    kept = positions.locate(event(PPOUpdatePayload, batch=1))
    positions.locate(event(TrainingStartedPayload, n_envs=4, max_epochs=1, start_episode=6))
    assert not positions.is_superseded(kept)
    assert positions.locate(event(EpochCompletedPayload, inner_epoch=1, env_id=3)).episode == 9


def test_a_run_resumed_within_a_batch_stays_in_step() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=3, max_epochs=2, start_episode=1))
    found = [
        positions.locate(made)
        for made in (
            event(EpochCompletedPayload, inner_epoch=1),
            event(BatchEpochCompletedPayload, episodes_completed=4, n_envs=3, batch_idx=1),
            event(EpochCompletedPayload, inner_epoch=2),
        )
    ]
    assert [(position.batch, position.episodes) for position in found] == [(1, 1)] * 3


def test_a_resume_supersedes_later_episodes_of_every_shard_and_nothing_else() -> None:
    run = Run(n_envs=2, max_epochs=2, world_size=2)
    run.start()
    for batch in range(3):
        run.play(batch)
    run.start(1)
    run.play(1)
    interrupted = {
        made.event_id
        for shard in run.shards.values()
        for made, batch in shard[: len(shard) // 2 + 2]
        if not isinstance(made.data, TrainingStartedPayload)
    }
    for seed in range(8):
        positions, found = Positions(), {}
        for shard, made in shuffled(run, seed):
            found[made.event_id] = positions.locate(made, shard)
        taken_back = {event_id for event_id, position in found.items() if positions.is_superseded(position)}
        true = truth(run)
        assert taken_back == {e for e in found if true[e] in {1, 2} and found[e].resume == 0}
        assert taken_back <= interrupted | taken_back
        assert (positions.run, max(position.resume for position in found.values())) == (0, 1)


def test_a_later_resume_that_reaches_further_back_supersedes_the_earlier_one() -> None:
    positions = Positions()
    starts = [
        positions.locate(event(TrainingStartedPayload, n_envs=1, max_epochs=1, start_episode=n)) for n in (0, 4, 6, 2)
    ]
    assert [positions.superseded_from(start.resume) for start in starts] == [2, 2, 2, None]
    assert [positions.is_superseded(start) for start in starts] == [False, True, True, False]


def test_a_second_run_is_told_from_a_resume_and_from_another_rank() -> None:
    def start(**fields: object) -> TelemetryEvent:
        return event(TrainingStartedPayload, n_envs=2, max_epochs=1, episode_id="x", world_size=2, **fields)

    positions = Positions()
    found = [
        positions.locate(start(rank=rank, start_episode=episode), rank)
        for rank, episode in [(0, 0), (1, 0), (0, 2), (0, 0), (1, 2), (1, 0)]
    ]
    assert [(p.run, p.resume) for p in found] == [(0, 0), (0, 0), (0, 1), (1, 0), (0, 1), (1, 0)]


def test_more_environments_than_anybody_runs_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esper.leyline.shard._MOST_ENVS", 3)
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=1))
    found = [positions.locate(event(EpochCompletedPayload, env_id=n, inner_epoch=1)).batch for n in range(5)]
    assert found == [0, 0, 0, None, None]


def test_what_is_about_no_environment_goes_by_the_batches() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=1))
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=2, n_envs=2))
    made = event(AnalyticsSnapshotPayload, kind="action_distribution", env_id=1)
    assert (env_of(made), positions.locate(made).episodes) == (1, 2)
    assert positions.locate(event(AnalyticsSnapshotPayload, kind="new")).episodes == 2
    assert positions.locate(event(CounterfactualMatrixPayload, env_id=0)).episodes == 2
    assert positions.locate(event(SeedPrunedPayload, env_id=0, epoch=1)).episodes == 2


def test_what_a_resume_of_a_free_trainer_begins_with_is_no_known_batch() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=0, start_episode=6))
    found = positions.locate(event(RewardComputedPayload))
    assert (found.batch, found.episodes) == (None, 6)


@pytest.mark.parametrize(("before", "width", "first"), [(4, 2, 6), (4, 9, 4), (4, 4, 4)])
def test_a_batch_begins_where_the_one_before_ended_unless_that_was_lost(before: int, width: int, first: int) -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=4, max_epochs=0))
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=before, n_envs=4))
    ended = positions.locate(event(BatchEpochCompletedPayload, episodes_completed=8, n_envs=width, batch_idx=1))
    assert (ended.episodes, ended.episode) == (first, 7)


def test_the_end_of_a_batch_may_come_after_the_next_one_has_begun() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=1, max_epochs=3))
    events = [*(event(EpochCompletedPayload, inner_epoch=n) for n in (1, 2, 3, 1)),
              event(BatchEpochCompletedPayload, episodes_completed=1, n_envs=1),
              *(event(EpochCompletedPayload, inner_epoch=n) for n in (2, 3)),
              event(BatchEpochCompletedPayload, episodes_completed=2, n_envs=1, batch_idx=1),
              event(RewardComputedPayload, epoch=3), event(EpochCompletedPayload, inner_epoch=1)]  # fmt: skip
    assert [positions.locate(made).batch for made in events] == [0, 0, 0, 1, 0, 1, 1, 1, 1, 2]


def test_the_last_action_of_an_environment_stands_where_that_is() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=2))
    positions.locate(event(EpochCompletedPayload, env_id=1, inner_epoch=2))
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=2, n_envs=2))
    late = positions.locate(event(AnalyticsSnapshotPayload, kind="last_action", env_id=1, epoch=2))
    assert (late.batch, late.episode) == (0, 1)


def epoch(inner_epoch: int, env_id: int = 0) -> TelemetryEvent:
    return event(EpochCompletedPayload, env_id=env_id, inner_epoch=inner_epoch)


def test_several_rewards_of_an_epoch_are_of_one_episode_also_when_that_began_before_the_batch_before_ended() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=1, max_epochs=3))
    for inner_epoch in (1, 2, 3, 1):
        positions.locate(epoch(inner_epoch))
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=1, n_envs=1))
    assert [positions.locate(event(RewardComputedPayload, epoch=2)).batch for _ in range(3)] == [1] * 3


def test_an_episode_that_ends_early_within_its_batch_frees_its_environment_and_then_all() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=3))
    for env_id, inner_epoch in ((0, 1), (1, 1), (0, 2)):
        assert positions.locate(epoch(inner_epoch, env_id)).episode == env_id
    assert [positions.locate(epoch(inner_epoch)).episode for inner_epoch in (1, 2, 3)] == [None] * 3
    assert positions.locate(epoch(2, env_id=1)).episode == 1
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=2, n_envs=2))
    assert [positions.locate(epoch(3, env_id)) for env_id in (0, 1)] == [positions.locate(event(PPOUpdatePayload))] * 2


def test_an_environment_two_batches_ahead_of_the_end_of_one_ends_the_lock_step() -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=1, max_epochs=2))
    assert [positions.locate(epoch(inner_epoch)).batch for inner_epoch in (1, 2, 1, 2, 1)] == [0, 0, 1, 1, 2]
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=1, n_envs=1))
    goes_on = positions.locate(epoch(2))
    assert (goes_on.batch, goes_on.episode) == (1, None)


@pytest.mark.parametrize(("width", "completed"), [(0, 2), (0, 4), (3, 3), (-2, 2)])
def test_a_batch_that_is_not_one_episode_of_each_environment_ends_the_lock_step(width: int, completed: int) -> None:
    positions = Positions()
    positions.locate(event(TrainingStartedPayload, n_envs=2, max_epochs=2))
    positions.locate(event(BatchEpochCompletedPayload, episodes_completed=completed, n_envs=width))
    assert positions.locate(epoch(1)).episode is None


def start(**fields: object) -> TelemetryEvent:
    return event(TrainingStartedPayload, **{"n_envs": 1, "max_epochs": 2, **fields})


def end(batch: int, n_envs: int = 1) -> TelemetryEvent:
    return event(BatchEpochCompletedPayload, episodes_completed=(batch + 1) * n_envs, n_envs=n_envs, batch_idx=batch)


def untimed() -> TelemetryEvent:
    return event(RewardComputedPayload)


@pytest.mark.parametrize(
    ("told", "batches"),
    [
        pytest.param([end(0), epoch(2), epoch(1), epoch(2)], [0, 1, 1, 1], id="heard of first when it was late"),
        pytest.param([untimed(), end(0), epoch(1)], [0, 0, 1], id="without an epoch before the end of its batch"),
        pytest.param([epoch(1), end(0), end(1), untimed()], [0, 0, 1, None], id="two batches behind"),
        pytest.param([epoch(1), end(0), end(1), epoch(2)], [0, 0, 1, None], id="two behind, with an epoch"),
        pytest.param([epoch(1), epoch(2), end(0), untimed()], [0, 0, 0, 1], id="rewards begin after the end"),
        pytest.param([epoch(1), epoch(2), epoch(1), end(0), untimed()], [0, 0, 1, 0, 1], id="a batch ahead"),
    ],
)
def test_an_environment_stands_where_its_own_order_says(told: list[TelemetryEvent], batches: list[int | None]) -> None:
    positions = Positions()
    positions.locate(start())
    assert [positions.locate(made).batch for made in told] == batches


def test_an_environment_of_which_the_rest_of_an_episode_was_lost_is_unknown() -> None:
    positions = Positions()
    positions.locate(start(max_epochs=3))
    assert [positions.locate(made).batch for made in (epoch(1), end(0), epoch(3), epoch(1))] == [0, 0, None, 1]


def test_an_episode_longer_than_the_start_said_frees_its_environment_and_then_all() -> None:
    positions = Positions()
    positions.locate(start(n_envs=2))
    assert [positions.locate(epoch(n)).episode for n in (1, 3, 2)] == [0, None, None]
    assert positions.locate(epoch(1, env_id=1)).episode == 1
    positions.locate(end(0, n_envs=2))
    assert positions.locate(epoch(2, env_id=1)).episode is None


@pytest.mark.parametrize(("max_epochs", "batches"), [(1, [0, 0, 0, 1]), (3, [0, 0, 0, 0])])
def test_a_seeds_event_in_an_epoch_that_is_over_begins_an_episode_only_where_that_is_one_epoch(
    max_epochs: int, batches: list[int]
) -> None:
    positions = Positions()
    positions.locate(start(max_epochs=max_epochs))
    seed = event(SeedGerminatedPayload, epoch=1)
    told = (seed, epoch(1), event(RewardComputedPayload, epoch=1), seed)
    assert [positions.locate(made).batch for made in told] == batches


def test_a_batch_that_is_a_part_of_one_leaves_the_lock_step_as_it_is() -> None:
    positions = Positions()
    positions.locate(start(n_envs=4))
    for completed, width in ((4, 4), (5, 1)):
        positions.locate(event(BatchEpochCompletedPayload, episodes_completed=completed, n_envs=width))
    assert positions.locate(epoch(1, env_id=2)).episode == 7


def test_the_end_of_a_batch_that_had_ended_before_moves_nothing() -> None:
    positions = Positions()
    positions.locate(start())
    for batch in (0, 7):
        end_again = event(BatchEpochCompletedPayload, episodes_completed=1, n_envs=1, batch_idx=batch)
        assert positions.locate(end_again).episodes == 0
    assert positions.locate(event(PPOUpdatePayload)).batch == 1


def test_only_the_epoch_of_a_validation_is_its_own() -> None:
    assert [epoch_of(made) for made in (epoch(3), event(RewardComputedPayload, epoch=2), untimed())] == [3, 2, None]


def test_of_several_ranks_those_stand_between_the_ends_of_batches_whose_shard_has_them() -> None:
    def found(world_size: int, rank: int, shard: Shard) -> tuple[int | None, int | None]:
        positions = Positions()
        positions.locate(start(max_epochs=0, world_size=world_size, rank=rank), shard)
        positions.locate(end(0), shard)
        position = positions.locate(untimed(), shard)
        return position.rank, position.batch

    assert [found(*where) for where in ((1, 0, None), (1, 0, 0), (2, 0, 0), (2, 1, 1), (2, 0, None))] == [
        (0, 1), (0, 1), (0, 1), (1, None), (None, None),
    ]  # fmt: skip


def test_each_shard_goes_through_the_attempts_in_order_and_shards_told_as_one_join_the_newest() -> None:
    def runs_of(*told: tuple[int, Shard]) -> list[int]:
        positions = Positions()
        return [positions.locate(start(world_size=2, rank=rank), shard).run for rank, shard in told]

    assert runs_of((0, 0), (0, 0), (1, 1), (1, 1)) == [0, 1, 0, 1]
    assert runs_of((0, None), (1, None), (0, None), (1, None)) == [0, 0, 1, 1]


def test_the_start_of_another_rank_in_the_same_log_leaves_environments_where_they_are() -> None:
    positions = Positions()
    positions.locate(start(world_size=2))
    for n in (1, 2, 1):
        positions.locate(epoch(n))
    positions.locate(start(world_size=2, rank=1))
    assert positions.locate(epoch(2)).batch == 1


def test_a_start_after_batches_of_which_it_was_lost_begins_another_run() -> None:
    positions = Positions()
    positions.locate(start(world_size=2, rank=1), 1)
    positions.locate(end(0), 0)
    assert positions.locate(start(world_size=2, rank=0), 0).run == 1
