"""Logs of every schema version are read for ever."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from esper.leyline import PPOUpdatePayload, TelemetryEvent, TelemetryEventType
from esper.leyline.testing import same
from esper.leyline.wire import decode_event, encode_event, read_events

LOGS = sorted(Path(__file__).parent.glob("schema_version_*.jsonl"))
V1 = Path(__file__).parent / "schema_version_1.jsonl"
NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


TYPED_LEVELS = {"seeds": 2, "slot_states": 2, "configs": 2, "alternatives": 2}
"""Fields that hold Any, and how many containers deep it begins."""


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


def with_floats(value: Any) -> Any:
    """The strings that stand for floats in typed fields; no text in the golden logs is one of them."""
    if isinstance(value, dict):
        return {k: with_floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [with_floats(v) for v in value]
    return NAMES.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_every_line_of_a_golden_log_is_an_event_and_all_types_are_there(log: Path) -> None:
    events = list(read_events(log))
    assert {e.event_type for e in events if isinstance(e, TelemetryEvent)} == set(TelemetryEventType)
    assert len(events) == len(log.read_text().splitlines())


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_events_hold_what_their_lines_say_and_what_they_do_not_say_was_not_supplied(log: Path) -> None:
    for line in log.read_text().splitlines():
        event = decode_event(line)
        for name, written in json.loads(line)["data"].items():
            value = event.data.to_dict()[name]
            read = by_hand(written, TYPED_LEVELS[name]) if name in TYPED_LEVELS else with_floats(written)
            assert same(list(value) if isinstance(value, tuple) else value, read), name
        assert event.data.to_dict().keys() == json.loads(line)["data"].keys()


def test_this_version_writes_version_1_byte_for_byte() -> None:
    """As long as SCHEMA_VERSION is 1: the bytes are part of the contract, too."""
    for line in V1.read_text().splitlines():
        assert encode_event(decode_event(line)) == line


def test_what_is_hard_to_carry_is_there() -> None:
    events = [e for e in read_events(V1) if isinstance(e, TelemetryEvent)]
    full, bare = (e.data for e in events if isinstance(e.data, PPOUpdatePayload))
    assert isinstance(full, PPOUpdatePayload)
    assert (full.grad_norm, full.kl_divergence) == (math.inf, -math.inf)
    assert full.explained_variance is not None
    assert math.isnan(full.explained_variance)
    assert bare.supplied == frozenset()
    assert events[0].message == "ascii \x00 é \u2028 \uffff \U0001f331 \U0010ffff"
    assert events[0].timestamp.isoformat() == "2026-01-02T03:04:05.678901+00:00"
