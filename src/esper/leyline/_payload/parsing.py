"""JSON text as Python values: strictly, and faster where nothing strict can be missing."""

from __future__ import annotations

import threading
from json import JSONDecoder
from typing import Any, NoReturn

from esper.leyline._payload.frozen import FrozenDict, fill_dict, new_dict
from esper.leyline._payload.wording import brief, is_unicode
from esper.leyline.errors import WireError

__all__ = ["parse_object", "parse_record", "strict", "unescaped"]


def _not_json(token: str) -> NoReturn:
    raise WireError("json", f"not strict JSON: bare {token}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise WireError("json", f"key {brief(twice)} stands twice in one object")
    return made


strict = JSONDecoder(parse_constant=_not_json, object_pairs_hook=_object)
"""Refuses what Python's parser lets pass: bare NaN, and a key that stands twice in one object."""
_decode = JSONDecoder(parse_constant=_not_json).raw_decode


class _Nested(threading.local):
    """A parser of one thread for objects that hold objects.

    They come out frozen, since a copy of them could only be made later and cost more, and their keys are counted.
    """

    def __init__(self) -> None:
        keys = 0

        def take(made: dict[str, Any]) -> FrozenDict:
            nonlocal keys
            keys += len(made)
            copy: Any = new_dict(FrozenDict)
            fill_dict(copy, made)
            frozen: FrozenDict = copy
            return frozen

        decode = JSONDecoder(parse_constant=_not_json, object_hook=take).raw_decode

        def parse(text: str) -> tuple[Any, int, int]:
            nonlocal keys
            keys = 0
            value, end = decode(text)
            return value, end, keys

        self.parse = parse


_nested = _Nested()


def parse_object(text: str) -> Any:
    """Return the object that a text is, as a dict; what objects it holds are frozen.

    Raises:
        ValueError: it is no strict JSON. Also RecursionError.
    """
    if text.find("{", 1) > 0:
        value, end, keys = _nested.parse(text)
    else:
        value, end = _decode(text)
        keys = len(value)
    if end != len(text):
        raise ValueError
    # Every key has a colon. When there are more, they stand in texts, or a key came twice and one value is lost.
    if text.count(":") != keys:
        strict.raw_decode(text)
    return value


def parse_record(text: str) -> FrozenDict:
    """Return the object that a line is, in whatever form it is written; what objects it holds are frozen, as it is.

    Raises:
        ValueError: it is no strict JSON, or no object. Also RecursionError.
    """
    text = text.strip(" \t\r\n")
    value, end, keys = _nested.parse(text)
    if end != len(text) or value.__class__ is not FrozenDict:
        raise ValueError
    # As above; a time has colons too, and a message may. An escaped colon is none in the line, and could hide a key.
    for member in value.values():
        if member.__class__ is str:
            keys += member.count(":")
    if text.count(":") != keys or "\\u003" in text:
        strict.raw_decode(text)
    record: FrozenDict = value
    return record


def unescaped(text: str) -> str:
    """Return what stands for itself in quotes, but for its escapes, as a str.

    Raises:
        ValueError: it is no JSON, or no valid Unicode.
    """
    value: str
    value, end = _decode(f'"{text}"')
    if end != len(text) + 2 or not is_unicode(value):
        raise ValueError
    return value
