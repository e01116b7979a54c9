"""What all payloads share: fast frozen construction, the memory of what was supplied, and the codec's methods.

A payload class is an ordinary ``@dataclass(slots=True, frozen=True)``. Afterwards `compile_payloads` replaces its
``__init__``, because the standard one pays an ``object.__setattr__`` a field and does not know a default from a value
that was given. The new one turns the instance into an unfrozen twin of the same layout, fills it with plain stores
and turns it back; a default never enters ``supplied``, and containers are copied into frozen ones.
"""

from __future__ import annotations

import dataclasses
import linecache
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, NoReturn, Self

from esper.leyline.frozen import ATOMS, FrozenDict, freeze

__all__ = ["UNSET", "Payload", "compile_init", "compile_payloads", "define", "is_optional", "unfrozen_twin"]


class Payload:
    """Base of the eleven payloads. They are final: every event carries one of them, and nothing else."""

    __slots__ = ("_absent",)

    _absent: int
    """One bit an optional field, in order: set when its maker did not supply it."""

    _codec: ClassVar[Any]
    """The compiled conversions of the class; made on first use."""
    _unfrozen: ClassVar[type[Payload]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:]):
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

        Lists become tuples where the field is a tuple; an int will do for a float. Nothing else is converted.

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


def is_optional(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has a default."""
    return field.default is not dataclasses.MISSING


def define(name: str, lines: list[str], namespace: dict[str, Any], source: str) -> Callable[..., Any]:
    """Compile generated source and return the function it defines; a traceback shows the generated lines."""
    text = "\n".join(lines) + "\n"
    filename = f"<esper {source}>"
    exec(compile(text, filename, "exec"), namespace)  # noqa: S102 - from our own dataclass fields
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    function: Callable[..., Any] = namespace[name]
    return function


def compile_payloads(*classes: type[Payload]) -> None:
    """Give dataclasses derived from `Payload` their fast constructor, their lazily compiled codec, and `help`."""
    for cls in classes:
        compile_init(cls)
        cls.__slots__ = _FieldDocs(cls)  # type: ignore[assignment]  # any iterable of names will do, a dict included
        cls._codec = _LazyCodec(cls)


class _FieldDocs(dict[str, str]):
    """What `help` shows below each field: it looks into ``__slots__`` for it. Read from the source when asked for."""

    def __init__(self, cls: type[Payload]) -> None:
        super().__init__(dict.fromkeys(cls.__slots__, ""))
        self._cls = cls

    def __getitem__(self, field: str) -> str:
        from esper.leyline.field_docs import meanings  # noqa: PLC0415 - importing the contract stays cheap

        try:
            meaning = meanings(self._cls)[field]
        except OSError:  # installed without its source
            return ""
        return meaning.text if meaning.unit is None else f"{meaning.text} Unit: {meaning.unit}; {meaning.range}."


class _LazyCodec:
    """Compiles the codec of a class when it is first asked for: importing the contract stays cheap."""

    def __init__(self, cls: type[Payload]) -> None:
        self._cls = cls

    def __getattr__(self, name: str) -> Any:
        from esper.leyline.codec import Codec  # noqa: PLC0415 - the point of being lazy

        self._cls._codec = codec = Codec(self._cls)  # noqa: SLF001 - its own class
        return getattr(codec, name)


class _Unset:
    def __repr__(self) -> str:
        return "<not supplied>"


UNSET = _Unset()


def compile_init(cls: type[Any], *, check: tuple[str, ...] = (), names: Mapping[str, object] | None = None) -> None:
    """Replace the ``__init__`` of a frozen, slotted dataclass by a fast one of the same signature.

    Args:
        cls: the dataclass. A `Payload` remembers which optional fields were supplied.
        check: lines of source that see the arguments, defaults filled in, before anything is stored.
        names: what those lines refer to.
    """
    remembers = issubclass(cls, Payload)
    namespace: dict[str, Any] = {
        **(names or {}),
        "UNSET": UNSET,
        "FROZEN": cls,
        "UNFROZEN": unfrozen_twin(cls),
        "set_class": object.__dict__["__class__"].__set__,
        "freeze": freeze,
        "ATOMS": ATOMS,
        "FrozenDict": FrozenDict,
        "new_dict": dict.__new__,
        "fill_dict": dict.update,
    }
    fields = dataclasses.fields(cls)
    parameters, defaults, stores = [], [], []
    bit = 1
    for f in fields:
        store = _store(f.name, str(f.type))
        namespace[f"default_{f.name}"] = f.default
        if f.default_factory is not dataclasses.MISSING:
            namespace[f"make_{f.name}"] = f.default_factory
            parameters.append(f"{f.name}=UNSET")
            defaults.append(f" if {f.name} is UNSET: {f.name} = make_{f.name}()")
        elif not is_optional(f):
            parameters.append(f.name)
        elif remembers:
            parameters.append(f"{f.name}=UNSET")
            store = f" if {f.name} is UNSET: self.{f.name} = {f.default!r}; absent |= {bit}\n el{store.lstrip()}"
            bit <<= 1
        else:
            parameters.append(f"{f.name}=default_{f.name}")
        stores.append(store)
    lines = [
        f"def __init__(self, {'*, ' if fields[0].kw_only is True else ''}{', '.join(parameters)}):",
        *defaults,
        *(f" {line}" for line in check),
        " set_class(self, UNFROZEN)",
        *([" absent = 0"] * remembers),
        *stores,
        *([" self._absent = absent"] * remembers),
        " self.__class__ = FROZEN",
    ]
    init = define("__init__", lines, namespace, f"{cls.__name__}.__init__")
    standard = cls.__init__
    # inspect follows __wrapped__, and so shows the signature of the plain dataclass with its real defaults.
    init.__wrapped__ = standard  # type: ignore[attr-defined]
    init.__annotations__ = standard.__annotations__
    init.__qualname__ = standard.__qualname__
    init.__module__ = cls.__module__
    cls.__init__ = init
    # The standard ones raise an unrelated TypeError for a name that is no field.
    for name, method in (("__setattr__", _refuse_assignment), ("__delattr__", _refuse_deletion)):
        setattr(cls, name, method)


def _store(name: str, annotation: str) -> str:
    """Return the statement that stores one argument, a container as a frozen copy."""
    if "[" not in annotation:
        return f" if True: self.{name} = {name}"
    none = f" if {name} is None: self.{name} = None\n el" if annotation.endswith("| None") else " "
    listed = f"tuple({name}) if isinstance({name}, list) else {name}" if annotation.startswith("tuple") else name
    if annotation.startswith(("dict[str, float]", "dict[str, int]")):
        # The common container by far: two calls into C, once it is seen that nothing in it can change.
        return f"""{none}if {name}.__class__ is dict:
  for item in {name}.values():
   if item.__class__ is not float and item.__class__ is not int:
    self.{name} = freeze({name})
    break
  else:
   self.{name} = copy = new_dict(FrozenDict)
   fill_dict(copy, {name})
 else: self.{name} = freeze({name})"""
    if annotation.startswith(("tuple[str", "tuple[float")):
        return f"""{none}if {name}.__class__ is tuple and ATOMS.issuperset(map(type, {name})): self.{name} = {name}
 else: self.{name} = freeze({listed})"""
    return f"{none}if True: self.{name} = freeze({listed})"


def unfrozen_twin(cls: type[Any]) -> type[Any]:
    """Make a class of the same memory layout that takes plain stores; two such types may exchange ``__class__``."""
    return type(f"_Unfrozen{cls.__name__}", cls.__bases__, {"__slots__": cls.__slots__, "__module__": cls.__module__})


@lru_cache(maxsize=4096)
def _supplied(cls: type[Payload], absent: int) -> frozenset[str]:
    optional = [f.name for f in dataclasses.fields(cls) if is_optional(f)]  # type: ignore[arg-type]
    return frozenset(name for index, name in enumerate(optional) if not absent >> index & 1)


def _restore(cls: type[Payload], given: dict[str, Any]) -> Payload:
    return cls(**given)


def _refuse_assignment(self: object, name: str, value: object, /) -> NoReturn:  # noqa: ARG001 - refused unseen
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r} of a {type(self).__name__}")


def _refuse_deletion(self: object, name: str, /) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r} of a {type(self).__name__}")
