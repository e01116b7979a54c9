"""Progress on the console: a bar in a terminal, lines elsewhere, and no number before it was measured."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.console import Console, progress_cells
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = TrainingStartedPayload(
    n_envs=2, max_epochs=6, task="digits", host_params=706, slot_ids=("a",), seed=7, n_episodes=8, lr=3e-3,
    clip_ratio=0.2, entropy_coef=0.05, param_budget=1000, policy_device="cpu", env_devices=("cpu", "cpu"),
)  # fmt: skip
BATCH = BatchEpochCompletedPayload(
    episodes_completed=2, batch_idx=0, avg_accuracy=0.8125, avg_reward=0.0, total_episodes=8, n_envs=2
)
UPDATE = PPOUpdatePayload(
    policy_loss=0.1, value_loss=0.2, entropy=1.5, grad_norm=0.75, kl_divergence=0.0125, clip_fraction=0.1,
    nan_grad_count=0,
)  # fmt: skip
REWARD = RewardComputedPayload(
    env_id=0, total_reward=0.1, action_name="WAIT", value_estimate=0.0, action_confidence=1.0
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(console: Console, *payloads: TelemetryPayload) -> None:
    for seconds, payload in enumerate(payloads):
        console.show(TelemetryEvent(data=payload, timestamp=START + timedelta(seconds=10 * seconds)))


def test_elsewhere_every_batch_is_one_plain_row_under_the_names_of_its_columns() -> None:
    stream = io.StringIO()
    console = Console(stream)
    show(console, STARTED, REWARD, UPDATE, BATCH)
    console.close()
    assert stream.getvalue() == (
        "episodes     return accuracy policy entropy        KL     elapsed        left\n"
        "     2/8          0    0.812            1.5    0.0125        30 s  1 min 30 s\n"
    )


def test_the_names_are_repeated_where_the_first_have_scrolled_away() -> None:
    stream = io.StringIO()
    console = Console(stream)
    show(console, STARTED, *[BATCH] * 21)
    rows = [row for row in stream.getvalue().splitlines() if row[0] not in "!✗?"]  # the verdict is prose
    assert [at for at, row in enumerate(rows) if "accuracy" in row] == [0, 21]


def test_a_row_invents_no_number_that_was_not_emitted() -> None:
    stream = io.StringIO()
    show(Console(stream), BATCH)
    assert stream.getvalue().splitlines()[1].split() == ["2/8", "0", "0.812", "—", "—", "—", "—"]


def test_numbers_are_dashes_before_they_were_measured() -> None:
    aggregator = TelemetryAggregator()
    aggregator.process(TelemetryEvent(data=STARTED, timestamp=START))
    cells = progress_cells(aggregator.snapshot().groups["default"], START)
    assert [cell.text for cell in cells] == ["0/8", "—", "—", "—", "—", "0.0 s", "—"]


def test_rows_of_several_groups_say_whose_they_are_in_eighty_columns() -> None:
    stream = io.StringIO()
    console = Console(stream)
    for data in (STARTED, UPDATE, dataclasses.replace(BATCH, total_episodes=9999)):
        for group in ("shaped", "simplified"):
            console.show(TelemetryEvent(data=data, timestamp=START, group_id=group))
    head, *rows = (row for row in stream.getvalue().splitlines() if row[0] not in "!✗?")
    assert [row.split()[0] for row in (head, *rows)] == ["group", "shaped", "simplified"]
    assert {len(row) for row in (head, *rows)} == {79}


EXTREME = (0.0, -1.23456e-300, -1.23456e300, 12345678.9, math.nan, -math.inf, 1e-5)


@pytest.mark.parametrize("value", EXTREME)
@pytest.mark.parametrize("episodes", [8, 9999])
def test_a_row_takes_no_more_than_eighty_columns(value: float, episodes: int) -> None:
    stream = io.StringIO()
    update = dataclasses.replace(UPDATE, entropy=value, kl_divergence=value)
    batch = dataclasses.replace(BATCH, avg_reward=value, avg_accuracy=value, total_episodes=episodes)
    console = Console(stream)
    show(console, STARTED, update)
    console.show(TelemetryEvent(data=batch, timestamp=START + timedelta(minutes=59, seconds=59)))
    rows = [row for row in stream.getvalue().splitlines() if row[0] not in "!✗?"]  # the verdict is prose
    assert len(rows) == 2
    assert max(map(len, rows)) <= 80


def test_that_a_number_is_not_finite_is_said_when_it_comes_and_once_a_batch() -> None:
    stream = io.StringIO()
    console = Console(stream)
    broken = dataclasses.replace(REWARD, total_reward=math.nan)
    show(console, STARTED, broken, broken)
    assert stream.getvalue() == "✗ BAD a reward was not finite in 1 of 1 batches, first in batch 0\n"
    show(console, dataclasses.replace(UPDATE, policy_loss=math.inf))
    assert stream.getvalue().splitlines()[1:] == ["✗ BAD policy loss not finite in 1 of 1 updates, first in batch 0"]


def test_what_is_normal_for_a_number_is_no_trouble_though_it_is_not_finite() -> None:
    stream = io.StringIO()
    console = Console(stream)
    overflow = dataclasses.replace(UPDATE, grad_norm=math.inf, amp_overflow_detected=True)
    show(console, STARTED, overflow, dataclasses.replace(UPDATE, explained_variance=math.nan))
    assert stream.getvalue() == ""


@pytest.mark.parametrize("width", [80, 120])
def test_in_a_terminal_a_bar_moves_with_every_step(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    console = Console(stream)
    show(console, STARTED, *[REWARD] * 12, UPDATE, BATCH, *[REWARD] * 12)
    console.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    newest = shown.rsplit("episodes", 1)[1]
    assert newest.startswith(" 2/8 ")
    assert "50%" in newest  # one of four batches, and the steps of a second
    assert "elapsed 0:00:0" in newest
    assert "left" in newest
    assert "return 0  accuracy 0.812  policy entropy 1.5  KL 0.0125" in newest
    assert max(len(line) for part in shown.splitlines() for line in part.split("\r")) <= width


def test_without_rich_a_terminal_gets_plain_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delattr("rich.console", raising=False)
    stream = Terminal()
    console = Console(stream)
    show(console, STARTED, UPDATE, BATCH)
    console.close()
    assert stream.getvalue().startswith("episodes     return")


def test_a_hidden_console_writes_nothing_and_goes_on_with_what_came_meanwhile() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.hidden = True
    show(console, STARTED, UPDATE, BATCH)
    assert stream.getvalue() == ""
    console.hidden = False
    show(console, BATCH)
    assert "1.5" in stream.getvalue().splitlines()[1].split()


def test_closing_an_idle_console_writes_nothing() -> None:
    for stream in (io.StringIO(), Terminal()):
        Console(stream).close()
        assert stream.getvalue() == ""
