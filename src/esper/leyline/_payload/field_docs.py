"""What every field means, read from the docstring below it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

__all__ = ["Meaning", "meanings"]

_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(
    rf"(?P<minimum>{_NUMBER}) (?:or more|to (?P<maximum>{_NUMBER})?)"
    rf"|above (?P<exclusiveMinimum>{_NUMBER})"
    rf"|at most (?P<maximum_>{_NUMBER})"
    rf"|(?P<maximum__>{_NUMBER}) or less"
)
_UNIT = re.compile(r"\s*Unit: (?P<unit>[^;]+); (?P<range>.+?)\.(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a field means."""

    text: str
    """In sentences, the source of a formula among them."""
    unit: str | None
    """``nats``, ``ms``, …; ``1`` for a pure number; None where there is nothing to count or measure."""
    range: str | None
    """The values it may have; None without a unit."""

    @property
    def limits(self) -> dict[str, float]:
        """The range as numbers: ``minimum``, ``exclusiveMinimum`` and ``maximum``, as JSON Schema names them."""
        return {} if self.range is None else _limits(self.range)


def meanings(cls: type[Any]) -> dict[str, Meaning]:
    """Return what each field of a payload class, or of the event, means, in the order of the fields.

    Where esper is installed without its source text, nothing is known of any, and every meaning is empty.
    """
    documented = _read(cls.__module__)
    if documented is None:
        return {field.name: Meaning("", None, None) for field in dataclasses.fields(cls)}
    return documented[cls.__name__]


@cache
def _read(module: str) -> dict[str, dict[str, Meaning]] | None:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        return None
    return {node.name: dict(_documented(node.body)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, Meaning]]:
    for field, below in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            yield field.target.id, _meaning(" ".join(str(below.value.value).split()))


def _meaning(docstring: str) -> Meaning:
    found = _UNIT.search(docstring)
    if found is None:
        return Meaning(docstring, None, None)
    return Meaning(_UNIT.sub("", docstring), found["unit"], found["range"])


@cache
def _limits(text: str) -> dict[str, float]:
    """Read the beginning of a range: ``0 to 1``, ``-1 to max_epochs``, ``0 or more``, ``at most 1``, ``above 0``."""
    limits: dict[str, float] = {}
    found = _RANGE.match(text)
    for name, limit in ({} if found is None else found.groupdict()).items():
        if limit is not None:
            limits[name.rstrip("_")] = float(limit) if "." in limit else int(limit)
    return limits
