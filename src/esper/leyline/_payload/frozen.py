"""Containers that cannot be changed and yet are dict and list.

They compare equal to, serialise as, and type-check as the plain containers they copy; changing one is a
`TypeError`. Rebuilding one by its type, as `dataclasses.asdict` does, gives the plain container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, NoReturn

from esper.leyline._payload.base_values import base_value

__all__ = [
    "ATOMS",
    "FrozenDict",
    "FrozenList",
    "TooLarge",
    "fill_dict",
    "freeze",
    "frozen_dict",
    "frozen_list",
    "new_dict",
    "put",
    "thaw",
]

ATOMS = frozenset({str, int, float, bool, NoneType})
_SEQUENCES = (list, tuple)
_CONTAINERS = (dict, list, tuple)

_DEEP = 8
"""Nesting that is followed by recursion, without an eye for cycles."""
_TUPLES = 100
"""Tuples in tuples that are followed beyond that."""
_WRITTEN_DEPTH = 64
"""Nesting that is written at all."""
_MOST = 1 << 20
"""Values that a nested container may come to when what it holds several times is written each time."""
_set_item: Callable[[list[Any], int, Any], None] = list.__setitem__

new_dict: Callable[[type[dict[Any, Any]]], dict[Any, Any]] = dict.__new__
_new_list: Callable[[type[list[Any]]], list[Any]] = list.__new__
fill_dict: Callable[[Any, Any], None] = dict.update
_fill_list: Callable[[Any, Any], None] = list.extend
put: Callable[[Any, Any, Any], None] = dict.__setitem__


def _refuse(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    kind = "dict" if isinstance(self, dict) else "list"
    raise TypeError(f"a payload's {kind} cannot be changed; make your own with {kind}(...)")


class FrozenDict(dict[Any, Any]):
    """A dict that refuses to change."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> dict[Any, Any]:  # type: ignore[misc]  # the point: rebuilding gives a plain one
        """Return a plain dict; `freeze` makes frozen ones."""
        return dict(*args)

    def __reduce__(self) -> tuple[object, ...]:
        return freeze, (dict(self),)

    __init__ = __setattr__ = __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


class FrozenList(list[Any]):
    """A list that refuses to change."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> list[Any]:  # type: ignore[misc]  # as above
        """Return a plain list; `freeze` makes frozen ones."""
        return list(*args)

    def __reduce__(self) -> tuple[object, ...]:
        return freeze, (list(self),)

    __init__ = __setattr__ = __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse


class TooLarge:
    """Stands where a container would be written as more than a million values, as ``x = [x, x]`` forty times is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        kind = "dict" if isinstance(self.value, dict) else "list"
        return f"a {kind} that holds the same over and over: more than {_MOST:,} values when written out"


class _TooDeep(Exception):  # noqa: N818 - not an error: it leads from the fast way to the careful one
    """Containers are nested deeper than recursion follows, or hold themselves."""


def freeze(value: Any) -> Any:
    """Copy every dict and list in a value, at any depth, into one that cannot change; of numbers keep the base value.

    Never raises for content: cycles keep their shape; what is neither number, text nor container is kept as it is, as
    is what refuses to be copied or lies in a hundred tuples.
    """
    try:
        return _copy(value, _DEEP)
    except _TooDeep:
        return _copy_deep(value)


def _copy(value: Any, depth: int) -> Any:
    kind = value.__class__
    if kind is dict and depth:
        copy: Any = new_dict(FrozenDict)
        fill_dict(copy, value)
        nested = {}
        for key, item in copy.items():
            if key.__class__ is not str:
                return _copy_any(value, depth)
            kind = item.__class__
            if kind is not float and kind is not str and kind not in ATOMS:
                nested[key] = _copy(item, depth - 1)
        if nested:
            fill_dict(copy, nested)
        return copy
    if (kind is list or kind is tuple) and depth:
        items = value
        for item in value:
            if item.__class__ not in ATOMS:
                items = [_copy(item, depth - 1) for item in value]
                break
        if kind is tuple:
            return tuple(items)
        copy = _new_list(FrozenList)
        _fill_list(copy, items)
        return copy
    return _copy_any(value, depth)


def _copy_any(value: Any, depth: int) -> Any:
    """Do as `_copy`, also for what is not exactly a dict with keys of text, a list or a tuple."""
    kind = value.__class__
    if kind in ATOMS or kind is FrozenDict or kind is FrozenList:
        return value
    if not depth:
        raise _TooDeep
    try:
        if isinstance(value, dict):
            return _copy_with_keys(value, depth)
        if isinstance(value, _SEQUENCES):
            items = [_copy(item, depth - 1) for item in value]
            return frozen_list(items) if isinstance(value, list) else tuple(items)
    except _TooDeep:
        raise
    except Exception:  # noqa: BLE001 - a foreign container may do anything; whoever writes it will report it
        return value
    return base_value(value)


def _copy_with_keys(value: dict[Any, Any], depth: int) -> Any:
    """Copy a dict of whatever class and keys; those that are text become plain text."""
    held: dict[Any, Any] = {}
    fill_dict(held, value)  # at once: another thread may be changing it
    items = {base_value(key) if isinstance(key, str) else key: _copy(item, depth - 1) for key, item in held.items()}
    return frozen_dict(items) if len(items) == len(held) else value


def _copy_deep(value: Any) -> Any:
    """Do as `_copy` without recursion: each container is copied once, and filled when its turn comes."""
    copies: dict[int, Any] = {}
    unfilled: list[tuple[Any, Any]] = []

    def copy_of(item: Any, depth: int) -> Any:
        kind = item.__class__
        if kind is FrozenDict or kind is FrozenList:
            return item
        if not isinstance(item, _CONTAINERS):
            return base_value(item)
        if isinstance(item, tuple):
            return tuple([copy_of(part, depth - 1) for part in item]) if depth else item
        if id(item) not in copies:
            copy = copies[id(item)] = new_dict(FrozenDict) if isinstance(item, dict) else _new_list(FrozenList)
            unfilled.append((copy, item))
        return copies[id(item)]

    frozen = copy_of(value, _TUPLES)
    for copy, original in unfilled:  # which grows meanwhile
        if isinstance(original, dict):
            fill_dict(copy, {key: copy_of(item, _TUPLES) for key, item in original.items()})
        else:
            _fill_list(copy, [copy_of(item, _TUPLES) for item in original])
    if len(unfilled) > 1:
        _bound(frozen, 1, {})
    return frozen


def _bound(container: Any, depth: int, counts: dict[int, int]) -> int:
    """Return how many values a container is written as; what it holds that comes to too many is put aside in it.

    Copying shares what is shared, so it costs what there is; writing does not.
    """
    if id(container) in counts:
        return counts[id(container)]
    if depth > _WRITTEN_DEPTH or not isinstance(container, dict | list):
        return 1
    count = counts[id(container)] = 1  # for what leads back here; a cycle is too deep, which is found at once
    for key, item in list(container.items() if isinstance(container, dict) else enumerate(container)):
        held = _bound(item, depth + 1, counts)
        if held > _MOST:
            set_item: Callable[[Any, Any, Any], None] = put if isinstance(container, dict) else _set_item
            set_item(container, key, TooLarge(item))
        else:
            count += held
    counts[id(container)] = count
    return count


def frozen_dict(items: dict[Any, Any]) -> FrozenDict:
    """Copy a dict whose values cannot change into one that cannot change either."""
    copy: Any = new_dict(FrozenDict)
    fill_dict(copy, items)
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
