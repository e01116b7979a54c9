"""The table itself: from what an annotation resolves to, to the row that says what it means."""

from __future__ import annotations

import dataclasses
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, NewType, TypeAlias, Union, get_args, get_origin, get_type_hints

from esper.leyline._payload.containers import AnyValue, Dict, List, Tuple
from esper.leyline._payload.scalars import Bool, Choice, Float, Int, Member, Optional, Text
from esper.leyline._payload.types import Type

__all__ = ["Hint", "row_of", "types_of"]

Hint: TypeAlias = Any
"""What an annotation resolves to."""

_SCALARS: dict[object, type[Type]] = {float: Float, int: Int, bool: Bool, str: Text, Any: AnyValue}
_UNIONS = (Union, UnionType)
_SOME_OR_NONE = 2


def types_of(cls: type[Any]) -> dict[str, Type]:
    """Return the row of every field of a dataclass, in order.

    Raises:
        TypeError: a field has a type, or a name, that the contract has no meaning for.
    """
    try:
        hints = get_type_hints(cls)
    except (NameError, AttributeError, SyntaxError) as error:
        raise TypeError(f"{cls.__name__}: an annotation has no meaning where the class is defined: {error}") from None
    types = {}
    for field in dataclasses.fields(cls):
        row = row_of(hints[field.name])
        if row is None:
            raise TypeError(f"{cls.__name__}.{field.name}: a field cannot be {_shown(hints[field.name])}; {_KNOWN}")
        types[field.name] = row
    return types


_KNOWN = (
    "it may be float, int, bool, str, Any, an Enum, a Literal of texts or of integers, a list[…], a tuple[…, ...] or a "
    "dict[str, …] of such, and each of them | None"
)


def row_of(hint: Hint) -> Type | None:
    """Return the row of a resolved annotation, aliases and new types followed; None when there is none."""
    hint = _followed(hint)
    origin: Any = get_origin(hint)
    args = get_args(hint)
    if origin is None:
        return _scalar(hint)
    if origin in _UNIONS:
        return _optional(args)
    if origin is Literal:
        return _choice(args)
    if origin is tuple and (len(args) != _SOME_OR_NONE or args[1] is not ...):
        return None
    if origin is dict and _followed(args[0]) is not str:
        return None
    item = {tuple: args[0], list: args[0], dict: args[-1]}.get(origin, NoneType)
    row = row_of(item)
    if row is None:
        return None
    return Dict(row) if origin is dict else List(row) if origin is list else Tuple(row)


def _followed(hint: Hint) -> Hint:
    """Return what a NewType or an alias made by ``type X = …`` stands for."""
    while True:
        if isinstance(hint, NewType):
            hint = hint.__supertype__
        elif hasattr(hint, "__value__"):
            arguments = get_args(hint)
            hint = hint.__value__[arguments] if arguments else hint.__value__
        else:
            return hint


def _scalar(hint: Hint) -> Type | None:
    try:
        row = _SCALARS.get(hint)
    except TypeError:  # unhashable
        return None
    if row is not None:
        return row()
    return Member(hint) if isinstance(hint, type) and issubclass(hint, Enum) and len(hint) else None


def _optional(args: tuple[Hint, ...]) -> Type | None:
    rest = [arg for arg in args if arg is not NoneType]
    if len(rest) == len(args):
        # An int will do for a float; no other two types may share a field.
        return Float() if {_followed(arg) for arg in rest} == {int, float} else None
    row = row_of(Union[tuple(rest)]) if rest else None  # noqa: UP007 - made at run time
    return None if row is None else _or_none(row)


def _or_none(row: Type) -> Type:
    return row if isinstance(row, Optional | AnyValue) else Optional(row)


def _choice(args: tuple[Any, ...]) -> Type | None:
    choices = tuple(arg for arg in args if arg is not None)
    if {type(choice) for choice in choices} not in ({str}, {int}):
        return None
    row = Choice(choices)
    return row if len(choices) == len(args) else Optional(row)


def _shown(hint: Hint) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
