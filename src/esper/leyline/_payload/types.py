"""What one row of the table of types says: everything that the type of a field means.

=====================  =======================================================================================
what a row says        where it is used
=====================  =======================================================================================
`Type.stored`          how a value is tested and frozen that an emitter, a mapping or a line of the log gives
`Type.converted`       what a constructor keeps of a value that was not right at first sight; it never raises
`Type.check`           how such a value is read by ``from_dict`` and from the log, and what is wrong with it
`Type.form`            how text looks, as a pattern, that is surely right and within limits
`Type.prepared`        how a value is written as JSON when it is right at first sight
`Type.write`           how it is written otherwise
`Type.schema`          its JSON Schema
`Type.column`          its type in SQL
`Type.drawn`           its strategy for hypothesis
=====================  =======================================================================================

The rows are in `scalars` and `containers`; `table` finds the row of a field by the type its annotation resolves to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from math import inf, nan
from typing import Any, Literal, NoReturn, TypeAlias

from esper.leyline._payload.base_values import base_value
from esper.leyline._payload.frozen import freeze
from esper.leyline._payload.wording import Path, is_unicode, path_text, shorten_with_remedy
from esper.leyline.errors import FieldProblem

__all__ = [
    "NONFINITE",
    "NONFINITE_NAMES",
    "NULL",
    "WRITING_NAMES",
    "MismatchError",
    "Origin",
    "Report",
    "Type",
    "Verbatim",
    "chained",
    "mismatch",
    "quote",
    "quoted",
]

Report: TypeAlias = Callable[[FieldProblem], None]
Origin: TypeAlias = Literal["caller", "mapping", "line"]
"""Who gives a value: an emitter's call, a mapping, or a line of the log, whose parser makes frozen dicts."""

NONFINITE = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
"""How floats that are not finite are written, as in protobuf's JSON mapping."""
NONFINITE_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class MismatchError(Exception):
    """A value is not what the fast way expects."""


def mismatch(*_: object) -> NoReturn:
    """Leave the fast way.

    Raises:
        MismatchError: always.
    """
    raise MismatchError


class Verbatim(str):
    """JSON text that stands for itself also where an f-string asks for a repr."""

    __slots__ = ()

    __repr__ = str.__str__


NULL = Verbatim("null")


def quote(text: Any) -> str:
    """Write a str as JSON, in ASCII."""
    if text.__class__ is not str or not (text.isascii() or is_unicode(text)):
        mismatch()
    return encode_basestring_ascii(text)


class _Quoted(dict[str, str]):
    """Short texts as JSON: slots, stages, keys and the like are the same in most events."""

    def __missing__(self, text: str) -> str:
        quoted = quote(text)
        if len(text) <= _SHORT:
            if len(self) >= _MOST_QUOTED:
                self.clear()
            self[text] = quoted
        return quoted


_SHORT = 64
_MOST_QUOTED = 4_096
quoted: Mapping[str, str] = _Quoted()
"""To a str, and nothing else, its JSON; MismatchError when it is not valid Unicode."""


WRITING_NAMES: dict[str, Any] = {"_NULL": NULL, "_quoted": quoted, "_mismatch": mismatch, "_repr": repr}
"""What the source of `Type.prepared` refers to."""


def chained(first: str, lines: list[str]) -> list[str]:
    """Put a branch before lines that are one ``if`` statement, or a single plain one."""
    return [first, f"el{lines[0]}" if lines[0].startswith("if ") else f"else: {lines[0]}", *lines[1:]]


class Type(ABC):
    """A row. Source code it returns refers to a field's value by the field's name, and to all else as `_name`."""

    text: str
    """As errors, tables and schemas name it."""
    column: str
    """Its type in SQL."""
    is_nested: bool = False
    """Whether it is, or may be, a container."""
    classes: frozenset[type] = frozenset()
    """A value of exactly one of these classes is right, text apart from lone surrogates."""
    is_text: bool = False
    holds_numbers: bool = False
    """Whether a bool in it, given by an emitter, is 0 or 1."""
    piece: str = "{%s}"
    """Where `prepared` has left the value, in an f-string."""

    def test(self, name: str, origin: Origin) -> str:  # noqa: ARG002 - for rows that have one
        """Return the source of the test that a value is right as it is; empty when there is none."""
        return ""

    def stored(self, name: str, otherwise: str, origin: Origin) -> list[str]:
        """Return the statement that stores a value in ``_self``, a container frozen.

        Args:
            name: of the field, and of the variable that holds its value.
            otherwise: source of the value to be stored when this one is not right at first sight.
            origin: who gives the value.
        """
        test = self.test(name, origin)
        if not test:
            return [f"_self.{name} = {otherwise}"]
        return [f"if {test}: _self.{name} = {name}", f"else: _self.{name} = {otherwise}"]

    def names(self, name: str) -> dict[str, object]:  # noqa: ARG002 - for rows that have some
        """Return what the source for a field of that name refers to."""
        return {}

    def converted(self, value: Any) -> Any:
        """Return what a constructor keeps of a value; whether it can be written is seen when it is."""
        return freeze(value)

    @abstractmethod
    def check(self, value: Any, path: Path, report: Report, wire: bool, depth: int = 1) -> Any:
        """Return the value as the contract wants it, containers frozen; report what is wrong with it.

        Args:
            value: what came.
            path: where, for the problems.
            report: called for each problem; the returned value means nothing then.
            wire: whether the value was read from JSON, where floats that are not finite are text.
            depth: how deep the value lies, if it is a container.

        Raises:
            RecursionError: containers are nested too deeply.
        """

    @abstractmethod
    def form(self, value: Any, limits: Mapping[str, float]) -> str:
        """Return the pattern of text that is surely right where this value was (`esper.leyline._payload.form`).

        Args:
            value: what stood there, which was right; a container's keys and nesting are part of the pattern.
            limits: ``minimum`` and the like, for the numbers in it.

        Raises:
            MismatchError: it has none.
        """

    def prepared(self, name: str) -> list[str]:
        """Return the statement that turns a value into what `piece` shows: JSON text, or a number of that repr.

        It may refer to `names`, to `WRITING_NAMES`, to `write` by the name ``_write_`` and the value's, and to
        ``_depth``, which is how deep the value lies.
        """
        return [f"{name} = _write_{name}({name}, _depth)"]

    @abstractmethod
    def write(self, value: Any, depth: int = 1) -> str:
        """Return a value as JSON text.

        Raises:
            MismatchError: it is not of this type, or cannot be written. Also RecursionError, TypeError, ValueError.
        """

    def write_values(self, values: Mapping[Any, Any], depth: int) -> str:
        """Return a dict of such values, which lie that deep, as JSON text; raises as `write` does."""
        items = [f"{quote(base_value(key))}:{self.write(value, depth)}" for key, value in values.items()]
        return f"{{{','.join(items)}}}"

    @abstractmethod
    def schema(self, limits: dict[str, float]) -> dict[str, Any]:
        """Return its JSON Schema.

        Args:
            limits: ``minimum`` and the like, for the numbers in it.
        """

    @abstractmethod
    def drawn(self, draw: Any) -> Any:
        """Return the strategy for its values.

        Args:
            draw: `esper.leyline.testing`, whose strategies it is made of.
        """

    def _refuse(self, value: Any, path: Path, report: Report) -> None:
        report(FieldProblem(path_text(path), self.text, shorten_with_remedy(value)))
