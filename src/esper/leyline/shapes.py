"""The types a field may have, read from its annotation, and the one check that knows them all.

The compiled codec has a fast way for values that are right at first sight. Whatever is not comes here, where a value
is converted or every problem with it is listed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from esper.leyline.errors import FieldProblem
from esper.leyline.frozen import FrozenDict, FrozenList, frozen_dict, frozen_list

__all__ = [
    "DEEPEST",
    "DICT_KEY",
    "FLOAT_KEY",
    "NONFINITE",
    "NONFINITE_NAMES",
    "Shape",
    "brief",
    "check",
    "is_unicode",
    "shapes_of",
    "shorten",
]

_Kind: TypeAlias = Literal["int", "float", "str", "bool", "any", "tuple", "list", "dict"]
_Report: TypeAlias = Callable[[FieldProblem], None]

NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How floats that are not finite are written, as in protobuf's JSON mapping."""
NONFINITE_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
FLOAT_KEY = "$float"
"""Inside containers of Any, ``{"$float": "NaN"}`` is a float that is not finite …"""
DICT_KEY = "$dict"
"""… and ``{"$dict": {…}}`` is a dict that would otherwise be taken for one of the two."""

DEEPEST = 64
"""Containers in containers that a field may hold, the outermost counted; what is deeper is neither read nor written."""

_BRIEF = 60

_LEAVES: dict[object, _Kind] = {int: "int", float: "float", str: "str", bool: "bool", Any: "any"}


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The type of a field or of an item in it."""

    kind: _Kind
    text: str
    """As it is written in the dataclass."""
    nullable: bool = False
    item: Shape | None = None
    """Of a container: the shape of its items or values."""


def shapes_of(cls: type[Any]) -> dict[str, Shape]:
    """Return the shape of every field of a dataclass, in order."""
    hints = get_type_hints(cls)
    return {f.name: _shape(hints[f.name], str(f.type)) for f in dataclasses.fields(cls)}


def _shape(hint: Any, text: str) -> Shape:
    if get_origin(hint) is UnionType:
        (inner,) = (arg for arg in get_args(hint) if arg is not NoneType)
        return dataclasses.replace(_shape(inner, text), nullable=True)
    if hint in _LEAVES:
        return Shape(_LEAVES[hint], text)
    origin = get_origin(hint)
    kind: _Kind = "tuple" if origin is tuple else "list" if origin is list else "dict"
    item = get_args(hint)[1] if kind == "dict" else get_args(hint)[0]
    name = "Any" if item is Any else item.__name__ if isinstance(item, type) and not get_args(item) else str(item)
    return Shape(kind, text, item=_shape(item, name.replace("typing.", "")))


def brief(value: object) -> str:
    """Return the beginning of a value's repr, which holds neither control characters nor line ends."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a foreign __repr__ may do anything, and we are reporting an error
        return "…"
    return text if len(text) <= _BRIEF else text[: _BRIEF - 3] + "…"


def shorten(value: object) -> str:
    """Describe a value in a few words: its type and the beginning of its repr."""
    kind = {FrozenDict: dict, FrozenList: list}.get(type(value), type(value))
    return f"{kind.__name__} {brief(value)}"


def is_unicode(text: str) -> bool:
    """Whether a str is valid Unicode, that is, holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_Path: TypeAlias = "str | tuple[_Path, object]"
"""A field's name, or where a container is and the key or index in it. It becomes text only to name a problem."""

# What may be kept without a second look, by the kind of shape that asks for it.
_EXACT: dict[_Kind, frozenset[type]] = {
    "int": frozenset({int}),
    "float": frozenset({float, int}),
    "bool": frozenset({bool}),
    "any": frozenset({float, int, bool, NoneType}),
    **dict.fromkeys(("str", "tuple", "list", "dict"), frozenset()),
}
_TEXTUAL = frozenset({"str", "any"})
_ANY = Shape("any", "a JSON value")
_TEXT = Shape("str", "str")


