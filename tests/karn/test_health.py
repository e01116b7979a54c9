from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.karn.health import RULES, Rule, Status, Verdict, assess_update, assess_updates, gravest_first, tally, worst
from esper.karn.snapshot import Entry
from esper.leyline.position import Position
from esper.leyline.telemetry import PPOUpdatePayload, TelemetryEvent
from esper.leyline.testing import payloads

WELL: dict[str, Any] = {
    "policy_loss": -0.01,
    "value_loss": 0.2,
    "entropy": 2.0,
    "grad_norm": 0.8,
    "kl_divergence": 0.02,
    "clip_fraction": 0.1,
    "nan_grad_count": 0,
    "explained_variance": 0.6,
    "inf_grad_count": 0,
    "entropy_collapsed": False,
    "ratio_max": 1.8,
    "dead_layers": 0,
    "exploding_layers": 0,
    "skipped": False,
}


def verdict(field: str, **changed: Any) -> Verdict:
    (found,) = (verdict for verdict in assess_update(PPOUpdatePayload(**WELL | changed)) if verdict.rule.field == field)
    return found


def test_a_good_update_is_ok_by_every_rule() -> None:
    assert {verdict.status for verdict in assess_update(PPOUpdatePayload(**WELL))} == {Status.OK}


def test_where_nothing_is_wrong_the_first_rules_are_those_that_the_main_screen_must_show() -> None:
    assert {found.rule.field for found in gravest_first(assess_update(PPOUpdatePayload(**WELL)), 7)[:7]} == {
        "entropy",
        "kl_divergence",
        "clip_fraction",
        "explained_variance",
        "grad_norm",
        "nan_grad_count",
        "inf_grad_count",
    }


def test_the_gravest_verdicts_are_above_however_little_room_there_is() -> None:
    sick = assess_update(PPOUpdatePayload(**WELL | {"policy_loss": math.nan, "exploding_layers": 3, "dead_layers": 1}))
    assert [found.status for found in gravest_first(sick, 2)[:2]] == [Status.BAD, Status.BAD]
    assert {found.rule.field for found in gravest_first(sick, 3)[:3]} == {
        "policy_loss",
        "dead_layers",
        "exploding_layers",
    }
    assert sorted(found.rule.field for found in gravest_first(sick, 3)) == sorted(rule.field for rule in RULES)
    assert tally(sick) == f"2 BAD, 1 WATCH, {len(RULES) - 3} OK"


ANYWHERE = Position(0, 0, None, None, None)


def run_of(*updates: dict[str, Any]) -> dict[str, Verdict]:
    """The health of a run of these updates, by field."""
    emitted = [PPOUpdatePayload(**update) for update in updates]
    found = assess_updates([Entry(update, TelemetryEvent(data=update), ANYWHERE) for update in emitted])
    return {verdict.rule.field: verdict for verdict in found}


def test_what_was_bad_when_last_supplied_stays_bad_until_it_is_supplied_again() -> None:
    dead: dict[str, Any] = WELL | {"kl_divergence": math.nan, "inf_grad_count": 3}
    skipped: dict[str, Any] = WELL | {"skipped": True}
    found = run_of(WELL, dead, *[skipped] * 11)
    assert found["kl_divergence"].status is found["inf_grad_count"].status is Status.BAD
    assert found["kl_divergence"].evidence == "11 updates ago: NaN is not finite"
    assert run_of(dead, skipped)["kl_divergence"].evidence == "1 update ago: NaN is not finite"
    assert run_of(dead, skipped, WELL)["kl_divergence"].status is Status.OK


def test_what_was_ok_when_last_supplied_is_unknown_now() -> None:
    skipped: dict[str, Any] = WELL | {"skipped": True}
    dead: dict[str, Any] = WELL | {"kl_divergence": math.nan}
    assert run_of(WELL, skipped)["kl_divergence"].status is Status.UNKNOWN
    assert run_of(dead, WELL, skipped)["kl_divergence"].status is Status.UNKNOWN


def test_an_update_that_was_skipped_is_bad_itself_and_a_skipped_step_a_warning() -> None:
    assert verdict("skipped", skipped=True).status is Status.BAD
    assert verdict("skipped", update_skipped=True).status is Status.WATCH
    untold = PPOUpdatePayload(**{name: value for name, value in WELL.items() if name != "skipped"})
    assert worst(assess_update(untold)) is Status.UNKNOWN


