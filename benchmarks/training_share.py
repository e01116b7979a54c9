"""What telemetry takes from a training run: ``python benchmarks/training_share.py [--episodes N]``.

A short run is trained and its events are kept. Then everything telemetry did is done again and its CPU time taken, on
the training thread and on the sinks' threads together: each payload and event is built once more and emitted to a hub
with the log and the aggregator, until both have everything.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from esper.karn.aggregator import TelemetryAggregator
from esper.leyline import TelemetryEvent, TelemetryPayload
from esper.nissa.output import Durable, FunctionSink, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink
from esper.simic.config import TrainingConfig
from esper.simic.training.vectorized import train

REPEATS = 5


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=16)
    episodes = parser.parse_args().episodes

    events: list[TelemetryEvent] = []
    before = time.process_time()
    train(TrainingConfig(episodes=episodes), events.append)
    training = time.process_time() - before

    built = [_parts(event) for event in events]
    construction = statistics.median(_cpu(lambda: _build(built)) for _ in range(REPEATS))
    delivery = statistics.median(_cpu(lambda: _deliver(events)) for _ in range(REPEATS))

    print("| what | CPU time | share of the run |")
    print("|---|---|---|")
    print(f"| the whole run, {episodes} episodes, {len(events)} events | {training:.2f} s | 100 % |")
    for name, seconds in (
        ("building payloads and events", construction),
        ("emit, log with fsync, aggregator", delivery),
        ("telemetry in all (target: at most 2 %)", construction + delivery),
    ):
        print(f"| {name} | {seconds * 1e3:.0f} ms | {seconds / training:.2%} |")


def _cpu(work: object) -> float:
    assert callable(work)
    before = time.process_time()
    work()
    return time.process_time() - before


def _parts(event: TelemetryEvent) -> tuple[type[TelemetryPayload], dict[str, object], str, int | None]:
    """Return what an emitter had in hand: containers plain, as they were before the payload froze its copies."""
    return type(event.data), event.data.to_dict(), event.message, event.epoch


def _build(parts: list[tuple[type[TelemetryPayload], dict[str, object], str, int | None]]) -> None:
    for cls, fields, message, epoch in parts:
        TelemetryEvent(data=cls(**fields), message=message, epoch=epoch)  # type: ignore[arg-type]  # it was one before


def _deliver(events: list[TelemetryEvent]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        aggregator = TelemetryAggregator()
        sinks = [
            JsonlSink(Path(directory) / "events.jsonl"),
            FunctionSink("aggregator", aggregator.process, Durable()),
        ]
        with TelemetryHub(sinks) as hub:
            for event in events:
                hub.emit(event)


if __name__ == "__main__":
    main()
