"""What an environment's line says: numbers that fit their columns, and slots as events describe them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from tests.builders import payload

from esper.karn.dashboard.env_rows import LARGE, MEDIUM, TINY, EnvRows, chip, env_heading
from esper.karn.dashboard.following import FollowedRun, View
from esper.karn.dashboard.help_text import help_rows
from esper.karn.dashboard.rows import Row
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def text(rows: list[Row]) -> str:
    return "\n".join("".join(span for span, _ in row.spans) for row in rows)


def seen(look: Callable[..., FollowedRun], *payloads: TelemetryPayload) -> View:
    return look([TelemetryEvent(data=payload, timestamp=NOON) for payload in payloads], NOON).view()


def test_a_slot_is_shown_as_the_newest_epoch_describes_it(look: Callable[..., FollowedRun]) -> None:
    payloads = {"stage": "BLENDING", "blueprint_id": "mixer", "alpha": 0.4}
    view = seen(look, EpochCompletedPayload(0, 0.5, 1.0, 1, seeds={"r0": payloads}))
    assert view.group is not None
    env = view.group.envs[0]
    assert text([Row(tuple(chip(env, "r0", MEDIUM)))]) == "B mixer .40 "
    assert text([Row(tuple(chip(env, "r1", MEDIUM)))]).strip() == "·"


def test_a_chip_is_as_wide_as_there_is_room(look: Callable[..., FollowedRun], monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_slots_there_is_no_room_for_are_counted(
    look: Callable[..., FollowedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = {f"r{n}": {"stage": "HOLDING", "blueprint_id": "mixer", "alpha": 1.0} for n in range(30)}
    view = seen(look, EpochCompletedPayload(0, 0.5, 1.0, 1, seeds=slots))
    rows = EnvRows()
    rows.slot_ids = tuple(slots)
    assert view.group is not None
    for columns in (60, 80, 100):
        monkeypatch.setattr(EnvRows, "columns", columns)
        drawn = text([rows.row(view.group.envs[0])])
        chips = drawn.count("H ")
        assert chips + int(drawn.partition("+")[2] or 0) == 30
        assert len(drawn) <= columns


def slot(view: View, slot_id: str, size: int = LARGE) -> str:
    assert view.group is not None
    return text([Row(tuple(chip(view.group.envs[0], slot_id, size)))]).strip()


def test_where_epochs_name_no_seeds_the_seed_events_do(look: Callable[..., FollowedRun]) -> None:
    germinated = SeedGerminatedPayload("r0", 0, "norm", 24, alpha=0.0)
    untold = EpochCompletedPayload(0, 0.5, 1.0, 1)
    view = seen(look, germinated, untold)
    assert slot(view, "r0") == "GERMINATED norm      0"
    assert slot(view, "r1") == slot(view, "r1", TINY) == "—"
    advanced = SeedStageChangedPayload("r0", 0, "GERMINATED", "TRAINING")
    assert slot(seen(look, germinated, advanced, untold), "r0", MEDIUM) == "T norm  —"
    pruned = SeedPrunedPayload("r0", 0, "policy", "norm")
    assert slot(seen(look, germinated, advanced, pruned, untold), "r0").startswith("PRUNED ")


def test_the_seeds_of_an_episode_that_is_over_say_nothing_of_the_next(look: Callable[..., FollowedRun]) -> None:
    germinated = SeedGerminatedPayload("r0", 0, "norm", 24)
    batch = BatchEpochCompletedPayload(1, 0, 0.5, 1.0, 8, 1)
    started = payload(TrainingStartedPayload, n_envs=1, max_epochs=2, slot_ids=("r0",))
    assert slot(seen(look, started, germinated, batch, EpochCompletedPayload(0, 0.5, 1.0, 1)), "r0") == "—"


def test_every_stage_a_chip_can_show_is_in_the_help() -> None:
    shown = text(help_rows(200))
    signs = shown[shown.index("SIGNS") : shown.index("HEALTH")]
    for stage in SeedStage:
        assert stage.name == "DORMANT" or f"{stage.name[0]} " in signs
        assert stage.name == "DORMANT" or stage.value in signs or "rests" in signs


@pytest.mark.parametrize(
    ("alpha", "shown"),
    [
        (0.4, ".40"),
        (0.996, "<1"),
        (0.004, ">0"),
        (0.0, "0"),
        (1.0, "1"),
        (12.5, ">1"),
        (-0.3, "<0"),
        (1.7e308, ">1"),
        (math.nan, "NaN"),
        (10**400, ">1"),
    ],
)
def test_alpha_is_never_shown_as_what_it_is_not(look: Callable[..., FollowedRun], alpha: float, shown: str) -> None:
    payloads = {"stage": "BLENDING", "blueprint_id": "mixer", "alpha": alpha}
    view = seen(look, EpochCompletedPayload(0, 0.5, 1.0, 1, seeds={"r0": payloads}))
    assert slot(view, "r0", MEDIUM) == f"B mixer {shown}"


def test_environments_with_long_numbers_are_distinguished(
    look: Callable[..., FollowedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EnvRows, "columns", 80)
    for numbers in ((0, 1), (0, 1012, 2012), (10**12 + 1, 10**12 + 2)):
        view = seen(look, *(EpochCompletedPayload(number, 0.5, 1.0, 1) for number in numbers))
        assert view.group is not None
        rows = EnvRows()
        monkeypatch.setattr(rows, "show", lambda _items: None)
        rows.refresh_view(view)
        drawn = [text([rows.row(env)]) for env in view.group.envs.values()]
        assert [line.split()[0][-3:] for line in drawn] == [str(number)[-3:] for number in numbers]
        assert not any(line.split()[0] == "…" for line in drawn)
        heading = text(env_heading(view, 80, 1))
        assert {line.index("0.500") + 5 for line in drawn} == {heading.index("acc") + 3}


def test_a_number_in_a_row_is_never_cut(look: Callable[..., FollowedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    payloads: list[TelemetryPayload] = [
        EpochCompletedPayload(0, -1.7e308, 1.7e308, 123456),
        RewardComputedPayload(0, -1.7e308, "WAIT", -1.7e308, -1.7e308, decision_entropy=-1.7e308),
    ]
    view = seen(look, *payloads)
    assert view.group is not None
    for columns in (80, 200):
        monkeypatch.setattr(EnvRows, "columns", columns)
        assert "…" not in text([EnvRows().row(view.group.envs[0])])


def test_wide_letters_keep_every_column_in_its_place(
    look: Callable[..., FollowedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EnvRows, "columns", 120)
    widths = set()
    for name in ("mixer", "日本語テキスト", "🌱🧬"):
        seeds = {"r0": {"stage": "HOLDING", "blueprint_id": name, "alpha": 0.5}}
        view = seen(
            look, EpochCompletedPayload(0, 0.5, 1.0, 1, seeds=seeds), RewardComputedPayload(0, 1.0, name, 5.0, 0.5)
        )
        assert view.group is not None
        rows = EnvRows()
        rows.slot_ids = ("r0", "r1")
        widths.add(cell_len(text([rows.row(view.group.envs[0])])))
    assert len(widths) == 1
