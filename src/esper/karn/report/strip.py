"""Health over the run: what each rule says of each batch, so that one sees when something began, and its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from esper.karn.derived import return_of
from esper.karn.formatting import is_finite
from esper.karn.report.findings import verdict_of
from esper.karn.report.plot import Arm
from esper.karn.verdict import Finding, gravest_first
from esper.leyline.health import judge_update
from esper.leyline.limits import Status
from esper.leyline.typical import Typical
from esper.leyline.update_rules import UPDATE_RULES

__all__ = ["COLUMNS", "Strip", "StripRow", "strip_of"]

COLUMNS: Final = 160
"""Columns at most: each is the worst of its batches, so that a single bad update of ten thousand is seen."""
_MEANINGLESS_ALONE: Final = {rule.name for rule in UPDATE_RULES if rule.remembers is None}
_OF_BATCHES: Final = ("return_finite", "hosts", "reward_finite")
_ORDER: Final = (Status.UNKNOWN, Status.OK, Status.WATCH, Status.BAD)
"""Of several batches in a column: what is known hides what is not."""


@dataclass(frozen=True, slots=True)
class StripRow:
    """One rule over the run."""

    finding: Finding
    cells: tuple[Status, ...]
    """The worst of each column."""


@dataclass(frozen=True, slots=True)
class Strip:
    """What the rules say over the run of an arm."""

    edges: tuple[tuple[float, float], ...]
    """Where each column begins and ends on the axis of the run."""
    rows: tuple[StripRow, ...]
    """Of every rule that judges updates or batches, the gravest first."""
    batches: int
    """How many there are, or updates in a log without batches."""
    of_updates: bool
    """Whether there are no batches."""

    @property
    def tripped(self) -> tuple[StripRow, ...]:
        """The rows in which something was found that means something."""
        return tuple(row for row in self.rows if row.finding.is_alarm or _has_tripped(row))

    @property
    def worst(self) -> tuple[Status, ...]:
        """Of each column the worst of all rows that tripped, or else whether anything is known."""
        told = self.tripped or self.rows
        return tuple(map(_worst, zip(*(row.cells for row in told), strict=True)))


def _has_tripped(row: StripRow) -> bool:
    alone = row.finding.rule not in _MEANINGLESS_ALONE
    return alone and any(cell in (Status.WATCH, Status.BAD) for cell in row.cells)


def _worst(statuses: Iterable[Status]) -> Status:
    return max(statuses, key=_ORDER.index, default=Status.UNKNOWN)


class _Unit(NamedTuple):
    """A batch, or an update of a log without batches."""

    start: float
    stop: float
    statuses: dict[str, Status]


def strip_of(arm: Arm) -> Strip:
    """Judge every update and batch of an arm anew, as the fold did."""
    units = _units(arm)
    n = min(len(units), COLUMNS)
    columns = [units[at * len(units) // n : (at + 1) * len(units) // n] for at in range(n)]
    findings = [
        one
        for one in gravest_first(verdict_of(arm).findings)
        if one.group is not None and (one.area == "PPO" or one.rule in _OF_BATCHES)
    ]
    return Strip(
        edges=tuple((part[0].start, part[-1].stop) for part in columns),
        rows=tuple(
            StripRow(one, tuple(_worst(unit.statuses[one.rule] for unit in part) for part in columns))
            for one in findings
        ),
        batches=len(units),
        of_updates=not arm.series.batches,
    )


def _units(arm: Arm) -> list[_Unit]:
    judged = _judged(arm)
    started = None if arm.group.started is None else arm.group.started.data
    if not arm.series.batches:
        updates = [update for _, update in arm.series.updates()]
        return [
            _Unit(float(at), at + 1.0, _of_updates([judged[id(update)]]) | dict.fromkeys(_OF_BATCHES, Status.UNKNOWN))
            for at, update in enumerate(updates)
        ]
    units = []
    for batch in arm.series.batches:
        statuses = _of_updates([judged[id(update)] for update in batch.updates])
        value = None if batch.completed is None else return_of(batch.completed, started)
        statuses["return_finite"] = _finite(value is not None, broken=value is not None and not is_finite(value))
        statuses["hosts"] = _finite(bool(batch.loss), broken=any(one.not_finite for one in batch.loss.values()))
        rewards = batch.returns.values()
        statuses["reward_finite"] = _finite(bool(rewards), broken=any(one.not_finite for one in rewards))
        units.append(_Unit(float(batch.start), float(batch.end), statuses))
    return units


def _finite(known: bool, *, broken: bool) -> Status:
    return Status.BAD if broken else Status.OK if known else Status.UNKNOWN


def _judged(arm: Arm) -> dict[int, tuple[Status, ...]]:
    """Return what every rule makes of every update, by the identity of its payload."""
    limits, typical = arm.group.health.limits, Typical()
    judged = {}
    for entry in arm.group.ppo:
        judged[id(entry.data)] = tuple([one.status for one in judge_update(entry.data, limits, typical)])
        typical = typical.after(entry.data)
    return judged


def _of_updates(judged: Sequence[tuple[Status, ...]]) -> dict[str, Status]:
    return {rule.name: _worst(of_update[at] for of_update in judged) for at, rule in enumerate(UPDATE_RULES)}
