"""The contract between those who measure and those who show.

>>> from esper.leyline import EpochCompletedPayload, TelemetryEvent
>>> event = TelemetryEvent(data=EpochCompletedPayload(env_id=0, val_accuracy=0.8, val_loss=0.6, inner_epoch=3))
>>> event.event_type.name
'EPOCH_COMPLETED'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esper.leyline._lazy import lazy
from esper.leyline.errors import FieldTypeError, MissingFieldError, PayloadError, UnknownFieldError, WireError
from esper.leyline.event_types import Severity
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import (
    EVENT_TYPES,
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

if TYPE_CHECKING:
    from esper.leyline.wire import (
        SCHEMA_VERSION,
        InvalidRecord,
        InvalidRecordKind,
        decode_event,
        encode_event,
        log_files,
        read_events,
        read_shards,
    )
else:
    _WIRE = (
        "SCHEMA_VERSION",
        "InvalidRecord",
        "InvalidRecordKind",
        "decode_event",
        "encode_event",
        "log_files",
        "read_events",
        "read_shards",
    )
    __getattr__, __dir__ = lazy(__name__, **dict.fromkeys(_WIRE, "esper.leyline.wire"))

__all__ = [
    "EVENT_TYPES",
    "SCHEMA_VERSION",
    "AnalyticsSnapshotPayload",
    "BatchEpochCompletedPayload",
    "CounterfactualMatrixPayload",
    "Emit",
    "EpochCompletedPayload",
    "FieldTypeError",
    "InvalidRecord",
    "InvalidRecordKind",
    "MissingFieldError",
    "PPOUpdatePayload",
    "PayloadError",
    "RewardComputedPayload",
    "SeedFossilizedPayload",
    "SeedGerminatedPayload",
    "SeedPrunedPayload",
    "SeedStage",
    "SeedStageChangedPayload",
    "Severity",
    "TelemetryEvent",
    "TelemetryEventType",
    "TelemetryPayload",
    "TrainingStartedPayload",
    "UnknownFieldError",
    "WireError",
    "decode_event",
    "encode_event",
    "log_files",
    "read_events",
    "read_shards",
]
