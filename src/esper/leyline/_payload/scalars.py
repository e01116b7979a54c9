"""The rows of the table for single values: numbers, text, choices, and any of them or None."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from math import isfinite
from types import NoneType
from typing import Any

from esper.leyline._payload.base_values import base_number, base_value
from esper.leyline._payload.form import TEXT, number, one_of, whole_number
from esper.leyline._payload.frozen import freeze
from esper.leyline._payload.types import (
    NONFINITE,
    NONFINITE_NAMES,
    NULL,
    Origin,
    Report,
    Type,
    Verbatim,
    chained,
    mismatch,
    quote,
)
from esper.leyline._payload.wording import Path, is_unicode, path_text, shorten
from esper.leyline.errors import FieldProblem

__all__ = ["Bool", "Choice", "Float", "Int", "Member", "Optional", "Text"]

_NONFINITE_TEXTS = {name: Verbatim(f'"{text}"') for name, text in NONFINITE_NAMES.items()}


class Float(Type):
    """A float, or an int that will do for one; it stays an int."""

    text, column = "float", "DOUBLE"
    classes = frozenset({float, int})
    holds_numbers = True
    piece = "{%s!r}"

    def test(self, name: str, origin: Origin) -> str:
        return f"{name}.__class__ is float or {name}.__class__ is int"

    def converted(self, value: Any) -> Any:
        return freeze(base_number(value))

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        if wire and value.__class__ is str and value in NONFINITE:
            return NONFINITE[value]
        base = base_value(value)
        return base if base.__class__ in self.classes else self._refuse(value, path, report)

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return number(limits)

    def prepared(self, name: str) -> list[str]:
        # value - value is 0.0 for every finite float and for no other.
        return [f"if {name}.__class__ is not float or {name} - {name} != 0.0: {name} = _write_{name}({name})"]

    def write(self, value: Any, depth: int = 1) -> str:
        if value.__class__ is float:
            return Verbatim(repr(value)) if isfinite(value) else _NONFINITE_TEXTS[repr(value)]
        return Verbatim(repr(value)) if value.__class__ is int else mismatch()

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"$ref": "#/$defs/float"} | limits

    def drawn(self, draw: Any) -> Any:
        return draw.FLOATS | draw.INTEGERS


class Int(Type):
    """An integer of any size."""

    text, column = "int", "BIGINT"
    classes = frozenset({int})
    holds_numbers = True
    piece = "{%s!r}"

    def test(self, name: str, origin: Origin) -> str:
        return f"{name}.__class__ is int"

    def converted(self, value: Any) -> Any:
        return freeze(base_number(value))

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        base = base_value(value)
        return base if base.__class__ is int else self._refuse(value, path, report)

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return whole_number(limits)

    def prepared(self, name: str) -> list[str]:
        return [f"if {name}.__class__ is not int: _mismatch()"]

    def write(self, value: Any, depth: int = 1) -> str:
        return Verbatim(repr(value)) if value.__class__ is int else mismatch()

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"type": "integer"} | limits

    def drawn(self, draw: Any) -> Any:
        return draw.INTEGERS


class Bool(Type):
    """True or False."""

    text, column = "bool", "BOOLEAN"
    classes = frozenset({bool})

    def test(self, name: str, origin: Origin) -> str:
        return f"{name} is True or {name} is False"

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        base = base_value(value)
        return base if base.__class__ is bool else self._refuse(value, path, report)

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return "(?:true|false)"

    def prepared(self, name: str) -> list[str]:
        return [f'{name} = "true" if {name} is True else "false" if {name} is False else _mismatch()']

    def write(self, value: Any, depth: int = 1) -> str:
        return "true" if value is True else "false" if value is False else mismatch()

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"type": "boolean"}

    def drawn(self, draw: Any) -> Any:
        return draw.BOOLEANS


class Text(Type):
    """Text of valid Unicode."""

    text, column = "str", "VARCHAR"
    classes = frozenset({str})
    is_text = True

    def test(self, name: str, origin: Origin) -> str:
        is_str = f"{name}.__class__ is str"
        return is_str if origin == "caller" else f"{is_str} and ({name}.isascii() or _is_unicode({name}))"

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        base: Any = base_value(value)
        if base.__class__ is not str:
            return self._refuse(value, path, report)
        if base.isascii() or is_unicode(base):
            return base
        return report(FieldProblem(path_text(path), "valid Unicode", f"a lone surrogate in {shorten(value)}"))

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return TEXT

    def prepared(self, name: str) -> list[str]:
        return [f"{name} = _quoted[{name}] if {name}.__class__ is str else _mismatch()"]

    def write(self, value: Any, depth: int = 1) -> str:
        return quote(value)

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"type": "string"}

    def drawn(self, draw: Any) -> Any:
        return draw.TEXT


class Choice(Type):
    """One of a few texts or integers: a Literal of either."""

    def __init__(self, choices: tuple[str, ...] | tuple[int, ...]) -> None:
        self._choices = frozenset(choices)
        self.text = f"one of {', '.join(map(str, choices))}"
        (self._kind,) = {type(choice) for choice in choices}
        self.column = "VARCHAR" if self._kind is str else "BIGINT"
        self._listed = [*choices]
        self.holds_numbers = self._kind is int
        self._texts = {choice: quote(choice) if self._kind is str else repr(choice) for choice in choices}

    def test(self, name: str, origin: Origin) -> str:
        is_kind = f"{name}.__class__ is {self._kind.__name__}"
        return is_kind if origin == "caller" else f"{is_kind} and {name} in _choices_{name}"

    def names(self, name: str) -> dict[str, object]:
        return {f"_choices_{name}": self._choices, f"_texts_{name}": self._texts}

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return one_of(self._texts.values())

    def prepared(self, name: str) -> list[str]:
        return [f"{name} = _texts_{name}[{name}] if {name}.__class__ is {self._kind.__name__} else _mismatch()"]

    def converted(self, value: Any) -> Any:
        return freeze(base_number(value) if self._kind is int else value)

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        base = base_value(value)
        return base if base.__class__ is self._kind and base in self._choices else self._refuse(value, path, report)

    def write(self, value: Any, depth: int = 1) -> str:
        if value.__class__ is not self._kind or value not in self._choices:
            mismatch()
        return self._texts[value]

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"type": "string" if self._kind is str else "integer", "enum": self._listed}

    def drawn(self, draw: Any) -> Any:
        return draw.one_of(self._listed)


class Member(Type):
    """A member of an Enum, by its name."""

    column = "VARCHAR"

    def __init__(self, enum: type[Enum]) -> None:
        self._members = {member.name: member for member in enum}
        self.text = f"one of {', '.join(self._members)}"

    def test(self, name: str, origin: Origin) -> str:
        return f"{name}.__class__ is _enum_{name}"

    def names(self, name: str) -> dict[str, object]:
        return {f"_enum_{name}": type(next(iter(self._members.values())))}

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        if value.__class__ is str and value in self._members:
            return self._members[value]
        if isinstance(value, Enum) and self._members.get(value.name) is value:
            return value
        return self._refuse(value, path, report)

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        return one_of(map(quote, self._members))

    def write(self, value: Any, depth: int = 1) -> str:
        return quote(value.name) if isinstance(value, Enum) and self._members.get(value.name) is value else mismatch()

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"type": "string", "enum": [*self._members]}

    def drawn(self, draw: Any) -> Any:
        return draw.one_of([*self._members.values()])


class Optional(Type):
    """A value of another type, or None."""

    def __init__(self, inner: Type) -> None:
        self.inner = inner
        self.text = f"{inner.text} | None"
        self.column = inner.column
        self.is_nested = inner.is_nested
        self.classes = inner.classes | {NoneType}
        self.is_text = inner.is_text
        self.holds_numbers = inner.holds_numbers
        self.piece = inner.piece

    def test(self, name: str, origin: Origin) -> str:
        test = self.inner.test(name, origin)
        return test and f"{name} is None or {test}"

    def stored(self, name: str, otherwise: str, origin: Origin) -> list[str]:
        return chained(f"if {name} is None: _self.{name} = None", self.inner.stored(name, otherwise, origin))

    def names(self, name: str) -> dict[str, object]:
        return self.inner.names(name)

    def converted(self, value: Any) -> Any:
        return None if value is None else self.inner.converted(value)

    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        if value is None:
            return None

        def named(problem: FieldProblem) -> None:
            of_itself = problem.path == path_text(path) and problem.expected == self.inner.text
            report(FieldProblem(problem.path, self.text, problem.actual) if of_itself else problem)

        return self.inner.check(value, path, named, wire, depth)

    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        if value is None and self.is_nested:
            return "null"
        return f"(?:null|{self.inner.form(value, limits)})"

    def prepared(self, name: str) -> list[str]:
        return chained(f"if {name} is None: {name} = _NULL", self.inner.prepared(name))

    def write(self, value: Any, depth: int = 1) -> str:
        return NULL if value is None else self.inner.write(value, depth)

    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        return {"anyOf": [self.inner.schema(limits), {"type": "null"}]}

    def drawn(self, draw: Any) -> Any:
        return draw.NONE | self.inner.drawn(draw)
