"""How the dicts of an old log become events: a map, read from TOML.

::

    kind = "event_type"                        # the key that says what a record is about
    data = "data"                              # the key that holds its fields; "" when the record does itself
    drop = ["hostname"]                        # keys of every record that go nowhere

    [envelope]                                 # fields of the event, from keys of the record
    timestamp = { from = "ts", zone = "UTC" }  # or unix = "s", "ms", "us", "ns"

    [kinds.SEED_CULLED]
    to = "SEED_PRUNED"                         # or skip = true
    drop = ["seed_id"]                         # keys of the data that go nowhere
    [kinds.SEED_CULLED.envelope]               # for this kind only
    [kinds.SEED_CULLED.fields]                 # fields of the payload, from keys of the data
    improvement = { from = "improvement", scale = 0.01 }
    slot_id = "/slot_id"                       # from the record itself
    to_stage = { from = "to", values = { CULLED = "PRUNED" } }
    auto_pruned = { assume = false }           # for records that do not say; marked in the event's message

A key that is called as the field it is for need not be named. A plain name is a key of the data, in the envelope of the
record; one that begins with ``/`` is a JSON Pointer (RFC 6901) from the record on. A null says that there is nothing.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeGuard, get_args
from zoneinfo import ZoneInfo

from esper.karn.export.columns import envelope_types
from esper.leyline._payload.types import Type
from esper.leyline.errors import FieldProblem
from esper.leyline.telemetry import EVENT_TYPES, TelemetryPayload

__all__ = [
    "TARGETS",
    "Entry",
    "KindMap",
    "LogMap",
    "MapError",
    "Pointer",
    "Unix",
    "read_map",
    "rows_of",
]

Pointer: TypeAlias = tuple[str, ...]
"""Keys from the record on."""
Unix: TypeAlias = Literal["s", "ms", "us", "ns"]
"""What a number that is a time counts, since 1970 in UTC."""

_LONGEST: Final = 600
"""Characters of a key, and of what is wrong with it, in an error."""

TARGETS: Final[dict[str, type[TelemetryPayload]]] = {kind.name: cls for cls, kind in EVENT_TYPES.items()}
"""The payload class of each type of event, by its name."""


class MapError(ValueError):
    """A map cannot be used; the message names file and key, and what is known there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where a field comes from."""

    pointer: Pointer | None = None
    """None where only a constant is assumed."""
    scale: float | None = None
    """What numbers are multiplied by."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What stands for a text of the old log."""
    assumes: bool = False
    assumed: Any = None
    """What is taken where the record says nothing, if ``assumes``."""
    unix: Unix | None = None
    zone: tzinfo | None = None
    """Of a time that names none."""


@dataclass(frozen=True, slots=True)
class KindMap:
    """What becomes of the records of one kind."""

    payload: type[TelemetryPayload]
    fields: Mapping[str, Entry]
    envelope: Mapping[str, Entry]
    drop: frozenset[Pointer]


@dataclass(frozen=True, slots=True)
class LogMap:
    """What becomes of the records of a log."""

    kind: Pointer
    data: Pointer
    kinds: Mapping[str, KindMap]
    skipped: frozenset[str]
    """Kinds that are left out."""
    text: str
    """All of it, as it was read."""


def rows_of(cls: type[TelemetryPayload]) -> dict[str, Type]:
    """Return the fields of a payload with their types."""
    types: dict[str, Type] = cls._codec.types
    return types


