"""What the contract costs, against the alternatives on the same fields, in the same process.

Run: python benchmarks/contract.py

Ratios say how many times as fast as the alternative we are. Every alternative works on the plain frozen, slotted
dataclass of the standard library with the same fields; msgspec's Struct is its own class.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import textwrap
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

import cattrs
import dacite
import msgspec
import pydantic
from mashumaro.codecs import BasicDecoder

from esper.leyline import telemetry
from esper.leyline._payload.frozen import freeze
from esper.leyline._payload.table import types_of
from esper.leyline._payload.types import Type
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent, TelemetryPayload
from esper.leyline.wire import decode_event, encode_event
from harness import machine, medians, microseconds, ratio, table

SINGLE = {"int": 24, "float": 0.8125, "str": "r0c1", "bool": False}
SLOTS = ("r0c0", "r1c0", "r2c0")
CONTAINERS: dict[str, Any] = {
    "entropy_anneal": {"start": 0.05, "end": 0.01, "episodes": 160.0},
    "layer_gradient_health": {f"layers.{i}.weight": 0.01 * i for i in range(6)},
    "seeds": {s: {"stage": "TRAINING", "blueprint_id": "mlp", "alpha": 0.5, "epochs_in_stage": 3} for s in SLOTS},
    "slot_states": {s: {"stage": "TRAINING", "blueprint_id": "mlp", "alpha": 0.5, "epochs_in_stage": 3} for s in SLOTS},
    "alternatives": [{"action": "WAIT", "slot": s, "probability": 0.2} for s in SLOTS],
    "configs": tuple({"seed_mask": [bool(i & 1), bool(i & 2), bool(i & 4)], "accuracy": 0.5} for i in range(8)),
    "action_counts": {"WAIT": 60, "GERMINATE": 12, "ADVANCE": 12, "FOSSILIZE": 6, "PRUNE": 6},
    "env_accuracies": (0.5, 0.6, 0.7, 0.8),
    "env_devices": ("cpu", "cpu", "cpu", "cpu"),
}
"""Containers of the size that a run with four environments and three slots emits."""


def example(name: str, row: Type) -> Any:
    """Return a realistic value for a field."""
    kind = row.text.partition(" ")[0].partition("[")[0]
    if kind in SINGLE:
        return SINGLE[kind]
    if name in CONTAINERS:
        return CONTAINERS[name]
    return SLOTS if kind == "tuple" else dict.fromkeys(("all", *SLOTS), 0.75)  # the heads' numbers


class Subject:
    """One payload class, its twins of other makes, and what to fill them with."""

    def __init__(self, cls: type[TelemetryPayload], *, full: bool) -> None:
        self.cls = cls
        self.given = "all fields" if full else "required"
        self.fields = dataclasses.fields(cls)
        self.types = types_of(cls)
        self.values = {
            f.name: example(f.name, self.types[f.name]) for f in self.fields if full or f.default is dataclasses.MISSING
        }
        hints = get_type_hints(cls)
        self.plain: Any = dataclasses.make_dataclass(
            cls.__name__,
            [(f.name, hints[f.name], dataclasses.field(default=f.default)) for f in self.fields],
            frozen=True,
            slots=True,
        )
        self.unfrozen: Any = dataclasses.make_dataclass(
            cls.__name__,
            [(f.name, hints[f.name], dataclasses.field(default=f.default)) for f in self.fields],
            slots=True,
        )
        self.struct: Any = msgspec.defstruct(
            cls.__name__,
            [
                (f.name, hints[f.name]) if f.default is dataclasses.MISSING else (f.name, hints[f.name], f.default)
                for f in self.fields
            ],
            frozen=True,
        )

    @property
    def name(self) -> str:
        return self.cls.__name__.removesuffix("Payload")

    def mapping(self) -> dict[str, Any]:
        """Return what JSON would hold: lists for tuples."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.values.items()}

    def construct(self, cls: type[Any], *, containers: bool = True) -> Callable[[], object]:
        """Return a call as an emitter writes it: every argument by keyword, nothing unpacked."""
        values = {
            name: value if containers or not isinstance(value, dict | list | tuple) else None
            for name, value in self.values.items()
        }
        arguments = ", ".join(f"{name}={name}" for name in values)
        return compiled(f"def call(): return cls({arguments})", cls=cls, **values)

    def unchecked(self, *, freezes: bool = False) -> Callable[[dict[str, Any]], object]:
        """Return the from_dict that one writes by hand, without any check, perhaps with private frozen containers."""
        arguments = []
        for f in self.fields:
            get = f"d[{f.name!r}]" if f.default is dataclasses.MISSING else f"d.get({f.name!r}, {f.default!r})"
            if self.types[f.name].text.startswith("tuple"):
                get = f"(tuple(v) if (v := {get}) is not None else None)"
            if freezes and self.types[f.name].is_nested:
                get = f"freeze({get})"
            arguments.append(f"{f.name}={get}")
        return compiled(f"def call(d): return cls({', '.join(arguments)})", cls=self.plain, freeze=freeze)


