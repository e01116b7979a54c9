from __future__ import annotations

import pytest

from esper.leyline.telemetry import CounterfactualMatrixPayload, TelemetryEvent
from esper.simic.counterfactual import ablate, emit_counterfactual_matrix

WORTH = {"r0": 0.25, "r1": 0.125, "r2": -0.0625}


def accuracy(ablated: frozenset[str]) -> float:
    return 0.5 + sum(worth for slot_id, worth in WORTH.items() if slot_id not in ablated)


@pytest.mark.parametrize("slots", [("r0",), ("r0", "r2"), ("r0", "r1", "r2")])
def test_every_subset_is_measured_once_and_the_full_one_not_again(slots: tuple[str, ...]) -> None:
    asked: list[frozenset[str]] = []

    def measure(ablated: frozenset[str]) -> float:
        asked.append(ablated)
        return accuracy(ablated)

    ablate(slots, accuracy(frozenset()), measure)
    assert len(asked) == len(set(asked)) == 2 ** len(slots) - 1
    assert frozenset() not in asked
    assert set().union(*asked) == set(slots)


def test_a_contribution_is_what_is_lost_without_this_seed_alone() -> None:
    ablation = ablate(tuple(WORTH), accuracy(frozenset()), accuracy)
    assert {slot_id: ablation.contribution(slot_id) for slot_id in WORTH} == WORTH
    assert ablation.host_accuracy == 0.5


def test_the_matrix_holds_every_configuration_with_its_mask() -> None:
    emitted: list[TelemetryEvent] = []
    ablation = ablate(("r0", "r2"), accuracy(frozenset()), accuracy)
    emit_counterfactual_matrix(emitted.append, ablation, env_id=5, epoch=7, group_id="B")
    (event,) = emitted
    payload = event.data
    assert isinstance(payload, CounterfactualMatrixPayload)
    assert (payload.env_id, payload.slot_ids, payload.strategy) == (5, ("r0", "r2"), "full_factorial")
    assert (event.epoch, event.group_id) == (7, "B")
    by_mask = {tuple(config["seed_mask"]): config["accuracy"] for config in payload.configs}
    assert by_mask == {
        (True, True): accuracy(frozenset()),
        (False, True): accuracy(frozenset({"r0"})),
        (True, False): accuracy(frozenset({"r2"})),
        (False, False): accuracy(frozenset({"r0", "r2"})),
    }
    assert payload.compute_time_ms == ablation.compute_time_ms > 0
