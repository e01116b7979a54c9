"""What an event costs from the values that were measured to the line on disk, beside what people would otherwise write.

Run: python benchmarks/end_to_end.py

The mix is that of a real run: a short one is recorded, and its events' arguments are kept. Every candidate builds its
own events of fresh copies of them. Processor time is that of all threads of a process of its own, candidates taking
turns; instructions are counted by valgrind where it is installed, and do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import logging
import logging.handlers
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, get_type_hints

import harness
from esper.karn.aggregator import TelemetryAggregator
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent, TelemetryPayload
from esper.leyline.wire import decode_event, encode_event, read_events
from esper.nissa.output import Durable, FunctionSink, Sink, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink
from harness import machine, table

MIX = Path(__file__).parents[1] / "build" / "end_to_end.jsonl"
ROUNDS = 7
LOOP = 110e-6
"""Seconds that a loop computes between two events."""
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


READERS: dict[str, Callable[[str], object]] = {"decode_event": decode_event, "json.loads": json.loads}
COMMITTED = {"esper": 129, "dict, json.dumps": 136, "decode_event": 96, "json.loads": 62}
"""Thousands of instructions to build and encode, or to read, an event of every fifth of the mix, by CPython 3.11.7.
They do not depend on what else a machine does, so that what a change costs can be told on any day."""


# ---- to disk: what takes events from the thread that trains and writes them


@contextmanager
def esper_log(path: Path, *, fold: bool = False) -> Iterator[Callable[[Arguments], object]]:
    """The hub and its log, and the aggregator if asked for."""
    sinks: list[Sink] = [JsonlSink(path)]
    if fold:
        sinks.append(FunctionSink("aggregator", TelemetryAggregator().process, Durable()))
    with TelemetryHub(sinks) as hub:
        yield lambda of: hub.emit(build_esper(of))


@contextmanager
def queued(path: Path, name: str) -> Iterator[Callable[[Arguments], object]]:
    """A queue, and a thread that encodes what comes and writes it, in batches where several wait."""
    build, encode = CANDIDATES[name]()
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def write() -> None:
        with path.open("wb") as file:
            while (event := waiting.get()) is not None:
                line = encode(event)
                file.write((line.encode() if isinstance(line, str) else line) + b"\n")

    thread = threading.Thread(target=write)
    thread.start()
    yield lambda of: waiting.put(build(of))
    waiting.put(None)
    thread.join()


@contextmanager
def logging_queue(path: Path) -> Iterator[Callable[[Arguments], object]]:
    """The standard library's QueueHandler before a FileHandler."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(waiting, logging.FileHandler(path))
    logger = logging.getLogger("events")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.handlers.QueueHandler(waiting))  # type: ignore[arg-type]  # a SimpleQueue will do
    listener.start()
    yield lambda of: logger.info(json.dumps(build_dict(of)))
    listener.stop()


@contextmanager
def structlog_file(path: Path) -> Iterator[Callable[[Arguments], object]]:
    """structlog's JSONRenderer into a file, on the thread that trains."""
    import structlog

    with path.open("w") as file:
        structlog.configure(
            processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()],
            logger_factory=structlog.WriteLoggerFactory(file),
            cache_logger_on_first_use=True,
        )
        info = structlog.get_logger().info
        yield lambda of: info(of.event_type, event_id=str(uuid.uuid4()), **of.envelope, data=of.fields)


WAYS: dict[str, Callable[[Path], Any]] = {
    "esper": esper_log,
    "esper, with its aggregator": lambda path: esper_log(path, fold=True),
    **{name: (lambda path, name=name: queued(path, name)) for name in CANDIDATES if name != "esper"},
    "logging.QueueHandler": logging_queue,
    "structlog": structlog_file,
}


# ---- what is measured


