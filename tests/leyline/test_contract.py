"""The payloads are the specification's, and do not change unnoticed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from esper.leyline import TelemetryEvent, TelemetryEventType, TelemetryPayload
from esper.leyline.telemetry import EVENT_TYPES
from esper.leyline.wire import SCHEMA_VERSION

HERE = Path(__file__).parent
CONTRACT: dict[str, list[dict[str, Any]]] = json.loads((HERE / f"contract_v{SCHEMA_VERSION}.json").read_text())


def contract_of(cls: type[TelemetryPayload]) -> list[dict[str, Any]]:
    return [
        {"name": f.name, "type": f.type} | ({} if f.default is dataclasses.MISSING else {"default": f.default})
        for f in dataclasses.fields(cls)
    ]


def digest_of(contract: dict[str, list[dict[str, Any]]]) -> str:
    return hashlib.sha256(json.dumps(contract, sort_keys=True).encode()).hexdigest()[:12]


def test_there_are_eleven_payloads_with_149_fields() -> None:
    assert {c.__name__ for c in get_args(TelemetryPayload)} == set(CONTRACT)
    assert len(CONTRACT) == 11
    assert sum(map(len, CONTRACT.values())) == 149


def test_names_order_types_and_defaults_are_the_contracts(cls: type[TelemetryPayload]) -> None:
    have, wanted = contract_of(cls), CONTRACT[cls.__name__]
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


def test_a_changed_contract_needs_a_new_schema_version_and_a_changelog_line() -> None:
    """Whoever changes a field adds ``contract_v<n>.json``, raises SCHEMA_VERSION and writes the line asked for here."""
    contract = {cls.__name__: contract_of(cls) for cls in get_args(TelemetryPayload)}
    changelog = (HERE.parent.parent / "CHANGELOG.md").read_text()
    assert f"`schema_version` {SCHEMA_VERSION} (contract {digest_of(contract)})" in changelog


DIGESTS = {1: "03d590add5f1"}
"""Of every contract there was. A new version adds a line; no line is ever changed."""


def test_every_schema_version_keeps_its_contract_and_its_golden_log() -> None:
    assert [*DIGESTS] == [*range(1, SCHEMA_VERSION + 1)]
    for version, digest in DIGESTS.items():
        contract = json.loads((HERE / f"contract_v{version}.json").read_text())
        assert digest_of(contract) == digest
        assert (HERE.parent / "golden" / f"schema_version_{version}.jsonl").exists()


def test_every_event_type_belongs_to_one_payload() -> None:
    assert set(EVENT_TYPES) == set(get_args(TelemetryPayload))
    assert sorted(t.name for t in EVENT_TYPES.values()) == sorted(t.name for t in TelemetryEventType)


def test_the_event_has_the_specified_fields_first_to_last() -> None:
    names = [f.name for f in dataclasses.fields(TelemetryEvent)]
    assert names == [
        "event_id", "event_type", "timestamp", "seed_id", "slot_id", "epoch", "group_id", "data", "message", "severity",
    ]  # fmt: skip
