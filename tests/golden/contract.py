"""Writes what is derived from the payloads and kept, after one of them was edited: ``make contract``.

Compares the dataclasses with the newest ``contract_v<n>.json``. A contract may only be widened: every log ever written
stays readable, and no call means anything else. Where it was, this raises SCHEMA_VERSION and adds the new version's
contract, its golden log and its line in the changelog; older files are never written again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from esper.leyline.field_docs import meanings
from esper.leyline.telemetry import EVENT_TYPES, SCHEMA_VERSION, TelemetryEvent, TelemetryPayload
from esper.leyline.wire import encode_event, read_events

__all__ = ["CONTRACT", "CONTRACTS", "WAITING", "Contract", "contract", "differences", "digest", "fields", "golden"]

Contract: TypeAlias = dict[str, list[dict[str, Any]]]
"""Of every payload class the fields, in order: name, type as it is written, default if there is one."""

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TELEMETRY = ROOT / "src/esper/leyline/telemetry.py"
CHANGELOG = ROOT / "CHANGELOG.md"
_WAITING = HERE / "waiting.json"

CONTRACTS: dict[int, Contract] = {
    version: json.loads(path.read_text())
    for version, path in sorted((int(path.stem.removeprefix("contract_v")), path) for path in HERE.glob("contract_v*"))
}
"""Of every schema version there was."""
CONTRACT = CONTRACTS[max(CONTRACTS)]
"""The newest one: what the payloads have to be."""
WAITING: dict[str, str] = json.loads(_WAITING.read_text())
"""Fields that no emitter supplies or no view shows yet, by ``Payload.field``, and why."""
EXAMPLES = 4
"""Events of a new or widened payload in the golden log of a new version."""


def golden(version: int) -> Path:
    """Return where the golden log of a version is."""
    return HERE / f"schema_version_{version}.jsonl"


def fields(cls: type[TelemetryPayload]) -> list[dict[str, Any]]:
    """Return what the contract says of one payload class."""
    return [
        {"name": f.name, "type": f.type} | ({} if f.default is dataclasses.MISSING else {"default": f.default})
        for f in dataclasses.fields(cls)
    ]


def contract() -> Contract:
    """Return what the dataclasses say now."""
    return {cls.__name__: fields(cls) for cls in EVENT_TYPES}


def digest(of: Contract) -> str:
    """Return a contract's digest, which the changelog names."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:12]


def differences(old: Contract, new: Contract) -> tuple[list[str], list[str]]:
    """Say what one contract has more than another, and what of it cannot be: sentences of both kinds."""
    widened = [f"{name} is new" for name in new if name not in old]
    refused = [f"{name} is gone: logs hold events of it" for name in old if name not in new]
    for name in old.keys() & new.keys():
        for before, after in zip_longest(old[name], new[name]):
            verdict, sentence = _difference(before, after)
            if sentence:
                (widened if verdict else refused).append(f"{name}.{(before or after)['name']} {sentence}")
    return widened, refused


def _difference(before: dict[str, Any] | None, after: dict[str, Any] | None) -> tuple[bool, str]:
    """Say how a field differs, and whether it may."""
    if after is None:
        return False, "is gone: logs hold values of it"
    if before is None:
        if "default" in after:
            return True, f"is new, {after['type']} = {after['default']!r}"
        return False, "is new and required: the logs there are lack it; give it a default"
    if before["name"] != after["name"]:
        return False, f"stands where {after['name']} stands now: calls by position break; new fields go to the end"
    if json.dumps(before) == json.dumps(after):  # as JSON: 0, 0.0 and False are equal in Python and differ there
        return True, ""
    if "default" in before and json.dumps(before["default"]) != json.dumps(after.get("default", ...), default=repr):
        return False, "has another default: logs that left it out would say something else"
    if after["type"] not in (before["type"], f"{before['type']} | None", before["type"].replace("int", "float")):
        return False, f"was {before['type']} and is {after['type']}: logs hold values that would be refused"
    return True, f"was {_shown(before)} and is {_shown(after)}"


def _shown(field: dict[str, Any]) -> str:
    return f"{field['type']} = {field['default']!r}" if "default" in field else f"{field['type']}, required"


def _names(of: Contract, payload: str) -> list[str]:
    return [field["name"] for field in of.get(payload, [])]


