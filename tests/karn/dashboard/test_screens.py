"""What the screens say, without a terminal: the functions that make their rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual.binding import Binding

from esper.karn.dashboard.env_detail import COMPONENTS, env_detail
from esper.karn.dashboard.env_rows import LARGE, MEDIUM, TINY, EnvRows, chip, env_heading
from esper.karn.dashboard.help_text import help_rows
from esper.karn.dashboard.overview import brief, event_heading, learning_rows, ppo_rows, status_line
from esper.karn.dashboard.ppo_detail import ppo_detail
from esper.karn.dashboard.rows import Row
from esper.karn.dashboard.run_detail import run_detail
from esper.karn.dashboard.watching import View, Watching
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo, SinkStats
from esper.leyline.telemetry import (
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedGerminatedPayload,
    TelemetryEvent,
    TelemetryPayload,
)
from esper.leyline.testing import events

if TYPE_CHECKING:
    from tests.karn.dashboard.conftest import Story

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def text(rows: list[Row]) -> str:
    return "\n".join("".join(span for span, _ in row.spans) for row in rows)


def seen(look: Callable[..., Watching], *told: TelemetryPayload) -> View:
    return look([TelemetryEvent(data=payload, timestamp=NOON) for payload in told], NOON).view()


def every_screen(view: View, width: int) -> Iterator[list[Row]]:
    for build in (status_line, learning_rows, ppo_rows, env_heading, event_heading):
        yield build(view, width, 10)
    for detail in (ppo_detail, run_detail):
        yield from detail(view, width)
    for env in () if view.group is None else view.group.envs.values():
        yield from env_detail(view, env.env_id, width)
        yield [EnvRows().row(env)]
        for slot_id in env.slots:
            for size in (TINY, MEDIUM, LARGE):
                yield [Row(tuple(chip(env, slot_id, None, size)))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.lists(events(), max_size=6))
def test_whatever_is_told_every_screen_can_show_it(
    look: Callable[..., Watching], monkeypatch: pytest.MonkeyPatch, told: list[TelemetryEvent]
) -> None:
    view = look([dataclasses.replace(event, group_id="default") for event in told], NOON).view()
    for wide in (False, True):
        monkeypatch.setattr(EnvRows, "columns", 200 if wide else 80)
        for rows in every_screen(view, 200 if wide else 80):
            for row in rows:
                for span, _ in row.spans:
                    assert span.isprintable()
        for event in told:
            assert brief(event).isprintable()


def test_learning_is_told_with_best_trend_progress_and_eta(tell: type[Story], look: Callable[..., Watching]) -> None:
    story = tell(episodes=80)
    view = look(story.events(), NOON + timedelta(minutes=2)).view()
    view = dataclasses.replace(view, now=story.now)
    assert view.group is not None
    batches = [told.data for told in view.group.batches]
    best = max(batches, key=lambda batch: batch.avg_reward)
    shown = text(learning_rows(view, 120, 4))
    assert f"{batches[-1].avg_reward:+.3f}" in shown
    assert f"best {best.avg_reward:+.3f} (batch {best.batch_idx})" in shown
    assert "80/160 episodes" in shown
    assert "epoch 13/24" in shown
    assert "ETA" in shown


def test_a_stale_run_has_no_eta(tell: type[Story], look: Callable[..., Watching]) -> None:
    assert "ETA —" in text(learning_rows(look(tell(episodes=80).events(), NOON + timedelta(days=1)).view(), 120, 4))


def test_before_the_first_batch_nothing_is_made_up(look: Callable[..., Watching]) -> None:
    view = seen(look, EpochCompletedPayload(0, 0.5, 1.0, 1))
    shown = text(learning_rows(view, 80, 4)) + text(ppo_rows(view, 80, 8))
    assert "No batch is complete yet" in shown
    assert "OK" not in shown
    assert "0.000" not in shown


def reward(**parts: float) -> RewardComputedPayload:
    return RewardComputedPayload(0, math.fsum(parts.values()), "WAIT", 5.0, 0.5, **parts)  # type: ignore[arg-type]  # floats


def test_the_components_are_those_of_the_contract() -> None:
    doc = RewardComputedPayload.__doc__
    assert doc is not None
    promised = doc.partition("signed contributions:")[2].partition("add up to")[0]
    assert set(COMPONENTS) == {word.strip("`,\n ") for word in promised.split() if word.startswith("``")}


def test_a_reward_that_its_components_explain_leaves_no_rest(look: Callable[..., Watching]) -> None:
    told = reward(**{name: 0.1 * (index - 4) for index, name in enumerate(COMPONENTS)})
    shown = text(env_detail(seen(look, told), 0, 100)[0])
    assert "not explained" not in shown
    for name in COMPONENTS:
        assert name in shown


def test_a_reward_that_is_not_explained_says_how_much(look: Callable[..., Watching]) -> None:
    told = RewardComputedPayload(0, 2.0, "WAIT", 5.0, 0.5, base_acc_delta=1.5)
    rows = env_detail(seen(look, told), 0, 100)[0]
    (rest,) = (text([row]) for row in rows if "not explained" in text([row]))
    assert "+0.500" in rest
    (absent,) = (text([row]) for row in rows if "compute_rent" in text([row]))
    assert "—" in absent


def test_the_counterfactual_matrix_shows_what_each_ablation_costs(look: Callable[..., Watching]) -> None:
    configs = (
        {"seed_mask": [False, True], "accuracy": 0.6},
        {"seed_mask": [True, True], "accuracy": 0.8},
        {"accuracy": "unreadable"},
    )
    told = CounterfactualMatrixPayload(0, ("r0", "r2"), configs, "full_factorial", 3.0)
    shown = text(env_detail(seen(look, told), 0, 100)[1])
    assert "○ off  ● on   0.600     -0.200" in shown
    assert "● on   ● on   0.800     +0.000" in shown
    assert "—" in shown


def test_alternatives_stand_beside_the_choice(look: Callable[..., Watching]) -> None:
    told = RewardComputedPayload(
        0, 1.0, "WAIT", 5.0, 0.25, alternatives=[{"action": "PRUNE", "slot": "r1", "probability": 0.125}]
    )
    shown = text(env_detail(seen(look, told), 0, 100)[0])
    assert "PRUNE        r1     0.125" in shown
    assert "▶ WAIT                0.250" in shown


def test_a_slot_is_shown_as_the_newest_epoch_tells_it(look: Callable[..., Watching]) -> None:
    told = {"stage": "BLENDING", "blueprint_id": "mixer", "alpha": 0.4}
    view = seen(look, EpochCompletedPayload(0, 0.5, 1.0, 1, seeds={"r0": told}))
    assert view.group is not None
    env = view.group.envs[0]
    assert text([Row(tuple(chip(env, "r0", told, MEDIUM)))]) == "B mixer .40 "
    assert text([Row(tuple(chip(env, "r1", {}, MEDIUM)))]).strip() == "·"


def test_a_chip_is_as_wide_as_there_is_room(look: Callable[..., Watching], monkeypatch: pytest.MonkeyPatch) -> None:
    slots = {f"r{n}": {"stage": "HOLDING", "blueprint_id": "mixer", "alpha": 1.0} for n in range(6)}
    view = seen(look, EpochCompletedPayload(0, 0.5, 1.0, 1, seeds=slots))
    rows = EnvRows()
    rows.slot_ids = tuple(slots)
    assert view.group is not None
    for columns, chips in (
        (80, "H H H H H H"),
        (120, "H mixer 1   H mixer 1"),
        (260, "HOLDING    mixer     1    HOLDING"),
    ):
        monkeypatch.setattr(EnvRows, "columns", columns)
        drawn = text([rows.row(view.group.envs[0])])
        assert chips in drawn
        assert len(drawn) <= columns


def test_where_epochs_tell_no_seeds_the_seed_events_do(look: Callable[..., Watching]) -> None:
    view = seen(look, SeedGerminatedPayload("r0", 0, "norm", 24))
    assert view.group is not None
    assert "·" in text([Row(tuple(chip(view.group.envs[0], "r0", None, LARGE)))])


def test_every_head_that_was_told_is_shown(look: Callable[..., Watching]) -> None:
    heads = {
        field.name: {"all": 1.25 + index}
        for index, field in enumerate(dataclasses.fields(PPOUpdatePayload))
        if field.name.startswith("head_")
    }
    told: Any = PPOUpdatePayload.from_dict(
        PPOUpdatePayload(0.1, 0.2, 1.0, 0.4, 0.01, 0.1, 0).to_dict()
        | heads
        | {"layer_gradient_health": {"actor.0": 0.75}}
    )
    shown = text(ppo_detail(seen(look, told), 100)[1])
    for entropies in heads.values():
        assert str(entropies["all"]) in shown
    assert "actor.0" in shown
    assert "not supplied" not in shown


def test_what_run_json_knows_is_shown(look: Callable[..., Watching]) -> None:
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
        "11.200 ± 0.370",
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
        assert f" {key} " in shown


def test_the_status_line_names_what_is_wrong(look: Callable[..., Watching]) -> None:
    view = dataclasses.replace(look([], NOON).view(), problem="Permission denied: run", invalid=3)
    shown = text(status_line(view, 120, 1))
    assert "Permission denied" in shown
    assert "3 invalid lines" in shown


def test_an_incomplete_last_line_is_named_once_nobody_writes_any_more(
    tell: type[Story], look: Callable[..., Watching]
) -> None:
    story = tell(episodes=4)
    view = dataclasses.replace(look(story.events(), NOON).view(), torn=True)
    assert "incomplete" not in text(status_line(dataclasses.replace(view, now=story.now), 120, 1))
    later = dataclasses.replace(view, now=story.now + timedelta(hours=1))
    assert "! last line incomplete" in text(status_line(later, 120, 1))
