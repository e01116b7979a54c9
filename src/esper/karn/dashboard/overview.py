"""The main screen's first line and its log: which run, how it stands, what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from esper.karn.dashboard.following import Phase
from esper.karn.dashboard.rows import Row, Span, Tone, Viewing, heading, line
from esper.karn.derived import known
from esper.karn.formatting import age, cells, columns, number, plural, tidy, value_text
from esper.leyline.telemetry import TelemetryEvent

if TYPE_CHECKING:
    from datetime import datetime

    from esper.karn.dashboard.feed import Record
    from esper.karn.dashboard.following import View

__all__ = ["WIDE", "EventRows", "brief", "event_heading", "status_line"]

WIDE = 140
"""Columns from which a screen shows more."""
_PHASE_TONES: dict[Phase, Tone] = {
    Phase.WAITING: "dim",
    Phase.READING: "accent",
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
    state.append((f" {view.phase.value}{_share(view)} ", _PHASE_TONES[view.phase]))
    if view.quiet_for is not None and view.reading is None:
        state.append((f"{age(view.quiet_for)} ago ", "plain"))
    room = max(width - sum(columns(text) for text, _ in state) - 7, 0)
    return [line((" esper ", "title"), cells(" " + " · ".join(parts), room), *state)]


def _share(view: View) -> str:
    return "" if view.reading is None else f", {int(view.reading * 100)} %"  # not 100 before it is all of it


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def event_heading(view: View, _width: int, _height: int) -> list[Row]:
    """Return how many events there were, which of them are shown, and the zone of their times."""
    zone = f"{_local(view.now):%Z}"
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
            (f" {_local(record.timestamp):%H:%M:%S} ", "dim"),
            (f" {record.severity[:1].upper()} ", _SEVERITY_TONES[record.severity]),
            (f" {cells(kind.replace('_', ' '), 15)} ", "dim"),
            tidy(record.message, 400) if record.message else brief(record),
            opens=record,
        )


def _local(time: datetime) -> datetime:
    """Return a time in the zone of whoever looks; at either end of the calendar, where that has none, as it is."""
    try:
        return time.astimezone()
    except (OverflowError, ValueError, OSError):  # by system
        return time


def brief(event: TelemetryEvent) -> str:
    """Return an event's payload on one line, for one that has no message."""
    fields: Sequence[tuple[str, object]] = tuple(event.data.to_dict().items())
    return tidy("  ".join(f"{name} {value_text(value)}" for name, value in fields), 400)
