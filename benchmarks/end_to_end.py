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
import shutil
import statistics
import subprocess
import sys
import time
import timeit
from collections.abc import Callable

import harness
import ways
from candidates import CANDIDATES, MIX, build_esper, mix, record
from esper.karn.aggregator import TelemetryAggregator
from esper.leyline.wire import decode_event, encode_event
from harness import machine, table

ROUNDS = 7
PROCESSES = 2
"""For each way to the disk, in turns."""
READERS: dict[str, Callable[[str], object]] = {"decode_event": decode_event, "json.loads": json.loads}
COMMITTED = {"esper": 116, "dict, json.dumps": 137, "decode_event": 99, "json.loads": 62}
"""Thousands of instructions to build and encode, or to read, an event of every fifth of the mix, by CPython 3.11.7.
They do not depend on what else a machine does, so that what a change costs can be told on any day."""


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
    """Return what all threads of a process spend from the values to the closed file, and how loops are slowed down."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways.WAYS}
    for _ in range(PROCESSES):
        for name, of in found.items():
            ran = subprocess.run([sys.executable, ways.__file__, name], capture_output=True, text=True, check=True)
            of.append(json.loads(ran.stdout.splitlines()[-1]))
    rows = []
    ours = min(of["cpu"] for of in found["esper"])
    for name, of in found.items():
        cpu = min(one["cpu"] for one in of)
        loop, torch, p99 = (statistics.median(one[what] for one in of) for what in ("loop", "torch", "p99"))
        times = [f"{cpu * 1e6:.1f} µs", f"{ours / cpu:.2f}x", f"{loop:.2f}x", f"{torch:.2f}x", f"{p99 * 1e6:.0f} µs"]
        rows.append([name, *times, f"{of[0]['bytes']:.0f}"])
    head = [
        "to disk, all threads, minima",
        "an event",
        "esper against it",
        f"a loop of {ways.LOOP * 1e6:.0f} µs an event",
        "a loop of torch",
        "99th percentile of emit",
        "bytes an event",
    ]
    return table(head, rows)


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
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
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
