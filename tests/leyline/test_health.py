"""What each rule makes of one update, and where its limits are."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.leyline.advice import ADVICE
from esper.leyline.field_docs import meanings
from esper.leyline.health import Judgement, judge_update, severity_of
from esper.leyline.limits import Limits, Status, gravest
from esper.leyline.telemetry import PPOUpdatePayload
from esper.leyline.testing import payloads
from esper.leyline.typical import Typical
from esper.leyline.update_rules import UPDATE_RULES

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
    "amp_overflow_detected": False,
    "update_skipped": False,
}
LATER = Typical(updates=40, grad_norm=0.8, value_loss=0.2)


def judged(rule: str, limits: Limits | None = None, typical: Typical = LATER, **changed: Any) -> Judgement:
    judgements = judge_update(PPOUpdatePayload(**WELL | changed), limits, typical)
    (found,) = (one for one in judgements if one.rule.name == rule)
    return found


def test_a_good_update_is_ok_by_every_rule() -> None:
    assert {one.status for one in judge_update(PPOUpdatePayload(**WELL), None, LATER)} == {Status.OK}


@given(payloads(PPOUpdatePayload))
def test_nothing_is_ok_that_was_not_supplied_or_means_nothing(update: PPOUpdatePayload) -> None:
    required = {f.name for f in dataclasses.fields(update) if f.default is dataclasses.MISSING}
    for found in judge_update(update):
        if found.status is not Status.UNKNOWN:
            assert found.rule.field in update.supplied | required
            assert found.rule.field == "skipped" or "skipped" not in update.supplied or not update.skipped
        if found.status is Status.OK:
            overflowed = "amp_overflow_detected" in update.supplied and update.amp_overflow_detected
            assert found.value is not None
            assert math.isfinite(found.value) or overflowed


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "rule", [rule for rule in UPDATE_RULES if isinstance(WELL[rule.field], float)], ids=lambda rule: rule.name
)
def test_what_is_not_finite_is_bad_but_for_returns_that_do_not_vary_and_an_update_without_a_step(
    rule: Any, value: float
) -> None:
    nothing = rule.name in ("explained_variance", "grad_norm") and math.isnan(value)
    changed: dict[str, Any] = {rule.field: value}
    assert judged(rule.name, **changed).status is (Status.UNKNOWN if nothing else Status.BAD)


@pytest.mark.parametrize(
    ("rule", "changed", "status"),
    [
        ("kl", {"kl_divergence": 0.05}, Status.OK),
        ("kl", {"kl_divergence": 0.051}, Status.WATCH),
        ("kl", {"kl_divergence": 0.151}, Status.BAD),
        ("kl", {"kl_divergence": -0.02}, Status.BAD),
        ("kl", {"kl_divergence": -0.005}, Status.OK),
        ("still", {"kl_divergence": 1e-6}, Status.WATCH),
        ("clip_fraction", {"clip_fraction": 0.52}, Status.OK),
        ("clip_fraction", {"clip_fraction": 0.53}, Status.WATCH),
        ("clip_fraction", {"clip_fraction": 0.72}, Status.BAD),
        ("entropy", {"entropy": 0.0}, Status.OK),
        ("entropy", {"entropy": -3.0}, Status.OK),
        ("entropy", {"entropy_collapsed": True}, Status.BAD),
        ("explained_variance", {"explained_variance": -0.01}, Status.WATCH),
        ("explained_variance", {"explained_variance": -1.01}, Status.BAD),
        ("explained_variance", {"explained_variance": 1.01}, Status.BAD),
        ("grad_norm", {"grad_norm": 0.0}, Status.WATCH),
        ("grad_norm", {"grad_norm": 7.9}, Status.OK),
        ("grad_norm", {"grad_norm": 8.1}, Status.WATCH),
        ("grad_norm", {"grad_norm": 81.0}, Status.BAD),
        ("nan_gradients", {"nan_grad_count": 1}, Status.BAD),
        ("inf_gradients", {"inf_grad_count": -1}, Status.BAD),
        ("nan_gradients", {"nan_grad_count": 3, "amp_overflow_detected": True}, Status.OK),
        ("grad_norm", {"grad_norm": math.inf, "amp_overflow_detected": True}, Status.OK),
        ("overflow", {"update_skipped": True}, Status.WATCH),
        ("skipped", {"skipped": True}, Status.BAD),
        ("value_loss", {"value_loss": -0.01}, Status.BAD),
        ("value_loss", {"value_loss": 21.0}, Status.WATCH),
        ("value_loss", {"value_loss": 201.0}, Status.BAD),
        ("ratio", {"ratio_max": 4.9}, Status.WATCH),
        ("ratio", {"ratio_max": 27.0}, Status.BAD),
        ("dead_layers", {"dead_layers": 1}, Status.WATCH),
        ("dead_layers", {"dead_layers": -1}, Status.BAD),
        ("exploding_layers", {"exploding_layers": 1}, Status.WATCH),
        ("exploding_layers", {"exploding_layers": 1, "grad_norm": 9.0}, Status.BAD),
    ],
)  # fmt: skip
def test_limits(rule: str, changed: dict[str, Any], status: Status) -> None:
    assert judged(rule, **changed).status is status


def test_limits_follow_the_runs_own_target_and_clip_ratio() -> None:
    own = Limits.of_run({"target_kl": 0.075, "clip_ratio": 0.1, "lr": 1.0})
    assert own == Limits(target_kl=0.075, clip_ratio=0.1)
    assert judged("kl", own, kl_divergence=0.14).status is Status.OK
    assert judged("kl", own, kl_divergence=0.16).status is Status.WATCH
    assert judged("kl", own, kl_divergence=0.31).status is Status.BAD
    assert judged("clip_fraction", Limits(clip_ratio=0.02), clip_fraction=0.9).status is Status.OK
    assert judged("kl", Limits(target_kl=1000.0), kl_divergence=1.0).status is Status.BAD


@pytest.mark.parametrize("value", [None, 0, -1.0, math.nan, math.inf, True, "0.1", [0.1]])
def test_what_is_no_limit_in_a_configuration_is_left_out(value: object) -> None:
    assert Limits.of_run({"target_kl": value, "clip_ratio": value}) == Limits()


def test_gradients_of_any_scale_are_compared_with_their_own_history() -> None:
    for scale in (1e-3, 1.0, 250.0, 1e6):
        typical = Typical()
        for _ in range(20):
            typical = typical.after(PPOUpdatePayload(**WELL | {"grad_norm": scale, "value_loss": scale**2}))
        assert judged("grad_norm", typical=typical, grad_norm=scale * 2).status is Status.OK
        assert judged("grad_norm", typical=typical, grad_norm=scale * 1e3).status is Status.BAD
        assert judged("value_loss", typical=typical, value_loss=scale**2 * 1e4).status is Status.BAD


def test_layers_that_explode_from_the_beginning_are_a_matter_of_scale() -> None:
    unscaled = PPOUpdatePayload(**WELL | {"grad_norm": 900.0, "exploding_layers": 3})
    typical = Typical()
    for _ in range(20):
        assert judged("exploding_layers", typical=typical, grad_norm=900.0, exploding_layers=3).status is Status.OK
        typical = typical.after(unscaled)


def test_a_spike_hardly_moves_what_is_typical() -> None:
    typical = LATER.after(PPOUpdatePayload(**WELL | {"grad_norm": 1e9}))
    assert typical.grad_norm == pytest.approx(0.8 * 10 ** (1 / 30))
    for value in (math.nan, math.inf, 0.0):
        assert LATER.after(PPOUpdatePayload(**WELL | {"grad_norm": value})).grad_norm == 0.8


def test_before_there_is_a_history_a_critic_may_be_bad_and_nothing_is_far_above() -> None:
    assert judged("explained_variance", typical=Typical(), explained_variance=-9.0).status is Status.OK
    assert judged("grad_norm", typical=Typical(), grad_norm=1e9).status is Status.OK


def test_a_collapse_that_nobody_could_see_is_unknown() -> None:
    unchecked = PPOUpdatePayload(**{name: value for name, value in WELL.items() if name != "entropy_collapsed"})
    (found,) = (one for one in judge_update(unchecked) if one.rule.name == "entropy")
    assert found.status is Status.UNKNOWN


def test_severities_are_the_statuses() -> None:
    def severity(**changed: Any) -> str:
        return severity_of(judge_update(PPOUpdatePayload(**WELL | changed), None, LATER))

    assert (severity(), severity(kl_divergence=0.1), severity(kl_divergence=0.2)) == ("info", "warning", "error")
    assert severity_of(()) == "info"


@given(st.lists(st.sampled_from(Status), min_size=1))
def test_the_gravest_is_one_of_them_and_none_is_graver(statuses: list[Status]) -> None:
    order = [Status.OK, Status.UNKNOWN, Status.WATCH, Status.BAD]
    assert order.index(gravest(*statuses)) == max(map(order.index, statuses))
    assert gravest() is Status.UNKNOWN


def test_every_limit_says_what_it_is_and_every_rule_has_its_advice_with_a_source() -> None:
    assert {f.name for f in dataclasses.fields(Limits)} == set(meanings(Limits))
    assert all(meaning.text for meaning in meanings(Limits).values())
    assert {rule.name for rule in UPDATE_RULES} <= set(ADVICE)
    assert all(advice.cause and advice.remedy and advice.source for advice in ADVICE.values())


def test_an_integer_beyond_all_floats_is_not_finite() -> None:
    assert judged("grad_norm", grad_norm=10**400).status is Status.BAD
