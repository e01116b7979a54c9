"""Any event, in full: every field with its value, unit and meaning, as the contract has them."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from esper.karn.absence import supplied
from esper.karn.dashboard.rows import Row, Span, Tone, heading, line
from esper.karn.formatting import ABSENT, columns, plural, tidy, value_text
from esper.leyline.field_docs import meanings
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import TelemetryEvent

if TYPE_CHECKING:
    from esper.karn.dashboard.feed import Record
    from esper.leyline.wire import InvalidRecord

__all__ = ["inspect_record"]

_Container: TypeAlias = Mapping[str, object] | list[object] | tuple[object, ...]
_NAME = 26
"""Columns of a field's name: the longest has 26 letters."""
_DEEPEST = 6
_MOST = 500
"""Items shown of one container."""


def inspect_record(record: Record, width: int) -> list[Row]:
    """Return everything that a record says: payload first, then the envelope."""
    if not isinstance(record, TelemetryEvent):
        return _inspect_invalid(record, width)
    payload = record.data
    rows = [heading(type(payload).__name__, _first_line(type(payload)))]
    for field in dataclasses.fields(payload):
        is_supplied = not is_optional(field) or field.name in payload.supplied
        rows += _field_rows(type(payload), field.name, supplied(payload, field.name), is_supplied, width)
    rows += [line(), heading("TelemetryEvent", "the envelope it came in")]
    for envelope_field in dataclasses.fields(record):
        if envelope_field.name != "data":
            value = getattr(record, envelope_field.name)
            rows += _field_rows(TelemetryEvent, envelope_field.name, value, value is not None, width)
    return rows


def _first_line(owner: type) -> str:
    return (owner.__doc__ or "").strip().partition("\n")[0]


def _field_rows(owner: type, name: str, value: object, is_supplied: bool, width: int) -> Iterator[Row]:
    meaning = meanings(owner)[name]
    unit = "no unit" if meaning.unit == "1" else meaning.unit
    measure = "; ".join(part for part in (unit, meaning.range) if part)
    label: Span = (f" {name:<{_NAME}} ", "accent")
    if is_supplied and isinstance(value, Mapping | list | tuple):
        items = plural(len(value), "item") if value else "empty"
        yield line(label, items, (f"  {measure}", "dim"))
        yield from _item_rows(value, width, 1)
    else:
        lines = _fold(value_text(value) if is_supplied else f"{ABSENT} not supplied", width - _NAME - 3)
        if columns(lines[-1]) + len(measure) > width - _NAME - 5:
            lines.append("")
        tone: Tone = "plain" if is_supplied else "unknown"
        for number, text in enumerate(lines, 1):
            note = f"  {measure}" if number == len(lines) else ""
            yield line(label if number == 1 else " " * (_NAME + 2), (text, tone), (note, "dim"))
    for sentence in textwrap.wrap(meaning.text.replace("``", ""), max(width - 6, 20)):
        yield line((f"     {sentence}", "dim"))


def _item_rows(value: _Container, width: int, depth: int) -> Iterator[Row]:
    indent = " " * (4 * depth)
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for index, (key, item) in enumerate(items):
        if index == _MOST:
            yield line((f"{indent}… {len(value) - _MOST:,} more, not shown", "dim"))
            return
        name = tidy(key) if isinstance(key, str) else f"[{key}]"
        text = value_text(item)
        if isinstance(item, Mapping | list | tuple) and item and depth < _DEEPEST and columns(text) > width - _NAME - 8:
            yield line(f"{indent}{name}")
            yield from _item_rows(item, width, depth + 1)
        else:
            first, *rest = _fold(text, width - _NAME - 3)
            room = max(_NAME - 4 * depth, 8)
            yield line(f"{indent}{name}{' ' * (room - columns(name))}  {first}")
            yield from (line(f"{indent}{' ' * room}  {more}") for more in rest)


def _fold(text: str, width: int) -> list[str]:
    """Break text at a width, letter by letter: a value is shown as it is."""
    width, lines = max(width, 20), [""]
    if text.isascii():
        return [text[start : start + width] for start in range(0, len(text), width)] or lines
    for letter in text:
        if columns(lines[-1]) + columns(letter) > width:
            lines.append("")
        lines[-1] += letter
    return lines


def _inspect_invalid(record: InvalidRecord, width: int) -> list[Row]:
    rows = [heading("No event", "a line of the log that could not be read")]
    for field in dataclasses.fields(record):
        first, *rest = _fold(value_text(getattr(record, field.name)), width - 11)
        rows += [line((f" {field.name:<8} ", "accent"), first), *(line(" " * 10, more) for more in rest)]
    return rows
