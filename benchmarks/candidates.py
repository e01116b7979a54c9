"""What an event is built of in the benchmarks, and what else people build it as and encode it with.

The mix is that of a real run: a short one is recorded, and its events' arguments are kept. Every candidate builds its
own events of fresh copies of them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, get_type_hints

from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent, TelemetryPayload
from esper.leyline.wire import encode_event, read_events

__all__ = ["CANDIDATES", "MIX", "Arguments", "Build", "Encode", "build_dict", "build_esper", "mix", "record"]

MIX = Path(__file__).parents[1] / "build" / "end_to_end.jsonl"
ENVELOPE = {
    "seed_id": None, "slot_id": None, "epoch": None, "group_id": "default", "message": "", "severity": "info",
}  # fmt: skip


class Arguments(NamedTuple):
    """What an emitter has in hand."""

    cls: type[TelemetryPayload]
    event_type: str
    fields: dict[str, Any]
    envelope: dict[str, Any]


Build: TypeAlias = Callable[[Arguments], Any]
Encode: TypeAlias = Callable[[Any], str | bytes]


def record() -> None:
    """Write the log of a short run, once."""
    from esper.simic.config import TrainingConfig
    from esper.simic.training.vectorized import train_arms

    events: list[TelemetryEvent] = []
    train_arms(TrainingConfig(episodes=8, envs=4, max_epochs=24, seed=2), events.append)
    MIX.parent.mkdir(exist_ok=True)
    MIX.write_text("".join(f"{encode_event(event)}\n" for event in events))


def mix(every: int) -> list[Arguments]:
    """Return the arguments of every so many events of the run, and of all whose type is rare."""
    events = [event for event in read_events(MIX) if isinstance(event, TelemetryEvent)]
    rare = {kind for kind in EVENT_TYPES.values() if sum(e.event_type is kind for e in events) < 10 * every}
    return [
        Arguments(
            type(event.data),
            event.event_type.name,
            event.data.to_dict(),
            {name: value for name in ENVELOPE if (value := getattr(event, name)) != ENVELOPE[name]},
        )
        for index, event in enumerate(events)
        if index % every == 0 or event.event_type in rare
    ]


# ---- the candidates: how an event is built, and how it becomes a line


def build_esper(of: Arguments) -> TelemetryEvent:
    """As our emitters do."""
    return TelemetryEvent(data=of.cls(**of.fields), **of.envelope)


def build_dict(of: Arguments) -> dict[str, Any]:
    """As one does without a contract."""
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": of.event_type,
        "timestamp": datetime.now(UTC).isoformat(),
        **ENVELOPE,
        **of.envelope,
        "data": of.fields,
    }


def orjson_candidate() -> tuple[Build, Encode]:
    """A dict, and the fastest encoder there is; it writes NaN as null."""
    import orjson

    return build_dict, orjson.dumps


def msgspec_candidate() -> tuple[Build, Encode]:
    """Structs with the payloads' fields; they freeze and check nothing."""
    import msgspec

    structs = {
        cls: msgspec.defstruct(cls.__name__, [(n, h, None) for n, h in _fields(cls)], kw_only=True, omit_defaults=True)
        for cls in EVENT_TYPES
    }
    envelope = msgspec.defstruct("Event", [*((name, Any) for name in (*_HEAD, *ENVELOPE, "data"))], kw_only=True)
    return (
        lambda of: envelope(**_head(of), **{**ENVELOPE, **of.envelope}, data=structs[of.cls](**of.fields)),
        msgspec.json.Encoder().encode,
    )


def pydantic_candidate() -> tuple[Build, Encode]:
    """Models with the payloads' fields, which check and copy."""
    import pydantic

    models: dict[type, Any] = {
        cls: pydantic.create_model(cls.__name__, **{n: (h, None) for n, h in _fields(cls)})  # type: ignore[call-overload]
        for cls in EVENT_TYPES
    }
    event: Any = pydantic.create_model("Event", **dict.fromkeys((*_HEAD, *ENVELOPE, "data"), (Any, None)))  # type: ignore[call-overload]
    return (
        lambda of: event(**_head(of), **of.envelope, data=models[of.cls](**of.fields)),
        lambda made: made.model_dump_json(exclude_unset=True, serialize_as_any=True),
    )


_HEAD = ("event_id", "event_type", "timestamp")


def _head(of: Arguments) -> dict[str, Any]:
    return {"event_id": str(uuid.uuid4()), "event_type": of.event_type, "timestamp": datetime.now(UTC)}


def _fields(cls: type[TelemetryPayload]) -> list[tuple[str, Any]]:
    hints = get_type_hints(cls)
    return [(name, hints[name] | None) for name in cls.__match_args__]


CANDIDATES: dict[str, Callable[[], tuple[Build, Encode]]] = {
    "esper": lambda: (build_esper, encode_event),
    "dict, json.dumps": lambda: (build_dict, json.dumps),
    "dict, orjson": orjson_candidate,
    "msgspec.Struct, msgspec.json": msgspec_candidate,
    "pydantic": pydantic_candidate,
}
