"""How hosts and seeds are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from esper.karn.verdict import NOW, SHARE_BAD, Finding, cost_since, how_often
from esper.leyline.limits import Status

if TYPE_CHECKING:
    from esper.karn.snapshot import GroupSnapshot
    from esper.leyline.telemetry import TelemetryEvent

__all__ = ["host_findings"]


def host_findings(group: GroupSnapshot) -> Iterator[Finding]:
    """Judge hosts, rewards, seeds and slots."""
    health = group.health
    yield _of_marks(group, "hosts", "hosts", "a host diverged", health.hosts)
    yield _of_marks(group, "reward_finite", "step rewards", "a reward was not finite", health.rewards)
    yield _seeds_die(group)
    yield _slot_unused(group)


def _of_marks(
    group: GroupSnapshot, rule: str, label: str, what: str, marks: Mapping[int | None, TelemetryEvent]
) -> Finding:
    batches = group.health.batches
    finding = partial(Finding, rule=rule, area="hosts", group=group.group_id, label=label)
    if not marks:
        supplied = any(env.epoch is not None or env.reward is not None for env in group.envs.values())
        status = Status.OK if supplied else Status.UNKNOWN
        evidence = f"none in {batches:,} batches" if supplied else "not supplied"
        return finding(status=status, evidence=evidence, of=batches)
    known = sorted(batch for batch in marks if batch is not None)
    newest_batch = None if group.batch is None else group.batch.data.batch_idx
    recent = sum(newest_batch is None or batch > newest_batch - NOW for batch in known) + (None in marks)
    window = min(max(batches, 1), NOW)
    lasts = 2 * recent >= window or len(marks) >= max(SHARE_BAD * batches, 2)
    first, newest = (marks[known[0]], marks[known[-1]]) if known else (marks[None], marks[None])
    since = known[0] if known else None
    often = how_often(len(marks), max(batches, len(marks)), "batches", since=since, lately=lasts or recent > 0)
    return finding(
        status=Status.BAD if lasts else Status.WATCH,
        evidence=f"{what} {often}",
        times=len(marks),
        of=batches,
        first=first,
        newest=newest,
        since=since,
        cost=""
        if newest_batch is None or since is None
        else cost_since(group, max(newest_batch - since, 0), batches, "batches", first),
    )


def _seeds_die(group: GroupSnapshot) -> Finding:
    totals = group.lifecycle.values()
    kept = sum(of.fossilized for of in totals)
    died = sum(of.pruned + of.pruned_by_policy + of.pruned_by_rule for of in totals)
    status, evidence = Status.UNKNOWN, "no seed ended yet"
    if died or kept:
        enough = died + kept >= group.health.limits.seeds
        status = Status.OK if kept else Status.WATCH if enough else Status.UNKNOWN
        evidence = f"{kept:,} of {died + kept:,} seeds were kept"
    return Finding(
        rule="seeds_die",
        area="hosts",
        group=group.group_id,
        label="seeds",
        status=status,
        evidence=evidence,
        times=died,
        of=died + kept,
    )


def _slot_unused(group: GroupSnapshot) -> Finding:
    slots = () if group.started is None else group.started.data.slot_ids
    empty = set(slots)
    for env in group.envs.values():
        empty.difference_update(env.slots)
        if not empty:
            break
    germinated = sum(of.germinated for of in group.lifecycle.values())
    unused = [slot for slot in slots if slot in empty]
    enough = germinated >= group.health.limits.seeds
    status = (
        Status.UNKNOWN
        if not slots or not germinated or (unused and not enough)
        else Status.WATCH
        if unused
        else Status.OK
    )
    evidence = f"{len(slots) - len(unused)} of {len(slots)} slots had a seed" if slots else "no slot is known"
    return Finding(
        rule="slot_unused",
        area="hosts",
        group=group.group_id,
        label="slots",
        status=status,
        evidence=evidence,
        times=len(unused),
        of=len(slots),
    )
