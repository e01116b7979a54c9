"""The dashboard as it is drawn, and what its keys do. The clock stands still; pictures are compared by pixel."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from textual.pilot import Pilot

from esper.karn.dashboard.app import Dashboard, Overview
from esper.karn.dashboard.feed import LogTail, NewRecords
from esper.karn.dashboard.following import Filter, FollowedRun, Order
from esper.karn.dashboard.rows import Rows
from esper.karn.dashboard.screens import Detail, EnvDetail, FilterDialog, Inspector, Reading
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    TelemetryEvent,
    TelemetryEventType,
    TrainingStartedPayload,
)

if TYPE_CHECKING:
    from tests.karn.dashboard.conftest import Story

Look: TypeAlias = Callable[..., FollowedRun]
Retell: TypeAlias = Callable[..., tuple[tuple[TelemetryEvent, ...], datetime]]
SMALL, LARGE = (80, 24), (200, 60)
COMPLETED = RunInfo(status="completed", started=datetime(2026, 3, 1, 12, tzinfo=UTC), configuration={}, versions={})


def dashboard(
    look: Look,
    emitted: tuple[tuple[TelemetryEvent, ...], datetime],
    *,
    after: float = 0.3,
    light: bool = False,
    completed: bool = False,
) -> Dashboard:
    """Return the dashboard of a story, so many seconds after its newest event."""
    records, newest = emitted
    following = look(records, newest + timedelta(seconds=after))
    following.info = COMPLETED if completed else None
    app = Dashboard(following)
    app.theme = "textual-light" if light else "textual-dark"
    return app


async def settled(pilot: Pilot[None]) -> None:
    """Wait until the view has been shown: for the data, for the layout that follows from it, and in that layout."""
    app = pilot.app
    assert isinstance(app, Dashboard)
    for _ in range(3):
        app.refresh_shown()
        await pilot.pause()


# ── pictures ───────────────────────────────────────────────────────────────────────────────────────────────────────

PICTURES: dict[str, tuple[tuple[int, int], dict[str, Any], dict[str, Any]]] = {
    "healthy": (SMALL, {}, {}),
    "healthy_large": (LARGE, {}, {}),
    "healthy_light": (SMALL, {}, {"light": True}),
    "unhealthy": (SMALL, {"unhealthy": True}, {}),
    "unhealthy_large_light": (LARGE, {"unhealthy": True}, {"light": True}),
    "stale": (SMALL, {}, {"after": 3600}),
    "finished": (SMALL, {"n_episodes": 40, "episodes": 40, "extra_epochs": 0}, {"after": 3600, "completed": True}),
    "one_env": (SMALL, {"n_envs": 1, "n_episodes": 20, "episodes": 8}, {}),
    "64_envs": (SMALL, {"n_envs": 64, "n_episodes": 640, "episodes": 192}, {}),
    "64_envs_large": (LARGE, {"n_envs": 64, "n_episodes": 640, "episodes": 192}, {}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture(name: str, snap_compare: Callable[..., bool], retell: Retell, look: Look) -> None:
    size, story, seen = PICTURES[name]
    assert snap_compare(dashboard(look, retell(**story), **seen), terminal_size=size, run_before=settled)


def test_picture_waiting(snap_compare: Callable[..., bool], make_story: type[Story], look: Look) -> None:
    assert snap_compare(Dashboard(look([], make_story().now)), terminal_size=SMALL, run_before=settled)


KEYS = {
    "env": ["enter"],
    "ppo": ["u"],
    "run": ["r"],
    "help": ["question_mark"],
    "filter": ["f"],
    "inspector": ["tab", "down", "enter"],
    "zoom": ["tab", "z"],
}


@pytest.mark.parametrize("name", KEYS)
def test_picture_of_what_a_key_opens(name: str, snap_compare: Callable[..., bool], retell: Retell, look: Look) -> None:
    async def press(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press(*KEYS[name])
        await settled(pilot)

    assert snap_compare(dashboard(look, retell()), terminal_size=SMALL, run_before=press)


# ── what keys and mouse do ─────────────────────────────────────────────────────────────────────────────────────────


def drive(app: Dashboard, steps: Callable[[Pilot[None]], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with app.run_test(size=SMALL) as pilot:
            await settled(pilot)
            await steps(pilot)

    asyncio.run(run())


def shown(app: Dashboard) -> str:
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


@pytest.fixture
def app(retell: Retell, look: Look) -> Dashboard:
    return dashboard(look, retell(episodes=8))


def test_keys_open_screens_and_escape_leaves_them(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        for key, screen in (
            ("enter", EnvDetail),
            ("u", Detail),
            ("r", Detail),
            ("question_mark", Reading),
            ("f", FilterDialog),
        ):
            await pilot.press(key)
            assert isinstance(app.screen, screen)
            await pilot.press("escape")
            assert isinstance(app.screen, Overview)

    drive(app, steps)


def test_a_number_jumps_to_the_event_that_first_showed_a_trouble(retell: Retell, look: Look) -> None:
    app = dashboard(look, retell(episodes=40, unhealthy=True))

    async def steps(pilot: Pilot[None]) -> None:
        alarms = app.view.of_all.alarms
        assert len(alarms) > 2
        assert "1-9 First event" in shown(app)
        for at, finding in enumerate(alarms[:9]):
            await pilot.press(str(at + 1))
            if finding.first is None:
                assert isinstance(app.screen, Detail)
            else:
                assert isinstance(app.screen, Inspector)
                assert app.screen.record is finding.first
            await pilot.press("escape")
        assert isinstance(app.screen, Overview)

    drive(app, steps)


def test_where_nothing_is_wrong_no_key_promises_to_show_it(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        assert not app.view.of_all.alarms
        assert "First event" not in shown(app)
        await pilot.press("1")
        assert isinstance(app.screen, Overview)

    drive(app, steps)


def test_environments_are_listed_in_the_next_order(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        assert "worst (o)" in shown(app)
        await pilot.press("o")
        await settled(pilot)
        assert "number (o)" in shown(app)
        rows = app.query_one("#envs", Rows)
        assert [rows.row(item).opens for item in rows._items] == [0, 1, 2, 3]

    drive(app, steps)


def test_the_cursor_stays_on_its_environment_when_the_order_changes(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        rows = app.query_one("#envs", Rows)
        await pilot.press("down")
        held = rows.row(rows._items[rows.cursor]).opens
        for _ in Order:
            await pilot.press("o")
            await settled(pilot)
            assert rows.row(rows._items[rows.cursor]).opens == held or rows.cursor == 0
            if rows.cursor == 0:
                break

    drive(app, steps)


@pytest.mark.parametrize("size", [SMALL, (120, 40), LARGE])
def test_both_arms_of_a_comparison_stand_side_by_side_on_one_scale(
    retell: Retell, look: Look, size: tuple[int, int]
) -> None:
    records, newest = retell(episodes=40)
    arms = [replace(event, group_id=arm) for event in records for arm in ("shaped", "sparse")]
    doubled = [
        replace(event, data=replace(event.data, avg_reward=2 * event.data.avg_reward))
        if event.group_id == "sparse" and isinstance(event.data, BatchEpochCompletedPayload)
        else event
        for event in arms
    ]
    app = dashboard(look, (tuple(doubled), newest))

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await settled(pilot)
            lines = shown(app).splitlines()
            title = next(at for at, row in enumerate(lines) if " shaped: " in row and " sparse: " in row)
            first, second = (lines[title].index(f" {arm}: ") for arm in ("shaped", "sparse"))
            ticks = [row[start : start + 8] for row in lines[title + 1 : title + 2] for start in (first, second)]
            assert ticks[0] == ticks[1]
            assert float(ticks[0]) > 0
            assert sum("learnt: " in row for row in lines) == 2

    asyncio.run(run())


def test_arrows_go_to_the_neighbouring_environments(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        app.following.order = Order.NUMBER
        await settled(pilot)
        await pilot.press("down", "enter")
        await settled(pilot)
        assert "ENVIRONMENT 1" in shown(app)
        await pilot.press("right")
        await settled(pilot)
        assert "ENVIRONMENT 2" in shown(app)
        await pilot.press("left", "left", "left")
        await settled(pilot)
        assert "ENVIRONMENT 3" in shown(app)

    drive(app, steps)


def test_any_event_of_the_log_opens_and_so_do_its_neighbours(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("tab", "down", "enter")
        screen = app.screen
        assert isinstance(screen, Inspector)
        assert screen.record is app.view.log[1]
        await pilot.press("right")
        assert screen.record is app.view.log[2]
        await pilot.press("left", "left", "left")
        assert screen.record is app.view.log[0]
        await settled(pilot)
        assert type(screen.record.data).__name__ in shown(app)  # type: ignore[union-attr]  # an event

    drive(app, steps)


def test_a_double_click_opens_an_environment(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        app.following.order = Order.NUMBER
        await settled(pilot)
        await pilot.click("#envs", offset=(5, 2))
        assert app.query_one("#envs", Rows).cursor == 2
        assert isinstance(app.screen, Overview)
        await pilot.click("#envs", offset=(5, 2), times=2)
        await pilot.pause()
        assert isinstance(app.screen, EnvDetail)
        assert app.screen.env_id == 2

    drive(app, steps)


def test_the_filter_chooses_what_the_log_shows(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("f", "down", "down", "enter", "tab", *"2", "enter")
        await settled(pilot)
        chosen = app.following.log.chosen
        assert TelemetryEventType.EPOCH_COMPLETED in chosen.types
        assert chosen.envs == frozenset({2})
        assert all(isinstance(event, TelemetryEvent) and event.data.env_id == 2 for event in app.view.log)  # type: ignore[union-attr]  # those that have one
        assert "env 2" in shown(app)
        await pilot.press("f", "a")
        assert app.following.log.chosen.types == set(TelemetryEventType)

    drive(app, steps)


def test_a_filter_of_no_numbers_is_refused(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("f", "tab", *"all", "enter")
        assert isinstance(app.screen, FilterDialog)

    drive(app, steps)


def test_escape_leaves_the_filter_whatever_was_typed(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("f", "down", "enter", "tab", *"all", "escape")
        assert isinstance(app.screen, Overview)
        assert app.following.log.chosen.envs is None
        assert app.following.log.chosen.types != Filter().types

    drive(app, steps)


def test_one_detail_takes_the_place_of_another(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("u", "u", "r", "r", "u", "r")
        await settled(pilot)
        assert "TELEMETRY" in shown(app)
        await pilot.press("escape")
        assert isinstance(app.screen, Overview)

    drive(app, steps)


def test_arrows_in_the_inspector_also_go_from_an_event_that_the_log_hides(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("down", "down", "enter")
        screen = app.screen
        assert isinstance(screen, Inspector)
        hidden = screen.record
        assert hidden not in app.view.log
        await pilot.press("left")
        assert screen.record is not hidden
        await pilot.press("right")
        assert screen.record is hidden

    drive(app, steps)


def test_enter_on_ppo_opens_it_without_looking_for_the_right_row(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("shift+tab", "enter")
        assert isinstance(app.screen, Detail)

    drive(app, steps)


def test_a_page_down_turns_the_page_at_once(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        assert "KEYS" in shown(app)
        await pilot.press("pagedown")
        await pilot.pause()
        assert "KEYS" not in shown(app)
        await pilot.press("pageup")
        await pilot.pause()
        assert "KEYS" in shown(app)

    drive(app, steps)


def test_which_group_is_looked_at_and_how_to_see_another_is_said_when_there_are_several(look: Look) -> None:
    def emitted(group_id: str) -> TelemetryEvent:
        return TelemetryEvent(data=EpochCompletedPayload(0, 0.5, 1.0, 1), group_id=group_id)

    app = Dashboard(look([emitted("treated"), emitted("control")], datetime.now(UTC)))
    app.following.source = "a/very/long/path/" * 10

    async def steps(pilot: Pilot[None]) -> None:
        assert "group treated" in shown(app)
        assert "g Group" in shown(app)
        await pilot.press("g")
        await settled(pilot)
        assert "group control" in shown(app)

    drive(app, steps)
    alone = Dashboard(look([emitted("default")], datetime.now(UTC)))

    async def none(pilot: Pilot[None]) -> None:
        assert "roup" not in shown(alone)
        await pilot.press("g")

    drive(alone, none)


def test_a_run_that_was_resumed_took_what_it_took_since(make_story: type[Story], look: Look) -> None:
    story = make_story(n_episodes=8, episodes=8, extra_epochs=0)
    first, *rest = story.events()
    assert isinstance(first.data, TrainingStartedPayload)
    end = next(at for at, event in enumerate(rest) if isinstance(event.data, BatchEpochCompletedPayload)) + 1
    again = TrainingStartedPayload.from_dict(first.data.to_dict() | {"start_episode": 4})
    resumed = replace(first, data=again, timestamp=rest[end].timestamp)
    day = timedelta(days=1)
    before = [replace(event, timestamp=event.timestamp - day) for event in (first, *rest[:end])]
    following = look([*before, resumed, *rest[end:]], story.now)
    following.info = COMPLETED
    app = Dashboard(following)

    async def steps(_pilot: Pilot[None]) -> None:
        assert re.search(r"took \d\.\d s since the resume", shown(app))

    drive(app, steps)


def test_nothing_is_promised_of_an_input_that_ended(look: Look) -> None:
    following = look([], datetime.now(UTC))
    app = Dashboard(following)

    async def steps(pilot: Pilot[None]) -> None:
        assert "fills itself" in shown(app)
        following.ended = True
        await settled(pilot)
        assert "fills itself" not in shown(app)
        assert "ended without a single event" in shown(app)

    app.following.feed.take = lambda: NewRecords(ended=following.ended)  # type: ignore[method-assign]  # a pipe
    drive(app, steps)


def test_pause_holds_the_screen(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("space")
        assert "PAUSED" in shown(app)
        await pilot.press("space")
        await settled(pilot)
        assert "PAUSED" not in shown(app)

    drive(app, steps)


def test_dark_and_light(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("d")
        assert not app.current_theme.dark
        await pilot.press("d")
        assert app.current_theme.dark

    drive(app, steps)


def test_a_screenshot_is_saved_where_the_user_is(
    app: Dashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("s")

    drive(app, steps)
    (picture,) = tmp_path.glob("esper-*.svg")
    assert "learnt" in picture.read_text()


def test_a_cursor_in_the_log_stays_on_its_event_while_others_come(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("tab", "down", "down")
        events = app.query_one("#events", Rows)
        under = app.view.log[events.cursor]
        for _ in range(5):
            app.following.log.add(TelemetryEvent(data=EpochCompletedPayload(0, 0.5, math.inf, 1), severity="warning"))
        await settled(pilot)
        assert events.cursor == 7
        assert app.view.log[events.cursor] is under

    drive(app, steps)


def test_a_log_that_was_scrolled_stays_where_it_is_while_others_come(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        events = app.query_one("#events", Rows)
        events.scroll_to(y=3, animate=False)
        await settled(pilot)
        for _ in range(5):
            app.following.log.add(TelemetryEvent(data=EpochCompletedPayload(0, 0.5, math.inf, 1), severity="warning"))
        await settled(pilot)
        assert events.scroll_offset.y == 8

    drive(app, steps)


def test_enter_within_a_section_opens_the_event_that_it_is_about(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("down", "down", "enter")
        assert isinstance(app.screen, Inspector)
        assert isinstance(app.screen.record, TelemetryEvent)
        assert app.screen.record.event_type is TelemetryEventType.EPOCH_COMPLETED

    drive(app, steps)


def test_text_from_the_log_is_neither_markup_nor_control(make_story: type[Story], look: Look) -> None:
    story = make_story(episodes=4)
    hostile = "[bold red]not markup[/] \x1b[2J\x07\u202e " + "x" * 100_000
    emitted = [
        *story.events(),
        TelemetryEvent(data=EpochCompletedPayload(0, 0.5, 1.0, 1), message=hostile, severity="error"),
    ]
    app = Dashboard(look(emitted, story.now))

    async def steps(pilot: Pilot[None]) -> None:
        assert "[bold red]not markup[/] \\x1b[2J\\x07\\u202e" in shown(app)
        await pilot.press("tab", "enter")
        await settled(pilot)
        assert isinstance(app.screen, Inspector)
        rows = app.screen.query_one(Rows)
        await pilot.press("end")
        assert "\x1b" not in shown(app)
        assert rows.cursor > 10

    drive(app, steps)


def test_a_growing_log_is_followed(tmp_path: Path, make_story: type[Story]) -> None:
    story = make_story(episodes=4)
    following = FollowedRun(str(tmp_path), LogTail(tmp_path), lambda: story.now)
    app = Dashboard(following)

    async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
        while not condition():
            await pilot.pause(0.02)

    async def steps(pilot: Pilot[None]) -> None:
        assert "Waiting for the first event" in shown(app)
        story.write(tmp_path / "events.jsonl")
        await until(pilot, lambda: "batch 0" in shown(app) and "LIVE" in shown(app))
        (tmp_path / "events.jsonl").write_text("")
        await until(pilot, lambda: "WAITING" in shown(app))

    drive(app, steps)


def test_a_log_that_was_there_before_is_read_with_a_share_and_is_not_called_stale(
    tmp_path: Path, make_story: type[Story], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esper.karn.dashboard.feed._SLICE", 1 << 14)
    story = make_story(episodes=32)
    story.write(tmp_path / "events.jsonl")
    later = story.now + timedelta(days=1)
    turns: list[None] = []

    class SliceByTurn(FollowedRun):
        def advance(self) -> bool:
            if not turns:
                return True
            turns.pop()
            return super().advance()

    RunDirectory(tmp_path).write_info(COMPLETED)
    app = Dashboard(SliceByTurn(str(tmp_path), LogTail(tmp_path), lambda: later, RunDirectory(tmp_path)))
    app.SLICE = 0.0
    seen: list[str] = []

    async def steps(pilot: Pilot[None]) -> None:
        while "FINISHED" not in shown(app):
            seen.append(shown(app).splitlines()[0])
            turns.append(None)  # however busy the machine is, every share is looked at
            await pilot.pause(0.01)

    drive(app, steps)
    shares = [int(found[1]) for line in seen if (found := re.search(r"READING THE LOG, (\d+) %", line))]
    assert shares
    assert shares == sorted(shares)
    assert max(shares) < 100
    assert not any("STALE" in line or "FINISHED" in line for line in seen)


def test_a_plan_that_is_fulfilled_is_no_end(retell: Retell, look: Look) -> None:
    app = dashboard(look, retell(n_episodes=40, episodes=40, extra_epochs=0))

    async def steps(_pilot: Pilot[None]) -> None:
        assert "40 of 40 episodes" in shown(app)
        assert "LIVE" in shown(app)
        assert "FINISHED" not in shown(app)

    drive(app, steps)


def test_a_resized_terminal_is_filled_again(app: Dashboard) -> None:
    async def steps(pilot: Pilot[None]) -> None:
        await pilot.resize_terminal(*LARGE)
        await settled(pilot)
        assert "accuracy by epoch" in shown(app)
        await pilot.resize_terminal(40, 10)
        await settled(pilot)
        assert "learnt" in shown(app)

    drive(app, steps)