def _undocumented() -> Iterator[str]:
    for cls in EVENT_TYPES:
        for field in dataclasses.fields(cls):
            if field.name not in meanings(cls):
                yield f"{cls.__name__}.{field.name} has no docstring below it that says what it means"


def _new_payloads(old: Contract, new: Contract) -> Iterator[TelemetryPayload]:
    """Draw payloads that the old contract could not hold, the same ones each time."""
    from esper.leyline.testing import payloads

    for cls in (cls for cls in EVENT_TYPES if new[cls.__name__] != old.get(cls.__name__)):
        added = set(_names(new, cls.__name__)) - set(_names(old, cls.__name__))
        drawn = _drawn(payloads(cls).filter(partial(_supplies, added)))
        most = sorted(drawn, key=lambda data: len(repr(data)))[-EXAMPLES:]
        yield from {repr(data): data for data in most}.values()


def _supplies(added: set[str], data: TelemetryPayload) -> bool:
    return not added or bool(added & data.to_dict().keys())


def _drawn(strategy: Any) -> list[Any]:
    from hypothesis import HealthCheck, Phase, given, seed, settings

    drawn: list[Any] = []

    @seed(0)
    @settings(max_examples=50, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
    @given(strategy)
    def draw(value: Any) -> None:
        drawn.append(value)

    draw()
    return drawn


def _golden_events(old: Contract, new: Contract) -> Iterator[TelemetryEvent]:
    """Return the events of the newest golden log, and new ones behind them."""
    kept = [event for event in read_events(golden(SCHEMA_VERSION)) if isinstance(event, TelemetryEvent)]
    yield from kept
    for index, payload in enumerate(_new_payloads(old, new), len(kept)):
        event_id = f"00000000-0000-8000-8000-{index:012x}"
        yield TelemetryEvent(event_id=event_id, timestamp=kept[-1].timestamp, data=payload)


def _write(version: int, new: Contract, widened: list[str]) -> None:
    """Raise the schema version, and add what every version has."""
    old = CONTRACTS[SCHEMA_VERSION]
    lines = [encode_event(event) for event in _golden_events(old, new)]
    # this process still writes the old number; nothing else in a line depends on it
    now = [line.replace(f'"schema_version":{SCHEMA_VERSION}', f'"schema_version":{version}', 1) for line in lines]
    golden(version).write_text("".join(f"{line}\n" for line in now))
    (HERE / f"contract_v{version}.json").write_text(json.dumps(new, indent=1) + "\n")
    reason = f"came with schema version {version}; no emitter supplies it yet"
    added = {f"{name}.{field}": reason for name in new for field in _names(new, name) if field not in _names(old, name)}
    _WAITING.write_text(json.dumps(WAITING | added, indent=1) + "\n")
    before, heading, below = re.split(r"^(## .*\n\n)", CHANGELOG.read_text(), maxsplit=1, flags=re.MULTILINE)
    line = f"`schema_version` {version} (contract {digest(new)}): {'; '.join(widened)}."
    CHANGELOG.write_text(f"{before}{heading}{line}\n\n{below}")
    number = f"\nSCHEMA_VERSION = {SCHEMA_VERSION}\n"
    TELEMETRY.write_text(TELEMETRY.read_text().replace(number, f"\nSCHEMA_VERSION = {version}\n"))


def main() -> int:
    """Write what the present dataclasses imply, or say why they cannot be; return the exit status."""
    new = contract()
    widened, refused = differences(CONTRACT, new)
    refused += _undocumented()
    if refused:
        sys.stderr.write("".join(f"{problem}\n" for problem in refused) + "Nothing was written.\n")
        return 1
    if not widened:
        sys.stdout.write(f"The payloads are what schema version {SCHEMA_VERSION} says. Nothing was written.\n")
        return 0
    version = SCHEMA_VERSION + 1
    _write(version, new, widened)
    sys.stdout.write(
        "".join(f"{sentence}\n" for sentence in widened)
        + f"This is schema version {version}. It reads every older log. An esper that knows versions up to "
        f"{SCHEMA_VERSION}\ncan no longer read what this one writes: it refuses each line by its number, and says so.\n"
        f"{_WAITING.relative_to(ROOT)} lists new fields until an emitter supplies them and a view shows them.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
