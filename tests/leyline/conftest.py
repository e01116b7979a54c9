"""The eleven payload classes, one at a time, with one payload of every field and one of the required ones only."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias, get_args

import pytest
from tests.builders import examples

from esper.leyline import TelemetryEvent, TelemetryPayload

Entry: TypeAlias = dict[str, Any]


@pytest.fixture(params=get_args(TelemetryPayload), ids=lambda cls: cls.__name__)
def cls(request: pytest.FixtureRequest) -> type[TelemetryPayload]:
    payload_class: type[TelemetryPayload] = request.param
    return payload_class


@pytest.fixture
def everything(cls: type[TelemetryPayload]) -> Entry:
    """Arguments for every field."""
    return examples(cls)


@pytest.fixture
def required(cls: type[TelemetryPayload], everything: Entry) -> Entry:
    """Arguments for the required fields."""
    return {f.name: everything[f.name] for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}


@pytest.fixture
def full(cls: type[TelemetryPayload], everything: Entry) -> TelemetryPayload:
    return cls(**everything)


@pytest.fixture
def bare(cls: type[TelemetryPayload], required: Entry) -> TelemetryPayload:
    return cls(**required)


@pytest.fixture
def event(full: TelemetryPayload) -> TelemetryEvent:
    return TelemetryEvent(data=full, slot_id="r0c1", seed_id="s1", epoch=2, message="é", severity="warning")
