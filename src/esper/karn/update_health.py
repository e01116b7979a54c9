"""How PPO is: what the rules for updates found in a run."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

from esper.karn.formatting import number
from esper.karn.verdict import NOW, SHARE_BAD, Finding, cost_since, how_often
from esper.leyline.limits import Status
from esper.leyline.trend import course_of
from esper.leyline.typical import value_of

if TYPE_CHECKING:
    from esper.karn.snapshot import GroupSnapshot
    from esper.karn.tally import HealthSnapshot, Occurrence, Tally, Trips
    from esper.leyline.telemetry import PPOUpdatePayload, TelemetryEvent
    from esper.leyline.update_rules import UpdateRule

__all__ = ["update_finding"]

_LASTING: Final = 10
"""Newest updates of which half must have tripped, where a single one means nothing."""
_SHARE_WATCH: Final = 0.1
"""The same for WATCH."""
_FEW: Final = 8
"""Updates below which no share of them means anything."""
_GAUSSIAN: Final = 0.5 * math.log(2 * math.pi * math.e)
"""Entropy of a normal distribution of standard deviation 1, at which continuous policies commonly begin. Unit: nats."""


def update_finding(group: GroupSnapshot, rule: UpdateRule, health: HealthSnapshot, *, at_its_best: bool) -> Finding:
    """Judge the updates of a run by one rule.

    Args:
        group: the run.
        rule: for updates.
        health: what it found.
        at_its_best: whether the return rose and is at its best: then a certain policy is not a collapsed one.
    """
    tally = health.rules[rule.name]
    finding = partial(Finding, rule=rule.name, area="PPO", group=group.group_id, label=rule.label)
    if rule.name == "entropy" and not tally.judged:
        status, evidence = _entropy(health, at_its_best=at_its_best)
        tripped = int(status in (Status.WATCH, Status.BAD))
        newest_event = None if group.update is None else group.update.event
        return finding(status=status, evidence=evidence, times=tripped, of=health.updates, newest=newest_event)
    if not tally.judged:
        return finding(status=Status.UNKNOWN, evidence="not supplied" if health.updates else "no update yet")
    status, level = _status_of(rule, tally)
    if rule.name == "entropy" and status is Status.BAD and at_its_best:
        status = Status.WATCH
    if rule.name == "still" and at_its_best and 2 * tally.watch.count < tally.judged:
        status = level = Status.OK
    trips = tally.bad if level is Status.BAD else tally.watch
    first, newest = trips.first, trips.newest
    if level is Status.OK or first is None or newest is None:
        seen = tally.watch.count
        rare = f", but for {seen} of {tally.judged:,} updates" if seen else f" in {tally.judged:,} updates"
        evidence = f"{rule.label} well{rare}"
        return finding(
            status=Status.OK,
            evidence=evidence,
            times=seen,
            of=tally.judged,
            first=_event(tally.watch.first),
            newest=_event(tally.watch.newest),
        )
    return finding(
        status=status,
        evidence=_evidence(rule, health, tally, trips, level),
        times=trips.count,
        of=tally.judged,
        first=first.event,
        newest=newest.event,
        since=first.batch,
        cost=cost_since(group, health.updates - first.ordinal, health.updates, "updates", first.event),
    )


def _event(occurrence: Occurrence | None) -> TelemetryEvent | None:
    return None if occurrence is None else occurrence.event


def _status_of(rule: UpdateRule, tally: Tally) -> tuple[Status, Status]:
    """Return what a rule says of a run, and the level whose trips say so."""
    judged, bad, watch = tally.judged, tally.bad, tally.watch
    window = min(judged, _LASTING)
    if rule.remembers is None:
        if judged < _LASTING // 2:
            return Status.OK, Status.OK
        for level, trips in ((Status.BAD, bad), (Status.WATCH, watch)):
            if 2 * trips.recently(window) >= window:
                return level, level
        return Status.OK, Status.OK
    if bad.count:
        newest = min(judged, NOW)
        lasts = 2 * bad.recently(newest) >= newest or (judged >= _FEW and bad.count >= SHARE_BAD * judged)
        return (Status.BAD if lasts else Status.WATCH), Status.BAD
    often = judged >= _FEW and watch.count >= max(_SHARE_WATCH * judged, 2)
    if watch.count and (rule.remembers is Status.WATCH or often or 2 * watch.recently(window) >= window):
        return Status.WATCH, Status.WATCH
    return Status.OK, Status.OK


def _evidence(rule: UpdateRule, health: HealthSnapshot, tally: Tally, trips: Trips, level: Status) -> str:
    first, extreme = trips.first, trips.extreme
    assert first is not None
    assert extreme is not None
    worst = extreme.value
    tripped = rule.tripped(health.limits, level)
    if worst is not None and not math.isfinite(worst):
        tripped = (
            "not finite" if trips.count == 1 else f"{tripped} or not finite" if tripped != "not finite" else tripped
        )
    at_worst = (
        f" ({number(worst)} at worst)" if worst is not None and math.isfinite(worst) and worst not in (0, 1) else ""
    )
    lately = tally.judged <= NOW or trips.recently(NOW) > 0
    often = how_often(trips.count, tally.judged, "updates", since=first.batch, lately=lately)
    text = f"{rule.label} {tripped}{at_worst} {often}"
    before = _before(rule, trips.before)
    return f"{text}; {before}" if before else text


_COMPARED: Final = {
    "entropy": "entropy",
    "kl_divergence": "KL",
    "clip_fraction": "clip fraction",
    "grad_norm": "gradient norm",
    "value_loss": "value loss",
    "lr": "learning rate",
    "ratio_max": "largest ratio",
}
"""What may have risen before something happened, or, as the entropy, fallen; by field."""
_CHANGED: Final = math.log(2.0)
"""Change of a logarithm from which on it is worth a word."""


def _before(rule: UpdateRule, updates: tuple[PPOUpdatePayload, ...]) -> str:
    """Say what changed most in the updates before a rule tripped first: twice or half of what it was, at least."""
    if len(updates) < 2:  # noqa: PLR2004 - a change is between two
        return ""
    changes = []
    for name, label in _COMPARED.items():
        then, since = value_of(updates[0], name), value_of(updates[-1], name)
        if (
            name != rule.field
            and then is not None
            and since is not None
            and 0 < min(then, since) <= max(then, since) < math.inf
        ):
            rose = math.log(since) - math.log(then)
            changes.append((-rose if name == "entropy" else rose, label, then, since))
    if not changes or max(changes)[0] < _CHANGED:
        return ""
    _, label, then, since = max(changes)
    moved = "fell" if since < then else "rose"
    return f"{label} {moved} from {number(then)} to {number(since)} in the {len(updates)} updates before"


def _entropy(health: HealthSnapshot, *, at_its_best: bool) -> tuple[Status, str]:
    """Compare an entropy that came without a flag with its own beginning; one that is negative is differential."""
    limits, blocks = health.limits, health.series["entropy"]
    course = course_of(blocks)
    status, evidence = (
        Status.UNKNOWN,
        "no update yet" if not blocks else f"too early to say after {health.updates:,} updates",
    )
    if course is not None:
        begun, newest = course.first, course.newest
        differential = any(block.mean < 0 for block in blocks)
        if differential:
            share = math.exp((newest - begun) / max(begun / _GAUSSIAN, 1.0))
            low, lowest, what = limits.spread_watch, limits.spread_bad, "standard deviation an action is"
        else:
            share = newest / begun if begun > 0 else 1.0
            low, lowest, what = limits.entropy_watch, limits.entropy_bad, "entropy is"
        status = Status.BAD if share < lowest else Status.WATCH if share < low else Status.OK
        if at_its_best and status is not Status.OK:
            status = Status.WATCH if status is Status.BAD else Status.OK  # certain, and right so far
        evidence = f"{what} {share:.3g} of its beginning ({number(begun)} to {number(newest)} nats)"
    return status, evidence
