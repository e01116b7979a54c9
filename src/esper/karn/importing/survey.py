"""What is in an old log, as a map to start from: kinds, fields, types, counts, and what they are likely to be."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import chain, islice
from math import inf
from typing import Any, Final
from unicodedata import category

from esper.karn.export.columns import envelope_types
from esper.karn.importing.convert import pointer_text, value_at
from esper.karn.importing.lines import NotJsonError, parsed
from esper.karn.importing.mapping import TARGETS, Pointer, rows_of
from esper.leyline._payload.types import Type
from esper.leyline.field_docs import meanings
from esper.leyline.payload import is_optional
from esper.leyline.printable import is_printable

__all__ = ["map_to_start_from"]

_LOOKED_AT: Final = 1_000
"""Records by which it is decided where kind and data stand."""
_MOST: Final = 1_000
"""Kinds, and keys of each, that are listed."""
_SURE: Final = 0.75
_PERHAPS: Final = 0.45
_LIKE_A_KIND: Final = 0.6
_WIDTH: Final = 44
_WORDS: Final = re.compile(r"[^a-z0-9]+")
_LEAST: Final = {"ns": 1e17, "us": 1e14, "ms": 1e11}
"""What a time since 1970 is above when it is counted so."""


@dataclass(slots=True)
class _Key:
    """What one key holds."""

    count: int = 0
    types: Counter[str] = field(default_factory=Counter)
    largest: int | float = 0
    """Of the finite numbers, without their signs."""
    sample: Any = None
    equals_record: bool = True
    """Whether the record has always had the same under the same key."""

    def add(self, value: Any, at_record: Any) -> None:
        self.count += value is not None
        self.types["null" if value is None else type(value).__name__] += 1
        if value is None:
            return
        self.sample = value if self.sample is None else self.sample
        self.equals_record = self.equals_record and value == at_record
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < inf:
            self.largest = max(self.largest, abs(value))

    def text(self, total: int) -> str:
        kinds = " or ".join(name for name, _ in self.types.most_common(3))
        return f"{kinds} in {self.count + self.types['null']:,} of {total:,}"

    def suits(self, row: Type) -> bool:
        """Whether the field could hold it, as far as one sample tells."""
        found: list[object] = []
        try:
            row.check(self.sample, "", found.append, wire=False)
        except RecursionError:
            return False
        return not found and self.sample is not None


@dataclass(slots=True)
class _Kind:
    count: int = 0
    keys: dict[str, _Key] = field(default_factory=dict)


def map_to_start_from(lines: Iterator[tuple[int, bytes]], source: str) -> str:
    """Read a log of dicts and return a map for it, in TOML, with what was found as its comments.

    Args:
        lines: the log.
        source: its name, for the comments.

    Raises:
        ValueError: there is no record in it; the message says what there is instead.
    """
    counts: Counter[str] = Counter()
    records = _records(lines, counts)
    first = list(islice(records, _LOOKED_AT))
    if not first:
        raise ValueError(f"{source} holds nothing to import: {_said(counts) or 'it is empty'}")
    kind, data = _kind_key(first), _data_key(first)
    survey = _Survey(kind, data)
    for record in chain(first, records):
        survey.add(record)
    return "\n".join(survey.lines(source, counts)) + "\n"


def _records(lines: Iterator[tuple[int, bytes]], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    for _, line in lines:
        try:
            record = parsed(line)
        except NotJsonError:
            counts["lines that are no JSON"] += 1
            continue
        if not isinstance(record, dict):
            counts["lines that are no objects"] += 1
        elif "schema_version" in record:
            counts["lines of esper's own, which need no map"] += 1
        else:
            counts["records"] += 1
            yield record


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def _kind_key(records: list[dict[str, Any]]) -> str:
    """Return the key whose texts are most like types of events."""
    values: dict[str, set[str]] = {}
    held: Counter[str] = Counter()
    for record in records:
        for name, value in record.items():
            if isinstance(value, str):
                held[name] += 1
                values.setdefault(name, set()).add(value)
    often = [name for name, count in held.items() if 2 * count >= len(records) and len(values[name]) <= _MOST]

    def score(name: str) -> float:
        some = sorted(values[name])[:20]
        return sum(_closest_kind(value)[1] for value in some) / len(some) + (name == "event_type")

    return max(often, key=score, default="event_type")


def _data_key(records: list[dict[str, Any]]) -> str:
    """Return the key under which most records hold an object; empty when the record's own keys are the data."""
    held = Counter(name for record in records for name, value in record.items() if isinstance(value, dict))
    name, count = held.most_common(1)[0] if held else ("", 0)
    return name if 2 * count >= len(records) else ""


