"""From mapping to payload to JSON and back, compiled once a class from its fields.

The generated functions hold the fast way: exact types, tested inline. What they do not take for granted goes to
`check`, which converts what may be converted; at the first problem the whole payload is gone through again to tell them
all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any, NoReturn

from esper.leyline.errors import FieldProblem, FieldTypeError, MissingFieldError, PayloadError, UnknownFieldError
from esper.leyline.frozen import FrozenDict, FrozenList, frozen_dict, thaw
from esper.leyline.payload import UNSET, Payload, define, is_optional, unfrozen_twin
from esper.leyline.shapes import (
    DICT_KEY,
    FLOAT_KEY,
    NONFINITE_NAMES,
    Shape,
    check,
    check_dict,
    check_list,
    is_unicode,
    shapes_of,
    shorten,
)

__all__ = ["Codec", "check_mapping", "quote"]


class _Surprise(Exception):  # noqa: N818 - not an error: it leads from the fast way to the careful one
    """A value is not what the fast way expects."""


def _surprise(*_: object) -> NoReturn:
    raise _Surprise


class Codec:
    """The compiled conversions of one payload class.

    Attributes:
        shapes: what each field holds, by name, in order.
        from_dict: mapping of Python values → payload.
        from_json: the dict that a JSON parser made → payload.
        to_dict: payload → dict of plain Python values.
        to_json: payload → the text of a JSON object.
    """

    def __init__(self, cls: type[Payload]) -> None:
        self._cls = cls
        self._fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass
        self._required = frozenset(f.name for f in self._fields if not is_optional(f))
        self.shapes = shapes_of(cls)
        self.from_dict: Callable[[object], Any] = self._compile_from("from_dict", wire=False)
        self.from_json: Callable[[object], Any] = self._compile_from("from_json", wire=True)
        self.to_dict: Callable[[Any], dict[str, object]] = self._compile_to_dict()
        self.to_json: Callable[[Any], str] = self._compile_to_json()

    def _compile_from(self, name: str, *, wire: bool) -> Callable[[object], Any]:
        lines = [
            f"def {name}(mapping):",
            " if mapping.__class__ is not dict: return carefully(mapping)",
            " try:",
            "  get = mapping.get",
            "  self = new(UNFROZEN)",
            "  absent = 0",
        ]
        bit = 1
        for f in self._fields:
            branch = "if"
            if is_optional(f):
                lines += [
                    f"  {f.name} = get({f.name!r}, UNSET)",
                    f"  if {f.name} is UNSET: self.{f.name} = {f.default!r}; absent |= {bit}",
                ]
                branch = "elif"
                bit <<= 1
            else:
                lines.append(f"  {f.name} = mapping[{f.name!r}]")
            lines += [
                f"  {branch} {_as_it_is(f.name, self.shapes[f.name])}: self.{f.name} = {f.name}",
                *_store_container(f.name, self.shapes[f.name], wire=wire),
                f"  else: self.{f.name} = check(shape_{f.name}, {f.name}, {f.name!r}, surprise, {wire})",
            ]
        lines += [
            " except (KeyError, Surprise, RecursionError): return carefully(mapping)",
            f" if len(mapping) + absent.bit_count() != {len(self._fields)}: return carefully(mapping)",
            " self._absent = absent",
            " self.__class__ = FROZEN",
            " return self",
        ]

        def carefully(mapping: object) -> Any:
            return self._cls(**check_mapping(self._cls.__name__, self.shapes, self._required, mapping, wire=wire))

        return define(name, lines, self._namespace(carefully=carefully), f"{self._cls.__name__}.{name}")

    def _compile_to_dict(self) -> Callable[[Any], dict[str, object]]:
        lines = ["def to_dict(self):", " absent = self._absent", " told = {}"]
        bit = 1
        for f in self._fields:
            value = f"self.{f.name}" if self.shapes[f.name].item is None else f"thaw(self.{f.name})"
            condition = ""
            if is_optional(f):
                condition = f"if not absent & {bit}: "
                bit <<= 1
            lines.append(f" {condition}told[{f.name!r}] = {value}")
        lines.append(" return told")
        return define("to_dict", lines, {"thaw": thaw}, f"{self._cls.__name__}.to_dict")

    def _compile_to_json(self) -> Callable[[Any], str]:
        lines = ["def to_json(self):", " absent = self._absent", " text = ''", " try:"]
        bit = 1
        for f in self._fields:
            if is_optional(f):
                lines.append(f"  if not absent & {bit}:")
                bit <<= 1
            else:
                lines.append("  if True:")
            lines += _write(f.name, self.shapes[f.name])
        lines += [
            # TypeError: a key that is no text. ValueError: an integer of more digits than Python converts.
            " except (Surprise, RecursionError, TypeError, ValueError): refuse(self)",
            " return '{' + text[1:] + '}'",
        ]
        return define("to_json", lines, self._namespace(refuse=self._refuse), f"{self._cls.__name__}.to_json")

    def _namespace(self, **names: object) -> dict[str, Any]:
        return {
            **names,
            "UNSET": UNSET,
            "UNFROZEN": unfrozen_twin(self._cls),
            "FROZEN": self._cls,
            "new": object.__new__,
            "check": check,
            "check_dict": check_dict,
            "check_list": check_list,
            "surprise": _surprise,
            "Surprise": _Surprise,
            "is_unicode": is_unicode,
            "take_numbers": _take_numbers_by_name,
            "ascii": encode_basestring_ascii,
            "quote": quote,
            "number": _number,
            "text_of": _text_of,
            "numbers_by_name": _text_of_numbers,
            **{f"shape_{name}": shape for name, shape in self.shapes.items()},
            **{f"item_{name}": shape.item for name, shape in self.shapes.items()},
        }

    def _refuse(self, payload: Payload) -> NoReturn:
        told = {name: getattr(payload, name) for name in self._required | payload.supplied}
        check_mapping(self._cls.__name__, self.shapes, self._required, told, wire=False)
        problem = FieldProblem("", "a value that JSON can hold", "nesting too deep or an integer too long to write")
        raise FieldTypeError(self._cls.__name__, problems=(problem,))


def check_mapping(
    owner: str, shapes: Mapping[str, Shape], required: frozenset[str], mapping: object, *, wire: bool
) -> dict[str, Any]:
    """Return the checked values of a mapping by field name, or raise one `PayloadError` that tells every problem."""
    if not isinstance(mapping, Mapping):
        problem = FieldProblem("", "a mapping from field names to values", shorten(mapping))
        raise FieldTypeError(owner, problems=(problem,))
    problems: list[FieldProblem] = []
    values: dict[str, Any] = {}
    for name, shape in shapes.items():
        if name in mapping:
            try:
                values[name] = check(shape, mapping[name], name, problems.append, wire)
            except RecursionError:
                problems.append(FieldProblem(name, shape.text, "nesting too deep"))
    missing = tuple(name for name in shapes if name in required and name not in mapping)
    unknown = tuple(key if isinstance(key, str) else repr(key) for key in mapping if key not in shapes)
    kind: type[PayloadError] | None = (
        MissingFieldError if missing else UnknownFieldError if unknown else FieldTypeError if problems else None
    )
    if kind is not None:
        raise kind(owner, missing=missing, unknown=unknown, problems=tuple(problems))
    return values


def _as_it_is(name: str, shape: Shape) -> str:
    """Return the test that a value may be stored without a second look."""
    tests = {
        "float": f"{name}.__class__ is float or {name}.__class__ is int",
        "int": f"{name}.__class__ is int",
        "bool": f"{name} is True or {name} is False",
        "str": f"{name}.__class__ is str and ({name}.isascii() or is_unicode({name}))",
    }
    test = tests.get(shape.kind, "False")
    return f"{test} or {name} is None" if shape.nullable else test


def _is_numbers_by_name(shape: Shape) -> bool:
    """Whether it is the common container, a dict[str, float], which is worth a few calls into C of its own."""
    return shape.kind == "dict" and shape.item is not None and shape.item.kind == "float"


def _store_container(name: str, shape: Shape, *, wire: bool) -> list[str]:
    """Return the branch that stores a container of the usual class without going through `check`."""
    checked = f"(item_{name}, {name}, {name!r}, surprise, {wire})"
    if _is_numbers_by_name(shape):
        return [f"  elif {name}.__class__ is dict and (copy := take_numbers({name})) is not None: self.{name} = copy"]
    if shape.kind == "dict":
        return [f"  elif {name}.__class__ is dict: self.{name} = check_dict{checked}"]
    if shape.kind == "tuple":
        return [f"  elif {name}.__class__ is list: self.{name} = tuple(check_list{checked})"]
    return []


def _take_numbers_by_name(value: dict[Any, Any]) -> FrozenDict | None:
    """Return the frozen copy of a dict[str, float], or None when there is more to look at."""
    for key, v in value.items():
        if (v.__class__ is not float and v.__class__ is not int) or key.__class__ is not str or not key.isascii():
            return None
    return frozen_dict(value)


def _write(name: str, shape: Shape) -> list[str]:
    """Return the statements that append a field to ``text`` as JSON."""
    plain = {
        "float": "value.__class__ is float and value - value == 0.0",
        "int": "value.__class__ is int",
        "str": "value.__class__ is str and value.isascii()",
    }
    written = "ascii(value)" if shape.kind == "str" else "value!r"
    other = {
        "float": "number(value)",
        "int": "surprise()",
        "bool": "'true' if value is True else 'false' if value is False else surprise()",
        "str": "quote(value)",
    }.get(shape.kind, f"text_of(shape_{name}, value)")
    if _is_numbers_by_name(shape):
        other = f"numbers_by_name(shape_{name}, value)"
    branch = "if"
    lines = [f"   value = self.{name}"]
    if shape.kind in plain:
        lines.append(f"   if {plain[shape.kind]}: text += f',\"{name}\":{{{written}}}'")
        branch = "elif"
    if shape.nullable:
        lines.append(f"   {branch} value is None: text += ',\"{name}\":null'")
        branch = "elif"
    return [*lines, f"   {branch} True: text += ',\"{name}\":' + ({other})"]


def quote(value: Any) -> str:
    """Write a str as JSON, in ASCII."""
    if value.__class__ is not str or not (value.isascii() or is_unicode(value)):
        _surprise()
    return encode_basestring_ascii(value)


def _number(value: Any) -> str:
    """Write a float field's value that is not an ordinary float."""
    if value.__class__ is int:
        return repr(value)
    if value.__class__ is float:
        return f'"{NONFINITE_NAMES[repr(value)]}"'
    _surprise()


