"""For tests of code that emits or reads events: strategies that make any event the contract allows, and `same`.

The strategies are derived from the payloads' fields, so what they make covers every field, also the next one.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from esper.leyline._payload.containers import DICT_KEY, FLOAT_KEY
from esper.leyline._payload.types import NONFINITE, Type
from esper.leyline.payload import Payload, is_optional
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("esper.leyline.testing needs hypothesis: pip install 'esper-telemetry[dev]'") from error

__all__ = ["FLOATS", "INTEGERS", "JSON", "TEXT", "events", "payloads", "same", "values"]

P = TypeVar("P", bound=Payload)

TEXT: st.SearchStrategy[str] = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["", "\0", '"\\', "\u2028", "é", "\uffff", "\U0001f331", "\U0010ffff", FLOAT_KEY, DICT_KEY, *NONFINITE]
)
"""Text of every plane; lone surrogates are not valid Unicode and so not in it."""
INTEGERS: st.SearchStrategy[int] = st.integers() | st.sampled_from([2**53 + 1, -(2**64), 10**400])
"""Integers of any size."""
FLOATS: st.SearchStrategy[float] = st.floats() | st.sampled_from(
    [math.nan, math.inf, -math.inf, -0.0, 5e-324, -sys.float_info.min, sys.float_info.max]
)
"""Floats, those that are not finite, negative zero and subnormal ones among them."""
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
"""What may stand in a container of Any, keys that look like the wire's own among it."""


class _Draw:
    """The strategies that the table of types is drawn with."""

    TEXT = TEXT
    INTEGERS = INTEGERS
    FLOATS = FLOATS
    BOOLEANS = st.booleans()
    JSON = JSON
    NONE = st.none()
    TIMES = st.datetimes(
        datetime(2, 1, 1),  # noqa: DTZ001 - bounds are naive
        datetime(9998, 1, 1),  # noqa: DTZ001 - as above
        timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
    PAYLOADS = st.deferred(lambda: st.one_of([payloads(cls) for cls in EVENT_TYPES]))
    one_of = staticmethod(st.sampled_from)

    @staticmethod
    def lists(items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(items, max_size=3)

    @staticmethod
    def dictionaries(items: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.dictionaries(TEXT, items, max_size=3)


def values(row: Type) -> st.SearchStrategy[Any]:
    """Make values that a field of this type may hold."""
    made: st.SearchStrategy[Any] = row.drawn(_Draw)
    return made


def payloads(cls: type[P]) -> st.SearchStrategy[P]:
    """Make payloads of one class; optional fields are supplied or not, whatever their value."""
    made = {name: values(row) for name, row in cls._codec.types.items()}
    optional = {f.name for f in dataclasses.fields(cls) if is_optional(f)}  # type: ignore[arg-type]  # it is a dataclass
    return st.fixed_dictionaries(
        {name: strategy for name, strategy in made.items() if name not in optional},
        optional={name: strategy for name, strategy in made.items() if name in optional},
    ).map(lambda fields: cls(**fields))


def events() -> st.SearchStrategy[TelemetryEvent]:
    """Make events with a payload of any class."""
    types: dict[str, Type] = TelemetryEvent._codec.types  # noqa: SLF001 - the same room
    fields = {name: values(row) for name, row in types.items()}
    del fields["event_type"]  # it follows from the payload
    return st.fixed_dictionaries(fields).map(lambda fields: TelemetryEvent(**fields))


def same(one: object, other: object) -> bool:
    """Whether two events, payloads or values say exactly the same.

    Stricter than ``==``: 1, 1.0 and True differ, so do 0.0 and -0.0, and so do payloads that were supplied different
    fields. NaN is the same as NaN. A frozen container is the same as the plain one.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)
    if isinstance(one, Payload) and isinstance(other, Payload) and one.supplied != other.supplied:
        return False
    if isinstance(one, Payload | TelemetryEvent):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))  # type: ignore[arg-type]
    return one == other
