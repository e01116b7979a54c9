"""What takes long to show: writers killed at random moments, and memory over millions of events.

Run: python benchmarks/soak.py kills --times 200
     python benchmarks/soak.py events --count 10_000_000
     python benchmarks/soak.py lengths

The first two print what they found and exit with status 1 when a promise was broken; the last prints what folding costs
after ten thousand to ten million events.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from aggregator import by_length
from esper.karn.aggregator import TelemetryAggregator
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
    TelemetryPayload,
)
from esper.leyline.wire import InvalidRecord, read_events
from esper.nissa.output import Durable, FunctionSink, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink

if TYPE_CHECKING:
    from collections.abc import Iterator

N_ENVS, EPOCHS = 4, 24


def kills(times: int, seed: int) -> int:
    """Kill a fast writer at random moments; compare its log with the commits that it was received of."""
    moments = random.Random(seed)
    committed = torn = 0
    for kill in range(times):
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory, "events.jsonl")
            acknowledged = _killed_writer(log, moments.uniform(0.0, 0.05))
            records = list(read_events(log)) if log.exists() else []
            invalid = [record for record in records if isinstance(record, InvalidRecord)]
            found = _epochs(records)
            wrong = ""
            if len(invalid) > 1 or (invalid and records[-1] is not invalid[0]):
                wrong = f"{len(invalid)} invalid lines"
            elif found != [*range(len(found))]:
                wrong = "events missing in the middle or out of order"
            elif len(found) <= acknowledged:
                wrong = f"{acknowledged + 1} events were committed, {len(found)} are there"
            elif not _resumes(log, len(found)):
                wrong = "the log could not be continued"
            if wrong:
                print(f"kill {kill} (seed {seed}): {wrong}")
                return 1
            committed += acknowledged + 1
            torn += len(invalid)
    print(f"{times} kills: {committed} events committed before them, all there; {torn} torn last lines repaired")
    return 0


def _killed_writer(log: Path, delay: float) -> int:
    """Return the number of the last epoch that the writer knew to be committed before it was killed; -1 for none."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _write_until_killed(log, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        pipe.read(1)  # the writer is ready
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        received = pipe.read().split(b"\n")
    return int(received[-2]) if len(received) > 1 else -1


def _write_until_killed(log: Path, pipe: int) -> NoReturn:
    hub = TelemetryHub([JsonlSink(log)])
    os.write(pipe, b"!")
    number = 0
    while number < 1_000_000:  # should nobody be left to kill it
        for _ in range(random.randint(1, 200)):
            payload = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=number)
            hub.emit(TelemetryEvent(data=payload, message="x" * random.choice([0, 10, 5_000])))
            number += 1
        if hub.flush():
            os.write(pipe, b"%d\n" % (number - 1))
    os._exit(1)


def _epochs(records: list[TelemetryEvent | InvalidRecord]) -> list[int]:
    return [
        record.data.inner_epoch
        for record in records
        if isinstance(record, TelemetryEvent) and isinstance(record.data, EpochCompletedPayload)
    ]


def _resumes(log: Path, there: int) -> bool:
    logging.getLogger("esper").setLevel(logging.ERROR)  # that the last line was torn is what this is about
    sink = JsonlSink(log)
    with TelemetryHub([sink]) as hub:
        payload = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=there)
        hub.emit(TelemetryEvent(data=payload))
    records = list(read_events(log))
    return len(records) == there + 1 == len(_epochs(records))


def events(count: int) -> int:
    """Send events through the hub into the aggregator; memory must not grow with their number."""
    aggregator = TelemetryAggregator()
    start = time.perf_counter()
    emitted = early = 0
    with TelemetryHub([FunctionSink("aggregator", aggregator.process, Durable(max_wait=60))]) as hub:
        for payload in _run():
            hub.emit(TelemetryEvent(data=payload, epoch=emitted % EPOCHS + 1))
            emitted += 1
            if emitted == count // 5:
                hub.flush()
                early = _peak_megabytes()
            if emitted == count:
                break
        intact = hub.flush()
        stats = hub.stats()[0]
    aggregator.snapshot()
    took, grown = time.perf_counter() - start, _peak_megabytes() - early
    print(
        f"{stats.delivered} of {emitted} events folded in {took:.0f} s; "
        f"memory {early} MB after a fifth, then +{grown} MB"
    )
    return 0 if intact and stats.delivered == emitted and grown <= 16 else 1


def _run() -> Iterator[TelemetryPayload]:
    batch = 0
    while True:
        for epoch in range(1, EPOCHS + 1):
            for env_id in range(N_ENVS):
                yield RewardComputedPayload(
                    env_id, 0.1, "WAIT", 0.2, 0.9, val_acc=0.5, slot_states={"r0": {"alpha": 0}}
                )
                yield EpochCompletedPayload(env_id, 0.5, 1.0, epoch, seeds={"r0": {"stage": "TRAINING"}})
        yield PPOUpdatePayload(0.1, 0.2, 1.5, 0.4, 0.01, 0.1, 0, batch=batch)
        yield BatchEpochCompletedPayload(N_ENVS * (batch + 1), batch, 0.5, 1.0, 10**9, N_ENVS)
        batch += 1


def _peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 * 1024 if sys.platform == "darwin" else 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    kill = commands.add_parser("kills", help="kill a fast writer at random moments")
    kill.add_argument("--times", type=int, default=200)
    kill.add_argument("--seed", type=int, default=random.randrange(10**6))
    soak = commands.add_parser("events", help="send many events through the hub into the aggregator")
    soak.add_argument("--count", type=int, default=10_000_000)
    commands.add_parser("lengths", help="fold events, and compare the rates of aggregators of different ages")
    chosen = parser.parse_args()
    if chosen.command == "lengths":
        print(by_length((10_000, 100_000, 1_000_000, 10_000_000)))
        return 0
    return kills(chosen.times, chosen.seed) if chosen.command == "kills" else events(chosen.count)


if __name__ == "__main__":
    sys.exit(main())
