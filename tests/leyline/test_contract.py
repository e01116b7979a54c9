"""The payloads are the specification's, and do not change unnoticed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from tests.golden.contract import CONTRACT, CONTRACTS, digest, fields, golden

from esper.leyline import TelemetryEvent, TelemetryEventType, TelemetryPayload
from esper.leyline.telemetry import EVENT_TYPES
from esper.leyline.wire import SCHEMA_VERSION

ROOT = Path(__file__).parents[2]


def test_the_first_contract_is_the_specification_s_eleven_payloads_with_149_fields() -> None:
    assert digest(CONTRACTS[1]) == "03d590add5f1"
    assert len(CONTRACTS[1]) == 11
    assert sum(map(len, CONTRACTS[1].values())) == 149


def test_the_payloads_are_the_newest_contract_s() -> None:
    assert [c.__name__ for c in get_args(TelemetryPayload)] == [*CONTRACT]


def test_names_order_types_and_defaults_are_the_contracts(cls: type[TelemetryPayload]) -> None:
    have, wanted = fields(cls), CONTRACT[cls.__name__]
    # As JSON: 0, 0.0 and False are equal in Python and differ there.
    assert json.dumps(have) == json.dumps(wanted)


def test_annotations_mean_what_they_say(cls: type[TelemetryPayload]) -> None:
    hints = get_type_hints(cls)
    for field in CONTRACT[cls.__name__]:
        assert hints[field["name"]] == eval(field["type"], {"Any": Any})


def test_payloads_are_frozen_slotted_and_final(cls: Any, full: TelemetryPayload) -> None:
    assert cls.__dataclass_params__.frozen
    assert not hasattr(full, "__dict__")
    assert cls.__final__
    with pytest.raises(TypeError, match="final"):
        type("Sub", (cls,), {})


def test_every_schema_version_keeps_its_contract_its_golden_log_and_its_line_in_the_changelog() -> None:
    """`make contract` writes them for the next version; those that are there never change."""
    assert [*CONTRACTS] == [*range(1, SCHEMA_VERSION + 1)]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    for version, of in CONTRACTS.items():
        assert f"`schema_version` {version} (contract {digest(of)})" in changelog
        assert golden(version).exists()


def test_every_event_type_belongs_to_one_payload() -> None:
    assert set(EVENT_TYPES) == set(get_args(TelemetryPayload))
    assert sorted(t.name for t in EVENT_TYPES.values()) == sorted(t.name for t in TelemetryEventType)


def test_the_event_has_the_specified_fields_first_to_last() -> None:
    names = [f.name for f in dataclasses.fields(TelemetryEvent)]
    assert names == [
        "event_id", "event_type", "timestamp", "seed_id", "slot_id", "epoch", "group_id", "data", "message", "severity",
    ]  # fmt: skip
