"""What an environment's line says: numbers that fit their columns, and slots as events describe them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from tests.builders import payload

from esper.karn.dashboard.chips import LARGE, MEDIUM, STAGE_WORDS, TINY, chip
from esper.karn.dashboard.env_rows import MANY, EnvRows, Layout, all_row, env_heading, env_row
from esper.karn.dashboard.following import FollowedRun, Order, View
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
    assert text([Row(tuple(chip(env, "r0", MEDIUM)))]) == "blend mixer .40 "
    assert text([Row(tuple(chip(env, "r1", MEDIUM)))]).strip() == "·"


def drawn(view: View, columns: int) -> list[str]:
    assert view.group is not None
    return [text([env_row(env, Layout.of(view, columns))]) for env in view.group.envs.values()]


def started(*slot_ids: str, n_envs: int = 1) -> TrainingStartedPayload:
    return payload(TrainingStartedPayload, n_envs=n_envs, max_epochs=24, slot_ids=slot_ids)


def test_a_chip_is_as_wide_as_there_is_room(look: Callable[..., FollowedRun]) -> None:
    slots = {f"r{n}": {"stage": "HOLDING", "blueprint_id": "mixer", "alpha": 1.0} for n in range(6)}
    view = seen(look, started(*slots), EpochCompletedPayload(0, 0.5, 1.0, 1, seeds=slots))
    for columns, chips in (
        (60, "H H H H H H"),
        (80, "hold  hold  hold  hold  hold  hold"),
        (200, "hold  mixer 1   hold  mixer 1"),
        (280, "holding    mixer  α1         holding"),
    ):
        (shown,) = drawn(view, columns)
        assert chips in shown
        assert len(shown) <= columns


def test_slots_there_is_no_room_for_are_counted(look: Callable[..., FollowedRun]) -> None:
    slots = {f"r{n}": {"stage": "HOLDING", "blueprint_id": "mixer", "alpha": 1.0} for n in range(30)}
    view = seen(look, started(*slots), EpochCompletedPayload(0, 0.5, 1.0, 1, seeds=slots))
    for columns in (60, 80, 100):
        (shown,) = drawn(view, columns)
        assert shown.count("H ") + int(shown.partition("+")[2] or 0) == 30
        assert len(shown) <= columns


def slot(view: View, slot_id: str, size: int = LARGE) -> str:
    assert view.group is not None
    return text([Row(tuple(chip(view.group.envs[0], slot_id, size)))]).strip()


def test_where_epochs_name_no_seeds_the_seed_events_do(look: Callable[..., FollowedRun]) -> None:
    germinated = SeedGerminatedPayload("r0", 0, "norm", 24, alpha=0.0)
    untold = EpochCompletedPayload(0, 0.5, 1.0, 1)
    view = seen(look, germinated, untold)
    assert slot(view, "r0") == "germinated norm   α0"
    assert slot(view, "r1") == slot(view, "r1", TINY) == "—"
    advanced = SeedStageChangedPayload("r0", 0, "GERMINATED", "TRAINING")
    assert slot(seen(look, germinated, advanced, untold), "r0", MEDIUM) == "train norm  —"
    pruned = SeedPrunedPayload("r0", 0, "policy", "norm")
    assert slot(seen(look, germinated, advanced, pruned, untold), "r0").startswith("pruned ")


def test_the_seeds_of_an_episode_that_is_over_say_nothing_of_the_next(look: Callable[..., FollowedRun]) -> None:
    germinated = SeedGerminatedPayload("r0", 0, "norm", 24)
    batch = BatchEpochCompletedPayload(1, 0, 0.5, 1.0, 8, 1)
    started = payload(TrainingStartedPayload, n_envs=1, max_epochs=2, slot_ids=("r0",))
    assert slot(seen(look, started, germinated, batch, EpochCompletedPayload(0, 0.5, 1.0, 1)), "r0") == "—"


def test_every_stage_a_chip_can_show_is_in_the_help() -> None:
    shown = text(help_rows(200))
    signs = shown[shown.index("SIGNS") : shown.index("HEALTH")]
    for stage in SeedStage:
        assert STAGE_WORDS[stage.name][0] in signs


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
    assert slot(view, "r0", MEDIUM) == f"blend mixer {shown}"


def test_environments_with_long_numbers_are_distinguished(look: Callable[..., FollowedRun]) -> None:
    for numbers in ((0, 1), (0, 1012, 2012), (10**12 + 1, 10**12 + 2)):
        view = seen(look, *(EpochCompletedPayload(number, 0.5, 1.0, 1) for number in numbers))
        lines = drawn(view, 80)
        assert [line.split()[0][-3:] for line in lines] == [str(number)[-3:] for number in numbers]
        assert not any(line.split()[0] == "…" for line in lines)
        heading = text(env_heading(view, 80, 1))
        assert {line.index("0.500") + 5 for line in lines} == {heading.index("acc") + 3}


def test_a_number_in_a_row_is_never_cut(look: Callable[..., FollowedRun]) -> None:
    payloads: list[TelemetryPayload] = [
        EpochCompletedPayload(0, -1.7e308, 1.7e308, 123456),
        RewardComputedPayload(0, -1.7e308, "WAIT", -1.7e308, -1.7e308, decision_entropy=-1.7e308),
    ]
    view = seen(look, *payloads)
    for columns in (80, 200):
        assert "…" not in drawn(view, columns)[0]


def test_wide_letters_keep_every_column_in_its_place(look: Callable[..., FollowedRun]) -> None:
    widths = set()
    for name in ("mixer", "日本語テキスト", "🌱🧬"):
        seeds = {"r0": {"stage": "HOLDING", "blueprint_id": name, "alpha": 0.5}}
        view = seen(
            look,
            started("r0", "r1"),
            EpochCompletedPayload(0, 0.5, 1.0, 1, seeds=seeds),
            RewardComputedPayload(0, 1.0, name, 5.0, 0.5),
        )
        widths.add(cell_len(drawn(view, 120)[0]))
    assert len(widths) == 1


# ── their order, and all of them ───────────────────────────────────────────────────────────────────────────────────

ACCURACIES = {0: 0.5, 1: 0.4, 2: math.nan, 3: 0.6, 4: 0.3}


def five(look: Callable[..., FollowedRun]) -> View:
    """Environment 2 has diverged, 4 has the lowest accuracy, 3 the lowest reward; 5 said nothing of its own."""
    payloads: list[TelemetryPayload] = []
    for env_id, accuracy in ACCURACIES.items():
        payloads.append(EpochCompletedPayload(env_id, accuracy, math.inf if env_id == 2 else 1 - accuracy, 1))
        payloads.append(RewardComputedPayload(env_id, -9.0 if env_id == 3 else float(env_id), "WAIT", 5.0, 0.5))
    return seen(look, *payloads)


@pytest.mark.parametrize(
    ("order", "first"),
    [
        (Order.WORST, [2, 4, 1, 0, 3]),
        (Order.NUMBER, [0, 1, 2, 3, 4]),
        (Order.ACCURACY, [2, 4, 1, 0, 3]),
        (Order.LOSS, [2, 4, 1, 0, 3]),
        (Order.REWARD, [3, 0, 1, 2, 4]),
    ],
)
def test_environments_are_sorted_as_asked(
    look: Callable[..., FollowedRun], monkeypatch: pytest.MonkeyPatch, order: Order, first: list[int]
) -> None:
    shown: list[object] = []
    rows = EnvRows()
    monkeypatch.setattr(EnvRows, "columns", 80)
    monkeypatch.setattr(rows, "show", shown.extend)
    rows.refresh_view(dataclasses.replace(five(look), order=order))
    assert [rows.row(env).opens for env in shown] == first
    assert order.value in text(env_heading(dataclasses.replace(five(look), order=order), 80, 1))


def test_an_order_is_gone_through_with_a_key_and_comes_back() -> None:
    order, seen_orders = Order.WORST, set()
    for _ in Order:
        order = order.next
        seen_orders.add(order)
    assert (order, seen_orders) == (Order.WORST, set(Order))


def test_from_sixteen_environments_on_the_first_row_is_all_of_them(
    look: Callable[..., FollowedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    for n_envs in (MANY - 1, MANY):
        shown: list[object] = []
        rows = EnvRows()
        monkeypatch.setattr(EnvRows, "columns", 80)
        monkeypatch.setattr(rows, "show", shown.extend)
        rows.refresh_view(seen(look, *(EpochCompletedPayload(env, env / 100, 1.0, 1) for env in range(n_envs))))
        assert len(shown) == n_envs + (n_envs == MANY)
        assert text([rows.row(shown[0])]).split()[0] == ("all" if n_envs == MANY else "0")


def test_all_of_them_are_the_means_of_what_is_finite_and_say_so(look: Callable[..., FollowedRun]) -> None:
    view = five(look)
    assert view.group is not None
    row = all_row(tuple(view.group.envs.values()), Layout.of(view, 200))
    shown = text([row]).split()
    assert shown[:3] == ["all", "1", "0.450"]
    assert ("0.450", "bad") in {(span.strip(), tone) for span, tone in row.spans}
    assert "-0.400" in shown  # of five rewards


def test_seeds_of_all_are_counted_by_stage(look: Callable[..., FollowedRun]) -> None:
    stages = ["HOLDING"] * 3 + ["FOSSILIZED"] * 2 + ["TRAINING"]
    payloads = [
        EpochCompletedPayload(env, 0.5, 1.0, 1, seeds={"r0": {"stage": stage}}) for env, stage in enumerate(stages)
    ]
    view = seen(look, started("r0", n_envs=6), *payloads)
    assert view.group is not None
    envs = tuple(view.group.envs.values())
    assert "3 holding 2 kept" in text([all_row(envs, Layout.of(view, 80))])
    view = seen(look, started("r0", "r1", "r2", n_envs=6), *payloads)
    assert "3 hold 2 kept" in text([all_row(envs, Layout.of(view, 80))])
