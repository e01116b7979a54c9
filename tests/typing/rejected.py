"""Lines that a type checker must reject, each with the code it must give. Never run.

mypy warns of an ignore that is not needed, and so does pyright (reportUnnecessaryTypeIgnoreComment): a checker that no
longer complains about one of these lines fails the build.
"""

from __future__ import annotations

from typing import assert_never

from esper.leyline import (
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
from esper.simic.diagnostics import UpdateFields, UpdateRecorder

EPOCH = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3)


def a_missing_field() -> None:
    EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PPOUpdatePayload(0.1, 0.1, 1.0, 1.0, 0.0, 0.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


class _Drifted(UpdateFields):
    approx_kl: float


def a_number_that_is_recorded_and_given_again_or_that_no_payload_has(
    recorder: UpdateRecorder, drifted: _Drifted
) -> None:
    PPOUpdatePayload(**recorder.fields(), kl_divergence=0.1)  # type: ignore[misc]  # pyright: ignore[reportCallIssue]
    PPOUpdatePayload(**drifted)  # type: ignore[misc]  # pyright: ignore[reportCallIssue]


def a_wrong_type() -> None:
    EpochCompletedPayload(env_id="0", val_accuracy=0.5, val_loss=1.0, inner_epoch=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    EpochCompletedPayload(env_id=0, val_accuracy=None, val_loss=1.0, inner_epoch=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3, seeds={"a": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    CounterfactualMatrixPayload(env_id=0, slot_ids=["r0c0"], configs=())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AnalyticsSnapshotPayload(kind="x", action_counts={"WAIT": 0.5})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


def an_unknown_field() -> None:
    EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3, loss=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    _ = EPOCH.val_acc  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    SeedPrunedPayload("r0c1", 0, "policy", cause="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def a_mutation() -> None:
    EPOCH.val_loss = 2.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    # mypy does not look at deletions.
    del EPOCH.val_loss  # pyright: ignore[reportAttributeAccessIssue]
    EPOCH.note = "x"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    TelemetryEvent(data=EPOCH).message = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def a_field_read_without_narrowing(event: TelemetryEvent) -> None:
    _ = event.data.val_accuracy  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]


def a_payload_taken_for_a_dict(event: TelemetryEvent) -> None:
    _ = event.data.get("val_accuracy", 0.0)  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]
    _ = event.data["val_accuracy"]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    _ = EPOCH.get("val_accuracy")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def a_dict_as_data() -> None:
    TelemetryEvent(data={"env_id": 0})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TelemetryEvent(data=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TelemetryEvent()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def a_text_or_a_number_as_event_type() -> None:
    TelemetryEvent(data=EPOCH, event_type="EPOCH_COMPLETED")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TelemetryEvent(data=EPOCH, event_type=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TelemetryEvent(data=EPOCH, event_type=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _ = TelemetryEventType.EPOCH_DONE  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def an_unknown_severity() -> None:
    TelemetryEvent(data=EPOCH, severity="loud")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def an_event_by_position() -> None:
    TelemetryEvent("id", data=EPOCH)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def an_emitter_that_emits_a_payload_without_its_event(emit: Emit) -> None:
    emit(EPOCH)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_subclass() -> None:
    class Mine(EpochCompletedPayload):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        pass

    _ = Mine


def a_handler_that_forgets_one(data: TelemetryPayload) -> None:
    if isinstance(
        data,
        TrainingStartedPayload
        | EpochCompletedPayload
        | BatchEpochCompletedPayload
        | PPOUpdatePayload
        | RewardComputedPayload
        | SeedGerminatedPayload
        | SeedStageChangedPayload
        | SeedFossilizedPayload
        | CounterfactualMatrixPayload
        | AnalyticsSnapshotPayload,
    ):
        return
    assert_never(data)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_match_that_forgets_one(data: TelemetryPayload) -> int:
    match data:
        case (
            TrainingStartedPayload()
            | EpochCompletedPayload()
            | BatchEpochCompletedPayload()
            | PPOUpdatePayload()
            | RewardComputedPayload()
            | SeedGerminatedPayload()
            | SeedStageChangedPayload()
            | SeedFossilizedPayload()
            | SeedPrunedPayload()
            | CounterfactualMatrixPayload()
        ):
            return 1
        case _:
            assert_never(data)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
