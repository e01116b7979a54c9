"""Generated functions: made once for a class, with their source where tracebacks find it.

One convention for all of them: a field's value is a local variable of the field's name; every other name begins with an
underscore, and defaults, types and functions are bound under such names, never pasted as text. No field's name begins
with one, so they cannot meet.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

from esper.leyline._payload.late import Late

__all__ = ["define", "indented", "unfrozen_twin"]


def define(name: str, lines: list[str], namespace: dict[str, Any], source: str) -> Callable[..., Any]:
    """Compile generated source and return the function it defines; a traceback shows the generated lines."""
    text = "\n".join(lines) + "\n"
    filename = f"<esper {source}>"
    exec(compile(text, filename, "exec"), namespace)  # noqa: S102 - from our own dataclass fields
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    function: Callable[..., Any] = namespace[name]
    return function


def indented(lines: list[str], levels: int = 1) -> list[str]:
    """Move lines of source to the right."""
    return [f"{'    ' * levels}{line}" for line in lines]


def unfrozen_twin(cls: type[Any]) -> type[Any]:
    """Make a class of the same memory layout that takes plain stores; two such types may exchange ``__class__``.

    A subclass, as the interpreter then has no slots to compare when they do.
    """
    slots = {name: found.slot for name, found in vars(cls).items() if isinstance(found, Late)}
    plain = {name: getattr(object, name) for name in ("__init__", "__setattr__", "__delattr__")}
    return type(f"_Unfrozen{cls.__name__}", (cls,), {"__slots__": (), "__module__": cls.__module__, **plain, **slots})
