"""The types a field may have, read from its annotation, and the one check that knows them all.

The compiled codec has a fast way for values that are right at first sight. Whatever is not comes here, where a value
is converted or every problem with it is told.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from esper.leyline.errors import FieldProblem
from esper.leyline.frozen import FrozenDict, FrozenList, freeze

__all__ = [
    "DICT_KEY",
    "FLOAT_KEY",
    "NONFINITE",
    "NONFINITE_NAMES",
    "Shape",
    "check",
    "is_unicode",
    "shapes_of",
    "shorten",
]

Kind: TypeAlias = Literal["int", "float", "str", "bool", "any", "tuple", "list", "dict"]
Report: TypeAlias = Callable[[FieldProblem], None]

NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How floats that are not finite are written, as in protobuf's JSON mapping."""
NONFINITE_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
FLOAT_KEY = "$float"
"""Inside containers of Any, ``{"$float": "NaN"}`` is a float that is not finite …"""
DICT_KEY = "$dict"
"""… and ``{"$dict": {…}}`` is a dict that would otherwise be taken for one of the two."""

_LEAVES: dict[object, Kind] = {int: "int", float: "float", str: "str", bool: "bool", Any: "any"}


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The type of a field or of an item in it."""

    kind: Kind
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
    kind: Kind = "tuple" if origin is tuple else "list" if origin is list else "dict"
    item = get_args(hint)[1] if kind == "dict" else get_args(hint)[0]
    name = "Any" if item is Any else item.__name__ if isinstance(item, type) and not get_args(item) else str(item)
    return Shape(kind, text, item=_shape(item, name.replace("typing.", "")))


def shorten(value: object) -> str:
    """Describe a value in a few words: its type and the beginning of its repr."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a foreign __repr__ may do anything, and we are telling about an error
        text = "…"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '…'}"  # noqa: PLR2004


def is_unicode(text: str) -> bool:
    """Whether a str is valid Unicode, that is, holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check(shape: Shape, value: Any, path: str, report: Report, *, wire: bool) -> Any:
    """Return the value as the contract wants it, containers frozen; tell what is wrong with it.

    Args:
        shape: what is expected.
        value: what came.
        path: where, for the problems.
        report: called for each problem; the returned value means nothing then.
        wire: whether the value was read from JSON, where floats that are not finite are text.
    """
    if value is None and shape.nullable:
        return None
    if shape.kind == "any":
        return _check_any(value, path, report, wire=wire)
    if shape.item is None:
        return _check_leaf(shape, value, path, report, wire=wire)
    if shape.kind == "dict":
        if isinstance(value, Mapping):
            return freeze(_check_items(shape.item, value, path, report, wire=wire))
    elif isinstance(value, list) or (shape.kind == "tuple" and isinstance(value, tuple)):
        items = [check(shape.item, v, f"{path}[{i}]", report, wire=wire) for i, v in enumerate(value)]
        return tuple(items) if shape.kind == "tuple" else freeze(items)
    report(FieldProblem(path, shape.text, shorten(value)))
    return None


def _check_leaf(shape: Shape, value: Any, path: str, report: Report, *, wire: bool) -> Any:
    kind = value.__class__
    if shape.kind == "float":
        if kind is float or kind is int:
            return value
        if wire and kind is str and value in NONFINITE:
            return NONFINITE[value]
    elif (shape.kind == "int" and kind is int) or (shape.kind == "bool" and kind is bool):
        return value
    elif shape.kind == "str" and kind is str:
        if is_unicode(value):
            return value
        report(FieldProblem(path, "valid Unicode", f"a lone surrogate in {shorten(value)}"))
        return None
    report(FieldProblem(path, shape.text, shorten(value)))
    return None


def _check_items(item: Shape, value: Mapping[Any, Any], path: str, report: Report, *, wire: bool) -> dict[str, Any]:
    checked = {}
    for key, v in value.items():
        if key.__class__ is not str or not is_unicode(key):
            report(FieldProblem(path, "keys of valid Unicode text", f"key {shorten(key)}"))
        checked[key] = check(item, v, f"{path}[{key!r}]", report, wire=wire)
    return checked


_ANY = Shape("any", "a JSON value")


def _check_any(value: Any, path: str, report: Report, *, wire: bool) -> Any:
    kind = value.__class__
    if value is None or kind is bool or kind is int or kind is float:
        return value
    if kind is str:
        return _check_leaf(Shape("str", "str"), value, path, report, wire=wire)
    if kind is list or kind is FrozenList:
        return [_check_any(v, f"{path}[{i}]", report, wire=wire) for i, v in enumerate(value)]
    if kind is dict or kind is FrozenDict:
        if wire and len(value) == 1:
            ((key, inner),) = value.items()
            if key == FLOAT_KEY and inner.__class__ is str and inner in NONFINITE:
                return NONFINITE[inner]
            if key == DICT_KEY and inner.__class__ is dict:
                value = inner
        return _check_items(_ANY, value, path, report, wire=wire)
    report(FieldProblem(path, _ANY.text, shorten(value)))
    return None
