"""Which seed an event belongs to, and how it ended: one rule, that guesses nothing."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders import event

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.bounds import WHOLE_RUN
from esper.karn.seeds import SEED_REACH, count_endings
from esper.karn.snapshot import Ending, SeedRecord
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
