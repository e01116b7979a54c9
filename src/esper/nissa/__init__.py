"""Delivery: the telemetry hub and the sinks it serves.

>>> from esper.nissa import JsonlSink, TelemetryHub
>>> with TelemetryHub([JsonlSink("runs/mine/events.jsonl")]) as hub:
...     hub.emit(event)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esper.leyline._lazy import lazy
from esper.nissa.output import (
    DeliveryPolicy,
    Durable,
    EventsLostError,
    FunctionSink,
    Live,
    Rejected,
    Sink,
    SinkStats,
    TelemetryHub,
    emit_epoch_completed,
    emit_training_started,
)

if TYPE_CHECKING:
    from esper.nissa.append_only import LogBrokenError, LogInUseError
    from esper.nissa.optional import SinkUnavailableError
    from esper.nissa.run import Run, open_run
    from esper.nissa.signals import Stopped
    from esper.nissa.sinks.jsonl import JsonlSink
    from esper.nissa.sinks.tensorboard import TensorBoardSink
    from esper.nissa.sinks.wandb import WandbSink
else:
    __getattr__, __dir__ = lazy(
        __name__,
        JsonlSink="esper.nissa.sinks.jsonl",
        LogBrokenError="esper.nissa.append_only",
        LogInUseError="esper.nissa.append_only",
        Run="esper.nissa.run",
        SinkUnavailableError="esper.nissa.optional",
        Stopped="esper.nissa.signals",
        TensorBoardSink="esper.nissa.sinks.tensorboard",
        WandbSink="esper.nissa.sinks.wandb",
        open_run="esper.nissa.run",
    )

__all__ = [
    "DeliveryPolicy",
    "Durable",
    "EventsLostError",
    "FunctionSink",
    "JsonlSink",
    "Live",
    "LogBrokenError",
    "LogInUseError",
    "Rejected",
    "Run",
    "Sink",
    "SinkStats",
    "SinkUnavailableError",
    "Stopped",
    "TelemetryHub",
    "TensorBoardSink",
    "WandbSink",
    "emit_epoch_completed",
    "emit_training_started",
    "open_run",
]
