"""What the dashboard says, as text: every screen of a group, and whatever can be opened from there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from esper.karn.dashboard.charts import all_charts
from esper.karn.dashboard.courses import Courses
from esper.karn.dashboard.env_detail import env_detail
from esper.karn.dashboard.env_rows import Layout, env_row
from esper.karn.dashboard.following import FollowedRun, View
from esper.karn.dashboard.inspector import inspect_record
from esper.karn.dashboard.overview import status_line
from esper.karn.dashboard.ppo_detail import ppo_detail
from esper.karn.dashboard.rows import Row
from esper.karn.dashboard.run_detail import run_detail
from esper.karn.dashboard.standing import standing_rows
from esper.karn.health import assess
from esper.karn.snapshot import Entry, GroupSnapshot, RunSnapshot
from esper.leyline.telemetry import TelemetryEvent

__all__ = ["opened", "screens"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WIDTH = 120


class Nothing:
    """A feed of a run that has all come."""

    def take(self) -> object:
        raise NotImplementedError


def view_of(snapshot: RunSnapshot, group: GroupSnapshot) -> View:
    following = FollowedRun("runs/drawn", Nothing(), lambda: NOON)  # type: ignore[arg-type]  # never asked
    of_group = assess(snapshot).of(group.group_id)
    courses = Courses()
    entries: list[Entry[Any]] = [*group.ranks.values(), *group.batches, *group.ppo]
    for entry in entries:
        courses.add(entry.event, entry.position, lambda: group)
    return replace(
        following.view(),
        snapshot=replace(snapshot, groups={group.group_id: group}),
        group=group,
        heard=NOON,
        verdict=of_group,
        of_all=of_group,
        courses={group.group_id: courses},
    )


def text(rows: Iterable[Row]) -> str:
    return "\n".join("".join(span for span, _ in row.spans).rstrip() for row in rows)


def rows_of(snapshot: RunSnapshot, group: GroupSnapshot) -> Iterator[Row]:
    view = view_of(snapshot, group)
    yield from standing_rows(view, WIDTH, 1000)
    yield from all_charts(view, WIDTH)[0]
    for env_id in group.envs:
        for column in env_detail(view, env_id, WIDTH):
            yield from column
    for columns in (ppo_detail(view, WIDTH), run_detail(view, WIDTH)):
        for column in columns:
            yield from column


def screens(snapshot: RunSnapshot, group: GroupSnapshot) -> str:
    """Return everything that the dashboard says of a group."""
    view = view_of(snapshot, group)
    envs = [env_row(env, Layout.of(view, WIDTH)) for env in group.envs.values()]
    return text([*status_line(view, WIDTH, 1), *envs, *rows_of(snapshot, group)])


def opened(snapshot: RunSnapshot, group: GroupSnapshot) -> str:
    """Return what the dashboard says of every event that a row of its screens opens."""
    events = [row.opens for row in rows_of(snapshot, group) if isinstance(row.opens, TelemetryEvent)]
    return "\n".join(text(inspect_record(event, WIDTH)) for event in events)
