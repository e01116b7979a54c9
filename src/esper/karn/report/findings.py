"""Is it well: the verdict of each arm, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from esper.karn.formatting import ABSENT
from esper.karn.report.plot import Arm, Fold, Section, Table
from esper.karn.verdict import AREAS, Finding, Verdict, tally_text

__all__ = ["findings", "verdict_of"]

_SAYS = (
    "The verdict over the whole run, as esper health gives it: rules on learning, PPO, hosts, seeds and the telemetry "
    "itself. BAD is wrong now, WATCH was wrong or deserves a look, UNKNOWN was not supplied or is too early to say."
)


def verdict_of(arm: Arm) -> Verdict:
    """Return the verdict over one arm, and the telemetry that all share."""
    return arm.log.verdict.of(arm.group_id)


def findings(arms: Sequence[Arm]) -> Section:
    """Return what was found, and what every rule says."""
    parts: list[Table | Fold] = []
    for arm in arms:
        verdict = verdict_of(arm)
        title = f"{verdict.status.value} {verdict.status.name}: {tally_text(verdict.findings)}"
        name = title if len(arms) == 1 else f"{arm.label} {title}"
        if verdict.alarms:
            head = ["", "what was found", "first", "since then", "usual cause", "try first", "source"]
            parts.append(Table(head, [_alarm(one) for one in verdict.alarms], name, text=True))
        rest = [one for area in AREAS for one in verdict.findings if one.area == area and not one.is_alarm]
        other, which = "other " if verdict.alarms else "", f"{arm.label}: " if len(arms) > 1 else ""
        rows = [[f"{one.status.value} {one.status.name}", one.area, one.label, one.evidence] for one in rest]
        table = Table(["", "about", "rule", "what it says"], rows, text=True)
        parts.append(Fold(f"{which}Every {other}rule: {tally_text(rest)}", [table]))
    return Section("Is it well?", "Rules", _SAYS, parts)


def _alarm(finding: Finding) -> list[str]:
    advice = finding.advice
    assert advice is not None  # it is an alarm
    first = ABSENT if finding.first is None else finding.first.timestamp.strftime("%Y-%m-%d %H:%M:%S UTC")
    return [
        f"{finding.status.value} {finding.status.name}",
        finding.evidence,
        first,
        finding.cost or ABSENT,
        advice.cause,
        advice.remedy,
        advice.source,
    ]