def in_process() -> str:
    """Return the processor's time to build and to encode an event, candidates taking turns."""
    arguments = mix(1)
    made = {name: candidate() for name, candidate in CANDIDATES.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for name, (build, encode) in made.items():
            fresh = copy.deepcopy(arguments)
            start = time.process_time()
            events = [build(of) for of in fresh]
            built = time.process_time()
            for event in events:
                encode(event)
            taken[name].append((built - start, time.process_time() - built))
    least = {name: [min(times) / len(arguments) for times in zip(*of, strict=True)] for name, of in taken.items()}
    ours = sum(least["esper"])
    rows = [
        [
            name,
            *(f"{seconds * 1e6:.1f} µs" for seconds in (build, encode, build + encode)),
            f"{ours / (build + encode):.2f}x",
        ]
        for name, (build, encode) in least.items()
    ]
    return table(["build and encode an event, minima", "build", "encode", "both", "esper against it"], rows)


def instructions() -> str:
    """Return the instructions of writing and of reading an event, by valgrind, beside those that were committed."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed: no instructions are counted"
    n_events = len(mix(5))
    counted = {name: (_instructions(name, 5) - _instructions(name, 1)) / 4 / n_events for name in ("", *COMMITTED)}
    copying = counted.pop("")
    pairs = zip(COMMITTED, ["dict, json.dumps"] * 2 + ["json.loads"] * 2, strict=True)
    net = {name: (count - copying * (name in CANDIDATES)) / 1000 for name, count in counted.items()}
    rows = [
        [name, f"{net[name]:.0f} k", f"{COMMITTED[name]} k", f"{net[name] / net[other]:.2f}x"] for name, other in pairs
    ]
    head = ["instructions an event", "now", "committed", "against the plain way"]
    return table(head, rows)


def _instructions(name: str, rounds: int) -> int:
    return harness.instructions(__file__, "--count", name, "--rounds", rounds)


def count(name: str, rounds: int) -> None:
    """Build and encode the mix, or read it, so many times, under valgrind; without a name only copy it."""
    gc.disable()  # when it runs depends on the copies that lie about
    if name in READERS:
        lines = [encode_event(build_esper(of)) for of in mix(5)]
        for _ in range(rounds):
            for line in lines:
                READERS[name](line)
        return
    build, encode = CANDIDATES[name]() if name else (None, None)
    for arguments in [copy.deepcopy(mix(5)) for _ in range(rounds)]:
        for of in arguments if build and encode else ():
            encode(build(of))


def to_disk() -> str:
    """Return what all threads of a process spend from the values to the closed file, and how a loop is slowed down."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, of in found.items():
            ran = subprocess.run([sys.executable, __file__, "--way", name], capture_output=True, text=True, check=True)
            of.append(json.loads(ran.stdout))
    rows = []
    ours = min(of["cpu"] for of in found["esper"])
    for name, of in found.items():
        cpu, loop = min(one["cpu"] for one in of), statistics.median(one["loop"] for one in of)
        rows.append([name, f"{cpu * 1e6:.1f} µs", f"{ours / cpu:.2f}x", f"{loop:.2f}x", f"{of[0]['bytes']:.0f}"])
    head = [
        "to disk, all threads, minima",
        "an event",
        "esper against it",
        "a loop of 110 µs an event",
        "bytes an event",
    ]
    return table(head, rows)


def way(name: str) -> None:
    """Print what one way costs, in a process of its own."""
    arguments = mix(1)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "events.jsonl"
        fresh = copy.deepcopy(arguments * 4)
        with WAYS[name](path) as emit:
            for of in fresh[:200]:
                emit(of)
            start = time.process_time()
            for of in fresh[200:]:
                emit(of)
        cpu = (time.process_time() - start) / (len(fresh) - 200)
        size = path.stat().st_size / len(fresh)
        with WAYS[name](Path(directory) / "loop.jsonl") as emit:
            loop = _loop(copy.deepcopy(arguments), emit) / _loop(arguments, id)
    print(json.dumps({"cpu": cpu, "loop": loop, "bytes": size}))


def _loop(arguments: list[Arguments], emit: Callable[[Arguments], object]) -> float:
    """Return the seconds that a loop of Python takes which computes between two events."""
    turns = int(LOOP / _TURN)
    start = time.perf_counter()
    for of in arguments:
        _compute(turns)
        emit(of)
    return time.perf_counter() - start


def _compute(turns: int) -> int:
    total = 0
    for turn in range(turns):
        total += turn
    return total


_TURN = min(timeit.repeat(lambda: _compute(1000), number=20, repeat=5)) / 20_000


def reading() -> str:
    """Return what it takes to read a line, and to fold it."""
    lines = MIX.read_text().splitlines()
    events = [decode_event(line) for line in lines]
    aggregator = TelemetryAggregator()
    what: dict[str, Callable[[], object]] = {
        "json.loads": lambda: [json.loads(line) for line in lines],
        "decode_event": lambda: [decode_event(line) for line in lines],
        "fold": lambda: [aggregator.process(event) for event in events],
    }
    least = {name: min(timeit.repeat(call, number=1, repeat=4 * ROUNDS)) / len(lines) for name, call in what.items()}
    rows = [[name, f"{of * 1e6:.1f} µs", f"{of / least['json.loads']:.2f}x"] for name, of in least.items()]
    return table(["reading a line, minima", "a line", "against json.loads"], rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        return way(given.way)
    if given.count is not None:
        return count(given.count, given.rounds)
    if not MIX.exists():
        record()
    print(machine("orjson", "msgspec", "pydantic", "structlog"))
    for measured in (instructions, in_process, to_disk, reading):
        print(f"\n{measured()}", flush=True)
    return None


if __name__ == "__main__":
    main()
