from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from rich.cells import cell_len
from tests.builders import examples
from tests.effort import tries
from tests.golden.contract import CONTRACT

from esper.karn.dashboard.inspector import inspect_record
from esper.leyline.field_docs import meanings
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import (
    EVENT_TYPES,
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
)
from esper.leyline.testing import events
from esper.leyline.wire import InvalidRecord

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIELDS = [
    pytest.param(cls, field.name, id=f"{cls.__name__}.{field.name}")
    for cls in EVENT_TYPES
    for field in dataclasses.fields(cls)
]


def shown(payload: Any, width: int = 100) -> str:
    return text(TelemetryEvent(event_id="1", timestamp=NOON, data=payload), width)


def text(record: TelemetryEvent | InvalidRecord, width: int = 100) -> str:
    return "\n".join("".join(span for span, _ in row.spans) for row in inspect_record(record, width))


def test_there_are_all_the_fields_of_the_contract() -> None:
    assert len(FIELDS) == sum(map(len, CONTRACT.values()))


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_every_field_is_shown_and_a_change_to_it_is_seen(cls: Any, name: str) -> None:
    full = examples(cls)
    before = shown(cls(**full))
    assert shown(cls(**full | {name: examples(cls, 1)[name]})) != before
    assert f" {name} " in before
    words = " ".join(before.split())
    assert meanings(cls)[name].text.replace("``", "") in words
    (field,) = (field for field in dataclasses.fields(cls) if field.name == name)
    if is_optional(field):
        del full[name]
        assert shown(cls(**full)).count("— not supplied") == before.count("— not supplied") + 1


def test_values_stand_with_their_unit_and_range() -> None:
    assert "0.5  nats; 0 or more" in shown(PPOUpdatePayload(0.1, 0.2, 0.125, 0.4, 0.5, 0.6, 0))


def test_a_default_that_nobody_supplied_is_not_shown_as_a_value() -> None:
    required_only = shown(BatchEpochCompletedPayload(4, 0, 0.5, 1.5, 8, 4))
    supplied = shown(BatchEpochCompletedPayload(4, 0, 0.5, 1.5, 8, 4, rolling_accuracy=0.0, env_accuracies=None))
    assert required_only.count("—") == 2 + 3  # three of the envelope are None
    assert supplied.count("—") == 3


@settings(max_examples=tries(150))
@given(events())
def test_whatever_an_event_holds_can_be_looked_at(event: TelemetryEvent) -> None:
    for width in (20, 78, 120):
        for row in inspect_record(event, width):
            for span, _ in row.spans:
                assert span.isprintable()


def test_moments_and_names_are_shown_as_such_not_as_python() -> None:
    text_shown = shown(BatchEpochCompletedPayload(4, 0, 0.5, 1.5, 8, 4))
    assert " 2026-03-01T12:00:00+00:00 " in text_shown
    assert "BATCH_EPOCH_COMPLETED" in text_shown
    assert "datetime" not in text_shown
    assert "<" not in text_shown


@pytest.mark.parametrize("letter", ["Q", "字"])
def test_a_long_value_is_shown_in_full_and_fits_inside_a_container_too(letter: str) -> None:
    payload = RewardComputedPayload(0, 1.0, "WAIT", 5.0, 0.5, alternatives=[{"action": letter * 300}])
    text_shown = text(TelemetryEvent(data=payload, timestamp=NOON, message=letter * 200), 60)
    assert text_shown.count(letter) == 500
    assert all(cell_len(line) <= 60 for line in text_shown.splitlines() if letter in line)


def test_large_containers_say_what_they_leave_out() -> None:
    payload = BatchEpochCompletedPayload(4, 0, 0.5, 1.5, 8, 4, env_accuracies=(0.5,) * 600)
    assert "600 items" in shown(payload)
    assert "… 100 more, not shown" in shown(payload)


def test_a_line_that_is_no_event_is_shown_with_its_reason() -> None:
    text_shown = text(InvalidRecord("events.jsonl", 3, "json", "not JSON: bare NaN", '{"a": NaN}\x1b[2J'))
    for part in ("events.jsonl", "3", "not JSON: bare NaN", '{"a": NaN}\\x1b[2J'):
        assert part in text_shown