def check(shape: Shape, value: Any, path: _Path, report: _Report, wire: bool, depth: int = 1) -> Any:
    """Return the value as the contract wants it, containers frozen; report what is wrong with it.

    Args:
        shape: what is expected.
        value: what came.
        path: where, for the problems.
        report: called for each problem; the returned value means nothing then.
        wire: whether the value was read from JSON, where floats that are not finite are text.
        depth: how deep the value lies, if it is a container.

    Raises:
        RecursionError: containers are nested deeper than `DEEPEST`.
    """
    kind = value.__class__
    if kind in _EXACT[shape.kind] or (shape.nullable and kind is NoneType):
        return value
    if shape.kind == "any":
        return _check_any(value, path, report, wire, depth)
    if shape.item is not None:
        if shape.kind == "dict" and (kind is dict or isinstance(value, Mapping)):
            return _check_dict(shape.item, value, path, report, wire, depth)
        if shape.kind != "dict" and (isinstance(value, list) or (shape.kind == "tuple" and isinstance(value, tuple))):
            items = _check_list(shape.item, value, path, report, wire, depth)
            return tuple(items) if shape.kind == "tuple" else frozen_list(items)
    elif shape.kind == "str" and kind is str:
        if value.isascii() or is_unicode(value):
            return value
        report(FieldProblem(_text(path), "valid Unicode", f"a lone surrogate in {shorten(value)}"))
        return None
    elif shape.kind == "float" and wire and kind is str and value in NONFINITE:
        return NONFINITE[value]
    report(FieldProblem(_text(path), shape.text, shorten(value)))
    return None


def _check_any(value: Any, path: _Path, report: _Report, wire: bool, depth: int) -> Any:
    kind = value.__class__
    if kind is str:
        return check(_TEXT, value, path, report, wire)
    if kind is list or kind is FrozenList:
        return frozen_list(_check_list(_ANY, value, path, report, wire, depth))
    if kind is dict or kind is FrozenDict:
        if wire and len(value) == 1:
            ((key, inner),) = value.items()
            if key == FLOAT_KEY and inner.__class__ is str and inner in NONFINITE:
                return NONFINITE[inner]
            if key == DICT_KEY and isinstance(inner, dict):
                value = inner
        return _check_dict(_ANY, value, path, report, wire, depth)
    report(FieldProblem(_text(path), _ANY.text, shorten(value)))
    return None


def _check_dict(
    item: Shape, value: Mapping[Any, Any], path: _Path, report: _Report, wire: bool, depth: int
) -> FrozenDict:
    """Do as `check` for the values of a dict, and for its keys."""
    if depth > DEEPEST:
        raise RecursionError
    exact, checked = _EXACT[item.kind], {}
    text = str if item.kind in _TEXTUAL else None
    for key, v in value.items():
        if key.__class__ is not str or not (key.isascii() or is_unicode(key)):
            report(FieldProblem(_text(path), "keys of valid Unicode text", f"key {shorten(key)}"))
        kind = v.__class__
        fine = kind in exact or (kind is text and v.isascii())
        checked[key] = v if fine else check(item, v, (path, key), report, wire, depth + 1)
    return frozen_dict(checked)


def _check_list(item: Shape, value: Sequence[Any], path: _Path, report: _Report, wire: bool, depth: int) -> list[Any]:
    """Do as `check` for the items of a list or tuple."""
    if depth > DEEPEST:
        raise RecursionError
    exact = _EXACT[item.kind]
    text = str if item.kind in _TEXTUAL else None
    return [
        v
        if v.__class__ in exact or (v.__class__ is text and v.isascii())
        else check(item, v, (path, i), report, wire, depth + 1)
        for i, v in enumerate(value)
    ]


def _text(path: _Path) -> str:
    return path if isinstance(path, str) else f"{_text(path[0])}[{brief(path[1])}]"
