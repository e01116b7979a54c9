"""Is the telemetry itself whole: did the run end well, was anything lost, is anything missing, do its clocks agree."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

from esper.karn.derived import known
from esper.karn.formatting import age, number, plural, tidy
from esper.karn.verdict import Finding
from esper.leyline.limits import Status

if TYPE_CHECKING:
    from esper.karn.snapshot import EnvSnapshot, GroupSnapshot, RunSnapshot
    from esper.leyline.run_info import RunInfo, SinkStats
    from esper.leyline.telemetry import TelemetryEvent

__all__ = ["telemetry_findings"]

_SILENT: Final = 600.0
"""Seconds without a batch, or an event, that are never called silence."""
_LOOKED_AT: Final = 8
"""Environments whose newest epochs are looked through for missing ones: a screen asks several times a second."""
_ODD: Final = 0.3
"""Share of episodes that are shorter than the start said, above which episodes just end when they like."""
_UNREADABLE: Final = 0.1
"""Share of lines that are no events from which on a log cannot be relied on."""


def telemetry_findings(
    snapshot: RunSnapshot, info: RunInfo | None, *, now: datetime | None, invalid: int | None, rejected: int | None
) -> Iterator[Finding]:
    """Judge the telemetry of a run; see `esper.karn.health.assess`."""
    yield _ended(snapshot, info, now)
    yield _lost(info, rejected)
    yield _unreadable(snapshot, invalid)
    yield _missing(snapshot)
    yield _silence(snapshot)
    yield _clocks(snapshot)


def _finding(
    rule: str, label: str, status: Status, evidence: str, times: int = 0, event: TelemetryEvent | None = None
) -> Finding:
    return Finding(
        rule=rule,
        area="telemetry",
        label=label,
        status=status,
        evidence=evidence,
        times=times,
        first=event,
        newest=event,
    )


def _ended(snapshot: RunSnapshot, info: RunInfo | None, now: datetime | None) -> Finding:
    rule, label = "ended", "end"
    failed = next((group.health.failed for group in snapshot.groups.values() if group.health.failed), None)
    if failed is not None:
        return _finding(rule, label, Status.BAD, f"the run failed: {tidy(failed.message, 200)}", 1, failed)
    if info is None:
        return _finding(rule, label, Status.UNKNOWN, "there is no run.json")
    if info.status == "failed":
        return _finding(
            rule, label, Status.BAD, f"the run failed: {tidy(info.error or 'no error is recorded', 200)}", 1
        )
    newest = snapshot.log.newest
    if info.status == "running" and now is not None and newest is not None:
        quiet = (now - newest.timestamp).total_seconds()
        if quiet > max(_SILENT, *(20 * (group.health.typical_interval or 0.0) for group in snapshot.groups.values())):
            evidence = f"run.json says running, and nothing came for {age(quiet)}: it was killed, or hangs"
            return _finding(rule, label, Status.WATCH, evidence, 1, newest)
    return _finding(rule, label, Status.OK, {"running": "it is running"}.get(info.status, f"it was {info.status}"))


def _lost(info: RunInfo | None, rejected: int | None) -> Finding:
    rule, label = "lost", "delivery"
    if rejected:
        return _finding(rule, label, Status.BAD, f"{plural(rejected, 'event')} could not be written", rejected)
    if info is None or not info.sinks:
        return _finding(rule, label, Status.UNKNOWN, "no account of the sinks")
    over = info.status != "running"
    durable = [(sink, _missed(sink, over=over)) for sink in info.sinks if sink.durable]
    missed = sum(n for _, n in durable)
    if missed or any(sink.set_aside for sink, _ in durable):
        lacking = ", ".join(
            f"{tidy(sink.name, 20)} lacks {plural(n, 'event')}{' and was set aside' if sink.set_aside else ''}"
            for sink, n in durable
            if n or sink.set_aside
        )
        return _finding(rule, label, Status.BAD, lacking, missed)
    aside = [tidy(sink.name, 20) for sink in info.sinks if sink.set_aside]
    if aside:
        return _finding(rule, label, Status.WATCH, f"set aside after a failure: {', '.join(aside)}", len(aside))
    skipped = sum(sink.dropped for sink in info.sinks if not sink.durable)
    views = f", live views skipped {plural(skipped, 'event')}" if skipped else ""
    return _finding(rule, label, Status.OK, f"nothing was lost{views}")


def _missed(sink: SinkStats, *, over: bool) -> int:
    return sink.rejected + sink.dropped + (sink.queued if over else 0)


def _unreadable(snapshot: RunSnapshot, invalid: int | None) -> Finding:
    rule, label = "unreadable", "lines"
    if invalid is None:
        return _finding(rule, label, Status.UNKNOWN, "nobody looked for lines that are no events")
    if not invalid:
        return _finding(rule, label, Status.OK, "every line is an event")
    many = invalid >= _UNREADABLE * (snapshot.n_events + invalid)
    evidence = f"{plural(invalid, 'line')} of the log {'is' if invalid == 1 else 'are'} no event"
    return _finding(rule, label, Status.BAD if many else Status.WATCH, evidence, invalid)


def _missing(snapshot: RunSnapshot) -> Finding:
    rule, label = "missing", "gaps"
    groups = snapshot.groups.values()
    # others number what they collect, whether an episode ends in it or not
    in_step = [group for group in groups if group.started is not None and known(group.started.data.max_epochs)]
    batches = sum(group.health.missing for group in in_step)
    updates = sum(_updates_missing(group) for group in groups)
    epochs = sum(
        _epochs_missing(env, group.started and known(group.started.data.max_epochs))
        for group in groups
        for env in islice(group.envs.values(), _LOOKED_AT)
    )
    missing = [
        *([f"{plural(batches, 'batch')} of those in between"] if batches else []),
        *([f"{plural(updates, 'update')} of completed batches"] if updates else []),
        *([f"{number(epochs)} of the newest epochs"] if epochs else []),
        *([f"{plural(snapshot.omitted, 'event')} of more names than are kept"] if snapshot.omitted else []),
    ]
    if missing:
        return _finding(rule, label, Status.WATCH, f"missing: {', '.join(missing)}", batches + updates + epochs)
    begun = any(group.health.batches or group.envs for group in groups)
    return _finding(
        rule, label, Status.OK if begun else Status.UNKNOWN, "nothing is missing" if begun else "no event yet"
    )


def _updates_missing(group: GroupSnapshot) -> int:
    """Return the updates that the log skips, by the batches that they say they learnt from."""
    named = [entry.data.batch for entry in group.ppo if "batch" in entry.data.supplied]
    return sum(after - before - 1 for before, after in pairwise(named) if after > before)


def _epochs_missing(env: EnvSnapshot, max_epochs: int | None) -> int:
    """Return the epochs that an environment skips, among its newest: within episodes and, if all are equal, between."""
    epochs = [entry.data.inner_epoch for entry in env.epochs]
    within = sum(after - before - 1 for before, after in pairwise(epochs) if after > before)
    ends = [(before, after) for before, after in pairwise(epochs) if after <= before]
    short = [
        max_epochs - before + after - 1 for before, after in ends if max_epochs and before + 1 - after < max_epochs
    ]
    return within + (sum(short) if len(short) <= _ODD * len(ends) else 0)


def _silence(snapshot: RunSnapshot) -> Finding:
    rule, label = "silence", "pauses"
    timed = [group for group in snapshot.groups.values() if group.health.typical_interval is not None]
    for group in timed:
        typical, longest = group.health.typical_interval or 0.0, group.health.longest_interval
        if longest > max(_SILENT, group.health.limits.silence * typical):
            evidence = f"{age(longest)} passed between two batches, typically {age(typical)}"
            return _finding(rule, label, Status.WATCH, evidence, 1)
    status = Status.OK if timed else Status.UNKNOWN
    return _finding(rule, label, status, "none" if timed else "no two batches yet")


def _clocks(snapshot: RunSnapshot) -> Finding:
    rule, label = "clocks", "clock"
    back = sum(group.health.set_back for group in snapshot.groups.values())
    if back:
        times = "once" if back == 1 else f"{back:,} times"
        return _finding(rule, label, Status.WATCH, f"a batch ended before the one before it, {times}", back)
    timed = any(group.health.batches > 1 for group in snapshot.groups.values())
    return _finding(
        rule, label, Status.OK if timed else Status.UNKNOWN, "goes forward" if timed else "no two batches yet"
    )
