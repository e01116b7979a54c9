"""A verdict as JSON: what ``esper health --json`` prints, run.json keeps, and a notification is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esper.leyline.run_info import RecordedFinding, RecordedVerdict
from esper.leyline.strict_json import strict_json

if TYPE_CHECKING:
    from esper.karn.verdict import Finding, Verdict

__all__ = ["recorded", "verdict_json"]


def recorded(verdict: Verdict) -> RecordedVerdict:
    """Return a verdict as run.json keeps it: without the events, which the log has, but with their identifiers."""
    return RecordedVerdict(
        status=verdict.status.name,
        headline=verdict.headline,
        findings=tuple(map(_recorded, verdict.findings)),
    )


def _recorded(finding: Finding) -> RecordedFinding:
    advice = finding.advice
    return RecordedFinding(
        rule=finding.rule,
        area=finding.area,
        group=finding.group,
        status=finding.status.name,
        evidence=finding.evidence,
        times=finding.times,
        of=finding.of,
        first_event=None if finding.first is None else finding.first.event_id,
        first_time=None if finding.first is None else finding.first.timestamp,
        newest_event=None if finding.newest is None else finding.newest.event_id,
        since_batch=finding.since,
        cost=finding.cost,
        cause=None if advice is None else advice.cause,
        remedy=None if advice is None else advice.remedy,
        source=None if advice is None else advice.source,
    )


def verdict_json(verdict: Verdict) -> str:
    """Return a verdict as strict JSON."""
    return strict_json(recorded(verdict))