def compiled(source: str, **names: Any) -> Any:
    """Return the function ``call`` that the source defines, its names as fast as constants."""
    outer = f"def make({', '.join(names)}):\n{textwrap.indent(source, ' ')}\n return call"
    namespace: dict[str, Any] = {}
    exec(outer, namespace)
    return namespace["make"](**names)


SUBJECTS = [Subject(cls, full=full) for cls in get_args(TelemetryPayload) for full in (True, False)]


def construction() -> str:
    """Compare constructors. Ours remembers what was supplied, and makes its own copy of every container."""
    rows, against_plain = [], []
    for subject in SUBJECTS:
        took = medians(
            {
                "ours": subject.construct(subject.cls),
                "plain": subject.construct(subject.plain),
                "struct": subject.construct(subject.struct),
                "unfrozen": subject.construct(subject.unfrozen),
                "ours, no containers": subject.construct(subject.cls, containers=False),
                "plain, no containers": subject.construct(subject.plain, containers=False),
            }
        )
        against_plain.append(took["plain"] / took["ours"])
        has_containers = any(isinstance(value, dict | list | tuple) for value in subject.values.values())
        rows.append(
            [
                subject.name,
                subject.given,
                microseconds(took["ours"]),
                ratio(took["ours"], took["plain"]),
                f"{took['ours'] / took['struct']:.1f}x",
                f"{took['unfrozen'] / took['struct']:.1f}x",
                microseconds(took["ours"] - took["ours, no containers"]) if has_containers else "",
                ratio(took["ours, no containers"], took["plain, no containers"]) if has_containers else "",
            ]
        )
    header = [
        "payload",
        "given",
        "µs",
        "speed, plain = 1",
        "time, msgspec = 1",
        "unfrozen, msgspec = 1",
        "copies, µs",
        "speed without containers",
    ]
    return (
        f"{table(header, rows)}\n\nMedian against plain: {statistics.median(against_plain):.2f}x. "
        "*unfrozen* is a mutable slotted dataclass, the least that a constructor written in Python costs."
    )