def read_map(path: Path) -> LogMap:
    """Read a map.

    Raises:
        MapError: it is no TOML, or says what has no meaning; the message names file and key.
        OSError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise MapError(f"{path} is no TOML: {error}") from None
    return _Reading(path).log_map(table, text)


class _Reading:
    def __init__(self, path: Path) -> None:
        self._path = path

    def log_map(self, table: dict[str, Any], text: str) -> LogMap:
        self._known(table, ("kind", "data", "drop", "envelope", "kinds"), "")
        kind = self._pointer(table["kind"] if "kind" in table else "event_type", (), "kind")
        data = self._pointer(table["data"] if "data" in table else "data", (), "data")
        if not kind:
            raise self._error("kind", "expected the key that says what a record is about, got an empty text")
        envelope = self._table(table, "envelope", "")
        drop = self._drop(table, (), "")
        kinds, skipped = dict[str, KindMap](), set[str]()
        for name, described in self._table(table, "kinds", "").items():
            where = f"kinds.{_key(name)}"
            if not isinstance(described, dict):
                raise self._error(where, f"expected a table with to or skip, got {described!r}")
            self._known(described, ("to", "skip", "drop", "envelope", "fields"), f"{where}.")
            if "skip" in described and described["skip"] is not True:
                raise self._error(f"{where}.skip", f"expected true, got {described['skip']!r}")
            if "skip" in described:
                skipped.add(name)
            else:
                kinds[name] = self._kind(described, where, data, envelope, drop)
        for name, cls in TARGETS.items():
            if name not in kinds and name not in skipped:
                kinds[name] = KindMap(cls, {}, self._entries(envelope, envelope_types(), (), "envelope"), drop)
        return LogMap(kind, data, kinds, frozenset(skipped), text)

    def _kind(
        self, table: dict[str, Any], where: str, data: Pointer, envelope: dict[str, Any], drop: frozenset[Pointer]
    ) -> KindMap:
        if "to" not in table:
            raise self._error(where, 'expected to = "EVENT_TYPE" or skip = true')
        to = table["to"]
        if not isinstance(to, str) or to not in TARGETS:
            raise self._error(f"{where}.to", f"{to!r} is no type of event; {_listed(str(to), TARGETS)}")
        cls = TARGETS[to]
        own = self._table(table, "envelope", f"{where}.")
        return KindMap(
            cls,
            self._entries(self._table(table, "fields", f"{where}."), rows_of(cls), data, f"{where}.fields"),
            self._entries(envelope, envelope_types(), (), "envelope")
            | self._entries(own, envelope_types(), (), f"{where}.envelope"),
            drop | self._drop(table, data, f"{where}."),
        )

    def _entries(self, table: dict[str, Any], rows: Mapping[str, Type], base: Pointer, where: str) -> dict[str, Entry]:
        entries = {}
        for name, described in table.items():
            if name not in rows:
                raise self._error(f"{where}.{_key(name)}", f"there is no such field; {_listed(name, rows)}")
            entries[name] = self._entry(described, rows[name], base, f"{where}.{name}", is_time=name == "timestamp")
        return entries

    def _entry(self, described: Any, row: Type, base: Pointer, where: str, *, is_time: bool) -> Entry:
        if isinstance(described, str):
            return Entry(pointer=self._pointer(described, base, where))
        if not isinstance(described, dict):
            raise self._error(where, f'expected a key, or a table such as {{ from = "…" }}, got {described!r}')
        self._known(described, ("from", "scale", "values", "assume", *(("unix", "zone") * is_time)), f"{where}.")
        if "from" not in described and ("assume" not in described or len(described) > 1):
            raise self._error(where, "expected from, a key of the old log, or assume alone")
        scale = described["scale"] if "scale" in described else None
        if scale is not None and (not _is_number(scale) or not 0 < abs(scale) < float("inf")):
            raise self._error(f"{where}.scale", f"expected a number that is not 0, got {scale!r}")
        unix = described["unix"] if "unix" in described else None
        if unix is not None and unix not in get_args(Unix):
            raise self._error(f"{where}.unix", f"expected one of {', '.join(get_args(Unix))}, got {unix!r}")
        values = self._table(described, "values", f"{where}.")
        for each in values.values():
            self._check(each, row, f"{where}.values")
        if "assume" in described:
            self._check(described["assume"], row, f"{where}.assume")
        return Entry(
            pointer=self._pointer(described["from"], base, f"{where}.from") if "from" in described else None,
            scale=scale,
            values=values,
            assumes="assume" in described,
            assumed=described["assume"] if "assume" in described else None,
            unix=unix,
            zone=self._zone(described["zone"], f"{where}.zone") if "zone" in described else None,
        )

    def _check(self, value: Any, row: Type, where: str) -> None:
        """Refuse a constant that the field could never hold."""
        found: list[FieldProblem] = []
        try:
            row.check(value, "", found.append, wire=False)
        except RecursionError:
            raise self._error(where, "nested too deeply") from None
        if found:
            raise self._error(where, f"expected {found[0].expected}, got {found[0].actual}")

    def _zone(self, name: Any, where: str) -> tzinfo:
        if name == "UTC":
            return UTC
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, TypeError, AttributeError, OSError):
            raise self._error(where, f"{name!r} is no time zone; such as UTC, or Europe/Berlin") from None

    def _pointer(self, text: Any, base: Pointer, where: str) -> Pointer:
        if not isinstance(text, str):
            raise self._error(where, f"expected the name of a key, got {text!r}")
        if text.startswith("/"):
            return tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))
        return (*base, text) if text else ()

    def _drop(self, table: dict[str, Any], base: Pointer, where: str) -> frozenset[Pointer]:
        named = table["drop"] if "drop" in table else []
        if not isinstance(named, list):
            raise self._error(f"{where}drop", f"expected a list of keys, got {named!r}")
        return frozenset(self._pointer(each, base, f"{where}drop") for each in named)

    def _table(self, table: dict[str, Any], name: str, where: str) -> dict[str, Any]:
        value = table[name] if name in table else {}
        if not isinstance(value, dict):
            raise self._error(f"{where}{name}", f"expected a table, got {value!r}")
        return value

    def _known(self, table: dict[str, Any], known: Iterable[str], where: str) -> None:
        for name in table:
            if name not in known:
                raise self._error(f"{where}{_key(name)}", f"this means nothing here; {_listed(name, known)}")

    def _error(self, key: str, what: str) -> MapError:
        return MapError(f"{self._path}: {_cut(key)}: {_cut(what)}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else repr(name)


def _listed(name: str, known: Iterable[str]) -> str:
    """Say what there is, and what may have been meant."""
    close = difflib.get_close_matches(name, [*known], 1)
    return f"{f'did you mean {close[0]}? ' if close else ''}There are {', '.join(known)}"
