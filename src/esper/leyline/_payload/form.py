"""The form of a line that was found right, as a pattern: what it matches is right, and need not be parsed to know it.

Emitters write the same lines again and again, but for their numbers and texts. A pattern has all keys of one line, at
any depth and in its order, so none can be missing, unknown or there twice; each value may be any that its row calls
right at first sight and that is within its limits (`Type.form`). A line that it does not match may be right as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from esper.leyline._payload.types import MismatchError, Type, mismatch, quote

__all__ = ["TEXT", "items", "members", "number", "one_of", "pattern_of_line", "whole_number"]

_CHARACTER = r"[ !#-\[\]-~]"
TEXT = rf'"{_CHARACTER}*+(?:\\u[0-9a-c][0-9a-f]{{3}}{_CHARACTER}*+)*+"'
"""Text in quotes as we write it, of the first of the planes of Unicode and without the few other escapes."""

_WHOLE = r"(?:0|[1-9][0-9]{0,17}+)"  # no integer that Python would refuse for its digits
_FRACTION = r"(?:\.[0-9]++)?+"
_POSITIVE = rf"(?:[1-9][0-9]{{0,17}}+{_FRACTION}|0\.0*+[1-9][0-9]*+)(?:[eE][+-]?+[0-9]{{1,2}}+)?+"
_UP_TO_1 = rf"(?:0{_FRACTION}|1(?:\.0++)?+|[0-9]{_FRACTION}[eE]-0?+[1-9][0-9]*+)"
_FROM_0 = rf"{_WHOLE}{_FRACTION}(?:[eE][+-]?+[0-9]++)?+"
_NUMBERS: dict[tuple[tuple[str, float], ...], str] = {
    (): f"-?{_FROM_0}",
    (("minimum", 0),): _FROM_0,
    (("minimum", 1),): rf"[1-9][0-9]{{0,17}}+{_FRACTION}",
    (("exclusiveMinimum", 0),): _POSITIVE,
    (("maximum", 0),): rf"(?:-{_FROM_0}|0(?:\.0++)?+)",
    (("maximum", 1),): f"(?:-{_FROM_0}|{_UP_TO_1})",
    (("maximum", 1), ("minimum", 0)): _UP_TO_1,
    (("maximum", 1), ("minimum", -1)): f"-?{_UP_TO_1}",
}
_WHOLE_NUMBERS: dict[tuple[tuple[str, float], ...], str] = {
    (): f"-?{_WHOLE}",
    (("minimum", 0),): _WHOLE,
    (("minimum", 1),): "[1-9][0-9]{0,17}+",
}
"""Numbers that are surely within limits, by how they are written; limits that are not here have no form."""


_MOST_DIFFERENT = 8
"""Forms that the items of one list may have."""


def number(limits: Mapping[str, float]) -> str:
    """Return the pattern of numbers that are surely within limits.

    Raises:
        MismatchError: there is none for such limits.
    """
    pattern = _NUMBERS.get(tuple(sorted(limits.items())))
    return mismatch() if pattern is None else pattern


def whole_number(limits: Mapping[str, float]) -> str:
    """Return the pattern of integers that are surely within limits; raises as `number` does."""
    pattern = _WHOLE_NUMBERS.get(tuple(sorted(limits.items())))
    return mismatch() if pattern is None else pattern


def one_of(texts: Iterable[str]) -> str:
    """Return the pattern of a few texts."""
    return f"(?:{'|'.join(map(re.escape, texts))})"


def items(forms: Iterable[str]) -> str:
    """Return the pattern of a list of any length whose items have these forms; an empty one when there are none."""
    different = [*dict.fromkeys(forms)]
    if not different:
        return r"\[\]"
    if len(different) > _MOST_DIFFERENT:
        mismatch()
    item = different[0] if len(different) == 1 else f"(?:{'|'.join(different)})"
    return rf"\[{item}(?:,{item})*+\]"


def members(values: Mapping[str, Any], form: Callable[[str, Any], str]) -> str:
    """Return the pattern of an object with just these keys, in this order.

    Args:
        values: by key.
        form: of a key and its value, the pattern of what may stand there.
    """
    return rf"\{{{','.join(f'{re.escape(quote(key))}:{form(key, value)}' for key, value in values.items())}\}}"


def pattern_of_line(
    record: Mapping[str, Any],
    event: type[Any],
    payload: type[Any],
    limits: Callable[[type[Any], str], Mapping[str, float]],
    literal: frozenset[str],
) -> re.Pattern[str] | None:
    """Return the pattern of lines like one that was found right, its group being the time; None when there is none.

    Args:
        record: the parsed line.
        event: the class of events.
        payload: the class of this one's payload.
        limits: of a class and a field, ``minimum`` and the like.
        literal: fields of the payload that may hold nothing but what they hold in this line.
    """

    def of_field(cls: type[Any], name: str, value: Any) -> str:
        row: Type = cls._codec.types[name]
        return row.form(value, limits(cls, name))

    def of_payload(name: str, value: Any) -> str:
        return re.escape(quote(value)) if name in literal else of_field(payload, name, value)

    def of_event(name: str, value: Any) -> str:
        if name == "schema_version":
            return str(value)
        if name == "event_type":
            return re.escape(quote(value))
        return members(value, of_payload) if name == "data" else of_field(event, name, value)

    try:
        return re.compile(rf"{members(record, of_event)}[ \t\r\n]*+")
    except (MismatchError, RecursionError):
        return None
