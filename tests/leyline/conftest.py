"""The eleven payload classes, one at a time, with one payload of every field and one of the required ones only."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias, get_args

import pytest

from esper.leyline import TelemetryEvent, TelemetryPayload
from esper.leyline.shapes import Shape, shapes_of

Entry: TypeAlias = dict[str, Any]


def _example(shape: Shape) -> Any:
    if shape.item is None:
        return {"int": 3, "float": 0.25, "str": "r0c1", "bool": True, "any": [None, {"x": 1.5}]}[shape.kind]
    item = _example(shape.item)
    return {"tuple": (item, item), "list": [item], "dict": {"a": item, "b": item}}[shape.kind]


@pytest.fixture(params=get_args(TelemetryPayload), ids=lambda cls: cls.__name__)
def cls(request: pytest.FixtureRequest) -> type[TelemetryPayload]:
    payload_class: type[TelemetryPayload] = request.param
    return payload_class


@pytest.fixture
def everything(cls: type[TelemetryPayload]) -> Entry:
    """Arguments for every field."""
    return {name: _example(shape) for name, shape in shapes_of(cls).items()}


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
