"""Usage that every type checker must accept with no cast, and that is true at run time as well.

``check(assert_type(x, T), T)`` proves both in one line.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, assert_never, assert_type

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
from esper.leyline.wire import InvalidRecord, decode_event, encode_event, read_events

T = TypeVar("T")


def check(value: T, kind: type[T]) -> T:
    """Prove at run time what `assert_type` proves before."""
    assert isinstance(value, kind)
    return value


EPOCH = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1, inner_epoch=3)
MAPPING: dict[str, object] = {"env_id": 0, "val_accuracy": 0.5, "val_loss": 1.0, "inner_epoch": 3}


def test_from_dict_gives_the_class_it_is_called_on() -> None:
    check(assert_type(EpochCompletedPayload.from_dict(MAPPING), EpochCompletedPayload), EpochCompletedPayload)
    analytics = AnalyticsSnapshotPayload.from_dict({"kind": "x"})
    check(assert_type(analytics, AnalyticsSnapshotPayload), AnalyticsSnapshotPayload)
    assert_type(EPOCH.to_dict(), dict[str, object])
    assert_type(EPOCH.supplied, frozenset[str])


def test_fields_have_the_types_that_are_written_down() -> None:
    check(assert_type(EPOCH.env_id, int), int)
    check(assert_type(EPOCH.val_accuracy, float), float)
    assert_type(EPOCH.seeds, dict[str, dict[str, Any]] | None)
    batch = BatchEpochCompletedPayload(4, 0, 0.5, 1.0, 8, 4, env_accuracies=(0.5, 1))
    assert_type(batch.env_accuracies, tuple[float, ...] | None)


def test_the_event_s_fields_have_their_types() -> None:
    event = TelemetryEvent(data=EPOCH, severity="warning")
    check(assert_type(event.event_type, TelemetryEventType), TelemetryEventType)
    assert_type(event.data, TelemetryPayload)
    assert_type(event.epoch, int | None)
    check(assert_type(decode_event(encode_event(event)), TelemetryEvent), TelemetryEvent)
    check(assert_type(TelemetryEvent.from_dict(event.to_dict()), TelemetryEvent), TelemetryEvent)


def accuracy(event: TelemetryEvent) -> float | None:
    if isinstance(event.data, EpochCompletedPayload):
        return assert_type(event.data, EpochCompletedPayload).val_accuracy
    if isinstance(event.data, SeedFossilizedPayload | SeedPrunedPayload):
        return assert_type(event.data, SeedFossilizedPayload | SeedPrunedPayload).improvement
    return None


def test_isinstance_narrows_the_payload_in_its_event() -> None:
    assert accuracy(TelemetryEvent(data=EPOCH)) == 0.5
    assert accuracy(TelemetryEvent(data=SeedPrunedPayload("r0c1", 0, "policy", improvement=0.25))) == 0.25


def subject(event: TelemetryEvent) -> str | int | None:
    """Handle all eleven, with no default that would swallow a twelfth."""
    match event.data:
        case TrainingStartedPayload(task=task):
            return assert_type(task, str)
        case EpochCompletedPayload(env_id, val_accuracy=val_accuracy):
            assert_type(val_accuracy, float)
            return assert_type(env_id, int)
        case BatchEpochCompletedPayload() as batch:
            return assert_type(batch, BatchEpochCompletedPayload).batch_idx
        case PPOUpdatePayload(early_stop_epoch=epoch):
            return assert_type(epoch, int | None)
        case RewardComputedPayload(env_id=env_id) | CounterfactualMatrixPayload(env_id=env_id):
            return assert_type(env_id, int)
        case SeedGerminatedPayload(slot_id) | SeedStageChangedPayload(slot_id):
            return assert_type(slot_id, str)
        case SeedFossilizedPayload(slot_id=slot_id) | SeedPrunedPayload(slot_id=slot_id):
            return assert_type(slot_id, str)
        case AnalyticsSnapshotPayload(kind=kind):
            return assert_type(kind, str)
        case _:
            assert_never(event.data)


def title(data: TelemetryPayload) -> str:
    """Do the same with isinstance."""
    if isinstance(data, TrainingStartedPayload | BatchEpochCompletedPayload | PPOUpdatePayload):
        return "run"
    if isinstance(data, EpochCompletedPayload | RewardComputedPayload | CounterfactualMatrixPayload):
        return f"env {assert_type(data.env_id, int)}"
    if isinstance(data, AnalyticsSnapshotPayload):
        return "none" if data.env_id is None else f"env {assert_type(data.env_id, int)}"
    assert_type(data, SeedGerminatedPayload | SeedStageChangedPayload | SeedFossilizedPayload | SeedPrunedPayload)
    return f"slot {assert_type(data.slot_id, str)}"


def test_handlers_of_all_eleven_need_no_cast() -> None:
    event = TelemetryEvent(data=EPOCH)
    assert subject(event) == 0
    assert title(event.data) == "env 0"


def events_of(records: Iterable[TelemetryEvent | InvalidRecord]) -> Iterator[TelemetryEvent]:
    for record in records:
        if isinstance(record, TelemetryEvent):
            yield assert_type(record, TelemetryEvent)
        else:
            assert_type(record, InvalidRecord)


def test_a_reader_distinguishes_events_from_records() -> None:
    records = read_events(io.StringIO(encode_event(TelemetryEvent(data=EPOCH))))
    assert_type(records, Iterator[TelemetryEvent | InvalidRecord])
    assert [event.data for event in events_of(records)] == [EPOCH]


def test_any_callable_of_an_event_will_do_for_emit() -> None:
    emitted: list[TelemetryEvent] = []
    emit: Emit = emitted.append
    emit(TelemetryEvent(data=EPOCH, epoch=3, slot_id="r0c1", seed_id="s", group_id="A", message="m"))
    assert len(emitted) == 1
