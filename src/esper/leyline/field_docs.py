"""What every field means, read from the docstring below it: one text for schema, SQL views, docs and dashboard."""

from __future__ import annotations

import dataclasses

from esper.leyline._payload.field_docs import Meaning, meanings
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import EVENT_TYPES

__all__ = ["Meaning", "field_table", "meanings"]


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
