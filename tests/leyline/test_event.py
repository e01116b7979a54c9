"""The envelope: its type follows from its payload, its id from nothing that repeats, its time has a zone."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given

from esper.leyline import (
    EpochCompletedPayload,
    FieldTypeError,
    MissingFieldError,
    SeedPrunedPayload,
    TelemetryEvent,
    TelemetryEventType,
    TelemetryPayload,
    UnknownFieldError,
)
from esper.leyline.event_ids import new_event_id
from esper.leyline.telemetry import EVENT_TYPES
from esper.leyline.testing import events, same

EPOCH = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3)


# ---- event type


def test_the_event_type_follows_from_the_payload(cls: type[TelemetryPayload], full: TelemetryPayload) -> None:
    assert TelemetryEvent(data=full).event_type is EVENT_TYPES[cls]
    assert TelemetryEvent(data=full, event_type=EVENT_TYPES[cls]).event_type is EVENT_TYPES[cls]


def test_an_event_type_that_is_not_the_payload_s_is_refused() -> None:
    with pytest.raises(ValueError, match="does not belong to EpochCompletedPayload; leave it out"):
        TelemetryEvent(data=EPOCH, event_type=TelemetryEventType.SEED_PRUNED)
    for other in ("EPOCH_COMPLETED", 2):
        with pytest.raises(ValueError, match="does not belong"):
            TelemetryEvent(data=EPOCH, event_type=other)  # type: ignore[arg-type]  # what is being tested


@pytest.mark.parametrize("data", [None, {"env_id": 0}, "text", 3, object(), EpochCompletedPayload])
def test_data_that_is_none_of_the_eleven_is_refused(data: Any) -> None:
    with pytest.raises(TypeError, match="data must be one of the eleven payloads, got"):
        TelemetryEvent(data=data)
    with pytest.raises(TypeError, match="data must be one of the eleven payloads"):
        TelemetryEvent(data=data, event_type=TelemetryEventType.EPOCH_COMPLETED)


def test_data_is_required_and_everything_is_by_keyword() -> None:
    with pytest.raises(TypeError, match="data"):
        TelemetryEvent()  # type: ignore[call-arg]  # what is being tested
    with pytest.raises(TypeError, match="positional"):
        TelemetryEvent("id", data=EPOCH)  # type: ignore[call-arg]  # what is being tested


# ---- time


def test_the_timestamp_is_now_in_utc() -> None:
    before = datetime.now(UTC)
    timestamp = TelemetryEvent(data=EPOCH).timestamp
    assert before <= timestamp <= datetime.now(UTC)
    assert timestamp.tzinfo is UTC


def test_a_timestamp_of_another_zone_is_turned_into_utc() -> None:
    there = datetime(2026, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    timestamp = TelemetryEvent(data=EPOCH, timestamp=there).timestamp
    assert timestamp == there
    assert timestamp.tzinfo is UTC


def test_a_naive_timestamp_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no time zone; use datetime\.now\(UTC\)"):
        TelemetryEvent(data=EPOCH, timestamp=datetime(2026, 1, 1))  # noqa: DTZ001 - what is being tested


def test_a_timestamp_that_does_not_exist_in_utc_is_refused() -> None:
    first_hours = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    with pytest.raises(ValueError, match="no counterpart in UTC"):
        TelemetryEvent(data=EPOCH, timestamp=first_hours)


# ---- immutability and signature


def test_an_event_cannot_be_changed(event: TelemetryEvent) -> None:
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError, match=field.name):
            setattr(event, field.name, None)
        with pytest.raises(dataclasses.FrozenInstanceError, match=field.name):
            delattr(event, field.name)
    assert not hasattr(event, "__dict__")


def test_replace_keeps_the_rest_and_checks_again(event: TelemetryEvent) -> None:
    changed = dataclasses.replace(event, message="other")
    assert (changed.message, changed.data, changed.event_id) == ("other", event.data, event.event_id)
    if not isinstance(event.data, SeedPrunedPayload):
        with pytest.raises(ValueError, match="does not belong"):
            dataclasses.replace(event, data=SeedPrunedPayload("r0c1", 0, "policy"))


def test_events_are_equal_when_all_fields_are() -> None:
    event = TelemetryEvent(data=EPOCH)
    assert dataclasses.replace(event) == event
    assert TelemetryEvent(data=EPOCH) != event
    assert hash(dataclasses.replace(event)) == hash(event)


# ---- mapping


@given(events())
def test_any_event_survives_its_mapping(event: TelemetryEvent) -> None:
    assert same(TelemetryEvent.from_dict(event.to_dict()), event)


def test_the_mapping_names_type_and_time_as_text(event: TelemetryEvent) -> None:
    fields = event.to_dict()
    assert fields["event_type"] == event.event_type.name
    assert fields["timestamp"] == event.timestamp.isoformat()
    assert fields["data"] == event.data.to_dict()
    assert [*fields] == [f.name for f in dataclasses.fields(event)]


@pytest.mark.parametrize("name", ["event_id", "event_type", "timestamp", "data"])
def test_what_a_reader_would_have_to_make_up_must_be_there(name: str) -> None:
    fields = TelemetryEvent(data=EPOCH).to_dict()
    del fields[name]
    with pytest.raises(MissingFieldError) as caught:
        TelemetryEvent.from_dict(fields)
    assert caught.value.missing == (name,)


def test_every_problem_of_an_envelope_is_reported_at_once() -> None:
    fields = TelemetryEvent(data=EPOCH).to_dict() | {"event_type": "NOPE", "timestamp": "now", "severity": "loud"}
    with pytest.raises(FieldTypeError) as caught:
        TelemetryEvent.from_dict(fields)
    assert [p.path for p in caught.value.problems] == ["event_type", "timestamp", "severity"]
    with pytest.raises(UnknownFieldError, match="TelemetryEvent: unknown level; epoch: expected int"):
        TelemetryEvent.from_dict(TelemetryEvent(data=EPOCH).to_dict() | {"level": 1, "epoch": "3"})


@pytest.mark.parametrize("thing", [None, 3, [], "text"])
def test_what_is_no_mapping_is_no_event(thing: Any) -> None:
    with pytest.raises(FieldTypeError, match="expected a mapping from field names to values"):
        TelemetryEvent.from_dict(thing)


def test_from_dict_reads_floats_as_they_are_and_no_names_for_them() -> None:
    fields = TelemetryEvent(data=EPOCH).to_dict()
    fields["data"] = EPOCH.to_dict() | {"val_loss": float("inf")}
    event = TelemetryEvent.from_dict(fields)
    assert isinstance(event.data, EpochCompletedPayload)
    assert event.data.val_loss == float("inf")
    fields["data"] = EPOCH.to_dict() | {"val_loss": "Infinity"}
    with pytest.raises(FieldTypeError, match="val_loss: expected float, got str 'Infinity'"):
        TelemetryEvent.from_dict(fields)


# ---- ids


def test_an_id_is_a_uuid_of_version_8() -> None:
    for event_id in (new_event_id() for _ in range(100)):
        assert len(event_id) == 36
        parsed = uuid.UUID(event_id)
        assert (str(parsed), parsed.version, parsed.variant) == (event_id, 8, uuid.RFC_4122)


def test_ids_are_unique_across_threads() -> None:
    ids: list[list[str]] = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(new_event_id() for _ in range(5000))) for mine in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({event_id for mine in ids for event_id in mine}) == 40_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_ids_of_its_own() -> None:
    # In a process of its own: forking a test runner with threads is asking for trouble.
    program = """
