"""The run itself: what it was started with, what its seeds and actions add up to, and whether telemetry kept up."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from esper.karn.absence import supplied
from esper.karn.dashboard.rows import Row, heading, line
from esper.karn.derived import age_text, has_host
from esper.karn.formatting import ABSENT, bar, cells, number, plural, tidy, value_text
from esper.karn.progress import status_text, unsupplied_text
from esper.karn.quantities import LIFECYCLE, by_name, lifecycle_counts, score_texts, scores_of

if TYPE_CHECKING:
    from esper.karn.dashboard.following import View
    from esper.karn.snapshot import GroupSnapshot
    from esper.leyline.run_info import RunInfo

__all__ = ["run_detail"]

_MOST_NAMES = 40
"""Rows of a table whose rows are named by the log."""


def run_detail(view: View, width: int) -> tuple[list[Row], list[Row]]:
    """Return configuration and totals, evaluation and delivery."""
    group = view.group
    rows = [] if group is None else _starts(group)
    if group is not None and has_host(group):
        rows += [*_lifecycle(group), *_actions(group, width)]
    elif group is not None and group.actions:
        rows += _actions(group, width)
    return (
        rows or [heading("RUN", "no event yet")],
        [*_evaluation(view.info), *_delivery(view), *_versions(view.info)],
    )


def _starts(group: GroupSnapshot) -> list[Row]:
    rows = [heading("RUN", "Enter opens a start or a batch in full")]
    for rank, entry in group.ranks.items():
        rows.append(line((f" rank {rank:<4} ", "dim"), tidy(entry.event.message), opens=entry.event))
    if group.batch is not None:
        batch = group.batch
        rows.append(line((" newest    ", "dim"), tidy(batch.event.message) or "batch", opens=batch.event))
    counts = {
        "resumes": group.resumes,
        "events superseded": group.superseded,
        "earlier runs in this log": group.earlier_runs,
    }
    rows += [line((f" {name}: ", "dim"), f"{count:,}") for name, count in counts.items() if count]
    rows += [line((f" {sentence}", "dim"))] if (sentence := unsupplied_text(group)) else []
    return [*rows, line()]


def _since(group: GroupSnapshot) -> str:
    return f"since episode {group.counted_from}" if group.counted_from else "since the run began"


def _lifecycle(group: GroupSnapshot) -> list[Row]:
    rows = [
        heading("SEEDS", _since(group)),
        line((f" {'blueprint':<14}" + "".join(f"{name:>{len(name) + 2}}" for name in LIFECYCLE.values()), "dim")),
    ]
    for blueprint, totals in islice(by_name(group.lifecycle), _MOST_NAMES):
        counts = zip(LIFECYCLE.values(), lifecycle_counts(totals), strict=True)
        rows.append(
            line(
                f" {cells(ABSENT if blueprint is None else blueprint, 14)}"
                + "".join(f"{count:>{len(name) + 2},}" for name, count in counts)
            )
        )
    return [*rows, *_more(len(group.lifecycle), "blueprint"), line()]


def _more(count: int, thing: str) -> list[Row]:
    """Return a row about what a hostile log names and is not shown."""
    more = count - _MOST_NAMES
    return [line((f" … {plural(more, thing)} more", "dim"))] if more > 0 else []


def _actions(group: GroupSnapshot, width: int) -> list[Row]:
    rows = [heading("ACTIONS", f"carried out {_since(group)}; newest batch at the right")]
    newest = None if group.action_distribution is None else supplied(group.action_distribution.data, "action_counts")
    total = sum(group.actions.values())
    for name, count in sorted(group.actions.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_NAMES]:
        batch = None if not isinstance(newest, Mapping) else newest[name] if name in newest else 0
        room = max(min(width - 40, 40), 8)
        rows.append(line(f" {cells(name, 12)}{count:>9,} ", (bar(count / total, room), "plot"), f" {number(batch):>6}"))
    rows += _more(len(group.actions), "action")
    if group.action_distribution is not None:
        newest_of_run = group.action_distribution if group.batch is None else group.batch
        ago = age_text(group.action_distribution.position, newest_of_run.position)
        note = f", {ago}" if ago else ""
        rows.append(line((f" newest distribution in full{note}", "dim"), opens=group.action_distribution.event))
    rows += [
        line((f" analytics: {tidy(entry.data.kind, 40)}", "dim"), opens=entry.event) for entry in group.analytics[-5:]
    ]
    return [*rows, line()]


def _evaluation(info: RunInfo | None) -> list[Row]:
    if info is None or info.evaluation is None:
        return [heading("EVALUATION", "none in run.json"), line()]
    evaluation = info.evaluation
    rows = [
        heading("EVALUATION", f"{evaluation.episodes} fresh episodes each, mean ± standard error"),
        line((f" {'policy':<12}{'reward':<18}{'validation':<18}{'test':<18}", "dim")),
    ]
    for name, score in scores_of(evaluation).items():
        rows.append(line(f" {name:<12}", "".join(f"{text:<18}" for text in score_texts(score))))
    return [*rows, line()]


def _delivery(view: View) -> list[Row]:
    read, invalid = plural(view.snapshot.n_events, "event"), plural(view.invalid, "invalid line")
    rows = [heading("TELEMETRY", f"{read} read, {invalid}")]
    if view.info is not None:
        rows.append(
            line((f" {'sink':<12}{'emitted':>10}{'delivered':>10}{'rejected':>9}{'dropped':>9}{'queued':>8}", "dim"))
        )
        for sink in view.info.sinks:
            lost = sink.rejected or (sink.durable and sink.dropped) or sink.set_aside
            rows.append(
                line(
                    f" {cells(sink.name, 12)}{sink.emitted:>10,}{sink.delivered:>10,}"
                    f"{sink.rejected:>9,}{sink.dropped:>9,}{sink.queued:>8,}",
                    (" ✗ LOST" if lost else " ✓ OK", "bad" if lost else "ok"),
                )
            )
            if sink.last_error is not None:
                rows.append(line((f"   {tidy(sink.last_error, 200)}", "bad")))
    rows += [
        line(f" {kind.name.lower().replace('_', ' '):<32}{count:>10,}") for kind, count in view.snapshot.events.items()
    ]
    return [*rows, line()]


def _versions(info: RunInfo | None) -> list[Row]:
    if info is None:
        return []
    rows = [heading("RUN.JSON", status_text(info))]
    if info.error is not None:
        rows.append(line((f" {tidy(info.error, 400)}", "bad")))
    for title, known in (("version", info.versions), ("option", info.configuration)):
        rows += [
            line((f" {title:<8} ", "dim"), f"{cells(name, 20)} {value_text(value)}") for name, value in known.items()
        ]
    return rows
