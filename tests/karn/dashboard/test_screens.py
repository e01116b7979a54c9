"""What the screens say, without a terminal: the functions that make their rows."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.effort import tries
from textual.binding import Binding

from esper.karn.dashboard.charts import all_charts, chart_rows
from esper.karn.dashboard.chips import SIZES, chip
from esper.karn.dashboard.env_detail import env_detail
from esper.karn.dashboard.env_rows import Layout, all_row, env_heading, env_row
from esper.karn.dashboard.following import FollowedRun, View
from esper.karn.dashboard.help_text import help_rows
from esper.karn.dashboard.overview import EventRows, brief, event_heading, status_line
from esper.karn.dashboard.ppo_detail import ppo_detail
from esper.karn.dashboard.rows import Row
from esper.karn.dashboard.run_detail import run_detail
from esper.karn.dashboard.standing import standing_rows
from esper.karn.derived import COMPONENTS
from esper.karn.formatting import number
from esper.karn.health import assess
from esper.karn.summary import summary
from esper.leyline.limits import Status
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo, SinkStats
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryPayload,
)
from esper.leyline.testing import events

if TYPE_CHECKING:
    from tests.karn.dashboard.conftest import Story

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def text(rows: list[Row]) -> str:
    return "\n".join("".join(span for span, _ in row.spans) for row in rows)


def seen(look: Callable[..., FollowedRun], *emitted: TelemetryPayload) -> View:
    return look([TelemetryEvent(data=payload, timestamp=NOON) for payload in emitted], NOON).view()


def every_screen(view: View, width: int) -> Iterator[list[Row]]:
    for build in (status_line, standing_rows, chart_rows, env_heading, event_heading):
        yield build(view, width, 10)
    for detail in (ppo_detail, run_detail, all_charts):
        yield from detail(view, width)
    envs = () if view.group is None else tuple(view.group.envs.values())
    yield [all_row(envs, Layout.of(view, width))]
    for env in envs:
        yield from env_detail(view, env.env_id, width)
        yield [env_row(env, Layout.of(view, width))]
        for slot_id in env.slots:
            for size in SIZES:
                yield [Row(tuple(chip(env, slot_id, size)))]


@settings(max_examples=tries(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(emitted=st.lists(events(), max_size=6))
def test_whatever_is_emitted_every_screen_can_show_it(
    look: Callable[..., FollowedRun], emitted: list[TelemetryEvent]
) -> None:
    view = look([dataclasses.replace(event, group_id="default") for event in emitted], NOON).view()
    for width in (80, 200):
        for rows in every_screen(view, width):
            for row in rows:
                for span, _ in row.spans:
                    assert span.isprintable()
        for event in emitted:
            assert brief(event).isprintable()


def standing(view: View, width: int = 120, height: int = 40) -> str:
    return text(standing_rows(view, width, height))


def test_learning_is_shown_with_best_progress_and_eta(
    make_story: type[Story], look: Callable[..., FollowedRun]
) -> None:
    story = make_story(episodes=80)
    view = look(story.events(), NOON + timedelta(minutes=2)).view()
    view = dataclasses.replace(view, now=story.now)
    assert view.group is not None
    batches = [emitted.data for emitted in view.group.batches]
    best = max(batches, key=lambda batch: batch.avg_reward)
    drawn = text(chart_rows(view, 200, 20))
    assert f" {number(batches[-1].avg_reward)} " in drawn
    assert f"best {number(best.avg_reward)} in batch {best.batch_idx}" in drawn
    shown = standing(view)
    assert "80 of 160 episodes" in shown
    assert "batch 19 complete · next: epoch 13/24" in shown
    assert "ETA" in shown


def test_epochs_stand_with_the_batch_that_they_belong_to(
    make_story: type[Story], look: Callable[..., FollowedRun]
) -> None:
    def progress_of(**story: Any) -> str:
        return standing(look(make_story(**story).events(), NOON).view())

    assert "batch 1 complete · next: epoch 5/24" in progress_of(episodes=8, extra_epochs=5)
    over = progress_of(episodes=8, extra_epochs=0)
    assert "batch 1 complete" in over
    assert "epoch" not in over
    first = progress_of(episodes=0, extra_epochs=5)
    assert "epoch 5/24" in first
    assert "no batch is complete yet" in first


def test_a_chart_is_as_wide_as_it_may_be_and_leaves_out_whole_facts(look: Callable[..., FollowedRun]) -> None:
    batches = [BatchEpochCompletedPayload(4 * n, n, 0.5, 1e4 + n, 8000, 4) for n in range(1001, 1005)]
    for width in (80, 120, 200):
        rows = chart_rows(seen(look, *batches), width, 12)
        assert {sum(len(span) for span, _ in row.spans) for row in rows} == {width}
        assert "batch 1,001" in text(rows)
        assert "1,004" in text(rows)
        assert "11004" in text(rows)  # ticks have the digits in which they differ


def test_events_have_the_local_time_and_the_heading_names_its_zone(
    look: Callable[..., FollowedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "XYZ-3")
    time.tzset()
    try:
        view = seen(look, EpochCompletedPayload(0, 0.5, 1.0, 1))
        assert "· XYZ ·" in text(event_heading(view, 120, 1))
        assert "15:00:00" in text([EventRows().row(view.snapshot.log[0])])
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_stale_run_has_no_eta(make_story: type[Story], look: Callable[..., FollowedRun]) -> None:
    assert "ETA —" in standing(look(make_story(episodes=80).events(), NOON + timedelta(days=1)).view())


def test_before_the_first_batch_nothing_is_made_up(look: Callable[..., FollowedRun]) -> None:
    view = seen(look, EpochCompletedPayload(0, 0.5, 1.0, 1))
    shown = text(chart_rows(view, 80, 4)) + standing(view, 80)
    assert "No batch is complete yet" in shown
    assert "? UNKNOWN" in shown
    assert "0.000" not in shown


def sick_where_it_is_easily_overlooked(update: TelemetryEvent) -> TelemetryEvent:
    emitted = update.data.to_dict() | {"policy_loss": math.nan, "ratio_max": 50.0, "exploding_layers": 3}
    return dataclasses.replace(update, data=PPOUpdatePayload.from_dict(emitted))


@pytest.mark.parametrize("width", [20, 80, 200])
@pytest.mark.parametrize("height", [4, 8, 40])
def test_the_headline_is_that_of_all_rules_whatever_fits(
    make_story: type[Story], look: Callable[..., FollowedRun], width: int, height: int
) -> None:
    story = [
        sick_where_it_is_easily_overlooked(event) if isinstance(event.data, PPOUpdatePayload) else event
        for event in make_story(episodes=12).events()
    ]
    view = look(story, NOON).view()
    rows = standing_rows(view, width, height)
    title = text(rows[:1])
    verdict = assess(view.snapshot)
    bad = sum(one.status is Status.BAD for one in verdict.findings)
    assert bad >= 2
    assert title.startswith(" ✗ BAD  learnt: not clear ")
    assert f" {bad} BAD, " in title
    assert f"✗ BAD  {bad} BAD, " in text(ppo_detail(view, width)[0])
    assert f"✗ BAD ({bad} BAD, " in summary(view.snapshot, None, Path("run"))
    troubles = sum(re.match(r" \d [✗!] ", text([row])) is not None for row in rows)
    more = re.search(r"(\d+) troubles? ?(more)? \(u\)", text(rows))
    assert troubles + (int(more[1]) if more else 0) == len(verdict.alarms)
    assert len(rows) <= height or height == 4


def test_rules_that_are_well_or_unknown_are_a_count(make_story: type[Story], look: Callable[..., FollowedRun]) -> None:
    view = look(make_story(episodes=12).events(), NOON + timedelta(seconds=30)).view()
    of = [one.status for one in view.verdict.findings]
    said = f"{of.count(Status.UNKNOWN)} UNKNOWN, {of.count(Status.OK)} OK (u: all rules)"
    assert said in standing(view)
    assert "well in" not in standing(view)


def test_a_trouble_says_since_which_batch_and_episode_and_how_long_ago(
    make_story: type[Story], look: Callable[..., FollowedRun]
) -> None:
    story = make_story(episodes=40, unhealthy=True, extra_epochs=0)
    emitted = list(story.events())
    view = look(emitted, story.now + timedelta(minutes=3)).view()
    shown = " ".join(standing(view, 120).split())
    kl = next(one for one in view.verdict.alarms if one.rule == "nan_gradients")
    assert kl.since == 8
    assert "BAD since batch 8, episode 32, 3 min" in shown
    key = 1 + view.verdict.alarms.index(kl)
    assert f"{key} ✗ BAD since batch 8" in shown


def test_in_the_detail_of_ppo_heads_and_layers_come_before_the_updates(
    make_story: type[Story], look: Callable[..., FollowedRun]
) -> None:
    view = look(make_story(episodes=12).events(), NOON).view()
    left, right = ppo_detail(view, 80)
    shown = text([*left, *right])
    assert shown.index("ENTROPY OF EACH HEAD") < shown.index("LAYERS:") < shown.index("UPDATES")


def reward(**parts: float) -> RewardComputedPayload:
    return RewardComputedPayload(0, math.fsum(parts.values()), "WAIT", 5.0, 0.5, **parts)  # type: ignore[arg-type]  # floats


def test_the_components_are_those_of_the_contract() -> None:
    doc = RewardComputedPayload.__doc__
    assert doc is not None
    promised = doc.partition("signed contributions:")[2].partition("add up to")[0]
    assert set(COMPONENTS) == {word.strip("`,\n ") for word in promised.split() if word.startswith("``")}


def test_a_reward_that_its_components_explain_leaves_no_rest(look: Callable[..., FollowedRun]) -> None:
    emitted = reward(**{name: 0.1 * (index - 4) for index, name in enumerate(COMPONENTS)})
    shown = text(env_detail(seen(look, emitted), 0, 100)[0])
    assert "not explained" not in shown
    for name in COMPONENTS:
        assert name in shown


def test_a_reward_that_is_not_explained_says_how_much(look: Callable[..., FollowedRun]) -> None:
    emitted = RewardComputedPayload(0, 2.0, "WAIT", 5.0, 0.5, base_acc_delta=1.5)
    rows = env_detail(seen(look, emitted), 0, 100)[0]
    (rest,) = (text([row]) for row in rows if "not explained" in text([row]))
    assert "+0.500" in rest
    (absent,) = (text([row]) for row in rows if "compute_rent" in text([row]))
    assert "—" in absent


def test_the_counterfactual_matrix_shows_what_each_ablation_costs(look: Callable[..., FollowedRun]) -> None:
    configs = (
        {"seed_mask": [False, True], "accuracy": 0.6},
        {"seed_mask": [True, True], "accuracy": 0.8},
        {"accuracy": "unreadable"},
    )
    emitted = CounterfactualMatrixPayload(0, ("r0", "r2"), configs, "full_factorial", 3.0)
    shown = text(env_detail(seen(look, emitted), 0, 100)[1])
    assert "○ off  ● on   0.600     -0.200" in shown
    assert "● on   ● on   0.800     +0.000" in shown
    assert "—" in shown


def test_alternatives_stand_beside_the_choice(look: Callable[..., FollowedRun]) -> None:
    emitted = RewardComputedPayload(
        0, 1.0, "WAIT", 5.0, 0.25, alternatives=[{"action": "PRUNE", "slot": "r1", "probability": 0.125}]
    )
    shown = text(env_detail(seen(look, emitted), 0, 100)[0])
    assert "PRUNE        r1     0.125" in shown
    assert "▶ WAIT                0.250" in shown


def test_a_seeds_stage_history_is_wrapped_not_cut(look: Callable[..., FollowedRun]) -> None:
    names = [f"STAGE{n}" for n in range(24)]
    emitted = [SeedStageChangedPayload("r0", 0, left, entered) for left, entered in pairwise(names)]
    for width in (40, 80):
        shown = text(env_detail(seen(look, *emitted), 0, width)[1])
        for name in names[1:]:
            assert name in shown
        assert max(len(row) for row in shown.splitlines() if "→" in row) <= width


def test_every_head_that_was_supplied_is_shown(look: Callable[..., FollowedRun]) -> None:
    heads = {
        field.name: {"all": 1.25 + index}
        for index, field in enumerate(dataclasses.fields(PPOUpdatePayload))
        if field.name.startswith("head_")
    }
    emitted: Any = PPOUpdatePayload.from_dict(
        PPOUpdatePayload(0.1, 0.2, 1.0, 0.4, 0.01, 0.1, 0).to_dict()
        | heads
        | {"layer_gradient_health": {"actor.0": 0.75}}
    )
    shown = text(ppo_detail(seen(look, emitted), 100)[1])
    for entropies in heads.values():
        assert str(entropies["all"]) in shown
    assert "actor.0" in shown
    assert "not supplied" not in shown


def test_what_run_json_knows_is_shown(look: Callable[..., FollowedRun]) -> None:
    one = PolicyScore(Estimate(11.2, 0.37), Estimate(0.88, 0.007), Estimate(0.877, 0.01))
    lost = SinkStats("log", True, 10, 7, 1, 2, 0, 0.1, False, "disk full \x1b[2J")
    info = RunInfo(
        status="failed",
        started=NOON,
        ended=NOON + timedelta(seconds=61),
        configuration={"lr": 0.003},
        versions={"torch": "2.13"},
        sinks=(lost,),
        evaluation=Evaluation(16, one, one, one),
        error="no space left",
    )
    view = dataclasses.replace(look([], NOON).view(), info=info)
    shown = text(run_detail(view, 100)[1])
    for part in (
        "11.20 ± 0.37",
        "✗ LOST",
        "disk full \\x1b[2J",
        "failed after 1 min 1 s",
        "no space left",
        "0.003",
        "2.13",
    ):
        assert part in shown
    assert "✗ FAILED" in text(status_line(view, 100, 1))


def test_help_knows_every_key_of_the_dashboard() -> None:
    from esper.karn.dashboard.app import Dashboard, Overview

    shown = text(help_rows(80))
    for binding in (*Dashboard.BINDINGS, *Overview.BINDINGS):
        assert isinstance(binding, Binding)
        key = {"question_mark,f1": "?", "escape": "Esc", "space": "Space"}.get(binding.key, binding.key)
        key = "1-9" if key.isdecimal() else key
        assert f" {key} " in shown


def test_the_status_line_names_what_is_wrong(look: Callable[..., FollowedRun]) -> None:
    view = dataclasses.replace(look([], NOON).view(), problem="Permission denied: run", invalid=3)
    shown = text(status_line(view, 120, 1))
    assert "Permission denied" in shown
    assert "3 invalid lines" in shown


def test_an_incomplete_last_line_is_named_once_nobody_writes_any_more(
    make_story: type[Story], look: Callable[..., FollowedRun]
) -> None:
    story = make_story(episodes=4)
    view = dataclasses.replace(look(story.events(), NOON).view(), torn=True)
    assert "incomplete" not in text(status_line(dataclasses.replace(view, now=story.now), 120, 1))
    later = dataclasses.replace(view, now=story.now + timedelta(hours=1))
    assert "! last line incomplete" in text(status_line(later, 120, 1))
