"""Did it learn? By the course of returns and accuracies over the whole run, and by the evaluation if there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from esper.karn.derived import has_host, planned_episodes
from esper.karn.formatting import number
from esper.karn.quantities import QUANTITIES, Quantity
from esper.karn.verdict import NOW, SHARE_BAD, Finding, cost_since, how_often
from esper.leyline.limits import Status
from esper.leyline.trend import Course, course_of

if TYPE_CHECKING:
    from esper.karn.snapshot import Entry, GroupSnapshot
    from esper.leyline.limits import Limits
    from esper.leyline.run_info import Evaluation
    from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent

__all__ = ["Answer", "did_it_learn", "learning_findings", "returns_well"]

_LABELS: Final = {
    "return_finite": "return finite",
    "return_fell": "return kept",
    "return_learnt": "return rises",
    "accuracy_fell": "accuracy kept",
    "accuracy_learnt": "accuracy rises",
}
_CERTAIN: Final = 0.05
"""Noise, as a share of the rise, that leaves nothing more to be gained."""
_SOLVED: Final = 0.95
"""Accuracy that leaves little to be gained."""
_LONG: Final = 40
"""Batches below which a plateau is no news."""


def learning_findings(group: GroupSnapshot) -> Iterator[Finding]:
    """Judge how returns and accuracies went."""
    health = group.health
    returns, accuracies = (course_of(health.series[name]) for name in ("avg_reward", "avg_accuracy"))
    yield _finite(group)
    yield _fell(group, "return", returns)
    yield _learnt(group, returns, accuracies)
    if health.series["avg_accuracy"]:
        yield _fell(group, "accuracy", accuracies)
        yield _accuracy_learnt(group, accuracies)
    else:
        for rule in ("accuracy_fell", "accuracy_learnt"):
            yield _finding(group, rule, Status.UNKNOWN, "not measured" if health.batches else "no batch yet")


def returns_well(findings: Iterable[Finding]) -> bool:
    """Whether the return rose and is at its best."""
    well = {one.rule for one in findings if one.status is Status.OK}
    return {"return_fell", "return_learnt"} <= well


def _finding(
    group: GroupSnapshot,
    rule: str,
    status: Status,
    evidence: str,
    first: TelemetryEvent | None = None,
    since: int | None = None,
    cost: str = "",
    times: int = 0,
) -> Finding:
    alarm = status in (Status.WATCH, Status.BAD)
    return Finding(
        rule=rule,
        area="learning",
        group=group.group_id,
        label=_LABELS[rule],
        status=status,
        evidence=evidence,
        first=first,
        newest=group.batch.event if alarm and group.batch else None,
        since=since,
        cost=cost,
        times=times,
        of=group.health.batches,
    )


def _finite(group: GroupSnapshot) -> Finding:
    tally = group.health.rules["return_finite"]
    bad = tally.bad
    if not tally.judged:
        return _finding(group, "return_finite", Status.UNKNOWN, "no batch yet")
    if bad.first is None:
        return _finding(group, "return_finite", Status.OK, f"finite in {tally.judged:,} batches")
    newest = min(tally.judged, NOW)
    lasts = 2 * bad.recently(newest) >= newest or bad.count >= SHARE_BAD * tally.judged
    lately = bad.recently(newest) > 0
    often = how_often(bad.count, tally.judged, "batches", since=bad.first.batch, lately=lately)
    evidence = f"the mean return is not finite {often}"
    return _finding(
        group,
        "return_finite",
        Status.BAD if lasts else Status.WATCH,
        evidence,
        bad.first.event,
        bad.first.batch,
        _since(group, bad.first.ordinal),
        bad.count,
    )


def _fell(group: GroupSnapshot, name: str, course: Course | None) -> Finding:
    rule, quantity = f"{name}_fell", _quantity(name)
    if course is None:
        return _finding(group, rule, Status.UNKNOWN, _too_early(group))
    limits = group.health.limits
    drop, errors = course.drop(), course.drop_errors()
    if errors > limits.fell_errors and drop > limits.fell_watch:
        status = Status.BAD if drop > limits.fell_bad else Status.WATCH
        best, newest = _apart(quantity, course.best, course.newest)
        evidence = (
            f"{quantity.name} fell from {best} to {newest} since batch {_batch(group, course.best_at)}: "
            f"{drop:.0%} of all it ever spanned, {_errors(errors)}"
        )
        first = _event_at(group, course.best_at)
        return _finding(
            group, rule, status, evidence, first, _batch(group, course.best_at), _since(group, course.best_at), 1
        )
    dips = [at for at in range(len(course.levels)) if _dipped(course, at, limits)]
    if dips:
        lowest = min(dips, key=lambda at: course.levels[at])
        at = course.ended(lowest)
        evidence = (
            f"{quantity.name} had fallen to {quantity.text(course.levels[lowest])} by batch {_batch(group, at)} and "
            f"recovered to {quantity.text(course.newest)}"
        )
        return _finding(group, rule, Status.WATCH, evidence, _event_at(group, at), _batch(group, at), "", len(dips))
    return _finding(group, rule, Status.OK, f"{quantity.name} is within {drop:.0%} of its best, of all it ever spanned")


def _dipped(course: Course, at: int, limits: Limits) -> bool:
    return course.drop_errors(at) > limits.fell_errors and course.drop(at) > limits.fell_bad


def _learnt(group: GroupSnapshot, course: Course | None, accuracies: Course | None) -> Finding:
    limits, quantity, rule = group.health.limits, _quantity("return"), "return_learnt"
    if course is None:
        return _finding(group, rule, Status.UNKNOWN, _too_early(group))
    change = f"{' to '.join(_apart(quantity, course.first, course.newest))}, {_errors(course.rise_errors)}"
    if _rose(course, limits):
        still = course.values - course.settled_at
        if _is_plateau(course, accuracies, limits):
            at = course.settled_at
            of = f"{still:,} of {course.values:,} batches"
            evidence = f"{quantity.name} has not risen clearly since batch {_batch(group, at)}, in {of}"
            return _finding(
                group, rule, Status.WATCH, evidence, _event_at(group, at), _batch(group, at), _since(group, at), 1
            )
        rising = ", and still rises" if _rises(course, limits) else ""
        return _finding(group, rule, Status.OK, f"{quantity.name} rose from {change}{rising}")
    if course.errors(course.best, course.first) >= limits.learnt_errors:
        at = course.best_at
        evidence = (
            f"{quantity.name} had risen to {quantity.text(course.best)} by batch {_batch(group, at)} and lost it again"
        )
        return _finding(group, rule, Status.WATCH, evidence, _event_at(group, at), _batch(group, at), "", 1)
    if course.values < max(limits.enough_batches, _planned_batches(group) / 4):
        return _finding(group, rule, Status.UNKNOWN, f"no clear rise in {course.values:,} batches yet: {change}")
    evidence = f"{quantity.name} never rose clearly in {course.values:,} batches: {change}"
    return _finding(group, rule, Status.WATCH, evidence, _event_at(group, 1), None, _since(group, 0), 1)


def _accuracy_learnt(group: GroupSnapshot, course: Course | None) -> Finding:
    """Say whether accuracy rose. That it did not is no alarm: a task may be learnt before anything is grown."""
    rule, quantity = "accuracy_learnt", _quantity("accuracy")
    if course is None:
        return _finding(group, rule, Status.UNKNOWN, _too_early(group))
    change = f"{' to '.join(_apart(quantity, course.first, course.newest))}, {_errors(course.rise_errors)}"
    if _rose(course, group.health.limits):
        return _finding(group, rule, Status.OK, f"{quantity.name} rose from {change}")
    return _finding(group, rule, Status.UNKNOWN, f"no clear rise of the {quantity.name}: {change}")


def _rose(course: Course, limits: Limits) -> bool:
    """Whether a series ends clearly higher than it began: by its levels or, where noise changes, by its ranks."""
    by_ranks = course.trend_errors >= limits.trend_errors and course.newest - course.first >= course.spread / 2
    return course.rise_errors >= limits.learnt_errors or by_ranks


def _is_plateau(course: Course, accuracies: Course | None, limits: Limits) -> bool:
    flat = (course.values - course.settled_at) / course.values
    solved = accuracies is not None and accuracies.newest >= _SOLVED
    noisy = course.noise > _CERTAIN * (course.best - course.first)
    return course.values >= _LONG and flat > limits.plateau and noisy and not solved


def _rises(course: Course, limits: Limits) -> bool:
    quarter = course.levels[-1 - max(len(course.levels) // 4, 1)]
    return course.errors(course.newest, quarter) >= limits.learnt_errors


def _quantity(name: str) -> Quantity:
    return QUANTITIES[{"return": "avg_reward", "accuracy": "avg_accuracy"}[name]]


def _apart(quantity: Quantity, *values: float) -> list[str]:
    """Return different values with as many digits as it takes to tell them apart."""
    texts = [quantity.text(value) for value in values]
    if len(set(texts)) == len(set(values)):
        return texts
    return next((t for n in (6, 9, 12) if len(set(t := [f"{v:.{n}g}" for v in values])) == len(set(values))), texts)


def _errors(errors: float) -> str:
    return f"{number(round(errors, 1) + 0.0)} standard errors"  # never -0


def _too_early(group: GroupSnapshot) -> str:
    n = group.health.batches
    return "no batch yet" if not n else f"too early to say after {n:,} batch{'' if n == 1 else 'es'}"


def _planned_batches(group: GroupSnapshot) -> float:
    if group.batch is None:
        return 0.0
    planned = planned_episodes(group.batch.data)
    return 0.0 if planned is None else planned / max(group.batch.data.n_envs, 1)


def _event_at(group: GroupSnapshot, ordinal: int) -> TelemetryEvent | None:
    """Return the end of the batch that was the nth of the run, if it is kept."""
    ended = _ended(group, ordinal)
    return None if ended is None else ended.event


def _batch(group: GroupSnapshot, ordinal: int) -> int:
    ended = _ended(group, ordinal)
    return ordinal if ended is None else ended.data.batch_idx


def _ended(group: GroupSnapshot, ordinal: int) -> Entry[BatchEpochCompletedPayload] | None:
    at = len(group.batches) - (group.health.batches - ordinal) - 1
    return group.batches[at] if 0 <= at < len(group.batches) else None


def _since(group: GroupSnapshot, ordinal: int) -> str:
    n = group.health.batches
    return cost_since(group, n - ordinal, n, "batches", _event_at(group, ordinal))


# ── the answer ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Answer(NamedTuple):
    """Whether a policy learnt."""

    word: str
    """``yes``, ``no`` or ``not clear``."""
    reasons: tuple[str, ...]
    """The tests that say so, for return and for accuracy."""


def did_it_learn(group: GroupSnapshot, evaluation: Evaluation | None = None) -> Answer:
    """Say whether a policy learnt: yes or no only where return and accuracy agree.

    By the evaluation, if there is one: the learnt policy against chance and doing nothing, which it must exceed by
    three standard errors of the difference. Else by the newest batches against the first.
    """
    if evaluation is not None:
        learnt, others = evaluation.learnt, (evaluation.random, evaluation.do_nothing)
        margins = [
            ("episode return", min(learnt.reward.errors_above(other.reward) for other in others)),
            ("test accuracy", min(learnt.test_accuracy.errors_above(other.test_accuracy) for other in others)),
        ]
        reasons = tuple(
            f"by the {name}: {_errors(margin)} above chance and doing nothing, whichever is nearer"
            for name, margin in margins
        )
        return Answer(_word([_side(margin) for _, margin in margins]), reasons)
    sides, said = list[int](), list[str]()
    for name, series in (("return", "avg_reward"), ("accuracy", "avg_accuracy")):
        course, quantity = course_of(group.health.series[series]), _quantity(name)
        if course is None:
            if name == "return" or group.health.series[series]:
                said.append(f"by the {quantity.name}: {_too_early(group)}")
                sides.append(0)
            elif has_host(group):
                said.append(f"by the {quantity.name}: not measured")
            continue
        lost = course.drop() > group.health.limits.fell_bad and course.drop_errors() > group.health.limits.fell_errors
        enough = course.values >= group.health.limits.enough_batches
        side = -1 if lost else 1 if _rose(course, group.health.limits) else _side(course.rise_errors)
        sides.append(side if side > 0 or enough else 0)
        newest, first = quantity.text(course.newest), quantity.text(course.first)
        text = f"by the {quantity.name}: the newest {course.window} batches against the first, {newest} and {first}"
        by_ranks = f"by Kendall's trend test {number(round(course.trend_errors, 1))}"
        fell = f"; it fell from {quantity.text(course.best)}" if lost else ""
        said.append(f"{text}: {_errors(course.rise_errors)}, {by_ranks}{fell}")
    return Answer(_word(sides), tuple(said))


def _side(errors: float) -> int:
    """Return 1 for a clear rise, -1 for none, 0 between: two standard errors are no rise and three are one."""
    return 1 if errors >= 3 else -1 if errors < 2 else 0  # noqa: PLR2004 - as the docstring says; NaN is neither


def _word(sides: list[int]) -> str:
    return "yes" if sides and min(sides) > 0 else "no" if sides and max(sides) < 0 else "not clear"
