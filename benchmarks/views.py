"""What the plotting sinks and the views cost an event of a real run, in processor time.

Run: python benchmarks/views.py [--events N] [RUN]

The events are those of RUN, or of a short training made for this, again and again as further batches. The dashboard is
measured by benchmarks/dashboard.py, in a terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from esper.leyline.telemetry import BatchEpochCompletedPayload, PPOUpdatePayload, TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import encode_event, read_events
from esper.nissa.plotting import Plotter
from esper.nissa.sinks.tensorboard import TensorBoardSink
from esper.nissa.sinks.wandb import WandbSink
from harness import machine, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A_FLUSH = 100
"""Events between two flushes: some, as while a run goes on."""
TURNS = 3


class Sink(Protocol):
    """What is measured of a sink."""

    def write(self, event: TelemetryEvent) -> None:
        """Take an event."""

    def flush(self) -> None:
        """Hand on what was taken."""

    def close(self) -> None:
        """End."""


class Placing:
    """What every plotting sink does first."""

    def __init__(self) -> None:
        self._plotter = Plotter()

    def write(self, event: TelemetryEvent) -> None:
        self._plotter.point(event)

    def flush(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="a run directory (default: a short run is trained)")
    parser.add_argument("--events", type=int, default=20_000, help="of the log that is reported (default: %(default)s)")
    options = parser.parse_args()
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    recorded = _recorded(options.run)

    rows = []
    sinks: dict[str, Callable[[str], Sink]] = {
        "placing an event on its curve, which both sinks do": lambda _directory: Placing(),
        "TensorBoard": TensorBoardSink,
        "Weights & Biases, offline": WandbSink,
    }
    for name, make in sinks.items():
        seconds = min(_drawn(make, recorded) for _ in range(TURNS))
        rows.append((name, f"{len(recorded):,}", f"{seconds / len(recorded) * 1e6:.0f}"))
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "events.jsonl")
        with log.open("w") as file:
            file.writelines(f"{encode_event(event)}\n" for event in _repeated(recorded, options.events))
        for name, command in (
            ("esper validate", ["validate", str(log)]),
            ("esper replay", ["replay", str(log)]),
            ("esper report", ["report", str(log), "--output", str(Path(directory, "report.html"))]),
        ):
            seconds = _command(command) - _command([command[0], "--help"])
            rows.append((name, f"{options.events:,}", f"{seconds / options.events * 1e6:.0f}"))
    print(machine("tensorboard", "wandb"), end="\n\n")
    print(table(("what", "events", "CPU, µs an event"), rows))


def _recorded(run: str | None) -> list[TelemetryEvent]:
    if run is not None:
        return [event for event in read_events(run) if isinstance(event, TelemetryEvent)][:3000]
    from esper.simic.config import TrainingConfig
    from esper.simic.training.vectorized import train

    events: list[TelemetryEvent] = []
    train(TrainingConfig(episodes=8, seed=2), events.append)
    return events


def _repeated(recorded: list[TelemetryEvent], n_events: int) -> Iterator[TelemetryEvent]:
    """Yield so many events: those of the run, and then those behind its start as of later batches."""
    started, *others = recorded
    assert isinstance(started.data, TrainingStartedPayload)
    yield started
    batches = sum(isinstance(event.data, BatchEpochCompletedPayload) for event in others)
    for number in range(n_events - 1):
        turn, index = divmod(number, len(others))
        event = others[index]
        fields = event.data.to_dict()
        if isinstance(event.data, BatchEpochCompletedPayload):
            fields["batch_idx"] += turn * batches
            fields["episodes_completed"] += turn * batches * started.data.n_envs
        elif isinstance(event.data, PPOUpdatePayload):
            fields["batch"] += turn * batches
        yield TelemetryEvent.from_dict({**event.to_dict(), "event_id": f"{number}", "data": fields})


def _drawn(make: Callable[[str], Sink], events: list[TelemetryEvent]) -> float:
    with tempfile.TemporaryDirectory() as directory:
        sink = make(directory)
        gc.collect()
        began = time.process_time()
        for number, event in enumerate(events):
            sink.write(event)
            if number % A_FLUSH == 0:
                sink.flush()
        sink.flush()
        taken = time.process_time() - began
        with contextlib.redirect_stdout(sys.stderr):
            sink.close()
    return taken


def _command(arguments: list[str]) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-m", "esper", *arguments], check=False, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
