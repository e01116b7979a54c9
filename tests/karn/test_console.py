"""Progress on the console: a bar in a terminal, lines elsewhere, and no number before it was measured."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.console import Console, progress_text
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)

if TYPE_CHECKING:
    import pytest

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


def test_elsewhere_every_batch_is_one_plain_line() -> None:
    stream = io.StringIO()
    console = Console(stream)
    show(console, STARTED, REWARD, UPDATE, BATCH)
    console.close()
    assert stream.getvalue() == (
        "2 of 8 episodes  accuracy 0.812  return 0  policy entropy 1.5  KL 0.0125  left 1 min 30 s\n"
    )


def test_a_line_invents_no_number_that_was_not_emitted() -> None:
    stream = io.StringIO()
    show(Console(stream), BATCH)
    assert stream.getvalue() == "2 of 8 episodes  accuracy 0.812  return 0  policy entropy —  KL —\n"


def test_numbers_are_dashes_before_they_were_measured() -> None:
    aggregator = TelemetryAggregator()
    aggregator.process(TelemetryEvent(data=STARTED))
    group = aggregator.snapshot().groups["default"]
    assert progress_text(group) == "accuracy —  return —  policy entropy —  KL —"


def test_in_a_terminal_a_bar_moves_with_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    console = Console(stream)
    show(console, STARTED, *[REWARD] * 12, UPDATE, BATCH, *[REWARD] * 12)
    console.close()
    shown = stream.getvalue()
    assert "50%" in shown  # one of four batches, and the steps of a second
    assert "accuracy 0.812  return 0  policy entropy 1.5  KL 0.0125" in shown


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    stream = Terminal()
    console = Console(stream)
    show(console, STARTED, UPDATE, BATCH)
    console.close()
    assert stream.getvalue().startswith("2 of 8 episodes  accuracy 0.812")


def test_a_hidden_console_writes_nothing_and_goes_on_with_what_came_meanwhile() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.hidden = True
    show(console, STARTED, UPDATE, BATCH)
    assert stream.getvalue() == ""
    console.hidden = False
    show(console, BATCH)
    assert "policy entropy 1.5" in stream.getvalue()


def test_closing_an_idle_console_writes_nothing() -> None:
    for stream in (io.StringIO(), Terminal()):
        Console(stream).close()
        assert stream.getvalue() == ""
