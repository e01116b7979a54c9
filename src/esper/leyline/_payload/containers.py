"""The rows of the table for containers, and for Any, which may be one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from esper.leyline._payload.base_values import base_value
from esper.leyline._payload.form import TEXT, items, members, number
from esper.leyline._payload.frozen import FrozenDict, FrozenList, freeze, frozen_dict, frozen_list
from esper.leyline._payload.scalars import Text
from esper.leyline._payload.shapes import Shapes
from esper.leyline._payload.types import NONFINITE, NONFINITE_NAMES, Origin, Report, Type, mismatch, quoted
from esper.leyline._payload.wording import Path, is_unicode, path_text, shorten, shorten_with_remedy
from esper.leyline.errors import FieldProblem

__all__ = ["DEEPEST", "DICT_KEY", "FLOAT_KEY", "AnyValue", "Dict", "List", "Tuple"]

FLOAT_KEY = "$float"
"""Inside containers of Any, ``{"$float": "NaN"}`` is a float that is not finite …"""
DICT_KEY = "$dict"
"""… and ``{"$dict": {…}}`` is a dict that would otherwise be taken for one of the two."""

DEEPEST = 64
"""Containers in containers that a field may hold, the outermost counted; what is deeper is neither read nor written."""

_TEXT = Text()


class AnyValue(Type):
    """A JSON value: text, a number, a bool, None, or a list or dict of such."""

    text, column, is_nested = "a JSON value", "JSON", True
    classes = frozenset({int, float, bool, NoneType})
    is_text = True

    def __init__(self) -> None:
        self._shapes = Shapes(self)

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        base = base_value(value)
        kind = base.__class__
        if kind in self.classes:
            return base
        if kind is str:
            return _TEXT.check(base, path, report, wire)
        if kind is list or kind is FrozenList:
            return frozen_list(_checked_items(self, value, path, report, wire, depth))
        if kind is dict or kind is FrozenDict:
            if wire and len(value) == 1:
                ((key, inner),) = value.items()
                if key == FLOAT_KEY and inner.__class__ is str and inner in NONFINITE:
                    return NONFINITE[inner]
                if key == DICT_KEY and isinstance(inner, dict):
                    value = inner
            return _checked_values(self, value, path, report, wire, depth)
        return self._refuse(value, path, report)

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        if isinstance(value, dict):
            if FLOAT_KEY in value or DICT_KEY in value:
                mismatch()
            return members(value, lambda _, item: self.form(item, limits))
        if isinstance(value, list):
            return items([self.form(item, limits) for item in value])
        return f"(?:{number(limits)}|{TEXT}|null|true|false)"

    def prepared(self, name: str) -> list[str]:
        return [
            f"if {name}.__class__ is str: {name} = _quoted[{name}]",
            f"elif {name}.__class__ is float and {name} - {name} == 0.0: {name} = _repr({name})",
            f"elif {name} is None: {name} = _NULL",
            f"elif {name}.__class__ is int: {name} = _repr({name})",
            f"else: {name} = _write_{name}({name}, _depth)",
        ]

    def write(self, value: Any, depth: int = 1) -> str:
        kind = value.__class__
        if kind is FrozenList and depth <= DEEPEST:
            # As masks are: lists of bools.
            written = ["true" if v is True else "false" if v is False else self.write(v, depth + 1) for v in value]
            return f"[{','.join(written)}]"
        if kind is FrozenDict and depth <= DEEPEST:
            text = self._shapes[*value,](value, depth + 1)
            is_ambiguous = len(value) == 1 and (FLOAT_KEY in value or DICT_KEY in value)
            return f'{{"{DICT_KEY}":{text}}}' if is_ambiguous else text
        if kind is str:
            return quoted[value]
        if kind is float:
            return repr(value) if value - value == 0.0 else f'{{"{FLOAT_KEY}":"{NONFINITE_NAMES[repr(value)]}"}}'
        if kind is bool:
            return "true" if value else "false"
        if kind is int:
            return repr(value)
        return "null" if value is None else mismatch()

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"$ref": "#/$defs/any"}

    def drawn(self, draw: Any) -> Any:
        return draw.JSON


class _Container(Type):
    is_nested = True

    def __init__(self, item: Type) -> None:
        self.item = item
        self.holds_numbers = item.holds_numbers

    def names(self, name: str) -> dict[str, object]:
        return {f"_exact_{name}": self.item.classes}

    def _item_test(self, origin: Origin) -> str:
        """Return the source of the test of an item, where it needs no names of its own."""
        return "" if self.item.names("_item") else self.item.test("_item", origin)

    def _refuse(self, value: Any, path: Path, report: Report) -> None:
        report(FieldProblem(path_text(path), self.text, shorten_with_remedy(value, container=True)))


class _Sequence(_Container):
    """A list or tuple, whose source differs in what it is and what it is made by."""

    kind: type[Any]
    frozen: type[Any]
    made: str
    taken: tuple[type[Any], ...]

    def __init__(self, item: Type) -> None:
        super().__init__(item)
        self.column = f"{item.column}[]"

    def stored(self, name: str, otherwise: str, origin: Origin) -> list[str]:
        if origin == "caller":
            if self.kind is not tuple or not self.item.classes:
                return [f"_self.{name} = {otherwise}"]
            test = f"{name}.__class__ is tuple and _exact_{name}.issuperset(map(_type, {name}))"
            return [f"if {test}: _self.{name} = {name}", f"else: _self.{name} = {otherwise}"]
        is_taken = f"{name}.__class__ is list"
        if origin == "mapping" and self.kind is tuple:
            is_taken += f" or {name}.__class__ is tuple"
        test = self._item_test(origin)
        if test:
            return [
                f"if {is_taken}:",
                f"    for _item in {name}:",
                f"        if not ({test}): _self.{name} = {otherwise}; break",
                f"    else: _self.{name} = {self.made}({name})",
                f"else: _self.{name} = {otherwise}",
            ]
        if isinstance(self.item, Dict) and isinstance(self.item.item, AnyValue):
            return [
                f"if {is_taken}: _self.{name} = {self.made}([_own(_item, {origin == 'line'}, 2) for _item in {name}])",
                f"else: _self.{name} = {otherwise}",
            ]
        return [f"_self.{name} = {otherwise}"]

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        if not isinstance(value, self.taken):
            return self._refuse(value, path, report)
        items = _checked_items(self.item, value, path, report, wire, depth)
        return tuple(items) if self.kind is tuple else frozen_list(items)

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return items([self.item.form(item, limits) for item in value])

    def write(self, value: Any, depth: int = 1) -> str:
        if value.__class__ is not self.frozen or depth > DEEPEST:
            mismatch()
        write = self.item.write
        return f"[{','.join([write(v, depth + 1) for v in value])}]"

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema(limits)}


class List(_Sequence):
    """A list; it is kept as one that refuses to change."""

    kind, frozen, made, taken = list, FrozenList, "_frozen_list", (list,)

    def __init__(self, item: Type) -> None:
        super().__init__(item)
        self.text = f"list[{_as_item(item)}]"

    def converted(self, value: Any) -> Any:
        frozen = freeze(value)
        if self.holds_numbers and frozen.__class__ is FrozenList:
            return frozen_list([self.item.converted(item) for item in frozen])
        return frozen

    def drawn(self, draw: Any) -> Any:
        return draw.lists(self.item.drawn(draw))


class Tuple(_Sequence):
    """A tuple of any length; a list will do for one."""

    kind, frozen, made, taken = tuple, tuple, "_tuple", (list, tuple)

    def __init__(self, item: Type) -> None:
        super().__init__(item)
        self.text = f"tuple[{_as_item(item)}, ...]"

    def converted(self, value: Any) -> Any:
        try:
            frozen = freeze(tuple(value) if isinstance(value, list) else value)
        except Exception:  # noqa: BLE001 - a foreign list may do anything; whoever writes it will report it
            return value
        if self.holds_numbers and frozen.__class__ is tuple:
            return tuple([self.item.converted(item) for item in frozen])
        return frozen

    def drawn(self, draw: Any) -> Any:
        return draw.lists(self.item.drawn(draw)).map(tuple)


class Dict(_Container):
    """A dict by text; it is kept as one that refuses to change."""

    def __init__(self, item: Type) -> None:
        super().__init__(item)
        self._shapes = Shapes(item)
        self.text = f"dict[str, {_as_item(item)}]"
        self.column = f"MAP(VARCHAR, {item.column})"

    def stored(self, name: str, otherwise: str, origin: Origin) -> list[str]:
        test = self._item_test(origin)
        is_dict = f"if {name}.__class__ is {'_FrozenDict' if origin == 'line' else 'dict'}:"
        if origin == "caller":
            if not test:
                return [f"_self.{name} = {otherwise}"]
            # The common container by far: two calls into C, once it is seen that nothing in it can change.
            return [
                is_dict,
                f"    for _item in {name}.values():",
                f"        if not ({test}): _self.{name} = {otherwise}; break",
                "    else:",
                f"        _self.{name} = _copy = _new_dict(_FrozenDict)",
                f"        _fill_dict(_copy, {name})",
                f"else: _self.{name} = {otherwise}",
            ]
        copy = name if origin == "line" else "_copy"
        lines = [is_dict, *([f"    _copy = _new_dict(_FrozenDict); _fill_dict(_copy, {name})"] * (copy != name))]
        is_foreign = "" if origin == "line" else "_key.__class__ is not str or "
        lines.append(f"    for _key, _item in {copy}.items():")
        lines.append(f"        if {is_foreign}not _key.isascii(): _mismatch()")
        if test:
            lines.append(f"        if not ({test}): _self.{name} = {otherwise}; break")
            lines.append(f"    else: _self.{name} = {copy}")
        elif isinstance(self.item, Dict) and isinstance(self.item.item, AnyValue):
            lines.append(f"        _put({copy}, _key, _own(_item, {origin == 'line'}, 2))")
            lines.append(f"    _self.{name} = {copy}")
        else:
            return [f"_self.{name} = {otherwise}"]
        return [*lines, f"else: _self.{name} = {otherwise}"]

    def converted(self, value: Any) -> Any:
        frozen = freeze(value)
        if self.holds_numbers and frozen.__class__ is FrozenDict:
            return frozen_dict({key: self.item.converted(item) for key, item in frozen.items()})
        return frozen

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        if value.__class__ is dict or isinstance(value, Mapping):
            return _checked_values(self.item, value, path, report, wire, depth)
        return self._refuse(value, path, report)

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return members(value, lambda _, item: self.item.form(item, limits))

    def write(self, value: Any, depth: int = 1) -> str:
        if value.__class__ is not FrozenDict or depth > DEEPEST:
            mismatch()
        return self._shapes[*value,](value, depth + 1)

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.item.schema(limits)}

    def drawn(self, draw: Any) -> Any:
        return draw.dictionaries(self.item.drawn(draw))


def _as_item(item: Type) -> str:
    return "Any" if isinstance(item, AnyValue) else item.text


def _checked_values(
    item: Type, value: Mapping[Any, Any], path: Path, report: Report, wire: bool, depth: int
) -> FrozenDict:
    """Do as `Type.check` for the values of a dict, and for its keys."""
    if depth > DEEPEST:
        raise RecursionError
    exact, text = item.classes - {str}, str if item.is_text else None
    checked = {}
    for key, v in value.items():
        name: Any = key if key.__class__ is str else base_value(key)
        if name.__class__ is not str or not (name.isascii() or is_unicode(name)) or name in checked:
            report(FieldProblem(path_text(path), "keys of valid Unicode text", f"key {shorten(key)}"))
        kind = v.__class__
        is_right = kind in exact or (kind is text and v.isascii())
        checked[name] = v if is_right else item.check(v, (path, name), report, wire, depth + 1)
    return frozen_dict(checked)


def _checked_items(item: Type, value: Sequence[Any], path: Path, report: Report, wire: bool, depth: int) -> list[Any]:
    """Do as `Type.check` for the items of a list or tuple."""
    if depth > DEEPEST:
        raise RecursionError
    exact, text = item.classes - {str}, str if item.is_text else None
    return [
        v
        if v.__class__ in exact or (v.__class__ is text and v.isascii())
        else item.check(v, (path, i), report, wire, depth + 1)
        for i, v in enumerate(value)
    ]
