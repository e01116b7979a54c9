"""Logs of every schema version are read for ever."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from tests.builders import events_in
from tests.golden.contract import CONTRACT, CONTRACTS, golden

from esper.leyline import PPOUpdatePayload
from esper.leyline.testing import same
from esper.leyline.wire import SCHEMA_VERSION, decode_event, encode_event

V1 = golden(1)
NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


TYPES = {(name, field["name"]): field["type"] for name, of in CONTRACT.items() for field in of}


def by_hand(value: Any, typed: int) -> Any:
    """What the wire wrote, read by an independent copy of the format, which is kept only here."""
    if not typed and isinstance(value, dict) and len(value) == 1:
        ((key, inner),) = value.items()
        if key == "$float":
            return NAMES[inner]
        if key == "$dict":
            value = inner
    deeper = max(typed - 1, 0)
    if isinstance(value, dict):
        return {k: by_hand(v, deeper) for k, v in value.items()}
    return [by_hand(v, deeper) for v in value] if isinstance(value, list) else value


def by_type(value: Any, annotation: str) -> Any:
    """What the wire wrote for a field of this type; Any begins as many containers deep as stand before it."""
    before, holds_any, _ = annotation.partition("Any")
    if holds_any:
        return by_hand(value, before.count("["))
    return with_floats(value) if "float" in annotation else value


def with_floats(value: Any) -> Any:
    """The strings that stand for floats in typed fields."""
    if isinstance(value, dict):
        return {k: with_floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [with_floats(v) for v in value]
    return NAMES.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("version", CONTRACTS)
def test_every_line_of_a_golden_log_is_an_event_and_all_types_are_there(version: int) -> None:
    events = events_in(golden(version))
    assert {type(event.data).__name__ for event in events} == CONTRACTS[version].keys()
    assert len(events) == len(golden(version).read_text().splitlines())


@pytest.mark.parametrize("version", CONTRACTS)
def test_what_a_version_added_is_in_its_golden_log(version: int) -> None:
    supplied = {(type(e.data).__name__, name) for e in events_in(golden(version)) for name in e.data.to_dict()}
    assert _fields_of(version) - _fields_of(version - 1) <= supplied or version == 1


def _fields_of(version: int) -> set[tuple[str, str]]:
    return {(name, field["name"]) for name, of in CONTRACTS.get(version, {}).items() for field in of}


@pytest.mark.parametrize("version", CONTRACTS)
def test_events_hold_what_their_lines_say_and_what_they_do_not_say_was_not_supplied(version: int) -> None:
    for line in golden(version).read_text().splitlines():
        event = decode_event(line)
        for name, written in json.loads(line)["data"].items():
            value = event.data.to_dict()[name]
            read = by_type(written, TYPES[type(event.data).__name__, name])
            assert same(list(value) if isinstance(value, tuple) else value, read), name
        assert event.data.to_dict().keys() == json.loads(line)["data"].keys()


@pytest.mark.parametrize("version", CONTRACTS)
def test_events_of_every_version_are_written_byte_for_byte_as_they_were(version: int) -> None:
    """But for the number of the version: the bytes are part of the contract, too."""
    for line in golden(version).read_text().splitlines():
        was = line.replace(f'"schema_version":{version}', f'"schema_version":{SCHEMA_VERSION}', 1)
        assert encode_event(decode_event(line)) == was


def test_what_is_hard_to_carry_is_there() -> None:
    events = events_in(V1)
    full, bare = (e.data for e in events if isinstance(e.data, PPOUpdatePayload))
    assert isinstance(full, PPOUpdatePayload)
    assert (full.grad_norm, full.kl_divergence) == (math.inf, -math.inf)
    assert full.explained_variance is not None
    assert math.isnan(full.explained_variance)
    assert bare.supplied == frozenset()
    assert events[0].message == "ascii \x00 é \u2028 \uffff \U0001f331 \U0010ffff"
    assert events[0].timestamp.isoformat() == "2026-01-02T03:04:05.678901+00:00"
