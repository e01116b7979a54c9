"""Any record as strict JSON: dataclasses as objects, floats that are not finite as text, times in ISO 8601.

For what people and other programs read once; the log has its own, faster way, and a way back.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import singledispatch
from typing import TypeAlias

from esper.leyline._payload.types import NONFINITE_NAMES
from esper.leyline.payload import Payload
from esper.leyline.telemetry import TelemetryEvent

__all__ = ["JsonValue", "json_text", "strict_json", "to_json"]

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"


def strict_json(value: object) -> str:
    """Return indented JSON text that every parser reads.

    Raises:
        TypeError: the value holds what JSON has no form for.
    """
    return json_text(to_json(value), indent=2)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return JSON's own types as printable ASCII: of what a terminal acts on, json itself leaves DEL."""
    return json.dumps(value, indent=indent, allow_nan=False).replace("\x7f", "\\u007f")


@singledispatch
def to_json(value: object) -> JsonValue:
    """Return a value in JSON's own types. Other rooms register what is theirs.

    Raises:
        TypeError: there is no form for it.
    """
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"no JSON form for {type(value).__name__}")


@to_json.register
def _(value: bool | int | str | None) -> JsonValue:
    return value


@to_json.register
def _(value: float) -> JsonValue:
    return value if math.isfinite(value) else NONFINITE_NAMES[repr(value)]


@to_json.register
def _(value: datetime) -> JsonValue:
    return value.isoformat()


@to_json.register
def _(value: Enum) -> JsonValue:
    return value.name


@to_json.register
def _(value: Payload | TelemetryEvent) -> JsonValue:
    return to_json(value.to_dict())


@to_json.register(Mapping)
def _(value: Mapping[object, object]) -> JsonValue:
    return {"null" if key is None else str(to_json(key)): to_json(item) for key, item in value.items()}


@to_json.register(Sequence)
def _(value: Sequence[object]) -> JsonValue:
    return [to_json(item) for item in value]
