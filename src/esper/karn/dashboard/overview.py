"""The main screen's sections: is it learning, is it well, what is each environment doing, what happened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from esper.karn.absence import supplied_number
from esper.karn.dashboard.following import Phase
from esper.karn.dashboard.rows import Row, Span, Tone, Viewing, heading, line
from esper.karn.derived import accuracy_of, known, planned_episodes, return_of
from esper.karn.formatting import (
    ABSENT,
    age,
    bar,
    cells,
    columns,
    fraction,
    is_finite,
    number,
    plot,
    plural,
    scale,
    signed,
    tidy,
    value_text,
)
from esper.karn.progress import best_of, eta_seconds, measures_accuracy, played_text, trend_of, unsupplied_text
from esper.karn.quantities import QUANTITIES, Quantity
from esper.karn.verdict import Finding, gravest_first, tally_text
from esper.leyline.limits import Status
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.typical import value_of
from esper.leyline.update_rules import RULE_OF

if TYPE_CHECKING:
    from esper.karn.dashboard.feed import Record
    from esper.karn.dashboard.following import View
    from esper.karn.snapshot import GroupSnapshot

__all__ = [
    "STATUS_TONES",
    "WIDE",
    "EventRows",
    "brief",
    "event_heading",
    "health_rows",
    "learning_rows",
    "status_line",
]

WIDE = 140
"""Columns from which a screen shows more."""
STATUS_TONES: dict[Status, Tone] = {
    Status.OK: "ok",
    Status.UNKNOWN: "unknown",
    Status.WATCH: "watch",
    Status.BAD: "bad",
}
_TEXTS_BESIDE = 24
_TEXTS_IN_LINE = 38
_PLOT_AT_LEAST = 8
_PHASE_TONES: dict[Phase, Tone] = {
    Phase.WAITING: "dim",
    Phase.LIVE: "ok",
    Phase.STALE: "bad",
    Phase.ENDED: "watch",
    Phase.FINISHED: "accent",
    Phase.INTERRUPTED: "watch",
    Phase.FAILED: "bad",
}


# ── the run as a whole ─────────────────────────────────────────────────────────────────────────────────────────────


def status_line(view: View, width: int, _height: int) -> list[Row]:
    """Return the top line: which run, how it stands, how old that is."""
    group = view.group
    parts = [tidy(view.source)]
    if group is not None and group.started is not None:
        started = group.started.data
        parts += [tidy(started.task), f"seed {started.seed}"]
        parts += [f"{number(started.host_params)} parameters"] if known(started.host_params) else []
    state: list[Span] = []
    if len(view.snapshot.groups) > 1 and group is not None:
        state.append((f" group {tidy(group.group_id, 16)} ", "accent"))
    if view.problem is not None:
        state.append((f" ✗ {tidy(view.problem, 60)} ", "bad"))
    if view.invalid:
        state.append((f" ✗ {plural(view.invalid, 'invalid line')} ", "bad"))
    if view.rejected:
        state.append((f" ✗ {plural(view.rejected, 'rejected event')} ", "bad"))
    if view.torn and view.phase is not Phase.LIVE:
        state.append((" ! last line incomplete ", "watch"))
    if view.paused:
        state.append((" ‖ PAUSED ", "watch"))
    elif view.speed is not None:
        state.append((f" ▶ ×{view.speed:g} ", "accent"))
    state.append((f" {view.phase.value} ", _PHASE_TONES[view.phase]))
    if view.quiet_for is not None:
        state.append((f"{age(view.quiet_for)} ago ", "plain"))
    room = max(width - sum(columns(text) for text, _ in state) - 7, 0)
    return [line((" esper ", "title"), cells(" " + " · ".join(parts), room), *state)]


def learning_rows(view: View, width: int, height: int) -> list[Row]:
    """Return the mean episode return, accuracy and progress; plots as high as there is room for."""
    group = view.group
    if group is None or group.batch is None:
        return [heading("LEARNING", _run_note(group)), *_before_the_first_batch(view, width)]
    batches = tuple(entry.data for entry in group.batches)
    indices = [batch.batch_idx for batch in batches]
    high = max((height - 2) // 2, 1)
    rolling = f"rolling {fraction(supplied_number(batches[-1], 'rolling_accuracy'))}"
    started = None if group.started is None else group.started.data
    returns = [return_of(batch, started) for batch in batches]
    accuracies = [accuracy_of(batch) for batch in batches]
    whole = sum(batch.n_envs for batch in batches) >= batches[-1].episodes_completed  # none is too long ago to be kept
    return [
        heading("LEARNING", _run_note(group), group.batch.event),
        *_series(QUANTITIES["avg_reward"], returns, indices, width, high, "", whole=whole),
        *(
            _series(QUANTITIES["avg_accuracy"], accuracies, indices, width, high, rolling, whole=whole)
            if measures_accuracy(group)
            else []
        ),
        _progress(view, group, width),
        *(line((f" {sentence}", "dim")) for sentence in (unsupplied_text(group),) if sentence is not None),
    ]


def _before_the_first_batch(view: View, width: int) -> list[Row]:
    if view.phase is Phase.ENDED and not view.snapshot.n_events:
        return [line(f" {tidy(view.source)} ended without a single event.")]
    if view.phase is Phase.WAITING:
        return [
            line(f" Waiting for the first event of {tidy(view.source, max(width - 33, 10))}."),
            line((" This screen fills itself as soon as the run begins.", "dim")),
        ]
    return [line(" No batch is complete yet: return and accuracy come at the end of each.")]


def _run_note(group: GroupSnapshot | None) -> str:
    """Return which batch is complete, and how far the one after it is."""
    if group is None:
        return ""
    done = 0 if group.batch is None else group.batch.data.episodes_completed
    parts = [] if group.batch is None else [f"batch {number(group.batch.data.batch_idx)} complete"]
    epochs = [
        env.epoch.data.inner_epoch
        for env in group.envs.values()
        if env.epoch is not None and (env.epoch.episodes is None or env.epoch.episodes >= done)
    ]
    if epochs:
        low, high = min(epochs), max(epochs)
        max_epochs = None if group.started is None else known(group.started.data.max_epochs)
        of = "" if max_epochs is None else f"/{max_epochs}"
        which = "" if group.batch is None else "next one in "
        parts.append(f"{which}epoch {low if low == high else f'{low}–{high}'}{of}")
    if group.resumes:
        parts.append(f"resumed {group.resumes}×")
    if group.earlier_runs:
        parts.append(f"{plural(group.earlier_runs, 'earlier run')} in this log")
    return " · ".join(parts)


def _series(
    quantity: Quantity,
    values: Sequence[float | None],
    batches: list[int],
    width: int,
    height: int,
    note: str,
    *,
    whole: bool,
) -> list[Row]:
    measured = [math.nan if value is None else value for value in values]
    best, trend = best_of(measured), trend_of(tuple(value for value in values if value is not None))
    of = "best" if not batches[0] or whole else f"best since batch {batches[0]}"
    texts = [
        f"{of} {quantity.text(best.value)} (batch {batches[best.index]})" if best else "best —",
        f"trend {signed(trend.change)}" if trend else "trend —",
        note,
        f"range {scale(values)}",
    ]
    newest = values[-1]
    head: tuple[Span, ...] = (
        (f" {quantity.short:<9}", "dim"),
        (f"{quantity.text(newest):>7} ", "accent" if newest is None or is_finite(newest) else "bad"),
    )
    # Where there is height, the texts stand under each other beside the plot; else as many as fit after one another.
    beside = [text for text in texts if text]
    if height == 1:
        two = "  ".join(texts[:2])
        beside = [two if len(two) <= width - 20 - _PLOT_AT_LEAST else texts[0]]
    widest = max(_TEXTS_BESIDE if height > 1 else _TEXTS_IN_LINE, *map(len, beside))
    room = max(width - 20 - widest, _PLOT_AT_LEAST)
    stretched = [value for value in values for _ in range(max(room // len(values), 1))]
    indent: tuple[Span, ...] = ((" " * 18, "plain"),)
    return [
        line(
            *(head if row == 0 else indent),
            (drawn, "plot"),
            f"  {beside[row]}" if row < len(beside) else "",
        )
        for row, drawn in enumerate(plot(stretched, room, height))
    ]


def _progress(view: View, group: GroupSnapshot, width: int) -> Row:
    assert group.batch is not None
    batch = group.batch.data
    done, planned = batch.episodes_completed, planned_episodes(batch)
    share = done / planned if planned is not None and is_finite(planned) else None
    if planned is None:
        took = _took(group) if view.phase is Phase.FINISHED else ""
        return line((" progress  ", "dim"), f"{played_text(batch)}{took}")
    texts = f"{ABSENT if share is None else f'{share:.0%}':>4}  {played_text(batch)}"
    if view.phase is Phase.FINISHED:
        texts += _took(group)
    else:
        seconds = eta_seconds(group, view.now)
        texts += f"  ETA {ABSENT if seconds is None or view.phase is not Phase.LIVE else age(seconds)}"
    return line((" progress  ", "dim"), (bar(share or 0.0, max(width - 14 - len(texts), 4)), "plot"), f"  {texts}")


def _took(group: GroupSnapshot) -> str:
    if group.started is None or group.batch is None:
        return ""
    since = " since the resume" if group.started.data.start_episode else ""
    return f"  took {age((group.batch.event.timestamp - group.started.event.timestamp).total_seconds())}{since}"


# ── health ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def health_rows(view: View, width: int, height: int) -> list[Row]:
    """Return the verdict and its findings, those of PPO with the newest values; what is gravest is above."""
    verdict = view.verdict
    room = max(height - 1, 1)
    below = f"  {len(verdict.findings) - room} rules below" if room < len(verdict.findings) else ""
    title = line(
        (" HEALTH ", "title"),
        (f" {verdict.status.value} {verdict.status.name} ", STATUS_TONES[verdict.status]),
        (f" {tally_text(verdict.findings)}{below}", "dim"),
        opens="ppo",
    )
    spark = max(min((width - 64) // 2, 40), 8)
    return [title, *(_found(view, finding, spark) for finding in gravest_first(verdict.findings))]


def _found(view: View, finding: Finding, spark: int) -> Row:
    status: tuple[Span, ...] = (
        (f" {finding.status.value} {finding.status.name:<8}", STATUS_TONES[finding.status]),
        (cells(finding.label, 16), "plain"),
    )
    tone: Tone = "plain" if finding.is_alarm else "dim"
    if finding.rule not in RULE_OF:
        return line(*status, (f" {finding.evidence}", tone), opens="ppo")
    field = RULE_OF[finding.rule].field
    values = [value_of(entry.data, field) for entry in (() if view.group is None else view.group.ppo[-spark:])]
    newest = number(values[-1] if values else None, 9)
    evidence = finding.evidence.removeprefix(f"{finding.label} ")
    return line(*status, f"{newest:>9} ", (plot(values, spark)[0], "plot"), (f" {evidence}", tone), opens="ppo")


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def event_heading(view: View, _width: int, _height: int) -> list[Row]:
    """Return how many events there were, which of them are shown, and the zone of their times."""
    zone = f"{view.now.astimezone():%Z}"
    return [heading("EVENTS", f"{view.snapshot.n_events:,} so far · {zone} · {view.filter} · f to choose")]


_SEVERITY_TONES: dict[str, Tone] = {
    "debug": "dim",
    "info": "plain",
    "warning": "watch",
    "error": "bad",
    "critical": "bad",
}


class EventRows(Viewing):
    """What happened, newest first."""

    def refresh_view(self, view: View) -> None:
        """Show what is to be seen now."""
        self.show(view.log)

    def row(self, item: object) -> Row:
        """Return one event, or one line of the log that is none."""
        record: Record = item  # type: ignore[assignment]
        if not isinstance(record, TelemetryEvent):
            text = f"line {record.line} of {record.file} is no event ({record.kind}): {record.reason}"
            return line(
                (" --:--:-- ", "dim"),
                (" E ", "bad"),
                (f" {'invalid line':<16}", "plain"),
                tidy(text, 400),
                opens=record,
            )
        kind = record.event_type.name.lower().removeprefix("seed_").removesuffix("_completed").removesuffix("_computed")
        return line(
            (f" {record.timestamp.astimezone():%H:%M:%S} ", "dim"),
            (f" {record.severity[:1].upper()} ", _SEVERITY_TONES[record.severity]),
            (f" {cells(kind.replace('_', ' '), 15)} ", "dim"),
            tidy(record.message, 400) if record.message else brief(record),
            opens=record,
        )


def brief(event: TelemetryEvent) -> str:
    """Return an event's payload on one line, for one that has no message."""
    fields: Sequence[tuple[str, object]] = tuple(event.data.to_dict().items())
    return tidy("  ".join(f"{name} {value_text(value)}" for name, value in fields), 400)
