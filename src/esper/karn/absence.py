"""Absence is never a number: the one way in which views ask a payload for a field that may not have been supplied.

The attribute gives the specified default, which looks like a measurement and is none. `supplied` gives None instead.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from esper.leyline.errors import UnknownFieldError
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import EVENT_TYPES

if TYPE_CHECKING:
    from esper.leyline.telemetry import TelemetryPayload

__all__ = ["supplied", "supplied_number"]

_REQUIRED = {cls: {field.name: not is_optional(field) for field in dataclasses.fields(cls)} for cls in EVENT_TYPES}


def supplied(payload: TelemetryPayload, field: str) -> object | None:
    """Return a field's value, or None when its maker did not supply it.

    Raises:
        UnknownFieldError: the payload has no such field.
    """
    required = _REQUIRED[type(payload)]
    if field not in required:
        raise UnknownFieldError(type(payload).__name__, unknown=(field,))
    value: object = getattr(payload, field) if required[field] or field in payload.supplied else None
    return value


def supplied_number(payload: TelemetryPayload, field: str) -> float | None:
    """Return a numeric field's value, or None when its maker did not supply it.

    Raises:
        UnknownFieldError: the payload has no such field.
        TypeError: the field holds no number.
    """
    value = supplied(payload, field)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{type(payload).__name__}.{field} is no number but {value!r}")
