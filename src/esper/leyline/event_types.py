"""The eleven kinds of event. Each belongs to exactly one payload class."""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias

__all__ = ["Severity", "TelemetryEventType"]

Severity: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
"""How urgently somebody should look at an event."""


class TelemetryEventType(Enum):
    """What an event is about; the name is what stands in the log."""

    TRAINING_STARTED = "training_started"
    EPOCH_COMPLETED = "epoch_completed"
    BATCH_EPOCH_COMPLETED = "batch_epoch_completed"
    PPO_UPDATE_COMPLETED = "ppo_update_completed"
    REWARD_COMPUTED = "reward_computed"
    SEED_GERMINATED = "seed_germinated"
    SEED_STAGE_CHANGED = "seed_stage_changed"
    SEED_FOSSILIZED = "seed_fossilized"
    SEED_PRUNED = "seed_pruned"
    COUNTERFACTUAL_MATRIX_COMPUTED = "counterfactual_matrix_computed"
    ANALYTICS_SNAPSHOT = "analytics_snapshot"
