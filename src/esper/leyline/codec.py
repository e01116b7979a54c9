"""From payload to mapping and JSON, compiled once a class from its fields; the way back is `Reader`.

The generated functions hold the fast way: exact types, tested inline. What they do not take for granted goes to a
function that knows more; when that cannot write it either, reading the payload as a mapping says what is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any, NoReturn

from esper.leyline.errors import FieldProblem, FieldTypeError
from esper.leyline.frozen import FrozenDict, FrozenList, thaw
from esper.leyline.payload import Payload, define, is_optional
from esper.leyline.reading import MismatchError, Reader, mismatch
from esper.leyline.shapes import DEEPEST, DICT_KEY, FLOAT_KEY, NONFINITE_NAMES, Shape, is_unicode, shapes_of, shorten

__all__ = ["Codec", "quote"]


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
        self.shapes = shapes_of(cls)
        self.from_dict = Reader(cls, wire=False)
        self.from_json = Reader(cls, wire=True)
        self.to_dict: Callable[[Any], dict[str, object]] = self._compile_to_dict()
        self.to_json: Callable[[Any], str] = self._compile_to_json()

    def _compile_to_dict(self) -> Callable[[Any], dict[str, object]]:
        lines = ["def to_dict(self):", " absent = self._absent", " result = {}"]
        bit = 1
        for f in self._fields:
            value = f"self.{f.name}" if self.shapes[f.name].item is None else f"thaw(self.{f.name})"
            condition = ""
            if is_optional(f):
                condition = f"if not absent & {bit}: "
                bit <<= 1
            lines.append(f" {condition}result[{f.name!r}] = {value}")
        lines.append(" return result")
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
            " except (MismatchError, RecursionError, TypeError, ValueError): refuse(self)",
            " return '{' + text[1:] + '}'",
        ]
        namespace = {
            "refuse": self._refuse,
            "MismatchError": MismatchError,
            "mismatch": mismatch,
            "ascii": encode_basestring_ascii,
            "quote": quote,
            "number": _number,
            "text_of": _text_of,
            "numbers_by_name": _text_of_numbers,
            **{f"shape_{name}": shape for name, shape in self.shapes.items()},
        }
        return define("to_json", lines, namespace, f"{self._cls.__name__}.to_json")

    def _refuse(self, payload: Payload) -> NoReturn:
        self.from_dict.read({f.name: getattr(payload, f.name) for f in self._fields})  # says what is wrong
        # What would do in a mapping, but is not what a payload holds: another kind of dict, an integer of many digits.
        suspects = {name: getattr(payload, name) for name, shape in self.shapes.items() if shape.kind not in _SIMPLE}
        problems = [
            FieldProblem(name, "what can be written as JSON", shorten(value))
            for name, value in suspects.items()
            if value is not None and not _is_writable(self.shapes[name], value)
        ]
        raise FieldTypeError(self._cls.__name__, problems=tuple(problems))


_SIMPLE = frozenset({"float", "str", "bool"})


def _is_writable(shape: Shape, value: Any) -> bool:
    try:
        _text_of(shape, value)
    except (MismatchError, RecursionError, TypeError, ValueError):
        return False
    return True


def _is_numbers_by_name(shape: Shape) -> bool:
    """Whether it is the common container, a dict[str, float], which is worth a loop of its own."""
    return shape.kind == "dict" and shape.item is not None and shape.item.kind == "float"


def _write(name: str, shape: Shape) -> list[str]:
    """Return the statements that append a field to ``text`` as JSON."""
    exact = {
        "float": "value.__class__ is float and value - value == 0.0",
        "int": "value.__class__ is int",
        "str": "value.__class__ is str and value.isascii()",
    }
    written = "ascii(value)" if shape.kind == "str" else "value!r"
    other = {
        "float": "number(value)",
        "int": "mismatch()",
        "bool": "'true' if value is True else 'false' if value is False else mismatch()",
        "str": "quote(value)",
    }.get(shape.kind, f"text_of(shape_{name}, value)")
    if _is_numbers_by_name(shape):
        other = f"numbers_by_name(shape_{name}, value)"
    branch = "if"
    lines = [f"   value = self.{name}"]
    if shape.kind in exact:
        lines.append(f"   if {exact[shape.kind]}: text += f',\"{name}\":{{{written}}}'")
        branch = "elif"
    if shape.nullable:
        lines.append(f"   {branch} value is None: text += ',\"{name}\":null'")
        branch = "elif"
    return [*lines, f"   {branch} True: text += ',\"{name}\":' + ({other})"]


def quote(value: Any) -> str:
    """Write a str as JSON, in ASCII."""
    if value.__class__ is not str or not (value.isascii() or is_unicode(value)):
        mismatch()
    return encode_basestring_ascii(value)


def _number(value: Any) -> str:
    """Write a float field's value that is not an ordinary float."""
    if value.__class__ is int:
        return repr(value)
    if value.__class__ is float:
        return f'"{NONFINITE_NAMES[repr(value)]}"'
    raise MismatchError


def _text_of(shape: Shape, value: Any, depth: int = 1) -> str:
    """Write a container, or an item of one, as JSON."""
    kind = value.__class__
    if shape.kind == "any":
        return _text_of_any(value, depth)
    item = shape.item
    if item is None:
        if shape.kind == "str":
            return quote(value)
        if shape.kind == "float":
            return repr(value) if kind is float and isfinite(value) else _number(value)
        return repr(value) if shape.kind == "int" and kind is int else mismatch()
    if shape.kind == "dict" and kind is FrozenDict:
        if item.kind == "any":
            return _object_of_any(value, depth)
        return "{" + ",".join([f"{quote(key)}:{_text_of(item, v, depth + 1)}" for key, v in value.items()]) + "}"
    if (shape.kind == "tuple" and kind is tuple) or (shape.kind == "list" and kind is FrozenList):
        return "[" + ",".join([_text_of(item, v, depth + 1) for v in value]) + "]"
    raise MismatchError


def _text_of_numbers(shape: Shape, value: Any) -> str:
    """Write a dict[str, float] as JSON."""
    if value.__class__ is FrozenDict:
        text = ""
        for key, v in value.items():
            if v.__class__ is not float or v - v != 0.0 or key.__class__ is not str or not key.isascii():
                break
            text += f",{encode_basestring_ascii(key)}:{v!r}"
        else:
            return "{" + text[1:] + "}"
    return _text_of(shape, value)


def _text_of_any(value: Any, depth: int) -> str:
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
    if kind is FrozenList and depth <= DEEPEST:
        return "[" + ",".join([_text_of_any(v, depth + 1) for v in value]) + "]"
    if kind is FrozenDict and depth <= DEEPEST:
        text = _object_of_any(value, depth)
        ambiguous = len(value) == 1 and (FLOAT_KEY in value or DICT_KEY in value)
        return f'{{"{DICT_KEY}":{text}}}' if ambiguous else text
    raise MismatchError


def _object_of_any(value: FrozenDict, depth: int) -> str:
    text = ""
    for key, v in value.items():
        name = encode_basestring_ascii(key) if key.__class__ is str and key.isascii() else quote(key)
        text += f",{name}:{_text_of_any(v, depth + 1)}"
    return "{" + text[1:] + "}"
