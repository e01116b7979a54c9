"""Which seed an event belongs to, and how it ended: one rule, that guesses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import event

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.bounds import WHOLE_RUN
from esper.karn.seeds import SEED_REACH, SlotWriter, count_endings
from esper.karn.snapshot import Ending, Entry, SeedRecord
from esper.leyline.position import Position
from esper.leyline.telemetry import (
    EpochCompletedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)

AT: dict[str, Any] = {"slot_id": "a", "env_id": 0}


def seeds_of(*events: TelemetryEvent) -> tuple[SeedRecord, ...]:
    aggregator = TelemetryAggregator(WHOLE_RUN)
    aggregator.process(event(TrainingStartedPayload, n_envs=1, max_epochs=2))
    for made in events:
        aggregator.process(made)
    return aggregator.snapshot().groups["default"].envs[0].slots["a"].seeds


def stage(left: str, entered: str, **fields: Any) -> TelemetryEvent:
    return event(SeedStageChangedPayload, from_stage=left, to_stage=entered, **AT, **fields)


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ({"reason": "policy"}, Ending.PRUNED_BY_POLICY),
        ({"reason": "policy", "auto_pruned": True}, Ending.PRUNED_BY_RULE),
        ({"reason": "stagnation", "auto_pruned": True}, Ending.PRUNED_BY_RULE),
        ({"reason": "stagnation", "auto_pruned": False}, Ending.PRUNED_BY_POLICY),
        ({"reason": "stagnation"}, Ending.PRUNED),
    ],
)
def test_whose_a_prune_is_comes_from_what_was_supplied_or_is_unknown(fields: dict[str, Any], ending: Ending) -> None:
    (seed,) = seeds_of(event(SeedPrunedPayload, **AT, **fields))
    assert seed.ending is ending
    assert count_endings([seed])[ending] == 1


def test_a_seed_whose_germination_was_lost_is_another_one_than_that_which_ended_before() -> None:
    first, second = seeds_of(
        event(SeedGerminatedPayload, blueprint_id="mlp", epoch=1, **AT),
        stage("DORMANT", "GERMINATED", epoch=1),
        event(SeedPrunedPayload, reason="policy", epoch=1, **AT),
        stage("DORMANT", "GERMINATED", epoch=2),
        event(SeedFossilizedPayload, blueprint_id="norm", epoch=2, **AT),
    )
    assert (first.blueprint_id, first.ending) == ("mlp", Ending.PRUNED_BY_POLICY)
    assert (second.blueprint_id, second.ending) == ("norm", Ending.FOSSILIZED)


def test_without_an_id_a_seed_ends_with_its_episode() -> None:
    seeds = seeds_of(
        event(SeedGerminatedPayload, epoch=1, **AT),
        event(EpochCompletedPayload, env_id=0, inner_epoch=1),
        event(EpochCompletedPayload, env_id=0, inner_epoch=2),
        event(EpochCompletedPayload, env_id=0, inner_epoch=1),
        stage("TRAINING", "BLENDING", epoch=2),
    )
    assert [(seed.position.episode, len(seed.entries)) for seed in seeds] == [(0, 1), (1, 1)]


def test_with_an_id_a_late_event_finds_its_seed_wherever_that_was() -> None:
    seeds = seeds_of(
        event(SeedGerminatedPayload, epoch=1, seed_id="x", **AT),
        event(EpochCompletedPayload, env_id=0, inner_epoch=1),
        event(EpochCompletedPayload, env_id=0, inner_epoch=1),
        stage("TRAINING", "BLENDING", epoch=2, seed_id="x"),
    )
    assert [len(seed.entries) for seed in seeds] == [2]


def test_a_living_stage_after_the_end_is_of_another_seed_and_the_slots_rest_is_not() -> None:
    seeds = seeds_of(
        event(SeedFossilizedPayload, epoch=1, **AT),
        stage("HOLDING", "FOSSILIZED", epoch=1),
        stage("GERMINATED", "TRAINING", epoch=2),
        event(SeedPrunedPayload, epoch=2, **AT),
        stage("TRAINING", "PRUNED", epoch=2),
        stage("PRUNED", "EMBARGOED", epoch=2),
    )
    assert [len(seed.stages) for seed in seeds] == [1, 3]


def test_a_seed_is_looked_for_among_the_newest_of_its_slot() -> None:
    named = [event(SeedGerminatedPayload, seed_id=f"s{n}", **AT) for n in range(SEED_REACH + 1)]
    assert len(seeds_of(*named, stage("A", "B", seed_id="s1"))) == SEED_REACH + 1
    assert len(seeds_of(*named, stage("A", "B", seed_id="s0"))) == SEED_REACH + 2


def germinates(writer: SlotWriter, made: TelemetryEvent, episode: int | None) -> None:
    assert isinstance(made.data, SeedGerminatedPayload)
    writer.germinate(Entry(made.data, made, Position(0, 0, 0, episode, episode, episode)))


def changes(writer: SlotWriter, made: TelemetryEvent, episode: int | None) -> None:
    assert isinstance(made.data, SeedStageChangedPayload)
    writer.change_stage(Entry(made.data, made, Position(0, 0, 0, episode, episode, episode)))


def ends(writer: SlotWriter, made: TelemetryEvent, episode: int | None) -> None:
    assert isinstance(made.data, SeedFossilizedPayload)
    writer.end(Entry(made.data, made, Position(0, 0, 0, episode, episode, episode)))


def test_a_resume_takes_back_the_part_of_a_seed_that_it_supersedes_and_the_seeds_of_which_nothing_is_left() -> None:
    began, left, ended = event(SeedGerminatedPayload, **AT), stage("A", "B"), event(SeedFossilizedPayload, **AT)
    writer = SlotWriter("a", None, None)
    for seed_id, at in (("all", 0), ("germination", 1), ("stages", 2), ("outcome", 3), ("none", 9)):
        if at in {0, 1, 9}:
            germinates(writer, replace(began, seed_id=seed_id), 5 if at == 9 else 1)
        if at in {0, 1, 2}:
            changes(writer, replace(left, seed_id=seed_id), 5 if at == 1 else 1)
        if at in {0, 1, 3}:
            ends(writer, replace(ended, seed_id=seed_id), 5 if at == 1 else 1)
    writer.take_back(5)
    view = writer.view()
    assert view is not None
    told = [(seed.seed_id, seed.germinated is None, len(seed.stages), seed.outcome is None) for seed in view.seeds]
    assert told == [
        ("all", False, 1, False), ("germination", False, 0, True), ("stages", True, 1, True),
        ("outcome", True, 0, False),
    ]  # fmt: skip
    writer.take_back(0)
    assert writer.view() is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from([germinates, changes, ends, SlotWriter.take_back]),
        st.sampled_from([None, "x", "y"]), st.sampled_from([None, 0, 1, 2]), st.booleans(),
    ), max_size=14,
)  # fmt: skip


@given(STEPS, st.sampled_from([None, 1, 2]), st.sampled_from([None, 1]))
def test_what_somebody_has_looked_at_changes_nothing_that_is_seen_later(
    steps: list[tuple[Any, str | None, int | None, bool]], seeds: int | None, stages: int | None
) -> None:
    looked, alone = SlotWriter("a", seeds, stages), SlotWriter("a", seeds, stages)
    kinds = {germinates: SeedGerminatedPayload, changes: SeedStageChangedPayload, ends: SeedFossilizedPayload}
    for take, seed_id, episode, look in steps:
        if take in kinds:
            made = event(kinds[take], seed_id=seed_id, **AT)
            take(looked, made, episode)
            take(alone, made, episode)
        elif episode is not None:
            looked.take_back(episode)
            alone.take_back(episode)
        if look:
            seen = looked.view()
            assert seen is None or (seen.seeds and (seeds is None or len(seen.seeds) <= seeds))
    assert looked.view() == alone.view()


def test_a_look_makes_the_records_anew_of_those_seeds_alone_that_have_changed() -> None:
    writer = SlotWriter("a", None, None)
    for seed_id in ("x", "y"):
        germinates(writer, event(SeedGerminatedPayload, seed_id=seed_id, **AT), 0)
    first = writer.view()
    changes(writer, replace(stage("A", "B"), seed_id="y"), 0)
    second = writer.view()
    assert first is not None
    assert second is not None
    assert [one is other for one, other in zip(first.seeds, second.seeds, strict=True)] == [True, False]
    assert writer.view() == second


def test_a_second_germination_begins_another_seed_and_one_that_comes_late_does_not() -> None:
    named = {"seed_id": "x", **AT}
    assert [
        (seed.germinated is not None, len(seed.stages))
        for seed in seeds_of(stage("DORMANT", "GERMINATED", seed_id="x"), event(SeedGerminatedPayload, **named))
    ] == [(True, 1)]
    ended = seeds_of(event(SeedPrunedPayload, **named), event(SeedGerminatedPayload, **named))
    assert [(seed.germinated is None, seed.outcome is None) for seed in ended] == [(True, False), (False, True)]
