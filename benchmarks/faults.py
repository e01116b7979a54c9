"""Runs under fire: signals, failing system calls and hostile values; then the accounts are compared with the log.

Run: python benchmarks/faults.py --seconds 600
     python benchmarks/faults.py --runs 20 --seed 7

Each run is a process of its own that emits events through a hub into a log, and prints what the hub says. Every one has
to end as the documentation says; the table says how many did what, and the exit status is 1 when one did not.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import faulthandler
import json
import math
import os
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    TelemetryEvent,
)
from esper.leyline.wire import read_events
from esper.nissa import retry
from esper.nissa.output import FunctionSink, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink
from harness import table

if TYPE_CHECKING:
    from types import FrameType

HERE = Path(__file__)
LIBRARY = HERE.with_name("fail_calls.c")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ERRORS = {
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EPERM, errno.EBADF),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EINVAL, errno.EDQUOT, errno.ENOTSUP),
    "open": (errno.EMFILE, errno.EACCES, errno.EIO, errno.ENOSPC, errno.EROFS),
    "ftruncate": (errno.EPERM, errno.EIO),
    "flock": (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP),
}
LIMIT = 20.0
"""Seconds after which a run counts as hung."""


# ---- the run


class Stop(BaseException):
    """What a signal raises, at any instruction."""


armed = False
"""Whether the hub is being called; what a signal does to the loop around that is not the question."""


def stop(_number: int, _frame: FrameType | None) -> None:
    global armed  # noqa: PLW0603 - as handlers do
    if armed:
        armed = False
        raise Stop


class Small(IntEnum):
    ONE = 1


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def hostile(moments: random.Random) -> Any:
    """Return a value that somebody's code may put into a field."""
    nested: Any = []
    for _ in range(3_000):
        nested = [nested]
    values: list[Any] = [math.nan, math.inf, 10**400, True, Small.ONE, Fraction(1, 3), "text", "\ud800", b"bytes", None]
    values += [Mute(), object(), nested, {1: 2}, {"a": {"b": Mute()}}, [math.nan, "\x00\x1b[2J"], "x" * 100_000]
    values += [bytearray(3), {1, 2}, id, Path("/").stat(), Stop, {"\ud800": 1}, [[[]]] * 1_000]
    return moments.choice(values)


def emit_one(hub: TelemetryHub, number: int, value: Any) -> None:
    if value is not hostile:
        data: Any = CounterfactualMatrixPayload(env_id=number, slot_ids=("r0",), configs=({"accuracy": value},))
    elif number % 50 == 49:
        data = BatchEpochCompletedPayload(4, number, 0.5, 1.0, 8, 4)
    else:
        data = EpochCompletedPayload(env_id=number, val_accuracy=0.5, val_loss=1.0, inner_epoch=1)
    hub.emit(TelemetryEvent(data=data, epoch=number))


def play(log: Path, seed: int, *, values: bool) -> None:
    """Emit for a while whatever happens, and print what the hub says about it."""
    global armed  # noqa: PLW0603 - as handlers do
    moments = random.Random(seed)
    retry.RETRY_SECONDS = 0.3
    faulthandler.dump_traceback_later(LIMIT - 5)  # says where it hangs
    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        hub = TelemetryHub([JsonlSink(log), FunctionSink("view", id)])
    except OSError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        return
    print("ready", flush=True)
    begun = done = stopped = 0
    closed: bool | None = None
    while done < 400:
        begun += 1
        value = hostile(moments) if values and moments.random() < 0.1 else hostile
        try:
            armed = True
            emit_one(hub, begun, value)
            done += 1
            if moments.random() < 0.02:
                hub.flush(timeout=moments.choice([0.0, 0.05, 1.0]))
            if moments.random() < 0.01:
                time.sleep(moments.choice([0.001, 0.05]))
            armed = False
        except Stop:
            stopped += 1
    while closed is None:
        try:
            armed = True
            closed = hub.close(timeout=3)
            armed = False
        except Stop:
            stopped += 1
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    (stats, _view) = hub.stats()
    fields = ("emitted", "delivered", "rejected", "dropped", "queued", "set_aside", "last_error")
    said = {name: getattr(stats, name) for name in fields}
    print(json.dumps(said | {"closed": closed, "begun": begun, "done": done, "stopped": stopped}), flush=True)


# ---- what is done to it


@dataclass(frozen=True)
class Fault:
    """A system call that fails."""

    call: str
    first: int
    count: int
    code: int
    short: bool

    def environment(self, run: Path, library: Path) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(library),
            "FAULT_UNDER": f"{run}/",
            "FAULT_CALL": self.call,
            "FAULT_FROM": str(self.first),
            "FAULT_COUNT": str(self.count),
            "FAULT_ERRNO": str(self.code),
            "FAULT_SHORT": str(int(self.short)),
            "FAULT_LOG": str(run.with_suffix(".failed")),
        }


def choose(moments: random.Random) -> Fault:
    call = moments.choice([*ERRORS, "write", "fsync"])
    first = moments.choice([1, 2, 3, moments.randint(1, 20), moments.randint(1, 200)])
    return Fault(
        call, first, moments.choice([1, 2, 5, 20, 10**6]), moments.choice(ERRORS[call]), short=moments.random() < 0.5
    )


def strike(process: subprocess.Popen[str], moments: random.Random, most: int) -> tuple[str, int]:
    """Send signals until the run has said everything; return that and their number."""
    assert process.stdout is not None
    sent, deadline = 0, time.monotonic() + LIMIT
    first = process.stdout.readline()
    if first != "ready\n":
        return first, sent
    while time.monotonic() < deadline:
        ready, _, _ = select.select([process.stdout], [], [], moments.uniform(0, 0.01) if sent < most else 0.2)
        if ready or process.poll() is not None:
            return process.stdout.read(), sent
        if sent < most:
            process.send_signal(moments.choice(SIGNALS))
            sent += 1
    return "", sent


