"""One way to time and to show: medians of interleaved repeats, tables in Markdown, the machine they were taken on.

Times are of the processor, not of the wall, so that whatever else runs on the machine is not counted.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

__all__ = ["instructions", "machine", "medians", "microseconds", "ratio", "table"]


def machine(*packages: str) -> str:
    """Return one line: interpreter, processor, cores, and versions of packages."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    processor = models[0].partition(": ")[2] if models else platform.processor() or platform.machine()
    versions = "".join(f", {package} {importlib.metadata.version(package)}" for package in packages)
    return f"CPython {platform.python_version()}, {platform.system()}, {processor}, {os.cpu_count()} cores{versions}"


def medians(
    candidates: Mapping[str, Callable[[], object]], *, repeats: int = 31, slice_: float = 5e-4
) -> dict[str, float]:
    """Return the median seconds that one call of each candidate takes.

    The candidates take turns, so that a slow moment of the machine falls on all of them.

    Args:
        candidates: what to call, by name.
        repeats: turns of each.
        slice_: seconds that a turn lasts at least; calls are repeated to fill it.
    """
    calls = {name: _calls(candidate, slice_) for name, candidate in candidates.items()}
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            for name, candidate in candidates.items():
                taken[name].append(_seconds(candidate, calls[name]) / calls[name])
    finally:
        gc.enable()
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _calls(candidate: Callable[[], object], slice_: float) -> int:
    _seconds(candidate, 100)  # what is made on first use is made now, and the interpreter has specialised
    calls = 1
    while (seconds := _seconds(candidate, calls)) < slice_:
        calls = max(calls * 2, int(calls * slice_ / max(seconds, 1e-7)))
    return calls


def _seconds(candidate: Callable[[], object], calls: int) -> float:
    turns = range(calls)
    start = time.process_time()
    for _ in turns:
        candidate()
    return time.process_time() - start


def instructions(script: str, *arguments: object) -> int:
    """Return the instructions that a script of Python executes, counted by valgrind: they do not depend on the machine.

    Args:
        script: its path. It should keep the garbage collector from running at whatever moment.
        arguments: for the script.
    """
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable]
    ran = subprocess.run(
        [*command, script, *map(str, arguments)], env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"I +refs: +([\d,]+)", ran.stderr)
    assert found is not None, ran.stderr
    return int(found[1].replace(",", ""))


def ratio(ours: float, other: float) -> str:
    """Say how many times as fast as the other ours is."""
    return f"{other / ours:.2f}x"


def microseconds(seconds: float) -> str:
    """Write a duration in microseconds."""
    return f"{seconds * 1e6:.2f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
