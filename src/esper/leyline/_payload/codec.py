"""The compiled conversions of one payload class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from esper.leyline._payload.reading import Reader
from esper.leyline._payload.table import types_of
from esper.leyline._payload.wording import shorten
from esper.leyline._payload.writing import Writer, compile_to_dict, is_writable
from esper.leyline.errors import FieldProblem, FieldTypeError

__all__ = ["Codec"]


class Codec:
    """The compiled conversions of one payload class.

    Attributes:
        types: the rows of its fields by name, in order.
        from_dict: mapping of Python values → payload.
        from_json: the dict that a JSON parser made → payload.
        to_dict: payload → dict of plain Python values.
        to_json: payload → the text of a JSON object.
    """

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls
        self.types = types_of(cls)
        self.from_dict = Reader(cls, self.types, wire=False)
        self.from_json = Reader(cls, self.types, wire=True)
        self.to_dict: Callable[[Any], dict[str, object]] = compile_to_dict(cls, self.types)
        self.to_json = Writer(cls, self.types, self._refuse)

    def _refuse(self, payload: Any) -> NoReturn:
        held = {name: getattr(payload, name) for name in self.types}
        self.from_dict.read(held)  # says what is wrong
        # What would do in a mapping, but is not what a payload holds: another kind of dict, an integer of many digits.
        problems = [
            FieldProblem(name, "what can be written as JSON", shorten(value))
            for name, value in held.items()
            if not is_writable(self.types[name], value)
        ]
        raise FieldTypeError(self._cls.__name__, problems=tuple(problems))