# ---- what has to be true


def verdict(run: Path, said: dict[str, Any], errors: str, fault: Fault | None) -> str:
    """Say what promise was broken; empty when all were kept."""
    log = run / "events.jsonl"
    numbers = (
        [record.epoch for record in read_events(log) if isinstance(record, TelemetryEvent)] if log.exists() else []
    )
    ends = said["delivered"] + said["rejected"] + said["dropped"] + said["queued"]
    side = run / "rejected.jsonl"
    kept = len(side.read_bytes().splitlines()) if side.exists() else 0
    # A disk that refused a commit may have the lines or not: they are not promised. One that cannot cut neither.
    doubtful = fault is not None and said["dropped"] and (fault.call in {"fsync", "ftruncate", "open"})
    # Python itself swallows what a signal handler raises while a weak reference's callback runs, and says so.
    if "Traceback" in re.sub(r"Exception ignored in: .*?\nStop: \n", "", errors, flags=re.DOTALL):
        return "a traceback"
    if said["emitted"] != ends or said["queued"]:
        return f"the accounts do not balance: {said}"
    if not said["done"] <= said["emitted"] <= said["begun"]:
        return f"{said['emitted']} emitted, of {said['begun']} begun and {said['done']} done"
    if numbers != sorted(set(numbers), key=lambda number: number or 0):
        return "lines doubled or out of order"
    if said["delivered"] > len(numbers) or (said["delivered"] < len(numbers) and not doubtful):
        return f"{said['delivered']} delivered, {len(numbers)} lines that parse: {said}"
    if said["closed"] == bool(said["dropped"]):
        return f"close said {said['closed']}: {said}"
    if (said["dropped"] or said["rejected"]) and "telemetry sink 'jsonl'" not in errors:
        return f"a loss without a word: {said}"
    if kept < said["rejected"] and "rejected events c" not in errors:
        return f"{said['rejected']} rejected, {kept} kept without a word"
    return ""


def attempt(seed: int, directory: Path, library: Path, counts: Counter[str]) -> str:
    """Make one run; count what happened, and return what was wrong with it."""
    moments = random.Random(seed)
    kind = moments.choice(["signals", "calls", "values", "all at once"])
    signals, calls, values = (kind in {name, "all at once"} for name in ("signals", "calls", "values"))
    run = directory / f"{seed}"
    run.mkdir()
    fault = choose(moments) if calls else None
    command = [sys.executable, str(HERE), "--play", str(run / "events.jsonl"), "--seed", str(seed)]
    environment = {**os.environ, **(fault.environment(run, library) if fault else {})}
    process = subprocess.Popen(
        [*command, *(["--values"] if values else [])],
        stdout=subprocess.PIPE,
        stderr=(run.with_suffix(".stderr")).open("w"),
        text=True,
        env=environment,
    )
    try:
        said, sent = strike(process, moments, moments.randint(1, 40) if signals else 0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        hung = process.poll() is None
    finally:
        process.kill()
        process.wait()
    failed = run.with_suffix(".failed")
    counts["runs"] += 1
    counts["signals sent"] += sent
    counts["system calls failed"] += failed.stat().st_size if failed.exists() else 0
    errors = run.with_suffix(".stderr").read_text()
    if hung:
        return f"hung, fault {fault}\n{errors[-4000:]}"
    if process.returncode or not said.strip():
        return f"status {process.returncode}, said {said!r}, fault {fault}\n{errors[-2000:]}"
    accounts = json.loads(said)
    if "refused" in accounts:
        counts["logs that could not be opened, with the reason"] += 1
        return "" if fault and fault.call == "open" else f"refused: {accounts}, fault {fault}"
    for name in ("emitted", "delivered", "rejected", "dropped", "stopped"):
        counts[{"stopped": "interrupts within the hub's calls"}.get(name, f"events {name}")] += accounts[name]
    counts["sinks set aside"] += accounts["set_aside"]
    wrong = verdict(run, accounts, errors, fault)
    return wrong and f"{wrong}\n  fault {fault}, {sent} signals, values {values}\n{errors[-1000:]}"


def soak(runs: int, seconds: float, seed: int) -> int:
    """Make runs until there were enough or the time is up; print the table."""
    counts: Counter[str] = Counter()
    wrongs: list[str] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name).resolve()
        library = directory / "fail_calls.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(LIBRARY), "-ldl"], check=True)
        while counts["runs"] < runs and time.monotonic() - start < seconds:
            number = seed + counts["runs"]
            wrong = attempt(number, directory, library, counts)
            if wrong:
                wrongs.append(wrong)
                print(f"seed {number}: {wrong}", file=sys.stderr, flush=True)
    counts["undocumented outcomes"] = len(wrongs)
    print(f"seeds {seed} to {seed + counts['runs'] - 1}, {time.monotonic() - start:.0f} s\n")
    print(table(["what happened", "how often"], [[name, f"{count:,}"] for name, count in counts.items()]))
    return 1 if wrongs else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=math.inf, help="how long at most")
    parser.add_argument("--runs", type=int, default=10**9, help="how many at most")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of the first run; the next has the next"
    )
    parser.add_argument("--play", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--values", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.play:
        play(chosen.play, chosen.seed, values=chosen.values)
        return 0
    if chosen.runs == 10**9 and chosen.seconds == math.inf:
        parser.error("say how many --runs, or how many --seconds")
    return soak(chosen.runs, chosen.seconds, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
