"""Values out of their range are noticed, and none that a healthy run emits."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.builders import event

from esper.leyline import (
    EVENT_TYPES,
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    SeedGerminatedPayload,
    SeedStage,
    SeedStageChangedPayload,
    TelemetryPayload,
    TrainingStartedPayload,
)
from esper.leyline.doubtful import doubtful
from esper.leyline.field_docs import meanings
from esper.leyline.stages import NEXT_STAGES

DOUBTFUL: list[tuple[type[TelemetryPayload], dict[str, Any], str]] = [
    (
        EpochCompletedPayload,
        {"val_accuracy": 76.1},
        "val_accuracy: expected 0 to 1, a fraction and not percent, got float 76.1",
    ),
    (EpochCompletedPayload, {"env_id": -1}, "env_id: expected 0 or more, got int -1"),
    (EpochCompletedPayload, {"val_accuracy": math.inf}, "val_accuracy"),
    (EpochCompletedPayload, {"inner_epoch": -1}, "inner_epoch"),
    (PPOUpdatePayload, {"kl_divergence": -0.01}, "kl_divergence: expected 0 or more, got float -0.01"),
    (PPOUpdatePayload, {"explained_variance": 1.5}, "explained_variance: expected at most 1"),
    (PPOUpdatePayload, {"loss_scale": 0.0}, "loss_scale: expected above 0"),
    (PPOUpdatePayload, {"head_op_entropy": {"all": -0.5}}, "head_op_entropy['all']: expected 0 or more"),
    (BatchEpochCompletedPayload, {"env_accuracies": (0.5, 50.0)}, "env_accuracies[1]"),
    (AnalyticsSnapshotPayload, {"action_counts": {"WAIT": -3}}, "action_counts['WAIT']"),
    (SeedGerminatedPayload, {"alpha": 1.5}, "alpha: expected 0 to 1"),
    (SeedGerminatedPayload, {"epoch": -1}, "epoch"),
    (
        SeedStageChangedPayload,
        {"from_stage": "FOSSILIZED", "to_stage": "FOSSILIZED"},
        "to_stage: expected nothing after FOSSILIZED, got FOSSILIZED",
    ),
    (
        SeedStageChangedPayload,
        {"from_stage": "DORMANT", "to_stage": "TRAINING"},
        "to_stage: expected GERMINATED after DORMANT",
    ),
    (SeedStageChangedPayload, {"from_stage": "dormant", "to_stage": "GERMINATED"}, "from_stage: expected one of"),
]  # fmt: skip
USUAL: list[tuple[type[TelemetryPayload], dict[str, Any]]] = [
    (EpochCompletedPayload, {"val_accuracy": math.nan, "val_loss": math.inf, "inner_epoch": 1}),
    (
        PPOUpdatePayload,
        {"grad_norm": math.inf, "explained_variance": -1e9, "policy_loss": -math.inf, "loss_scale": 5e-324},
    ),
    (TrainingStartedPayload, {"seed": -(2**80), "lr": 1e-3, "clip_ratio": 0.2, "n_envs": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "fields", "said"), DOUBTFUL)
def test_a_value_out_of_range_is_named_with_what_was_expected(
    cls: type[TelemetryPayload], fields: dict[str, Any], said: str
) -> None:
    usual = {name: value for name, value in HONEST.get(cls, {}).items() if name not in fields}
    (problem,) = doubtful(event(cls, **usual, **fields))
    assert str(problem).startswith(said)


HONEST: dict[type[TelemetryPayload], dict[str, Any]] = {
    EpochCompletedPayload: {"inner_epoch": 1},
    BatchEpochCompletedPayload: {"episodes_completed": 1, "total_episodes": 1, "n_envs": 1},
}


@pytest.mark.parametrize(("cls", "fields"), USUAL)
def test_what_is_not_finite_or_large_by_its_nature_is_not_doubtful(
    cls: type[TelemetryPayload], fields: dict[str, Any]
) -> None:
    assert doubtful(event(cls, **fields)) == []


@pytest.mark.parametrize(
    ("old", "new"), [(old, new) for old in SeedStage for new in SeedStage if new in NEXT_STAGES[old]]
)
def test_every_stage_change_that_a_slot_makes_is_fine(old: SeedStage, new: SeedStage) -> None:
    assert doubtful(event(SeedStageChangedPayload, from_stage=old.name, to_stage=new.name)) == []


def test_of_a_long_container_a_few_values_are_named() -> None:
    noted = doubtful(event(PPOUpdatePayload, layer_gradient_health={f"layer {i}": -1.0 for i in range(1_000)}))
    assert [problem.path for problem in noted] == [f"layer_gradient_health['layer {i}']" for i in range(3)]


def test_every_range_is_understood() -> None:
    """A range says a limit, or that there is none; one that says neither would never be checked."""
    for cls in EVENT_TYPES:
        for name, meaning in meanings(cls).items():
            if meaning.range is not None:
                assert bool(meaning.limits) != meaning.range.startswith("any "), (cls.__name__, name)
    limits = {field: meaning.limits for field, meaning in meanings(PPOUpdatePayload).items()}
    assert limits["explained_variance"] == {"maximum": 1}
    assert limits["loss_scale"] == {"exclusiveMinimum": 0}
    assert limits["entropy_loss"] == {}
    assert meanings(SeedStageChangedPayload)["accuracy_delta"].limits == {"minimum": -1, "maximum": 1}
