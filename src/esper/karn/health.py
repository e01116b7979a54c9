"""The one verdict over a run: is it well, since when not, and why. Every view shows it, none has another.

>>> verdict = assess(aggregator.snapshot())
>>> verdict.status.name, verdict.headline
"""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING

from esper.karn.health_fold import HealthFold
from esper.karn.host_health import host_findings
from esper.karn.learning import learning_findings, returns_well
from esper.karn.telemetry_health import telemetry_findings
from esper.karn.update_health import update_finding
from esper.karn.verdict import Finding, Verdict
from esper.leyline.limits import Limits
from esper.leyline.update_rules import UPDATE_RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from esper.karn.snapshot import GroupSnapshot, RunSnapshot
    from esper.leyline.run_info import RunInfo

__all__ = ["assess"]


def assess(
    snapshot: RunSnapshot,
    run_info: RunInfo | None = None,
    *,
    now: datetime | None = None,
    invalid: int | None = None,
    rejected: int | None = None,
) -> Verdict:
    """Judge a run by all rules.

    Args:
        snapshot: what the events amount to. Its limits were fixed when folding began; where they were the
            convention's and ``run_info`` has a ``target_kl``, the updates are judged again if all are kept.
        run_info: what run.json says; None when there is none.
        now: to tell a run that is silent from one that has ended; None where nobody waits for it.
        invalid: lines of the log that are no events; None when nobody looked.
        rejected: events set aside beside the log; None when nobody looked.
    """
    configuration = {} if run_info is None else run_info.configuration
    limits = Limits.of_run(configuration)
    of_groups = chain.from_iterable(_of_group(group, limits) for group in snapshot.groups.values())
    beside = telemetry_findings(snapshot, run_info, now=now, invalid=invalid, rejected=rejected)
    return Verdict((*of_groups, *beside))


def _of_group(group: GroupSnapshot, limits: Limits) -> Iterator[Finding]:
    health = group.health
    if limits.target_kl is not None and health.limits.target_kl is None and health.updates <= len(group.ppo):
        fold = HealthFold(Limits(target_kl=limits.target_kl, clip_ratio=health.limits.clip_ratio), None)
        for entry in group.ppo:
            fold.add_update(entry.event, entry.data, entry.position.batch)
        rules = fold.freeze()
    else:
        rules = health
    learning = tuple(learning_findings(group))
    yield from learning
    best = returns_well(learning)
    for rule in UPDATE_RULES:
        yield update_finding(group, rule, rules, at_its_best=best)
    yield from host_findings(group)
