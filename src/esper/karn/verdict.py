"""A verdict, and the findings that it is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from esper.leyline.advice import ADVICE, Advice
from esper.leyline.limits import Status, gravest
from esper.leyline.telemetry import TelemetryEvent

if TYPE_CHECKING:
    from esper.karn.snapshot import GroupSnapshot

__all__ = [
    "AREAS",
    "NOW",
    "SHARE_BAD",
    "Area",
    "Finding",
    "Verdict",
    "cost_since",
    "gravest_first",
    "how_often",
    "tally_text",
]

Area: TypeAlias = Literal["learning", "PPO", "hosts", "telemetry"]
AREAS: tuple[Area, ...] = ("learning", "PPO", "hosts", "telemetry")
"""In the order of every view."""
NOW: Final = 4
"""Newest updates of which half must have tripped for BAD: one spike is over with the next update."""
SHARE_BAD: Final = 0.25
"""Share of a run's updates that is BAD even if the newest ones are well."""
_ALARMS = (Status.WATCH, Status.BAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule makes of a run."""

    rule: str
    area: Area
    group: str | None = None
    """The group it is about; None for the log as a whole."""
    label: str
    """What the rule is about, in a word or two."""
    status: Status
    evidence: str
    """What decided, in a sentence that says over which window."""
    times: int = 0
    """How often it was found. Unit: updates, batches or events; 0 or more."""
    of: int = 0
    """Of how many that could be judged. Unit: the same; 0 or more."""
    first: TelemetryEvent | None = None
    """The first event that showed it; None where nothing was found, or no single event shows it."""
    newest: TelemetryEvent | None = None
    """The newest event that showed it."""
    since: int | None = None
    """Batch of the first event; None when unknown. Unit: index; 0 or more."""
    cost: str = ""
    """What it has cost so far: updates or batches, and the share of the run's time, since it was first found."""

    @property
    def is_alarm(self) -> bool:
        """Whether somebody should look at it."""
        return self.status in _ALARMS

    @property
    def advice(self) -> Advice | None:
        """What usually causes it and what to try first; None where there is nothing to mend."""
        return ADVICE[self.rule] if self.is_alarm else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run is well."""

    findings: tuple[Finding, ...]
    """One a rule and group, in the order of every view."""
    _by_group: dict[str | None, list[tuple[int, Finding]]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """With their places: a log may have thousands of groups, and each of them is asked about."""

    def __post_init__(self) -> None:
        for place, one in enumerate(self.findings):
            self._by_group.setdefault(one.group, []).append((place, one))

    @property
    def status(self) -> Status:
        """The gravest that was found.

        UNKNOWN hides nothing and is no alarm: it is the answer only while neither learning nor PPO is known to be well.
        """
        worst = gravest(*(one.status for one in self.findings if one.status is not Status.UNKNOWN))
        if worst is not Status.OK:
            return worst
        groups = {one.group for one in self.findings} - {None}
        well = all(self._is_known(group, area) for group in groups for area in ("learning", "PPO"))
        return Status.OK if groups and well else Status.UNKNOWN

    def _is_known(self, group: str | None, area: str) -> bool:
        known = {one.rule for _, one in self._by_group[group] if one.status is Status.OK and one.area == area}
        return "return_learnt" in known if area == "learning" else bool(known)

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Return what is BAD, then what is WATCH."""
        return tuple(one for one in gravest_first(self.findings) if one.is_alarm)

    @property
    def headline(self) -> str:
        """The verdict in a line, which begins with its status."""
        name = self.status.name
        if self.alarms:
            first, *others = self.alarms
            more = f" (and {len(others)} more)" if others else ""
            return f"{name} {_about(first)}{first.evidence}{more}"
        if all(one.group is None for one in self.findings):
            return f"{name} no event"
        status = self.status  # of what decides whether a run is well without an alarm
        said = [one for one in self.findings if one.rule == "return_learnt" and one.status is status]
        return f"{name} {'; '.join(f'{_about(one)}{one.evidence}' for one in said) or 'no update says how PPO is'}"

    def of(self, group: str | None) -> Verdict:
        """Return the verdict over one group and, as it covers all groups, the telemetry."""
        places = [place for each in {group, None} if each in self._by_group for place in self._by_group[each]]
        return Verdict(tuple(one for _, one in sorted(places, key=itemgetter(0))))


def _about(finding: Finding) -> str:
    return "" if finding.group in (None, "default") else f"{finding.group}: "


def gravest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings with the gravest first, else in their order."""
    order = list(Status)
    return tuple(sorted(findings, key=lambda one: -order.index(one.status)))


def tally_text(findings: Iterable[Finding]) -> str:
    """Return how many rules say what, the gravest first: ``2 BAD, 11 OK``."""
    statuses = [one.status for one in findings]
    counts = [(statuses.count(status), status.name) for status in reversed(Status)]
    return ", ".join(f"{count} {name}" for count, name in counts if count)


def how_often(times: int, of: int, unit: str, *, since: int | None, lately: bool) -> str:
    """Say how often something was found, since which batch, and whether it is over."""
    when = "" if since is None else f", first in batch {since:,}"
    return f"in {times:,} of {of:,} {unit}{when}{'' if lately else ', not in the newest'}"


def cost_since(group: GroupSnapshot, since: int, of: int, unit: str, first: TelemetryEvent | None) -> str:
    """Say how much of a run came after something: so much may have to be done again."""
    start, newest = group.started, group.batch or group.update
    text = f"{since:,} of {of:,} {unit}"
    if start is None or newest is None or first is None:
        return text
    whole = (newest.event.timestamp - start.event.timestamp).total_seconds()
    after = (newest.event.timestamp - first.timestamp).total_seconds()
    return f"{text} and {after / whole:.0%} of the run's time" if 0 <= after <= whole and whole > 0 else text