def test_before_the_first_update_everything_is_unknown() -> None:
    assert {verdict.status for verdict in assess_update(None)} == {Status.UNKNOWN}


@given(payloads(PPOUpdatePayload))
def test_nothing_is_ok_that_was_not_supplied_or_is_not_finite(update: PPOUpdatePayload) -> None:
    required = {f.name for f in dataclasses.fields(update) if f.default is dataclasses.MISSING}
    for found in assess_update(update):
        if found.status is Status.OK:
            assert found.rule.field in update.supplied | required
            assert found.value is not None
            assert math.isfinite(found.value)
            assert "skipped" not in update.supplied or not update.skipped
        if found.status is not Status.UNKNOWN and "skipped" in update.supplied and update.skipped:
            assert found.rule.field == "skipped"


COUNTS = {"nan_grad_count", "inf_grad_count", "dead_layers", "exploding_layers", "skipped"}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.field not in COUNTS], ids=lambda rule: rule.field)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_ok(rule: Rule, value: float) -> None:
    expected = Status.WATCH if rule.field == "explained_variance" and math.isnan(value) else Status.BAD
    assert verdict(rule.field, **{rule.field: value}).status is expected


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("entropy", 0.0, Status.BAD),
        ("kl_divergence", 0.05, Status.OK),
        ("kl_divergence", 0.051, Status.WATCH),
        ("kl_divergence", 0.151, Status.BAD),
        ("kl_divergence", -0.01, Status.BAD),
        ("clip_fraction", 0.31, Status.WATCH),
        ("clip_fraction", 0.51, Status.BAD),
        ("explained_variance", -0.01, Status.WATCH),
        ("explained_variance", -1.01, Status.BAD),
        ("grad_norm", 0.0, Status.WATCH),
        ("grad_norm", 101.0, Status.WATCH),
        ("grad_norm", 1001.0, Status.BAD),
        ("nan_grad_count", 1, Status.BAD),
        ("inf_grad_count", 1, Status.BAD),
        ("nan_grad_count", -1, Status.BAD),
        ("ratio_max", 5.1, Status.WATCH),
        ("ratio_max", 20.1, Status.BAD),
        ("dead_layers", 1, Status.WATCH),
        ("dead_layers", -1, Status.BAD),
        ("explained_variance", 1.0, Status.OK),
        ("explained_variance", 1.01, Status.BAD),
        ("value_loss", -0.01, Status.BAD),
        ("exploding_layers", 1, Status.BAD),
    ],
)
def test_limits(field: str, value: float, status: Status) -> None:
    assert verdict(field, **{field: value}).status is status


def test_a_collapsed_entropy_is_bad_and_one_nobody_checked_is_unknown() -> None:
    assert verdict("entropy", entropy_collapsed=True).status is Status.BAD
    unchecked = PPOUpdatePayload(**{name: value for name, value in WELL.items() if name != "entropy_collapsed"})
    assert assess_update(unchecked)[0].status is Status.UNKNOWN


@pytest.mark.parametrize(("field", "value"), [("grad_norm", math.inf), ("nan_grad_count", 3), ("inf_grad_count", 3)])
def test_an_overflow_of_mixed_precision_excuses_its_gradients(field: str, value: float) -> None:
    assert verdict(field, **{field: value}, amp_overflow_detected=True).status is Status.WATCH


def test_the_numbers_of_a_skipped_update_mean_nothing() -> None:
    found = assess_update(PPOUpdatePayload(**WELL | {"skipped": True}))
    assert {(one.status, one.value) for one in found if one.rule.field != "skipped"} == {(Status.UNKNOWN, None)}


@given(st.lists(st.sampled_from(Status), min_size=1))
def test_the_worst_is_the_gravest(statuses: list[Status]) -> None:
    verdicts = tuple(Verdict(RULES[0], None, status, "") for status in statuses)
    order = [Status.BAD, Status.WATCH, Status.UNKNOWN, Status.OK]
    assert worst(verdicts) is next(status for status in order if status in statuses)
