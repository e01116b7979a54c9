"""From payload to JSON, by plans that are compiled from the fields.

An emitter supplies the same fields every time. So each set of supplied fields that is met gets a plan of its own:
straight code that tests exact types inline and ends in one f-string. What a plan does not take for granted goes to
`Type.write`; when that cannot write it either, reading the payload as a mapping says what is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from esper.leyline._payload.construct import is_optional
from esper.leyline._payload.frozen import thaw
from esper.leyline._payload.source import define, indented
from esper.leyline._payload.types import WRITING_NAMES, MismatchError, Type, quote

__all__ = ["PLANS", "Writer", "compile_to_dict", "is_writable", "supplied_fields", "template"]

_Plan: TypeAlias = Callable[[Any], str]

PLANS = 64
"""Sets of supplied fields that get a plan; a payload with another one is written field by field."""
_UNWRITABLE = (KeyError, MismatchError, RecursionError, TypeError, ValueError)
"""KeyError: none of the choices. TypeError: a key that is no text. ValueError: an integer of too many digits."""


class Writer(dict[int, _Plan]):
    """How one payload class is written: to each set of fields that were not supplied, as bits, the plan for it.

    A plan returns the payload as the text of a JSON object, or raises the one `PayloadError` that says why not.

    Args:
        cls: the payload class.
        types: the rows of its fields.
        refuse: called with a payload that cannot be written; it raises.
    """

    def __init__(self, cls: type[Any], types: Mapping[str, Type], refuse: Callable[[Any], str]) -> None:
        super().__init__()
        self._cls = cls
        self._types = types
        self._refuse = refuse

    def __missing__(self, absent: int) -> _Plan:
        if len(self) == PLANS:
            return self._field_by_field
        self[absent] = plan = self._compile(absent)
        return plan

    def _field_by_field(self, payload: Any) -> str:
        try:
            fields = [
                f"{quote(name)}:{self._types[name].write(getattr(payload, name))}"
                for name in supplied_fields(self._cls, payload._absent)  # noqa: SLF001 - its own class
            ]
        except _UNWRITABLE:
            return self._refuse(payload)
        return f"{{{','.join(fields)}}}"

    def _compile(self, absent: int) -> _Plan:
        names = [*supplied_fields(self._cls, absent)]
        namespace = {**WRITING_NAMES, "_refuse": self._refuse, "_UNWRITABLE": _UNWRITABLE, "_depth": 1}
        body = []
        for name in names:
            row = self._types[name]
            body += [f"{name} = _self.{name}", *row.prepared(name)]
            namespace |= {**row.names(name), f"_write_{name}": row.write}
        pieces = {name: self._types[name].piece % name for name in names}
        lines = [
            "try:",
            *indented([*body, f"return f'{{{{{template(pieces)}}}}}'"]),
            "except _UNWRITABLE: return _refuse(_self)",
        ]
        source = f"{self._cls.__name__}.to_json {len(self)}"
        return define("plan", ["def plan(_self):", *indented(lines)], namespace, source)


def template(pieces: Mapping[str, str]) -> str:
    """Return the members of a JSON object as the inside of an f-string: each key with the piece for its value."""
    return ",".join(f'"{key}":{piece}' for key, piece in pieces.items())


def supplied_fields(cls: type[Any], absent: int) -> Iterator[str]:
    """Return the names of the fields that are required or were supplied, in order."""
    bit = 1
    for field in dataclasses.fields(cls):
        if not is_optional(field):
            yield field.name
        else:
            if not absent & bit:
                yield field.name
            bit <<= 1


def compile_to_dict(cls: type[Any], types: Mapping[str, Type]) -> Callable[[Any], dict[str, object]]:
    """Return the function that makes a dict of plain Python values of a payload."""
    body, bit = ["_absent = _self._absent", "_result = {}"], 1
    for field in dataclasses.fields(cls):
        value = f"_self.{field.name}" if not types[field.name].is_nested else f"_thaw(_self.{field.name})"
        condition = ""
        if is_optional(field):
            condition = f"if not _absent & {bit}: "
            bit <<= 1
        body.append(f"{condition}_result[{field.name!r}] = {value}")
    lines = ["def to_dict(_self):", *indented([*body, "return _result"])]
    return define("to_dict", lines, {"_thaw": thaw}, f"{cls.__name__}.to_dict")


def is_writable(row: Type, value: Any) -> bool:
    """Whether a value can be written as one of this type."""
    try:
        row.write(value)
    except _UNWRITABLE:
        return False
    return True
