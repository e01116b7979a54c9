"""Each fault shows in the fields that are about it, in the update it strikes and in none before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, get_args

import pytest

from esper.leyline.telemetry import EpochCompletedPayload, PPOUpdatePayload, RewardComputedPayload
from esper.simic.config import Fault, TrainingConfig
from esper.simic.training.injection import injected
from esper.simic.training.vectorized import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from esper.leyline.telemetry import TelemetryEvent

SMALL: dict[str, Any] = {"episodes": 6, "envs": 2, "max_epochs": 6, "seed": 1}
SEEN: dict[Fault, Callable[[PPOUpdatePayload], bool]] = {
    "nan-grad": lambda update: update.nan_grad_count > 0 and math.isnan(update.grad_norm),
    "inf-grad": lambda update: update.inf_grad_count > 0 and update.grad_norm == math.inf,
    "dead-layer": lambda update: update.dead_layers > 0 and (update.layer_gradient_health or {})["critic.0"] == 0.0,
    "exploding-layer": lambda update: (
        update.exploding_layers > 0 and (update.layer_gradient_health or {})["heads.op"] > 100.0
    ),
    "entropy-collapse": lambda update: update.entropy_collapsed,
    "value-blowup": lambda update: (update.explained_variance or 0.0) < -10.0 and update.value_loss > 1e3,
    "host-divergence": lambda update: update.skipped,
    "skipped-batch": lambda update: update.skipped,
}


def run(fault: Fault, **options: Any) -> list[TelemetryEvent]:
    emitted: list[TelemetryEvent] = []
    train(TrainingConfig(**(SMALL | {"inject": fault} | options)), emitted.append)
    return emitted


@pytest.mark.parametrize("fault", get_args(Fault))
def test_a_fault_shows_in_its_fields_when_it_strikes(fault: Fault) -> None:
    before, struck, _ = (event.data for event in run(fault) if isinstance(event.data, PPOUpdatePayload))
    assert isinstance(before, PPOUpdatePayload)
    assert isinstance(struck, PPOUpdatePayload)
    assert not SEEN[fault](before)
    assert SEEN[fault](struck)


@pytest.mark.parametrize("fault", ["nan-grad", "inf-grad", "host-divergence", "skipped-batch"])
def test_what_bends_no_weight_is_over_after_its_batch(fault: Fault) -> None:
    last = [event for event in run(fault) if isinstance(event.data, PPOUpdatePayload)][-1]
    assert isinstance(last.data, PPOUpdatePayload)
    assert not last.data.skipped
    assert last.severity != "error"
    assert math.isfinite(last.data.grad_norm)


def test_a_host_diverges_in_one_environment_and_everything_about_it_says_so() -> None:
    emitted = run("host-divergence")
    epochs = [event for event in emitted if isinstance(event.data, EpochCompletedPayload)]
    diverged = [event.data for event in epochs if not math.isfinite(event.data.val_loss)]  # type: ignore[union-attr]  # filtered
    assert {data.env_id for data in diverged if isinstance(data, EpochCompletedPayload)} == {0}
    for event in epochs:
        data = event.data
        assert isinstance(data, EpochCompletedPayload)
        assert math.isnan(data.val_accuracy) is not math.isfinite(data.val_loss)
    lost = [event for event in emitted if isinstance(event.data, RewardComputedPayload) and event.severity == "error"]
    assert len(lost) == len(diverged)
    assert all("not finite: total_reward" in event.message for event in lost)
    (update,) = [event for event in emitted if isinstance(event.data, PPOUpdatePayload) and event.data.skipped]
    assert update.severity == "error"
    assert update.message == "update 1 skipped: rewards of env 0 not finite"


def test_without_a_fault_nothing_is_touched() -> None:
    with injected(None, None, ()):  # type: ignore[arg-type]  # nobody looks at it
        pass
