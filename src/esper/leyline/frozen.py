"""Containers that cannot be changed and yet are dict and list.

They compare equal to, serialise as, and type-check as the plain containers they copy; changing one is a
`TypeError`. Rebuilding one by its type, as `dataclasses.asdict` does, gives the plain container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, NoReturn

__all__ = ["FrozenDict", "FrozenList", "freeze", "frozen_dict", "frozen_list", "thaw"]

ATOMS = frozenset({str, int, float, bool, NoneType})

_DEEP = 50
"""Nesting that is followed by recursion; what lies deeper waits its turn, so that no depth is too deep."""

_new_dict: Callable[[type[dict[Any, Any]]], dict[Any, Any]] = dict.__new__
_new_list: Callable[[type[list[Any]]], list[Any]] = list.__new__
_fill_dict: Callable[[Any, Any], None] = dict.update
_fill_list: Callable[[Any, Any], None] = list.extend


def _refuse(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    plain = "dict" if isinstance(self, dict) else "list"
    raise TypeError(f"a payload's {plain} cannot be changed; make your own with {plain}(...)")


class FrozenDict(dict[Any, Any]):
    """A dict that refuses to change."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> dict[Any, Any]:  # type: ignore[misc]  # the point: rebuilding gives a plain one
        """Return a plain dict; `freeze` makes frozen ones."""
        return dict(*args)

    def __reduce__(self) -> tuple[object, ...]:
        return freeze, (dict(self),)

    __init__ = __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


class FrozenList(list[Any]):
    """A list that refuses to change."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> list[Any]:  # type: ignore[misc]  # as above
        """Return a plain list; `freeze` makes frozen ones."""
        return list(*args)

    def __reduce__(self) -> tuple[object, ...]:
        return freeze, (list(self),)

    __init__ = __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse


def freeze(value: Any) -> Any:
    """Copy every dict and list in a value, at any depth, into one that cannot change.

    Never raises for content: cycles keep their shape, and what is neither dict, list nor tuple is kept as it is, as are
    tuples that are nested more than fifty deep.
    """
    copies: dict[int, Any] = {}
    later: list[tuple[Any, Any]] = []
    frozen = _copy(value, copies, later, 0)
    for copy, original in later:
        _fill(copy, original, copies, later, 0)
    return frozen


def _copy(value: Any, copies: dict[int, Any], later: list[tuple[Any, Any]], depth: int) -> Any:
    """Return the frozen copy of one part; ``copies`` knows the containers met so far, by id."""
    kind = value.__class__
    if kind in ATOMS or kind is FrozenDict or kind is FrozenList:
        return value
    if id(value) in copies:
        return copies[id(value)]
    copy: Any
    items: Iterable[Any]
    if isinstance(value, dict):
        copy, items, fill = _new_dict(FrozenDict), value.values(), _fill_dict
    elif isinstance(value, list):
        copy, items, fill = _new_list(FrozenList), value, _fill_list
    else:
        return _copy_tuple(value, copies, later, depth) if isinstance(value, tuple) else value
    if ATOMS.issuperset(map(type, items)):  # most of what there is
        fill(copy, value)
    else:
        copies[id(value)] = copy
        _fill(copy, value, copies, later, depth)
    return copy


def _copy_tuple(
    value: tuple[Any, ...], copies: dict[int, Any], later: list[tuple[Any, Any]], depth: int
) -> tuple[Any, ...]:
    if depth > _DEEP or ATOMS.issuperset(map(type, value)):
        return value
    copies[id(value)] = copy = tuple([_copy(item, copies, later, depth + 1) for item in value])
    return copy


def _fill(copy: Any, original: Any, copies: dict[int, Any], later: list[tuple[Any, Any]], depth: int) -> None:
    if depth > _DEEP:
        later.append((copy, original))
    elif isinstance(copy, dict):
        _fill_dict(
            copy, {k: v if v.__class__ in ATOMS else _copy(v, copies, later, depth + 1) for k, v in original.items()}
        )
    else:
        _fill_list(copy, [_copy(item, copies, later, depth + 1) for item in original])


def frozen_dict(items: dict[Any, Any]) -> FrozenDict:
    """Copy a dict whose values cannot change into one that cannot change either."""
    copy: Any = _new_dict(FrozenDict)
    _fill_dict(copy, items)
    frozen: FrozenDict = copy
    return frozen


def frozen_list(items: list[Any]) -> FrozenList:
    """Copy a list whose items cannot change into one that cannot change either."""
    copy: Any = _new_list(FrozenList)
    _fill_list(copy, items)
    frozen: FrozenList = copy
    return frozen


def thaw(value: Any) -> Any:
    """Copy a value so that its dicts and lists are plain again; tuples stay tuples."""
    kind = value.__class__
    if kind is FrozenDict:
        return {key: thaw(item) for key, item in value.items()}
    if kind is FrozenList:
        return [thaw(item) for item in value]
    if kind is tuple:
        return _thaw_tuple(value)
    return value


def _thaw_tuple(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple([thaw(item) for item in items])
