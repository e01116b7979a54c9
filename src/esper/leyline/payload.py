"""What all payloads share: the memory of what was supplied, and the codec's methods.

A payload class is an ordinary ``@dataclass(slots=True, frozen=True)`` derived from `Payload`. `compile_payloads` gives
it a constructor that is fast, copies containers into frozen ones, and never takes a default for something supplied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Self

from esper.leyline._payload.construct import compile_init, is_optional
from esper.leyline._payload.lazy import LazyCodec
from esper.leyline._payload.table import types_of

__all__ = ["Payload", "compile_init", "compile_payloads", "is_optional"]


class Payload:
    """Base of the eleven payloads. They are final: every event carries one of them, and nothing else."""

    __slots__ = ("_absent",)

    _absent: int
    """One bit an optional field, in order: set when its maker did not supply it."""

    _codec: ClassVar[Any]
    """The compiled conversions of the class; made on first use."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        is_twin = vars(cls).get("__setattr__") is object.__setattr__  # `source.unfrozen_twin`
        if not is_twin and any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:]):
            raise TypeError(f"{cls.__mro__[1].__name__} is final and cannot be subclassed")

    @property
    def supplied(self) -> frozenset[str]:
        """Names of the optional fields that the maker of this payload supplied.

        `dataclasses.replace` supplies every field.
        """
        return _supplied(type(self), self._absent)  # type: ignore[arg-type]  # classes are hashable

    @classmethod
    def from_dict(cls, mapping: Mapping[str, object]) -> Self:
        """Make a payload of a mapping from field names to values, checking all of it.

        Lists become tuples where the field is a tuple; an int will do for a float. Numbers and text of other classes
        (NumPy's scalars, `enum.StrEnum`) become the int, float, bool or str they stand for. Nothing else is converted.

        Raises:
            MissingFieldError: required fields are missing (the message lists every other problem too).
            UnknownFieldError: keys are no fields.
            FieldTypeError: values are of another type, or the argument is no mapping.
        """
        reader = cls._codec.from_dict
        # One call less than reader.read.
        made: Self = reader[len(mapping)](mapping) if mapping.__class__ is dict else reader.read(mapping)
        return made

    def to_dict(self) -> dict[str, object]:
        """Return the required and the supplied fields as plain, changeable Python values; floats stay as they are."""
        fields: dict[str, object] = self._codec.to_dict(self)
        return fields

    def __reduce__(self) -> tuple[object, ...]:
        # By name and only what was supplied, so that the memory of what was supplied survives pickle and copy.
        given = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
            if not is_optional(f) or f.name in self.supplied
        }
        return _restore, (type(self), given)


def compile_payloads(*classes: type[Payload]) -> None:
    """Give dataclasses derived from `Payload` their fast constructor, their lazily compiled codec, and `help`.

    Raises:
        TypeError: a class has a field that the contract has no meaning for; the message names it.
    """
    for cls in classes:
        compile_init(cls, types_of(cls), remembers=True)
        cls.__slots__ = _FieldDocs(cls)  # type: ignore[assignment]  # any iterable of names will do, a dict included
        cls._codec = LazyCodec(cls, _codec)


class _FieldDocs(dict[str, str]):
    """What `help` shows below each field: it looks into ``__slots__`` for it. Read from the source when asked for."""

    def __init__(self, cls: type[Payload]) -> None:
        super().__init__(dict.fromkeys(cls.__slots__, ""))
        self._cls = cls

    def __getitem__(self, field: str) -> str:
        from esper.leyline._payload.field_docs import meanings  # noqa: PLC0415 - importing the contract stays cheap

        meaning = meanings(self._cls)[field]
        return meaning.text if meaning.unit is None else f"{meaning.text} Unit: {meaning.unit}; {meaning.range}."


def _codec(cls: type[Payload]) -> Any:
    from esper.leyline._payload.codec import Codec  # noqa: PLC0415 - the point of being lazy

    return Codec(cls)


@lru_cache(maxsize=4096)
def _supplied(cls: type[Payload], absent: int) -> frozenset[str]:
    optional = [f.name for f in dataclasses.fields(cls) if is_optional(f)]  # type: ignore[arg-type]
    return frozenset(name for index, name in enumerate(optional) if not absent >> index & 1)


def _restore(cls: type[Payload], given: dict[str, Any]) -> Payload:
    return cls(**given)