class _Survey:
    def __init__(self, kind: str, data: str) -> None:
        self._kind = kind
        self._data: Pointer = (data,) if data else ()
        self._records = 0
        self._envelope: dict[str, _Key] = {}
        self._kinds: dict[str, _Kind] = {}
        self._more: Counter[str] = Counter()

    def add(self, record: dict[str, Any]) -> None:
        self._records += 1
        name = record[self._kind] if self._kind in record else None
        if not isinstance(name, str):
            self._more["records that do not say what they are about"] += 1
            return
        if name not in self._kinds and len(self._kinds) >= _MOST:
            self._more["records of still other kinds"] += 1
            return
        kind = self._kinds.setdefault(name, _Kind())
        kind.count += 1
        self._add_keys(self._envelope, record, {})
        data = value_at(record, self._data)
        if isinstance(data, dict):
            self._add_keys(kind.keys, data, record)

    def _add_keys(self, keys: dict[str, _Key], part: dict[str, Any], record: dict[str, Any]) -> None:
        for name, value in part.items():
            if name == self._kind or (name,) == self._data:
                continue
            if name not in keys and len(keys) >= _MOST:
                self._more["keys that are not listed"] += 1
                continue
            keys.setdefault(name, _Key()).add(value, record[name] if name in record else None)

    def lines(self, source: str, counts: Counter[str]) -> Iterator[str]:
        yield f"# A map to start from, made of what is in {_comment(source)}: {_said(counts)}."
        for what, count in self._more.items():
            yield f"# {count:,} {what}."
        yield "# What a line does not account for is set aside, not guessed. See docs/migrating.md."
        yield f"kind = {_reference(self._kind)}"
        yield f"data = {_reference(self._data[0]) if self._data else _toml('')}"
        yield from self._envelope_lines()
        for name, kind in sorted(self._kinds.items(), key=lambda item: -item[1].count):
            yield from self._kind_lines(name, kind)

    def _envelope_lines(self) -> Iterator[str]:
        keys, pairs = self._envelope, self._envelope_pairs()
        left = [name for name in keys if name not in {key for key, _ in pairs.values()}]
        if left and self._data:
            yield f"# drop = [{', '.join(map(_reference, left))}]  # no field of an event: uncomment to leave them out"
        yield ""
        yield "[envelope]"
        for name, (key, score) in pairs.items():
            about = keys[key].text(self._records)
            if name == "timestamp":
                yield _time_line(key, keys[key], about)
            else:
                yield _line(name, _reference(key), about, sure=score >= _SURE)
        if "timestamp" not in pairs:
            yield '# timestamp = "…"  # required: no key was like it'

    def _envelope_pairs(self) -> dict[str, tuple[str, float]]:
        """Return where the event's own fields come from; in a record that is its own data, only what is called so."""
        rows = envelope_types()
        pairs = _pairs(self._envelope, rows)
        if not self._data:
            pairs = {name: pair for name, pair in pairs.items() if name == pair[0]}
        if "timestamp" not in pairs:
            times = [key for key, seen in self._envelope.items() if _is_time(key, seen.sample)]
            pairs |= {"timestamp": (times[0], 1.0)} if times else {}
        return {name: pairs[name] for name in rows if name in pairs}

    def _kind_lines(self, name: str, kind: _Kind) -> Iterator[str]:
        target, found = self._target(name, kind)
        yield ""
        yield f"[kinds.{_bare(name)}]  # {kind.count:,} {'record' if kind.count == 1 else 'records'}"
        if not target:
            yield "skip = true  # nothing of esper's is like it"
            for key, seen in kind.keys.items():
                yield f"# {_comment(key)}: {seen.text(kind.count)}"
            return
        cls, pairs = TARGETS[target], found
        yield f"to = {_toml(target)}"
        used = {key for key, score in pairs.values() if score >= _SURE}
        used |= set() if self._data else {key for key, _ in self._envelope_pairs().values()}
        left = [key for key in kind.keys if key not in used]
        same = [key for key in left if self._data and kind.keys[key].equals_record]
        if same:
            yield f"drop = [{', '.join(map(self._of_data, same))}]  # the record says the same"
        if len(left) > len(same):
            names = ", ".join(map(self._of_data, left))
            yield f"# drop = [{names}]  # no field of {target}: one line, to leave them out"
        yield f"[kinds.{_bare(name)}.fields]"
        about = meanings(cls)
        required = {each for each in rows_of(cls) if not is_optional(cls.__dataclass_fields__[each])}
        for each, row in rows_of(cls).items():
            sure = each in pairs and pairs[each][1] >= _SURE
            if not sure and each in required and each in self._envelope:
                yield _line(each, _toml(f"/{each}"), self._envelope[each].text(self._records), sure=True)
                continue
            if each in pairs:
                key = pairs[each][0]
                seen = kind.keys[key]
                percent = about[each].unit == "fraction" and seen.largest > 1
                where = self._of_data(key)
                value = f"{{ from = {where}, scale = 0.01 }}" if percent else where
                yield _line(each, value, seen.text(kind.count), sure=sure)
            if each in required and not sure:
                yield f"# {each} = {{ assume = … }}  # required, {row.text}: only what you know may be assumed"

    def _of_data(self, key: str) -> str:
        return _reference(key, self._data)

    def _target(self, name: str, kind: _Kind) -> tuple[str, dict[str, tuple[str, float]]]:
        """Return the type of event that a kind is most like, and where its fields come from."""
        best, chosen, found = 0.0, "", dict[str, tuple[str, float]]()
        closest, likeness = _closest_kind(name)
        for target, cls in TARGETS.items():
            pairs = _pairs(kind.keys, rows_of(cls))
            required = [each for each in rows_of(cls) if not is_optional(cls.__dataclass_fields__[each])]
            there = sum((each in pairs and pairs[each][1] >= _SURE) or each in self._envelope for each in required)
            coverage = there / len(required)
            alike = likeness if target == closest else _similarity(_normal(name), target)
            is_like = alike >= _SURE or (alike >= _LIKE_A_KIND and coverage > 0) or coverage == 1.0
            if is_like and alike + coverage > best:
                best, chosen, found = alike + coverage, target, pairs
        return chosen, found