def from_dict() -> str:
    """Compare checked conversions of a mapping."""
    converter, casts = cattrs.Converter(), dacite.Config(cast=[tuple])
    rows: list[list[str]] = []
    ratios: dict[str, list[float]] = {}
    for subject in SUBJECTS:
        mapping, plain = subject.mapping(), subject.plain
        adapter, decoder = pydantic.TypeAdapter(plain), BasicDecoder(plain)
        unchecked, frozen = subject.unchecked(), subject.unchecked(freezes=True)
        structure = converter.get_structure_hook(plain)
        candidates: dict[str, Callable[[], object]] = {
            "ours": lambda m=mapping, f=subject.cls.from_dict: f(m),
            "msgspec.convert": lambda m=mapping, p=plain: msgspec.convert(m, p),
            "pydantic": lambda m=mapping, f=adapter.validate_python: f(m),
            "cattrs": lambda m=mapping, f=structure, p=plain: f(m, p),
            "mashumaro": lambda m=mapping, f=decoder.decode: f(m),
            "dacite": lambda m=mapping, p=plain: dacite.from_dict(p, m, casts),
            "by hand, unchecked": lambda m=mapping, f=unchecked: f(m),
            "… and frozen": lambda m=mapping, f=frozen: f(m),
        }
        took = medians(candidates)
        ours = took.pop("ours")
        for name, seconds in took.items():
            ratios.setdefault(name, []).append(seconds / ours)
        rows.append([subject.name, subject.given, microseconds(ours), *(ratio(ours, other) for other in took.values())])
    rows.append(["**median**", "", "", *(f"{statistics.median(values):.2f}x" for values in ratios.values())])
    return (
        f"{table(['payload', 'given', 'µs', *ratios], rows)}\n\nOnly ours and the last column copy nested containers "
        "and make them immutable; the others hand out what they were given."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class PlainEvent:
    """The event as a plain dataclass, with what JSON cannot hold already made text."""

    schema_version: int
    event_id: str
    event_type: str
    timestamp: str
    seed_id: str | None
    slot_id: str | None
    epoch: int | None
    group_id: str
    data: Any
    message: str
    severity: str


def lines() -> str:
    """Compare writing and reading a line."""
    rows = []
    for subject in SUBJECTS:
        event = TelemetryEvent(data=subject.cls(**subject.values), slot_id="r0c1", epoch=3)
        fields = event.to_dict() | {"data": subject.plain(**subject.values)}
        plain, line = PlainEvent(schema_version=1, **fields), encode_event(event)
        unchecked, frozen = subject.unchecked(), subject.unchecked(freezes=True)
        took = medians(
            {
                "encode": lambda e=event: encode_event(e),
                "dumps": lambda p=plain: json.dumps(dataclasses.asdict(p)),
                "decode": lambda text=line: decode_event(text),
                "loads": lambda text=line, f=unchecked: by_hand(json.loads(text), f),
                "frozen": lambda text=line, f=frozen: by_hand(json.loads(text), f),
            }
        )
        rows.append(
            [
                subject.name,
                subject.given,
                microseconds(took["encode"]),
                ratio(took["encode"], took["dumps"]),
                microseconds(took["decode"]),
                ratio(took["decode"], took["loads"]),
                ratio(took["decode"], took["frozen"]),
            ]
        )
    header = ["payload", "given", "encode, µs", "json.dumps(asdict) = 1", "decode, µs", "json.loads + by hand = 1"]
    return table([*header, "… and frozen = 1"], rows)


def by_hand(record: dict[str, Any], payload: Callable[[dict[str, Any]], Any]) -> PlainEvent:
    """Build the event without any check, as one writes it by hand."""
    return PlainEvent(
        schema_version=record["schema_version"],
        event_id=record["event_id"],
        event_type=telemetry.TelemetryEventType[record["event_type"]],  # type: ignore[arg-type]  # as an event has it
        timestamp=datetime.fromisoformat(record["timestamp"]),  # type: ignore[arg-type]
        seed_id=record.get("seed_id"),
        slot_id=record.get("slot_id"),
        epoch=record.get("epoch"),
        group_id=record.get("group_id", "default"),
        data=payload(record["data"]),
        message=record.get("message", ""),
        severity=record.get("severity", "info"),
    )


def imports() -> str:
    """Compare importing the contract with importing typing-extensions and eleven plain dataclasses."""
    source = ["from __future__ import annotations", "import typing_extensions", "from typing import Any"]
    source += ["from dataclasses import dataclass"]
    for cls in EVENT_TYPES:
        source += ["@dataclass(slots=True, frozen=True)", f"class {cls.__name__}:"]
        for f in dataclasses.fields(cls):
            default = "" if f.default is dataclasses.MISSING else f" = {f.default!r}"
            source.append(f" {f.name}: {f.type}{default}")
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "plain_contract.py").write_text("\n".join(source) + "\n")
        took: dict[str, list[float]] = {"esper.leyline.telemetry": [], "plain_contract": []}
        for _ in range(15):
            for module, seconds in took.items():
                seconds.append(_import_seconds(module, directory))
    ours, plain = (statistics.median(seconds[1:]) for seconds in took.values())
    return table(
        ["import", "ms", "ratio"],
        [
            ["esper.leyline.telemetry", f"{ours * 1e3:.1f}", f"{ours / plain:.2f}"],
            ["typing-extensions and eleven plain dataclasses", f"{plain * 1e3:.1f}", "1"],
        ],
    )


def _import_seconds(module: str, directory: str) -> float:
    program = (
        f"import sys, time; sys.path.append({directory!r}); start = time.process_time(); import {module}; "
        "print(time.process_time() - start)"
    )
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def events() -> str:
    """Compare building an event, id and timestamp included, with the usual id alone."""
    data = SUBJECTS[2].cls(**SUBJECTS[2].values)
    took = medians(
        {
            "TelemetryEvent(data=…)": lambda: TelemetryEvent(data=data),
            "TelemetryEvent(data=…, slot_id=…, epoch=…, message=…)": lambda: TelemetryEvent(
                data=data, slot_id="r0c1", epoch=3, message="m"
            ),
            "str(uuid4())": lambda: str(uuid.uuid4()),
            "datetime.now(UTC)": lambda: datetime.now(UTC),
        }
    )
    return table(["call", "µs"], [[name, microseconds(seconds)] for name, seconds in took.items()])


def main() -> None:
    """Print every table."""
    print(f"{machine('msgspec', 'pydantic', 'cattrs', 'mashumaro', 'dacite')}\n")
    sections = {
        "Construction": construction,
        "from_dict, checked": from_dict,
        "A line of the log": lines,
        "Import": imports,
        "Event": events,
    }
    for title, section in sections.items():
        print(f"## {title}\n\n{section()}\n", flush=True)


if __name__ == "__main__":
    main()
