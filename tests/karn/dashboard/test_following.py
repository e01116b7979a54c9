from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from esper.karn.dashboard.feed import LogTail, NewRecords, Playback, Record
from esper.karn.dashboard.following import EventLog, Filter, FollowedRun, Phase
from esper.leyline.position import env_of
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo, RunStatus
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    TelemetryEvent,
    TelemetryEventType,
)
from esper.leyline.wire import InvalidRecord

if TYPE_CHECKING:
    from tests.karn.dashboard.conftest import Story

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BROKEN = InvalidRecord("events.jsonl", 3, "json", "not JSON", "nonsense")
ALL = Filter("debug", None, frozenset(TelemetryEventType))


def epoch(env: int = 0) -> TelemetryEvent:
    return TelemetryEvent(data=EpochCompletedPayload(env, 0.5, 1.0, 1))


def batch(severity: str = "info") -> TelemetryEvent:
    made = TelemetryEvent(data=BatchEpochCompletedPayload(4, 0, 0.5, 1.0, 8, 4))
    return dataclasses.replace(made, severity=severity)  # type: ignore[arg-type]  # one of the five


def info(status: RunStatus) -> RunInfo:
    return RunInfo(status=status, started=NOON, configuration={}, versions={})


def test_the_log_keeps_rare_events_beside_frequent_ones() -> None:
    log = EventLog()
    rare = batch()
    log.add(rare)
    for _ in range(5000):
        log.add(epoch())
    assert list(log.newest_first()) == [rare]
    log.choose(ALL)
    assert len(list(log.newest_first())) == EventLog.KEPT


def test_the_log_is_in_the_order_in_which_things_came_whatever_was_chosen_since() -> None:
    log = EventLog()
    records: list[Record] = [epoch(), batch(), BROKEN, epoch(), batch()]
    for record in records:
        log.add(record)
    log.choose(ALL)
    assert list(log.newest_first()) == records[::-1]


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        (Filter(), ["batch", "error batch", "no event"]),
        (ALL, ["batch", "error batch", "epoch of 0", "epoch of 1", "no event"]),
        (Filter("error", None, frozenset(TelemetryEventType)), ["error batch", "no event"]),
        (Filter("debug", frozenset({1}), frozenset(TelemetryEventType)), ["epoch of 1", "no event"]),
        (
            Filter("debug", None, frozenset({TelemetryEventType.EPOCH_COMPLETED})),
            ["error batch", "epoch of 0", "epoch of 1", "no event"],
        ),
    ],
)
def test_the_filter_chooses_by_severity_environment_and_type(chosen: Filter, shown: list[str]) -> None:
    records: dict[str, Record] = {
        "batch": batch(),
        "error batch": batch("error"),
        "epoch of 0": epoch(0),
        "epoch of 1": epoch(1),
        "no event": BROKEN,
    }
    assert [name for name, record in records.items() if chosen.lets_through(record)] == shown


def test_what_is_hidden_is_said() -> None:
    assert str(Filter()) == "from info on, 5 routine types hidden"
    assert str(ALL) == "all shown"
    assert str(Filter("debug", frozenset({2, 0}), frozenset())) == "env 0,2, 11 types hidden"


def test_every_event_is_of_its_environment_or_of_none(make_story: type[Story]) -> None:
    for event in make_story(n_envs=2, episodes=4).events():
        assert env_of(event) == event.data.to_dict().get("env_id")


def test_a_view_joins_the_moment_to_what_was_emitted(make_story: type[Story], look: Callable[..., FollowedRun]) -> None:
    story = make_story(episodes=8)
    emitted = [*story.events()]
    following = look(emitted, story.now)
    following.clock = lambda: story.now + timedelta(seconds=7)
    view = following.view()
    assert view.quiet_for == pytest.approx(7)
    assert view.phase is Phase.LIVE
    following.clock = lambda: story.now + timedelta(seconds=11)
    assert following.view().phase is Phase.STALE


def test_a_run_is_waited_for_and_finished_only_when_run_json_says_so(
    make_story: type[Story], look: Callable[..., FollowedRun]
) -> None:
    assert look([], NOON).view().phase is Phase.WAITING
    story = make_story(n_episodes=8, episodes=8)
    following = look(story.events(), story.now)
    assert following.view().phase is Phase.LIVE  # all that was planned is done, which is no end
    following.info = info("completed")
    assert following.view().phase is Phase.FINISHED


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("running", Phase.STALE),
        ("completed", Phase.FINISHED),
        ("interrupted", Phase.INTERRUPTED),
        ("failed", Phase.FAILED),
    ],
)
def test_run_json_says_how_the_run_ended(
    tmp_path: Path, make_story: type[Story], look: Callable[..., FollowedRun], status: RunStatus, phase: Phase
) -> None:
    following = look(make_story(episodes=8).events(), NOON + timedelta(hours=1))
    following.directory = RunDirectory(tmp_path)
    following.directory.write_info(info(status))
    following.advance()
    assert following.view().phase is phase
    assert following.view().info == info(status)