import os
from esper.leyline.event_ids import new_event_id
new_event_id()
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, new_event_id().encode())
    os._exit(0)
os.wait()
print(new_event_id(), os.read(read, 36).decode())
"""
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    parent, child = output.split()
    assert parent != child
    assert parent.rpartition("-")[0] != child.rpartition("-")[0]


def test_a_spawned_process_makes_ids_of_its_own() -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        theirs = [pool.apply_async(new_event_id) for _ in range(4)]
        ids = [new_event_id(), *(result.get(timeout=60) for result in theirs)]
    assert len(set(ids)) == 5


def test_ids_do_not_follow_the_script_s_random_seed() -> None:
    program = "import random; random.seed(0); from esper.leyline.event_ids import new_event_id; print(new_event_id())"
    runs = {subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout for _ in range(2)}
    assert len(runs) == 2
    random.seed(0)
    first = new_event_id()
    random.seed(0)
    assert new_event_id() != first


def test_making_an_event_does_not_disturb_the_script_s_random_numbers() -> None:
    random.seed(0)
    state = random.getstate()
    TelemetryEvent(data=EPOCH)
    assert random.getstate() == state


def test_an_event_s_mapping_is_ready_for_json(bare: TelemetryPayload) -> None:
    event = TelemetryEvent(data=bare)
    assert same(TelemetryEvent.from_dict(json.loads(json.dumps(event.to_dict()))), event)
