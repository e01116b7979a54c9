"""The one verdict over a run: what is trouble, what is not, since when, and that it says so everywhere."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from benchmarks.verdict_logs import HEALTHY, START, TROUBLE, Log, info, rises
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import tries

from esper.karn import Status, TelemetryAggregator, Verdict, assess
from esper.karn.learning import did_it_learn
from esper.karn.summary import summary
from esper.karn.verdict import Finding, gravest_first
from esper.leyline.limits import Limits
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent, TrainingStartedPayload

_LONG = 1_000


def verdict_of(log: Log, run_info: RunInfo | None = None, **beside: Any) -> Verdict:
    run_info = run_info or log.info
    aggregator = TelemetryAggregator(limits=Limits.of_run({} if run_info is None else run_info.configuration))
    for event in log.events():
        aggregator.process(event)
    return assess(aggregator.snapshot(), run_info, **beside)


def found(verdict: Verdict, rule: str) -> Finding:
    (one,) = (one for one in verdict.findings if one.rule == rule)
    return one


@pytest.mark.parametrize("name", [name for name, log in TROUBLE.items() if log.batches < _LONG])
def test_no_trouble_is_ok(name: str) -> None:
    assert verdict_of(TROUBLE[name]).status in {Status.WATCH, Status.BAD}


@pytest.mark.parametrize("name", [name for name, log in HEALTHY.items() if log.batches < _LONG])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_healthy_run_is_an_alarm(name: str, seed: int) -> None:
    verdict = verdict_of(replace(HEALTHY[name], seed=seed))
    assert (verdict.status, verdict.alarms) == (Status.OK, ())


@pytest.mark.parametrize("name", ["learns at once", "learns until the end", "costs: from -1,500 to -150"])
def test_a_healthy_run_backwards_is_not_ok(name: str) -> None:
    log = HEALTHY[name]
    drawn = [log.returns(b) for b in range(log.batches)]
    assert verdict_of(Log(lambda b: drawn[log.batches - 1 - b])).status is Status.BAD


def test_nothing_is_known_of_no_event() -> None:
    verdict = assess(TelemetryAggregator().snapshot())
    assert (verdict.status, verdict.headline) == (Status.UNKNOWN, "UNKNOWN no event")


@pytest.mark.parametrize("batches", [1, 5, 12])
def test_a_run_too_short_to_have_learnt_is_unknown_and_no_alarm(batches: int) -> None:
    verdict = verdict_of(Log(lambda b: 5.0 + (b % 2) / 10, batches=batches))
    assert (verdict.status, verdict.alarms) == (Status.UNKNOWN, ())
    assert "batch" in verdict.headline


def test_what_was_not_supplied_is_unknown_in_its_own_row_and_hides_nothing() -> None:
    bare = {"entropy_collapsed", "explained_variance", "ratio_max", "dead_layers"}

    def without(update: Callable[[int], dict[str, Any]]) -> Verdict:
        log = Log(rises(), update=update)
        aggregator = TelemetryAggregator()
        for event in log.events():
            data = event.data.to_dict()
            kept = {name: value for name, value in data.items() if name not in bare}
            aggregator.process(replace(event, data=type(event.data).from_dict(kept)))
        return assess(aggregator.snapshot())

    healthy, ill = without(lambda _b: {}), without(lambda _b: {"kl_divergence": 0.5})
    assert healthy.status is Status.OK
    assert ill.status is Status.BAD
    for verdict in (healthy, ill):
        assert {found(verdict, rule).status for rule in ("explained_variance", "ratio", "dead_layers")} == {
            Status.UNKNOWN
        }


def test_the_worst_of_what_should_not_fall_is_the_lowest() -> None:
    collapsed = {"entropy_collapsed": True}
    of_batch = {10: collapsed | {"entropy": 1e-3}, 11: collapsed | {"entropy": 1e-9}, 12: collapsed | {"entropy": 1e-6}}
    entropy = found(verdict_of(Log(rises(), update=lambda b: of_batch.get(b, {}))), "entropy")
    assert "(1e-09 at worst) in 3 of 60 updates" in entropy.evidence


def test_what_recovered_is_watch_with_its_history() -> None:
    kl = found(verdict_of(Log(rises(), update=lambda b: {"kl_divergence": 0.4 if b in (10, 20) else 0.01})), "kl")
    assert (kl.status, kl.times, kl.of, kl.since) == (Status.WATCH, 2, 60, 10)
    assert kl.evidence.startswith(
        "KL above 0.15 (0.4 at worst) in 2 of 60 updates, first in batch 10, not in the newest"
    )
    assert kl.first is not None
    assert kl.newest is not None
    assert (kl.first.data.batch, kl.newest.data.batch) == (10, 20)  # type: ignore[union-attr]  # an update's
    assert kl.cost == "49 of 60 updates and 82% of the run's time"


def test_it_is_bad_while_it_lasts_and_names_what_changed_before() -> None:
    def update(b: int) -> dict[str, Any]:
        return {"kl_divergence": 0.4 if b >= 50 else 0.01, "entropy": 1.9 if b < 47 else 1.9 * 0.4 ** (b - 46)}

    kl = found(verdict_of(Log(rises(), update=update)), "kl")
    assert kl.status is Status.BAD
    assert kl.evidence.endswith("; entropy fell from 1.9 to 0.1216 in the 5 updates before")
    assert kl.advice is not None


def test_limits_are_the_runs_own_whether_the_fold_knew_them_or_not() -> None:
    log = Log(rises(), update=lambda _b: {"kl_divergence": 0.09})
    own = info(configuration={"target_kl": 0.075})
    assert found(verdict_of(log), "kl").status is Status.WATCH
    assert found(verdict_of(log, own), "kl").status is Status.OK
    unaware = TelemetryAggregator()
    for event in log.events():
        unaware.process(event)
    assert found(assess(unaware.snapshot(), own), "kl").status is Status.OK


@settings(max_examples=tries(40))
@given(
    st.lists(st.integers(-50, 50), min_size=6, max_size=60),
    st.sampled_from([1000.0, 0.001]),
    st.sampled_from([0.0, 1e6]),
)
def test_the_verdict_is_the_same_in_other_units_of_reward(returns: list[int], scale: float, shift: float) -> None:
    jitter = [random.Random(at).random() for at in range(len(returns))]
    log = Log(lambda b: returns[b] + jitter[b], batches=len(returns))
    one, other = verdict_of(log), verdict_of(replace(log, scale=scale, shift=shift))
    assert [(f.rule, f.status, f.since) for f in one.findings] == [(f.rule, f.status, f.since) for f in other.findings]


def test_returns_that_are_infinite_or_too_large_to_be_squared_end_nothing() -> None:
    for value in (math.inf, -math.inf, math.nan, 1e308):
        verdict = verdict_of(Log(lambda b, value=value: value if b % 2 else -1e308, batches=12))  # type: ignore[misc]
        assert verdict.status is not Status.OK


def test_what_a_resume_took_back_is_in_no_verdict() -> None:
    def loss(env: int, b: int) -> float:
        return math.inf if env == 1 and b == 41 else 0.5

    log = Log(rises(), update=lambda b: {"kl_divergence": 0.4 if b == 40 else 0.01}, loss=loss)
    events = list(log.events())
    ends = [at for at, event in enumerate(events) if isinstance(event.data, BatchEpochCompletedPayload)]
    begun = events[0].data
    assert isinstance(begun, TrainingStartedPayload)
    well = list(Log(rises(), update=lambda _b: {"kl_divergence": 0.01}).events())
    resume = replace(events[0], data=replace(begun, start_episode=60, resume_path="checkpoint.pt"))
    resumed = [*events[: ends[45] + 1], resume, *well[ends[29] + 1 :]]

    def fold(told: Iterable[TelemetryEvent]) -> Verdict:
        aggregator = TelemetryAggregator()
        for event in told:
            aggregator.process(event)
        return assess(aggregator.snapshot())

    for rule in ("kl", "hosts"):
        assert found(fold(resumed[: ends[45] + 1]), rule).status is Status.WATCH
        assert found(fold(resumed), rule).status is Status.OK
    after, straight = found(fold(resumed), "kl"), found(fold(well), "kl")
    assert (after.status, after.times, after.of) == (straight.status, 0, 60) == (Status.OK, 0, 60)


def test_two_arms_are_judged_apart_and_the_worse_is_the_headline() -> None:
    aggregator = TelemetryAggregator()
    for log in (
        replace(HEALTHY["learns at once"], group="shaped"),
        replace(TROUBLE["collapsed to nothing"], group="sparse"),
    ):
        for event in log.events():
            aggregator.process(event)
    verdict = assess(aggregator.snapshot())
    assert (verdict.of("shaped").status, verdict.of("sparse").status) == (Status.OK, Status.BAD)
    assert verdict.headline.startswith("BAD sparse: mean episode return fell")


def test_a_run_that_says_it_runs_and_is_silent_was_killed_or_hangs() -> None:
    log, running = Log(rises()), info(status="running", ended=None)
    assert found(verdict_of(log, running, now=START + timedelta(minutes=5)), "ended").status is Status.OK
    killed = found(verdict_of(log, running, now=START + timedelta(hours=5)), "ended")
    assert (killed.status, killed.evidence) == (
        Status.WATCH,
        "run.json says running, and nothing came for 4 h 58 min: it was killed, or hangs",
    )
    assert found(verdict_of(log, running), "ended").status is Status.OK


@pytest.mark.parametrize(
    ("run_info", "beside", "rule", "status"),
    [
        (info(set_aside=True), {}, "lost", Status.BAD),
        (info(set_aside=True, durable=False), {}, "lost", Status.WATCH),
        (info(dropped=9, durable=False), {}, "lost", Status.OK),
        (info(queued=3), {}, "lost", Status.BAD),
        (info(queued=3, status="running", ended=None), {}, "lost", Status.OK),
        (info(), {"rejected": 2}, "lost", Status.BAD),
        (None, {}, "lost", Status.UNKNOWN),
        (info(status="failed", error="KeyError: 1"), {}, "ended", Status.BAD),
        (info(status="interrupted"), {}, "ended", Status.OK),
        (info(), {"invalid": 1}, "unreadable", Status.WATCH),
        (info(), {"invalid": 1000}, "unreadable", Status.BAD),
        (info(), {"invalid": 0}, "unreadable", Status.OK),
    ],
)
def test_the_telemetry_is_judged_with_what_lies_beside_it(
    run_info: RunInfo | None, beside: dict[str, Any], rule: str, status: Status
) -> None:
    assert found(verdict_of(Log(rises()), run_info, **beside), rule).status is status


def test_lines_lost_from_a_log_are_noticed() -> None:
    events = [event for at, event in enumerate(Log(rises()).events()) if at % 50 != 33]
    aggregator = TelemetryAggregator()
    for event in events:
        aggregator.process(event)
    assert found(assess(aggregator.snapshot()), "missing").status is Status.WATCH


def test_the_gravest_are_above_and_else_it_is_the_order_of_the_rules() -> None:
    findings = verdict_of(TROUBLE["hosts diverge again and again"]).findings
    above = gravest_first(findings)
    assert above[0].status is Status.BAD
    for status in Status:
        assert [one for one in above if one.status is status] == [one for one in findings if one.status is status]


def scores(learnt: float, others: float, accuracy: float) -> Evaluation:
    def score(reward: float, test: float) -> PolicyScore:
        return PolicyScore(Estimate(reward, 0.5), Estimate(test, 0.01), Estimate(test, 0.01))

    return Evaluation(16, score(learnt, accuracy), score(others, 0.6), score(others, 0.6))


@pytest.mark.parametrize(
    ("log", "evaluation", "word"),
    [
        (HEALTHY["seeds kept in both slots"], None, "yes"),
        (HEALTHY["learns at once"], None, "yes"),
        (TROUBLE["never learnt"], None, "no"),
        (TROUBLE["collapsed to nothing"], None, "no"),
        (TROUBLE["accuracy falls, return rises"], None, "not clear"),
        (Log(rises(), batches=3), None, "not clear"),
        (TROUBLE["never learnt"], scores(12.0, 5.0, 0.9), "yes"),
        (TROUBLE["never learnt"], scores(5.0, 5.0, 0.6), "no"),
        (TROUBLE["never learnt"], scores(12.0, 5.0, 0.6), "not clear"),
        (TROUBLE["never learnt"], scores(math.nan, 5.0, 0.9), "not clear"),
    ],
)
def test_did_it_learn_is_yes_or_no_only_where_return_and_accuracy_agree(
    log: Log, evaluation: Evaluation | None, word: str
) -> None:
    aggregator = TelemetryAggregator()
    for event in log.events():
        aggregator.process(event)
    answer = did_it_learn(aggregator.snapshot().groups["default"], evaluation)
    assert answer.word == word
    assert len(answer.reasons) == 2


def test_the_summary_gives_the_verdict_and_the_answer(tmp_path: Any) -> None:
    aggregator = TelemetryAggregator()
    for event in TROUBLE["collapsed to nothing"].events():
        aggregator.process(event)
    page = summary(aggregator.snapshot(), None, tmp_path)
    assert "Did it learn?\n  No.\n" in page
    assert "Health: ✗ BAD" in page
    assert "mean episode return fell from" in page


def test_the_headline_of_a_run_that_is_well_says_how_it_learnt() -> None:
    well = Finding(rule="return_learnt", area="learning", group="a", label="rises", status=Status.OK, evidence="rose")
    others = replace(well, rule="kl", area="PPO"), replace(well, rule="overflow", status=Status.UNKNOWN)
    assert Verdict((well, *others)).headline == "OK a: rose"