def test_a_run_json_that_is_wrong_is_reported_until_it_is_right(
    tmp_path: Path, look: Callable[..., FollowedRun]
) -> None:
    following = look([], NOON)
    following.directory = RunDirectory(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    for _ in range(2):
        following.advance()
        assert "status is missing" in str(following.view().problem)
    following.directory.write_info(info("running"))
    following.advance()
    assert following.view().problem is None


def test_a_log_that_is_replaced_begins_anew_and_the_filter_stays(tmp_path: Path, make_story: type[Story]) -> None:
    log = tmp_path / "events.jsonl"
    make_story(episodes=8).write(log)
    following = FollowedRun(str(tmp_path), LogTail(tmp_path), lambda: NOON)
    following.log.choose(ALL)
    while following.advance():
        pass
    log.write_text("nonsense\n")
    following.advance()
    view = following.view()
    assert (view.snapshot.n_events, view.invalid, len(view.log), view.filter) == (0, 1, 1, ALL)


def test_a_paused_view_stays_as_it_is(make_story: type[Story], look: Callable[..., FollowedRun]) -> None:
    story = make_story(episodes=8)
    following = look(story.events(), NOON)
    following.pause()
    held = following.view()
    following.clock = lambda: NOON + timedelta(hours=1)
    following.feed = look([epoch()], NOON).feed
    following.advance()
    assert (held.paused, following.view().now, following.view().log) == (True, held.now, held.log)
    following.pause()
    assert following.view().now == NOON + timedelta(hours=1)


def test_a_playback_shows_the_time_of_the_run(tmp_path: Path, make_story: type[Story]) -> None:
    make_story(episodes=8).write(tmp_path / "events.jsonl")
    (tmp_path / "run.json").write_text("{}")
    playback = Playback(LogTail(tmp_path), 2.0, lambda: datetime(2030, 1, 1, tzinfo=UTC))
    following = FollowedRun("run", playback, lambda: NOON)
    following.advance()
    assert following.view().now.year == 2026
    assert following.view().speed == 2.0


def test_groups_are_looked_at_in_turn(look: Callable[..., FollowedRun]) -> None:
    emitted = [dataclasses.replace(epoch(env), group_id=name) for env, name in enumerate("ab")]
    following = look(emitted, NOON)
    seen = []
    for _ in range(3):
        group = following.view().group
        assert group is not None
        seen.append(group.group_id)
        following.next_group()
    assert seen == ["a", "b", "a"]


def test_a_group_without_events_is_stale_however_much_another_emits(look: Callable[..., FollowedRun]) -> None:
    quiet = dataclasses.replace(epoch(), group_id="a", timestamp=NOON - timedelta(minutes=5))
    loud = dataclasses.replace(epoch(), group_id="b", timestamp=NOON)
    following = look([quiet, loud], NOON)
    assert (following.view().phase, following.view().quiet_for) == (Phase.STALE, 300)
    following.next_group()
    assert (following.view().phase, following.view().quiet_for) == (Phase.LIVE, 0)


def test_a_clock_that_is_ahead_is_named_and_waiting_counts_from_when_the_event_came(
    look: Callable[..., FollowedRun],
) -> None:
    following = look([dataclasses.replace(epoch(), timestamp=NOON + timedelta(minutes=5))], NOON)
    view = following.view()
    assert (view.phase, view.quiet_for, view.problem) == (Phase.LIVE, 0, "the run's clock is ahead by 5 min 0 s")
    following.clock = lambda: NOON + timedelta(seconds=11)
    assert (following.view().phase, following.view().quiet_for) == (Phase.STALE, 11)


def test_an_input_that_ended_is_not_waited_for(look: Callable[..., FollowedRun]) -> None:
    class Closed:
        def take(self) -> NewRecords:
            return NewRecords(ended=True)

    assert FollowedRun("<stdin>", Closed(), lambda: NOON).view().phase is Phase.WAITING
    for records in ([], [epoch()]):
        following = look(records, NOON)
        following.feed = Closed()
        following.advance()
        assert following.view().phase is Phase.ENDED


def test_a_log_of_any_name_may_stand_alone(tmp_path: Path, make_story: type[Story]) -> None:
    log = tmp_path / "night.log"
    make_story(episodes=4).write(log)
    following = FollowedRun(str(log), LogTail(log), lambda: NOON, RunDirectory(log))
    following.advance()
    assert following.problem is None
    assert following.view().snapshot.n_events


def test_events_that_could_not_be_written_are_counted_beside_the_log(tmp_path: Path, make_story: type[Story]) -> None:
    make_story(episodes=8).write(tmp_path / "events.jsonl")
    rejected = '{"event_id": "e1", "event_type": "EPOCH_COMPLETED", "field": "val_loss", "reason": "a tensor"}\n'
    (tmp_path / "rejected.jsonl").write_text(rejected)
    followed = FollowedRun(str(tmp_path), LogTail(tmp_path), lambda: NOON, RunDirectory(tmp_path))
    followed.advance()
    assert followed.view().rejected == 1
    (tmp_path / "rejected.jsonl").write_text(rejected * 2)
    followed.advance()
    assert followed.view().rejected == 2
