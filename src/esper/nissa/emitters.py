"""Events that no part of the domain owns: a training starts, an environment completes an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from esper.leyline.telemetry import Emit, EpochCompletedPayload, TelemetryEvent, TrainingStartedPayload

__all__ = ["emit_epoch_completed", "emit_training_started"]


def emit_training_started(emit: Emit, payload: TrainingStartedPayload, *, group_id: str = "default") -> None:
    """Emit that a run begins; every rank does, once, before its first episode."""
    planned = f"{payload.n_episodes} episodes in " if payload.n_episodes else ""  # 0 is unknown
    message = f"training on {payload.task} begins: {planned}{payload.n_envs} environments, seed {payload.seed}"
    emit(TelemetryEvent(data=payload, group_id=group_id, message=message))


def emit_epoch_completed(
    emit: Emit,
    *,
    env_id: int,
    inner_epoch: int,
    val_accuracy: float,
    val_loss: float,
    seeds: Mapping[str, Mapping[str, Any]] | None = None,
    group_id: str = "default",
) -> None:
    """Emit the validation result of one environment after one host epoch.

    The arguments are the fields of `EpochCompletedPayload`; ``seeds`` is left unsupplied when it is None. A loss that
    is not finite makes the event a warning.
    """
    result = (env_id, val_accuracy, val_loss, inner_epoch)
    payload = (
        EpochCompletedPayload(*result)
        if seeds is None
        else EpochCompletedPayload(*result, seeds={slot: dict(seed) for slot, seed in seeds.items()})
    )
    finite = math.isfinite(val_loss)
    accuracy = f"validation accuracy {val_accuracy:.3f}" if math.isfinite(val_accuracy) else "accuracy not measured"
    emit(
        TelemetryEvent(
            data=payload,
            epoch=inner_epoch,
            group_id=group_id,
            message=f"env {env_id}, epoch {inner_epoch}: "
            + (f"{accuracy}, loss {val_loss:.4g}" if finite else f"the host has diverged, its loss is {val_loss}"),
            severity="info" if finite else "warning",
        )
    )
