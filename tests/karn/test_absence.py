"""Absence is never a number."""

from __future__ import annotations

from typing import Any

import pytest

from esper.karn.absence import supplied, supplied_number
from esper.leyline import UnknownFieldError
from esper.leyline.telemetry import EpochCompletedPayload, RewardComputedPayload, SeedPrunedPayload


def reward(**more: Any) -> RewardComputedPayload:
    return RewardComputedPayload(
        env_id=0, total_reward=0.0, action_name="WAIT", value_estimate=0.0, action_confidence=0.5, **more
    )


def test_a_default_is_not_a_measurement() -> None:
    payload = reward(host_accuracy=0.0)
    assert supplied_number(payload, "host_accuracy") == 0.0
    assert supplied_number(payload, "decision_entropy") is None
    assert supplied_number(payload, "total_reward") == 0.0
    assert supplied(payload, "action_name") == "WAIT"
    assert supplied(payload, "alternatives") is None


@pytest.mark.parametrize("ask", [supplied, supplied_number])
def test_a_name_that_is_no_field_is_refused(ask: Any) -> None:
    with pytest.raises(UnknownFieldError, match="acuracy"):
        ask(EpochCompletedPayload(0, 0.5, 1.0, 1), "acuracy")


@pytest.mark.parametrize("field", ["action_name", "slot_states"])
def test_text_and_containers_are_no_numbers(field: str) -> None:
    with pytest.raises(TypeError, match=field):
        supplied_number(reward(slot_states={}), field)


def test_a_flag_is_no_number() -> None:
    with pytest.raises(TypeError, match="auto_pruned"):
        supplied_number(SeedPrunedPayload("a", 0, "policy", auto_pruned=True), "auto_pruned")
