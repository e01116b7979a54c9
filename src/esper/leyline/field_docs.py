"""What every field means, read from the docstring below it: one text for schema, SQL views, docs and dashboard."""

from __future__ import annotations

import dataclasses
import logging
from functools import cache
from typing import Any

from esper.leyline._payload.field_docs import Meaning
from esper.leyline._payload.field_docs import meanings as _meanings
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import EVENT_TYPES

__all__ = ["Meaning", "field_table", "meanings"]


def meanings(cls: type[Any]) -> dict[str, Meaning]:
    """Return what each field of a payload class, or of the event, means, in the order of the fields.

    Where esper is installed without its source text nothing is known of any: every meaning is empty, and logged once.
    """
    found = _meanings(cls)
    if not any(meaning.text for meaning in found.values()):
        _say_that_nothing_is_known()
    return found


@cache
def _say_that_nothing_is_known() -> None:
    logging.getLogger("esper").warning(
        "esper is installed without its source text: meanings, units and ranges are not known, and no value is doubted"
    )


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
