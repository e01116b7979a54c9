"""The exact int, float, bool or str that a value of somebody else's class stands for.

NumPy's scalars, `fractions.Fraction`, `enum.IntEnum` and `enum.StrEnum` are numbers and text in all but their class,
and the checkers often cannot know (``ndarray.mean()`` is Any to them). A payload keeps the base value, so that a live
event and one read from the log hold the same.
"""

from __future__ import annotations

from numbers import Integral, Real
from operator import index
from typing import Any

__all__ = ["base_number", "base_value"]


def base_value(value: Any) -> object:
    """Return the base value of a number or text, and whatever is neither as it is; never raises."""
    kind = type(value)
    try:
        if issubclass(kind, str):
            return str.__str__(value)
        if kind is bool or kind is float or kind is int:
            return value
        if issubclass(kind, Integral):
            return index(value)
        if issubclass(kind, Real):
            return float(value)
        if kind.__module__ == "numpy" and kind.__name__ in {"bool", "bool_"}:  # registered with no class of numbers
            return bool(value)
    except Exception:  # noqa: BLE001 - a foreign class may do anything; whoever writes the value will refuse it
        return value
    return value


def base_number(value: object) -> object:
    """Do as `base_value` where a number is asked for, in an emitter's own call: a bool is 0 or 1 there."""
    base = base_value(value)
    return int(base) if isinstance(base, bool) else base
