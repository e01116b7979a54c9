"""What it costs to read a log: a line, beside parsers that check less, and the commands that read all of it.

Run: python benchmarks/reading.py [--events N] [--against SRC] [RUN]

Times are of the processor, minima of interleaved rounds. Lines are a run's own, and the same as other writers would
write them: with spaces, with the keys in another order, and sorted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson

from candidates import MIX
from esper.leyline.wire import decode_event
from harness import machine, table

ROUNDS = 5
LINES = 4_000
"""Lines that are read in one turn of a decoder."""
COMMANDS = {
    "read_events": "from esper.leyline.wire import read_events\nfor _ in read_events(sys.argv[1]): pass",
    "esper validate": "from esper.cli import main\nmain(['validate', sys.argv[1]])",
    "esper replay": "from esper.cli import main\nmain(['replay', sys.argv[1]])",
}


def _reversed(record: dict[str, Any]) -> dict[str, Any]:
    return {key: _reversed(record[key]) if key == "data" else record[key] for key in reversed(record)}


FORMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "as esper writes it": lambda record: json.dumps(record, separators=(",", ":")),
    "with spaces": json.dumps,
    "keys in another order": lambda record: json.dumps(_reversed(record), separators=(",", ":")),
    "sorted": lambda record: json.dumps(record, separators=(",", ":"), sort_keys=True),
}


def decoders(lines: list[str]) -> str:
    """Return what a line takes, in each form, beside `json.loads`, orjson and msgspec."""
    ways: dict[str, Callable[[str], object]] = {
        "`decode_event`": decode_event,
        "`json.loads`": json.loads,
        "orjson": orjson.loads,
        "msgspec, to dicts": msgspec.json.Decoder().decode,
    }
    rows = []
    for form, write in FORMS.items():
        written = [write(json.loads(line)) for line in lines]
        least = dict.fromkeys(ways, float("inf"))
        gc.collect()
        gc.disable()
        for _ in range(ROUNDS):
            for name, read in ways.items():
                began = time.process_time()
                for line in written:
                    read(line)
                least[name] = min(least[name], (time.process_time() - began) / len(written))
        gc.enable()
        for name, seconds in least.items():
            rows.append((form, name, f"{seconds * 1e6:.1f}", f"{seconds / least['`json.loads`']:.2f}"))
    return table(("a line", "read by", "µs", "against `json.loads`"), rows)


def commands(lines: list[str], n_events: int, against: str | None) -> str:
    """Return what a log of so many events takes, processes that a command starts counted, and beside another esper."""
    sources = [None] if against is None else [None, against]
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        logs = {}
        for form in ("as esper writes it", "with spaces"):
            written = [FORMS[form](json.loads(line)) for line in lines]
            logs[form] = Path(directory, f"{form}.jsonl")
            with logs[form].open("w") as file:
                for begun in range(0, n_events, len(written)):
                    file.writelines(f"{line}\n" for line in written[: n_events - begun])
        for name, script in COMMANDS.items():
            for form, log in logs.items():
                least: dict[str | None, tuple[float, float]] = {}
                for _ in range(2):
                    for source in sources:
                        now = _spent(script, [str(log)], source)
                        least[source] = min(now, least.get(source, now))
                cells = [f"{cpu / n_events * 1e6:.1f} ({wall:.1f} s)" for cpu, wall in least.values()]
                ratios = [f"{least[None][0] / least[source][0]:.2f}" for source in sources[1:]]
                rows.append((name, form, *cells, *ratios))
    header = ["what", "lines", "CPU, µs an event (wall)", *(["there", "ratio"] if against is not None else [])]
    return table(header, rows)


def _spent(script: str, arguments: Sequence[str], source: str | None) -> tuple[float, float]:
    environment = os.environ if source is None else os.environ | {"PYTHONPATH": source}
    before, began = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", f"import sys\n{script}", *arguments], env=environment, check=False, capture_output=True
    )
    wall, after = time.perf_counter() - began, os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system, wall


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="a log (default: the recorded mix of benchmarks/candidates.py)")
    parser.add_argument("--events", type=int, default=200_000, help="of the log that is read (default: %(default)s)")
    parser.add_argument("--against", metavar="SRC", help="the src of another checkout, whose commands take turns")
    options = parser.parse_args()
    if options.run is None and not MIX.exists():
        from candidates import record

        record()
    lines = Path(options.run or MIX).read_text().splitlines()
    step = max(len(lines) // LINES, 1)
    print(machine("orjson", "msgspec"), decoders(lines[::step]), sep="\n\n", flush=True)
    print(f"\n{commands(lines, options.events, options.against)}")


if __name__ == "__main__":
    main()
