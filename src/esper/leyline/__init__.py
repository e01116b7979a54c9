"""The contract between those who measure and those who show.

>>> from esper.leyline import EpochCompletedPayload, TelemetryEvent
>>> event = TelemetryEvent(data=EpochCompletedPayload(env_id=0, val_accuracy=0.8, val_loss=0.6, inner_epoch=3))
>>> event.event_type.name
'EPOCH_COMPLETED'
"""

from __future__ import annotations

from esper.leyline.errors import FieldTypeError, MissingFieldError, PayloadError, UnknownFieldError, WireError
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    Emit,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryEventType,
    TelemetryPayload,
    TrainingStartedPayload,
)

__all__ = [
    "AnalyticsSnapshotPayload",
    "BatchEpochCompletedPayload",
    "CounterfactualMatrixPayload",
    "Emit",
    "EpochCompletedPayload",
    "FieldTypeError",
    "MissingFieldError",
    "PPOUpdatePayload",
    "PayloadError",
    "RewardComputedPayload",
    "SeedFossilizedPayload",
    "SeedGerminatedPayload",
    "SeedPrunedPayload",
    "SeedStage",
    "SeedStageChangedPayload",
    "TelemetryEvent",
    "TelemetryEventType",
    "TelemetryPayload",
    "TrainingStartedPayload",
    "UnknownFieldError",
    "WireError",
]
