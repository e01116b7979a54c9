"""One record of an old log, by a map, as an event; or what it lacks."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from esper.karn.export.columns import envelope_types
from esper.karn.importing.mapping import Entry, KindMap, LogMap, Pointer, rows_of
from esper.leyline._payload.wording import brief
from esper.leyline.errors import PayloadError
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent

__all__ = ["NotConverted", "Skipped", "convert", "pointer_text", "value_at"]

_IDS: Final = uuid.UUID("6c0f6d1e-5f0c-5e0b-9a51-3f1d6d2c7a10")
"""Namespace of the ids of events whose records had none: the same record at the same place gets the same one."""
_MISSING: Final = object()
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NotConverted:
    """A record that is no event by the map."""

    kind: str
    """As the old log calls it; empty where that is not known."""
    what: str
    """What is wrong, without the record's own values: records that say the same are one group."""
    example: str
    """The same with this record's values."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record of a kind that the map leaves out."""

    kind: str


def convert(record: object, log_map: LogMap, line: int) -> TelemetryEvent | NotConverted | Skipped:
    """Make an event of a parsed line.

    Args:
        record: the line, parsed.
        log_map: what becomes of it.
        line: its number, of which an id is made where the record has none. Unit: lines; 1 or more.
    """
    if not isinstance(record, dict):
        return _problem("", f"not an object but {type(record).__name__}")
    kind = value_at(record, log_map.kind)
    if not isinstance(kind, str):
        return _problem("", f"no text at {pointer_text(log_map.kind)} that says what it is about")
    if kind in log_map.skipped:
        return Skipped(kind)
    if kind not in log_map.kinds:
        return _problem(kind, "the map does not name this kind")
    of_kind = log_map.kinds[kind]
    data = value_at(record, log_map.data)
    if not isinstance(data, dict):
        return _problem(kind, f"no object at {pointer_text(log_map.data)}")
    try:
        return _Conversion(record, data, log_map, of_kind).event(kind, line)
    except RecursionError:
        return _problem(kind, "nested too deeply")


def _problem(kind: str, what: str) -> NotConverted:
    return NotConverted(kind, what, what)


class _Conversion:
    def __init__(self, record: dict[str, Any], data: dict[str, Any], log_map: LogMap, of_kind: KindMap) -> None:
        self._record = record
        self._data = data
        self._map = log_map
        self._kind = of_kind
        self._used: set[Pointer] = {log_map.kind, *of_kind.drop}
        self._assumed: list[str] = []

    def event(self, kind: str, line: int) -> TelemetryEvent | NotConverted:
        payload = self._kind.payload
        envelope = self._fields(self._kind.envelope, [*envelope_types()], ())
        fields = self._fields(self._kind.fields, [*rows_of(payload)], self._map.data)
        for pointer in self._unused():
            in_data = pointer[: len(self._map.data)] == self._map.data
            part, known = (fields, rows_of(payload)) if in_data else (envelope, envelope_types())
            part[pointer_text(pointer) if pointer[-1] in known else pointer[-1]] = None  # an error names it
        if "event_id" not in envelope:
            envelope["event_id"] = str(uuid.uuid5(_IDS, f"{line} {self._record!r}"))
        if self._assumed:
            message = envelope["message"] if "message" in envelope else ""
            mark = f"(assumed: {', '.join(self._assumed)})"
            envelope["message"] = f"{message} {mark}".strip() if isinstance(message, str) else message
        try:
            return TelemetryEvent.from_dict({**envelope, "event_type": EVENT_TYPES[payload].name, "data": fields})
        except PayloadError as error:
            return _refused(kind, error)

    def _fields(self, entries: Any, names: list[str], base: Pointer) -> dict[str, Any]:
        found = {}
        for name in names:
            value = self._value(name, entries[name]) if name in entries else self._take((*base, name))
            if value is not _MISSING:
                found[name] = value
        return found

    def _take(self, pointer: Pointer) -> Any:
        """Return what stands at a place, nothing where there is null, and remember that it was asked for."""
        self._used.add(pointer)
        value = value_at(self._record, pointer)
        return _MISSING if value is None else value

    def _value(self, name: str, entry: Entry) -> Any:
        value = _MISSING if entry.pointer is None else self._take(entry.pointer)
        if value is _MISSING:
            if not entry.assumes:
                return _MISSING
            self._assumed.append(f"{name} = {_shown(entry.assumed)}")
            return entry.assumed
        if isinstance(value, str) and value in entry.values:
            return entry.values[value]
        if entry.scale is not None:
            return _scaled(value, entry.scale)
        if entry.unix is not None:
            return _since_1970(value, _PER_SECOND[entry.unix])
        if entry.zone is not None and isinstance(value, str):
            return self._zoned(value, entry)
        return value

    def _zoned(self, text: str, entry: Entry) -> Any:
        try:
            time = datetime.fromisoformat(text)
            if time.utcoffset() is not None:
                return text
            zoned = time.replace(tzinfo=entry.zone).astimezone(UTC)
        except (ValueError, OverflowError):
            return text  # the event says what is wrong with it
        self._assumed.append(f"time zone {entry.zone}")
        return zoned.isoformat()

    def _unused(self) -> list[Pointer]:
        """Return the keys that say something and that the map has no use for."""
        data = self._map.data
        prefixes = {pointer[:length] for pointer in self._used for length in range(1, len(pointer) + 1)}
        prefixes |= {data[:length] for length in range(1, len(data) + 1)}
        parts: list[tuple[Pointer, dict[str, Any]]] = [((), self._record)]
        if data:
            parts.append((data, self._data))
        return [
            (*base, key)
            for base, part in parts
            for key, value in part.items()
            if value is not None and (*base, key) not in prefixes
        ]


def value_at(record: Any, pointer: Pointer) -> Any:
    """Return what stands in a record at the end of a path of keys; None where there is nothing."""
    for key in pointer:
        if isinstance(record, dict) and key in record:
            record = record[key]
        elif isinstance(record, list) and key.isascii() and key.isdecimal() and int(key[:9]) < len(record):
            record = record[int(key[:9])]
        else:
            return None
    return record


def pointer_text(pointer: Pointer) -> str:
    """Return a path of keys as a map names it."""
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in pointer) or "the record itself"


def _scaled(value: Any, scale: float) -> Any:
    """Return a number, or the numbers in a container, times a factor; the nearest float to the decimal product."""
    if isinstance(value, dict):
        return {key: _scaled(item, scale) for key, item in value.items()}
    if isinstance(value, list):
        return [_scaled(item, scale) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not abs(value) < math.inf:
        return value * scale
    try:
        return float(Decimal(repr(value)) * Decimal(repr(scale)))
    except OverflowError:
        return math.inf if (value > 0) == (scale > 0) else -math.inf


def _since_1970(value: Any, per_second: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        return value
    try:
        microseconds = round(Decimal(repr(value)) * 1_000_000 / per_second)
        return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()
    except (OverflowError, ArithmeticError):
        return value


def _refused(kind: str, error: PayloadError) -> NotConverted:
    missing = [f"missing {', '.join(error.missing)}"] if error.missing else []
    unknown = [f"unknown {', '.join(error.unknown)}"] if error.unknown else []
    what = [f"{problem.path.partition('[')[0]}: expected {problem.expected}" for problem in error.problems]
    return NotConverted(
        kind,
        "; ".join([*missing, *unknown, *dict.fromkeys(what)]),
        "; ".join([*missing, *unknown, *map(str, error.problems[:3])]),
    )


def _shown(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else brief(value)