def _pairs(keys: dict[str, _Key], rows: Mapping[str, Type]) -> dict[str, tuple[str, float]]:
    """Match fields with keys whose names are alike and whose values suit, the closest first, each once."""
    scored = sorted(
        (
            (1.0 if name == key else _similarity(name, key), name, key)
            for name, row in rows.items()
            for key, seen in islice(keys.items(), 200)
            if name == key or seen.suits(row)
        ),
        key=lambda each: -each[0],
    )
    pairs: dict[str, tuple[str, float]] = {}
    taken: set[str] = set()
    for score, name, key in scored:
        if score >= _PERHAPS and name not in pairs and key not in taken and (score == 1.0 or key not in rows):
            pairs[name] = key, score
            taken.add(key)
    return pairs


@lru_cache(1 << 16)
def _similarity(one: str, other: str) -> float:
    """Return how alike two names are: by their letters, or because the words of one are among the other's."""
    words, others = set(_WORDS.split(one.lower())), set(_WORDS.split(other.lower()))
    shared = len(words & others) / min(len(words), len(others))
    return max(SequenceMatcher(None, one.lower(), other.lower()).ratio(), 0.9 * shared)


def _normal(kind: str) -> str:
    """Return a kind as types of events are written: ``EventType.ppoUpdate`` as ``PPO_UPDATE``."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", kind.rpartition(".")[2])
    return name.strip("_").upper()[:100]


def _closest_kind(kind: str) -> tuple[str, float]:
    return max(((target, _similarity(_normal(kind), target)) for target in TARGETS), key=lambda pair: pair[1])


def _time_line(key: str, seen: _Key, about: str) -> str:
    sample = seen.sample
    if isinstance(sample, int | float) and not isinstance(sample, bool):
        unix = next((each for each, least in _LEAST.items() if abs(sample) > least), "s")
        return _line("timestamp", f'{{ from = {_reference(key)}, unix = "{unix}" }}', about, sure=True)
    if _names_no_zone(sample):
        value = f'{{ from = {_reference(key)}, zone = "UTC" }}'
        return _line("timestamp", value, f"{about}, of no zone: uncomment if UTC it was", sure=False)
    return _line("timestamp", _reference(key), about, sure=True)


def _is_time(key: str, sample: Any) -> bool:
    """Whether a key holds a time by the look of it; a number does where its name says so."""
    if isinstance(sample, int | float) and not isinstance(sample, bool):
        return _similarity(key, "timestamp") >= _SURE or key.lower() in {"ts", "t", "time", "unix", "epoch_time"}
    if not isinstance(sample, str):
        return False
    try:
        datetime.fromisoformat(sample)
    except ValueError:
        return False
    return True


def _names_no_zone(text: Any) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() is None
    except (TypeError, ValueError):
        return False


def _line(name: str, value: str, about: str, *, sure: bool) -> str:
    text = f"{name} = {value}" if sure else f"# {name} = {value}"
    return f"{text:<{_WIDTH}}  # {about if sure else f'perhaps: {about}'}"


def _reference(key: str, base: Pointer = ()) -> str:
    """Return how a map refers to a key of the record, or of the data."""
    return _toml(key if key and not key.startswith("/") else pointer_text((*base, key)))


def _bare(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(text: str) -> str:
    """Return a text as a TOML string in which nothing acts on a terminal."""
    return '"' + "".join(c if is_printable(c) and c not in '"\\' else _escaped(c) for c in text) + '"'


def _escaped(char: str) -> str:
    code = ord(char)
    if category(char) == "Cs":  # half a character has no form in TOML
        return "\ufffd"
    return f"\\{char}" if char in '"\\' else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _comment(text: str) -> str:
    return "".join(c if is_printable(c) else "?" for c in text)
