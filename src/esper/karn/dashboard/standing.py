"""The main screen's first lines: did it learn, what is wrong since when, how far is it, what was best."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from esper.karn.dashboard.following import Phase
from esper.karn.dashboard.rows import Row, Span, Tone, line
from esper.karn.derived import evaluation_of, known, planned_episodes
from esper.karn.formatting import (
    ABSENT,
    age,
    bar,
    columns,
    fraction,
    is_finite,
    number,
    plural,
    signed,
    tidy,
)
from esper.karn.learning import did_it_learn
from esper.karn.progress import eta_seconds, played_text, unsupplied_text
from esper.karn.quantities import QUANTITIES
from esper.karn.snapshot import Ending
from esper.karn.verdict import tally_text
from esper.leyline.limits import Status
from esper.leyline.telemetry import SeedFossilizedPayload

if TYPE_CHECKING:
    from esper.karn.dashboard.best import Episode
    from esper.karn.dashboard.following import View
    from esper.karn.snapshot import GroupSnapshot, SeedRecord
    from esper.karn.verdict import Finding, Verdict

__all__ = ["STATUS_TONES", "since_text", "standing_rows", "troubles"]

STATUS_TONES: dict[Status, Tone] = {
    Status.OK: "ok",
    Status.UNKNOWN: "unknown",
    Status.WATCH: "watch",
    Status.BAD: "bad",
}
_KEYS = 9
"""Troubles with a key of their own."""
_INDENT = 13
_LEAST_BAR = 4


def troubles(view: View) -> tuple[Finding, ...]:
    """Return what is BAD, then what is WATCH, of all arms."""
    return view.of_all.alarms


def standing_rows(view: View, width: int, height: int) -> list[Row]:
    """Return how each arm stands, and every trouble with its beginning.

    Where not all of it fits, sentences are shorter; where that does not either, it says how many troubles are left.
    """
    if view.group is None:
        return _before_the_first_event(view, width)
    rows = _rows(view, width, short=False)
    if len(rows) > height:
        rows = _rows(view, width, short=True, room=height)
    return rows


def _rows(view: View, width: int, *, short: bool, room: int = 1 << 30) -> list[Row]:
    groups = list(view.snapshot.groups.values())
    head = [row for group in groups for row in _standing(view, group, width, short=short)]
    progress = [row for group in groups for row in _progress(view, group, width)]
    best = [row for group in groups for row in _best(view, group, width, short=short)]
    found = [_trouble(view, at, finding, width, short=short) for at, finding in enumerate(troubles(view))]
    n_rows = sum(map(len, found))
    if len(head) + n_rows + len(progress) + len(best) > room:
        best = []
    left = room - len(head) - len(progress)
    shown: list[Row] = []
    while found and (len(shown) + len(found[0]) < left or n_rows <= left):
        shown += found.pop(0)
    if found:
        and_, behind = ("and ", " more") if shown else ("", "")
        shown.append(line((f" {and_}{plural(len(found), 'trouble')}{behind} (u)", "watch"), opens="health"))
    return [*head, *shown, *progress, *best]


def _before_the_first_event(view: View, width: int) -> list[Row]:
    if view.phase is Phase.ENDED and not view.snapshot.n_events:
        return [line(f" {tidy(view.source)} ended without a single event.")]
    if view.phase is Phase.WAITING:
        return [
            line(f" Waiting for the first event of {tidy(view.source, max(width - 33, 10))}."),
            line((" This screen fills itself as soon as the run begins.", "dim")),
        ]
    return [line(" No event yet.")]


def _standing(view: View, group: GroupSnapshot, width: int, *, short: bool) -> list[Row]:
    several = len(view.snapshot.groups) > 1
    verdict = view.of_all.of(group.group_id)
    evaluation = evaluation_of(view.snapshot, view.info, group.group_id)
    name = _name(view, group)
    learnt = f"{name}learnt: {did_it_learn(group, evaluation).word}"
    if view.reading is not None:
        learnt = f"{name}so far: {did_it_learn(group, evaluation).word}"
    said = [_return_text(verdict), _tally(verdict)] if not verdict.alarms else [_tally(verdict)]
    spans: list[Span] = [
        (f" {verdict.status.value} {verdict.status.name} ", STATUS_TONES[verdict.status]),
        (f" {learnt} ", "title"),
    ]
    room = width - sum(columns(text) for text, _ in spans) - 2
    text = " · ".join(part for part in said if part)
    if columns(text) <= room:
        return [line(*spans, (f" {text}", "plain"), opens="health")]
    if short and (verdict.alarms or several):
        return [line(*spans, (f" {_tally(verdict)}", "plain"), opens="health")]
    return [
        line(*spans, (f" {_tally(verdict)}", "plain"), opens="health"),
        *(line(f"   {part}", opens="health") for part in textwrap.wrap(_return_text(verdict), max(width - 4, 20))),
    ]


def _name(view: View, group: GroupSnapshot) -> str:
    """Return what tells an arm from others, before what is said of it."""
    return f"{tidy(group.group_id, 16)}: " if len(view.snapshot.groups) > 1 else ""


def _return_text(verdict: Verdict) -> str:
    return next((one.evidence for one in verdict.findings if one.rule == "return_learnt"), "")


def _tally(verdict: Verdict) -> str:
    """Return how many rules say what, and where all of them stand."""
    return f"{tally_text(verdict.findings)} (u: all rules)" if verdict.findings else ""


def since_text(view: View, finding: Finding) -> str:
    """Return when a finding began: batch, episode and how long ago; nothing where no event says so."""
    parts = [] if finding.since is None else [f"batch {finding.since:,}", *_episode(view, finding)]
    if finding.first is not None:
        parts.append(f"{age(max((view.now - finding.first.timestamp).total_seconds(), 0.0))} ago")
    return f"since {', '.join(parts)}" if parts else ""


def _episode(view: View, finding: Finding) -> list[str]:
    group = view.snapshot.groups.get(finding.group or "")
    if group is None or not group.batches or finding.since is None:
        return []
    at = finding.since - group.batches[0].data.batch_idx
    if not 0 <= at < len(group.batches) or group.batches[at].data.batch_idx != finding.since:
        return []
    episodes = group.batches[at].episodes
    return [] if episodes is None else [f"episode {episodes:,}"]


def _trouble(view: View, at: int, finding: Finding, width: int, *, short: bool) -> list[Row]:
    key = f"{at + 1}" if at < _KEYS else " "
    several = len(view.snapshot.groups) > 1 and finding.group is not None
    arm = f"{tidy(finding.group or '', 16)}: " if several else ""
    since = since_text(view, finding)
    said = finding.label if short else finding.evidence
    text = tidy(f"{arm}{since}: {said}" if since else f"{arm}{said}")
    first, *rest = textwrap.wrap(text, max(width - _INDENT, 20)) or [""]
    opens: object = finding.first or "health"
    status = f"{finding.status.value} {finding.status.name}"
    gap = " " * (_INDENT - 4 - len(status))
    return [
        line((f" {key} ", "accent"), (status, STATUS_TONES[finding.status]), f"{gap} {first}", opens=opens),
        *(line(f"{' ' * (_INDENT - 1)}{part}", opens=opens) for part in rest),
    ]


# ── progress ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _progress(view: View, group: GroupSnapshot, width: int) -> list[Row]:
    text = _name(view, group) + " · ".join([*_played(view, group), *_notes(group)])
    planned = None if group.batch is None else planned_episodes(group.batch.data)
    share = "" if group.batch is None else _share(group.batch.data.episodes_completed, planned)
    room = width - columns(share) - columns(text) - 4
    if share and planned is not None and group.batch is not None and room >= _LEAST_BAR:
        drawn = bar(group.batch.data.episodes_completed / planned, min(room, 40))
        return [line(f" {share} {text} ", (drawn, "plot"))]
    wrapped = textwrap.wrap(f"{share} {text}" if share else text, max(width - 2, 20), subsequent_indent="  ")
    return [line(f" {part}") for part in wrapped]


def _share(completed: int, planned: int | None) -> str:
    return "" if planned is None or not is_finite(planned) else f"{completed / planned:>4.0%}"


def _played(view: View, group: GroupSnapshot) -> list[str]:
    if group.batch is None:
        return ["no batch is complete yet"]
    facts = [played_text(group.batch.data)]
    if view.phase is Phase.FINISHED:
        facts += _took(group)
    elif planned_episodes(group.batch.data) is not None:
        seconds = eta_seconds(group, view.now)
        facts.append(f"ETA {ABSENT if seconds is None or view.phase is not Phase.LIVE else age(seconds)}")
    return facts


def _took(group: GroupSnapshot) -> list[str]:
    if group.started is None or group.batch is None:
        return []
    since = " since the resume" if group.started.data.start_episode else ""
    return [f"took {age((group.batch.event.timestamp - group.started.event.timestamp).total_seconds())}{since}"]


def _notes(group: GroupSnapshot) -> list[str]:
    """Return which batch is complete, how far the one after it is, and what else must be known to read the rest."""
    done = 0 if group.batch is None else group.batch.data.episodes_completed
    parts = [] if group.batch is None else [f"batch {number(group.batch.data.batch_idx)} complete"]
    epochs = [
        newest.data.inner_epoch
        for env in group.envs.values()
        if (newest := env.epoch) is not None and (newest.episodes is None or newest.episodes >= done)
    ]
    if epochs:
        low, high = min(epochs), max(epochs)
        max_epochs = None if group.started is None else known(group.started.data.max_epochs)
        of = "" if max_epochs is None else f"/{max_epochs}"
        which = "" if group.batch is None else "next: "
        parts.append(f"{which}epoch {low if low == high else f'{low}–{high}'}{of}")
    if group.resumes:
        parts.append(f"resumed {group.resumes}×")
    if group.earlier_runs:
        parts.append(f"{plural(group.earlier_runs, 'earlier run')} in this log")
    return parts


# ── the best episode ───────────────────────────────────────────────────────────────────────────────────────────────


def _best(view: View, group: GroupSnapshot, width: int, *, short: bool) -> list[Row]:
    """Return the best episode and what grew in it; what another's trainer does not supply, in its place."""
    courses = view.courses.get(group.group_id)
    best = None if courses is None else courses.best.best
    sentences = [] if best is None else [f"Best episode {_best_text(best, short=short)}."]
    sentences += [sentence] if (sentence := unsupplied_text(group)) else []
    return [
        line((f" {part}", "dim"))
        for sentence in sentences
        for part in textwrap.wrap(_name(view, group) + sentence, max(width - 2, 20), subsequent_indent="  ")
    ]


def _best_text(best: Episode, *, short: bool) -> str:
    where = "" if best.position.batch is None else f", batch {best.position.batch:,}"
    accuracy = "" if best.accuracy is None or short else f", accuracy {fraction(best.accuracy)}"
    earned = QUANTITIES["avg_reward"].text(best.total)
    text = f"{number(best.position.episode)} (env {best.env_id}{where}): return {earned}{accuracy}"
    if not best.seeds:
        return text
    if short:
        return f"{text}; {len(best.kept)} of {plural(len(best.seeds), 'seed')} kept"
    kept = ", ".join(_kept_text(seed) for seed in best.kept) or "nothing"
    others = [seed for seed in best.seeds if seed.ending is not Ending.FOSSILIZED]
    return f"{text}; kept {kept}{f'; {len(others)} pruned' if others else ''}"


def _kept_text(seed: SeedRecord) -> str:
    assert seed.outcome is not None
    data = seed.outcome.data
    gain = f" Δacc {signed(data.improvement)}" if isinstance(data, SeedFossilizedPayload) else ""
    blueprint = ABSENT if seed.blueprint_id is None else tidy(seed.blueprint_id, 16)
    return f"{tidy(data.slot_id, 8)} {blueprint}{gain}"
