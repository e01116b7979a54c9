"""What every field means, read from the docstring below it: one text for schema, SQL views, docs and dashboard."""

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

from esper.leyline.payload import is_optional
from esper.leyline.telemetry import EVENT_TYPES

__all__ = ["Meaning", "field_table", "meanings"]

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


def meanings(cls: type[Any]) -> dict[str, Meaning]:
    """Return what each field of a payload class, or of the event, means, in the order of the fields."""
    return _read(cls.__module__)[cls.__name__]


@cache
def _read(module: str) -> dict[str, dict[str, Meaning]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
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


def field_table() -> str:
    """Return every field of every payload as a table in Markdown."""
    rows = [
        "| payload | field | type | default | unit | range | meaning |",
        "|---|---|---|---|---|---|---|",
    ]
    for cls in EVENT_TYPES:
        for field in dataclasses.fields(cls):
            meaning = meanings(cls)[field.name]
            cells = (
                cls.__name__,
                f"`{field.name}`",
                f"`{field.type}`",
                f"`{field.default!r}`" if is_optional(field) else "required",
                meaning.unit or "",
                meaning.range or "",
                meaning.text.replace("``", "`"),
            )
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)
