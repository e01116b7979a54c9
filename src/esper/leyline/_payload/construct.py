"""The fast constructor of a frozen dataclass, generated from its fields.

The standard ``__init__`` of a frozen class pays an ``object.__setattr__`` a field, and does not know a default from a
value that was given. The generated one turns the instance into an unfrozen twin of the same layout, fills it with plain
stores and turns it back. A value of exactly its field's type is stored as it is; for any other the row of the field's
type says what is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from esper.leyline._payload.frozen import FrozenDict, fill_dict, new_dict
from esper.leyline._payload.source import define, indented, unfrozen_twin
from esper.leyline._payload.types import Type, chained

__all__ = ["UNSET", "compile_init", "default_of", "is_optional"]


class _Unset:
    def __repr__(self) -> str:
        return "<not supplied>"


UNSET = _Unset()


def is_optional(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has a default."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def default_of(field: dataclasses.Field[Any], row: Type) -> Any:
    """Return what a field holds that was not supplied, frozen."""
    if field.default_factory is dataclasses.MISSING:
        return field.default
    return row.converted(field.default_factory())


def compile_init(
    cls: type[Any],
    types: Mapping[str, Type] | None = None,
    *,
    remembers: bool = False,
    check: tuple[str, ...] = (),
    late: Mapping[str, tuple[str, str]] | None = None,
    names: Mapping[str, object] | None = None,
) -> None:
    """Replace the ``__init__`` of a frozen, slotted dataclass by a fast one of the same signature.

    It is generated when the first instance is made: importing a contract stays cheap.

    Args:
        cls: the dataclass.
        types: the rows of its fields; what has none is stored as it is.
        remembers: whether a slot ``_absent`` takes one bit for each optional field that was not supplied.
        check: lines of source that see the arguments, defaults filled in, before anything is stored.
        late: of each field whose default is made when it is read (`esper.leyline._payload.late`), the slot of what it
            is made of, and the source of that.
        names: what those lines refer to.

    Raises:
        TypeError: the class is no frozen, slotted dataclass, or has what a generated constructor has no room for.
    """
    _refuse_unsuitable(cls)
    standard = cls.__init__

    def first_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init = _generated(cls, types or {}, remembers=remembers, check=check, late=late or {}, names=names or {})
        _install(cls, init, standard)
        init(self, *args, **kwargs)

    _install(cls, first_init, standard)
    # The standard ones raise an unrelated TypeError for a name that is no field.
    for name, method in (("__setattr__", _refuse_assignment), ("__delattr__", _refuse_deletion)):
        setattr(cls, name, method)


def _generated(
    cls: type[Any],
    types: Mapping[str, Type],
    *,
    remembers: bool,
    check: tuple[str, ...],
    late: Mapping[str, tuple[str, str]],
    names: Mapping[str, object],
) -> Callable[..., None]:
    namespace: dict[str, Any] = {
        **names,
        "_UNSET": UNSET,
        "_FROZEN": cls,
        "_UNFROZEN": unfrozen_twin(cls),
        "_set_class": object.__dict__["__class__"].__set__,
        "_FrozenDict": FrozenDict,
        "_new_dict": new_dict,
        "_fill_dict": fill_dict,
        "_type": type,
    }
    positional: list[str] = []
    by_keyword: list[str] = []
    defaults, stores = [], []
    bit = 1
    for f in dataclasses.fields(cls):
        row = types.get(f.name)
        store = [f"_self.{f.name} = {f.name}"]
        if row is not None:
            store = row.stored(f.name, f"_keep_{f.name}({f.name})", "caller")
            namespace |= {**row.names(f.name), f"_keep_{f.name}": row.converted}
        parameter = f.name
        if remembers and is_optional(f):
            assert row is not None
            parameter += "=_UNSET"
            namespace[f"_default_{f.name}"] = default_of(f, row)
            store = chained(f"if {f.name} is _UNSET: _self.{f.name} = _default_{f.name}; _absent |= {bit}", store)
            bit <<= 1
        elif f.name in late:
            parameter += "=_UNSET"
            number, made = late[f.name]
            store = [
                f"if {f.name} is _UNSET: _self.{number} = {made}",
                "else:",
                *indented([f"_self.{number} = None", *store]),
            ]
        elif f.default_factory is not dataclasses.MISSING:
            parameter += "=_UNSET"
            namespace[f"_make_{f.name}"] = f.default_factory
            defaults.append(f"if {f.name} is _UNSET: {f.name} = _make_{f.name}()")
        elif is_optional(f):
            parameter += f"=_default_{f.name}"
            namespace[f"_default_{f.name}"] = f.default
        (by_keyword if f.kw_only else positional).append(parameter)
        stores += store
    parameters = ", ".join(["_self", *positional, *(["*", *by_keyword] if by_keyword else [])])
    body = [
        *defaults,
        *check,
        "_set_class(_self, _UNFROZEN)",
        *(["_absent = 0"] * remembers),
        *stores,
        *(["_self._absent = _absent"] * remembers),
        "_self.__class__ = _FROZEN",
    ]
    lines = [f"def __init__({parameters}):", *indented(body)]
    return define("__init__", lines, namespace, f"{cls.__name__}.__init__")


_TAKEN = frozenset({"float", "int", "bool", "str", "dict", "list", "tuple", "from_dict", "to_dict", "supplied"})
"""Names that generated code or `Payload` needs."""


def _refuse_unsuitable(cls: type[Any]) -> None:
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen or "__slots__" not in vars(cls):  # type: ignore[attr-defined]
        raise TypeError(f"{cls.__name__}: write @dataclass(frozen=True, slots=True) above it")
    if hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__}: its constructor is generated and would not call __post_init__")
    for field in dataclasses.fields(cls):
        if field.name.startswith("_") or field.name in _TAKEN:
            raise TypeError(f"{cls.__name__}.{field.name}: a field cannot have that name")
        if not field.init:
            raise TypeError(f"{cls.__name__}.{field.name}: every field is an argument; init=False has no meaning")


def _install(cls: type[Any], init: Any, standard: Any) -> None:
    # inspect follows __wrapped__, and so shows the signature of the plain dataclass with its real defaults.
    init.__wrapped__ = standard
    init.__annotations__ = standard.__annotations__
    init.__qualname__ = standard.__qualname__
    init.__module__ = cls.__module__
    cls.__init__ = init


def _refuse_assignment(self: object, name: str, value: object, /) -> NoReturn:  # noqa: ARG001 - refused unseen
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r} of a {type(self).__name__}")


def _refuse_deletion(self: object, name: str, /) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r} of a {type(self).__name__}")