def _text_of(shape: Shape, value: Any) -> str:
    """Write a container, or an item of one, as JSON."""
    kind = value.__class__
    if shape.kind == "any":
        return _text_of_any(value)
    item = shape.item
    if item is None:
        if shape.kind == "str":
            return quote(value)
        if shape.kind == "float":
            return repr(value) if kind is float and isfinite(value) else _number(value)
        return repr(value) if shape.kind == "int" and kind is int else _surprise()
    if shape.kind == "dict" and kind is FrozenDict:
        if item.kind == "any":
            return _object_of_any(value)
        return "{" + ",".join([f"{quote(key)}:{_text_of(item, v)}" for key, v in value.items()]) + "}"
    if (shape.kind == "tuple" and kind is tuple) or (shape.kind == "list" and kind is FrozenList):
        return "[" + ",".join([_text_of(item, v) for v in value]) + "]"
    _surprise()


def _text_of_numbers(shape: Shape, value: Any) -> str:
    """Write a dict[str, float] as JSON."""
    if value.__class__ is FrozenDict:
        text = ""
        for key, v in value.items():
            if v.__class__ is not float or v - v != 0.0 or not key.isascii():
                break
            text += f",{encode_basestring_ascii(key)}:{v!r}"
        else:
            return "{" + text[1:] + "}"
    return _text_of(shape, value)


def _text_of_any(value: Any) -> str:
    kind = value.__class__
    if kind is str:
        return encode_basestring_ascii(value) if value.isascii() else quote(value)
    if kind is float:
        return repr(value) if isfinite(value) else f'{{"{FLOAT_KEY}":"{NONFINITE_NAMES[repr(value)]}"}}'
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return repr(value)
    if value is None:
        return "null"
    if kind is FrozenList:
        return "[" + ",".join([_text_of_any(v) for v in value]) + "]"
    if kind is FrozenDict:
        text = _object_of_any(value)
        ambiguous = len(value) == 1 and (FLOAT_KEY in value or DICT_KEY in value)
        return f'{{"{DICT_KEY}":{text}}}' if ambiguous else text
    _surprise()


def _object_of_any(value: FrozenDict) -> str:
    text = ""
    for key, v in value.items():
        name = encode_basestring_ascii(key) if key.__class__ is str and key.isascii() else quote(key)
        text += f",{name}:{_text_of_any(v)}"
    return "{" + text[1:] + "}"
