"""What telemetry takes from the thread that trains, beside the usual ways of recording the same thing.

Run: python benchmarks/delivery.py

What runs on the machine besides makes every number worse but those of the processor's time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import queue
import statistics
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esper.karn.aggregator import TelemetryAggregator
from esper.leyline.telemetry import PPOUpdatePayload, RewardComputedPayload, TelemetryEvent
from esper.nissa.output import Durable, FunctionSink, Sink, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink
from esper.nissa.sinks.tensorboard import TensorBoardSink
from harness import machine, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BURST = 100_000
PACE = 0.001
LOOP_EVENTS = 1_000
ROUNDS = 25


def reward(number: int) -> TelemetryEvent:
    """Return the event that a run emits most often."""
    return TelemetryEvent(
        data=RewardComputedPayload(
            env_id=number % 4,
            total_reward=0.1,
            action_name="WAIT",
            value_estimate=0.25,
            action_confidence=0.9,
            base_acc_delta=0.1,
            compute_rent=-0.01,
            val_acc=0.5,
            slot_states={"r0": {"stage": "TRAINING", "blueprint_id": "mlp", "alpha": 0.0, "epochs_in_stage": 3}},
            decision_entropy=1.1,
        ),
        epoch=number % 24 + 1,
    )


def as_json(event: TelemetryEvent) -> str:
    """Encode as one does without a codec."""
    return json.dumps(dataclasses.asdict(event), default=str)


class QueueLog:
    """The usual background log: a queue, and a thread that wakes for every event and encodes with json.dumps."""

    def __init__(self, path: Path) -> None:
        self._queue: queue.SimpleQueue[TelemetryEvent | None] = queue.SimpleQueue()
        self._file = path.open("w")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.emit = self._queue.put

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            self._file.write(as_json(event) + "\n")

    def flush(self) -> None:
        while not self._queue.empty():
            time.sleep(0.001)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._file.close()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def percentile(nanoseconds: list[int], percent: int) -> str:
    return f"{sorted(nanoseconds)[len(nanoseconds) * percent // 100] / 1000:.2f} µs"


def timed(call: Callable[[TelemetryEvent], object], events: list[TelemetryEvent], pace: float) -> list[int]:
    clock, took = time.perf_counter_ns, []
    for event in events:
        start = clock()
        call(event)
        took.append(clock() - start)
        while pace and clock() - start < pace * 1e9:
            pass  # what training does meanwhile
    return took


def emit_cost() -> str:
    """Return what one `emit` costs in a burst and at a steady pace."""
    events = [reward(number) for number in range(BURST // 2)]  # as many as queues hold
    rows = []

    def measure(name: str, emit: Callable[[TelemetryEvent], object], settle: Callable[[], object] = list) -> None:
        timed(emit, events[:2_000], 0)
        burst = timed(emit, events, 0)
        settle()  # what the burst left to do would be counted against the pace
        paced = timed(emit, events[:3_000], PACE)
        rows.append([name, *(percentile(values, percent) for values in (burst, paced) for percent in (50, 99))])

    lock, kept = threading.RLock(), []

    def append(event: TelemetryEvent) -> None:
        with lock:
            kept.append(event)

    measure("nothing: the clock itself", id)
    measure("an append under a lock, the least there can be", append)
    with TelemetryHub([]) as hub:
        measure("hub without a sink", hub.emit)
    with scratch() as directory:
        sinks: list[Sink] = [
            JsonlSink(directory / "events.jsonl"),
            FunctionSink("aggregator", TelemetryAggregator().process, Durable()),
            TensorBoardSink(directory / "tensorboard"),
        ]
        with TelemetryHub(sinks) as hub:
            measure("hub with log, aggregator and TensorBoard", hub.emit, lambda: hub.flush(timeout=120))
        log = QueueLog(directory / "queue.jsonl")
        measure("queue and thread, json.dumps", log.emit, log.flush)
        log.close()
        with (directory / "direct.jsonl").open("w") as file:
            measure("json.dumps(asdict(event)) and write", lambda event: file.write(as_json(event) + "\n"))
    columns = ["emit", "burst p50", "burst p99", f"every {PACE * 1000:.0f} ms p50", "p99"]
    return table(columns, rows)


def slowdown() -> str:
    """Return how much slower a Python-heavy loop gets when each turn emits one event.

    Processor time counts all threads until everything is written: with one interpreter lock it is the loop's loss
    when nothing else runs on the machine.
    """
    start = time.process_time()
    for _ in range(500):
        sum(range(1_000))
    loops = int(1_000 * 110e-6 / ((time.process_time() - start) / 500))

    def turn(emit: Callable[[TelemetryEvent], object], finish: Callable[[], object]) -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        for number in range(LOOP_EVENTS):
            sum(range(loops))
            emit(reward(number))
        wall = time.perf_counter() - wall
        finish()
        return wall, time.process_time() - processor

    ratios: dict[str, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(scratch())
        file = stack.enter_context((directory / "direct.jsonl").open("w"))
        nothing = stack.enter_context(TelemetryHub([]))
        hub = stack.enter_context(TelemetryHub([JsonlSink(directory / "events.jsonl")]))
        log = stack.enter_context(contextlib.closing(QueueLog(directory / "queue.jsonl")))
        attached: dict[str, tuple[Callable[[TelemetryEvent], object], Callable[[], object]]] = {
            "nothing": (id, int),
            "hub without a sink": (nothing.emit, nothing.flush),
            "hub with the log": (hub.emit, hub.flush),
            "queue and thread, json.dumps": (log.emit, log.flush),
            "json.dumps(asdict(event)) and write": (lambda event: file.write(as_json(event) + "\n"), file.flush),
        }
        for _ in range(ROUNDS):
            taken = {name: turn(*calls) for name, calls in attached.items()}
            for name, (wall, processor) in taken.items():
                ratios.setdefault(name, []).append((wall / taken["nothing"][0], processor / taken["nothing"][1]))
    rows = [
        [name, *(f"{statistics.median(pair[kind] for pair in pairs):.2f}×" for kind in (0, 1))]
        for name, pairs in ratios.items()
    ]
    return table(["attached", "time of the loop", "processor time"], rows)


def burst() -> str:
    """Return how fast a burst reaches the log, and how much of it."""
    events = [reward(number) for number in range(BURST)]
    ratios, lost, rate = [], 0, 0.0
    for _ in range(3):
        with scratch() as directory:
            start = time.perf_counter()
            with TelemetryHub([JsonlSink(directory / "events.jsonl")]) as hub:
                for event in events:
                    hub.emit(event)
                hub.flush()
                took = time.perf_counter() - start
            lost += BURST - (directory / "events.jsonl").read_bytes().count(b"\n")
            start = time.perf_counter()
            with (directory / "direct.jsonl").open("w") as file:
                for event in events[: BURST // 10]:
                    file.write(as_json(event) + "\n")
                    file.flush()
            direct = (time.perf_counter() - start) * 10
            ratios.append(direct / took)
            rate = max(rate, BURST / took)
    rows = [[f"{rate:,.0f} events/s", f"{lost}", f"{statistics.median(ratios):.1f}×"]]
    columns = ["emitted, encoded, written, committed", "lost", "faster than json.dumps(asdict(event)) and write"]
    return table(columns, rows)


def update_fields() -> dict[str, Any]:
    """Return 40 numbers of a PPO update: the scalar fields, and the entropies by head."""
    optional = {f.name: 0.5 for f in dataclasses.fields(PPOUpdatePayload) if f.type in {"float", "float | None"}}
    return optional | {
        "nan_grad_count": 0,
        "inf_grad_count": 0,
        "dead_layers": 0,
        "exploding_layers": 0,
        "entropy_collapsed": False,
        "inner_epoch": 8,
        "batch": 1,
        "skipped": False,
        "head_op_entropy": {"all": 1.0},
        "head_slot_entropy": {"all": 1.0},
        "head_blueprint_entropy": {"all": 1.0, "r0": 1.0, "r1": 1.0, "r2": 1.0},
        "head_tempo_entropy": {"all": 1.0, "r0": 1.0, "r1": 1.0, "r2": 1.0},
    }


def add_scalars(writer: Any, scalars: dict[str, float], step: int) -> None:
    for name, value in scalars.items():
        writer.add_scalar(name, value, step)


def ppo_update() -> str:
    """Return what recording one PPO update costs the thread that trains, with each of the usual tools."""
    fields = update_fields()
    scalars: dict[str, float] = {}
    for name, value in fields.items():
        scalars |= {f"{name}/{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    took: dict[str, tuple[float, float]] = {}

    def measure(name: str, record: Callable[[int], object]) -> None:
        medians = []
        for pace in (0.0, 0.005):
            values = []
            for step in range(200):
                start = time.perf_counter_ns()
                record(step)
                values.append(time.perf_counter_ns() - start)
                while time.perf_counter_ns() - start < pace * 1e9:
                    pass  # what training does meanwhile
            medians.append(statistics.median(values) / 1000)
        took[name] = (medians[0], medians[1])

    with scratch() as directory:
        with TelemetryHub([JsonlSink(directory / "events.jsonl"), TensorBoardSink(directory / "board")]) as hub:
            measure(
                "payload, event and emit; log and TensorBoard attached",
                lambda step: hub.emit(TelemetryEvent(data=PPOUpdatePayload(**fields), epoch=step)),
            )
            event = TelemetryEvent(data=PPOUpdatePayload(**fields))
            measure("emit alone, of an event that is there", lambda _: hub.emit(event))
        with (directory / "direct.jsonl").open("w") as file:
            measure("json.dumps of a dict and write", lambda _: file.write(json.dumps(fields) + "\n"))
        for name, module in (("torch SummaryWriter", "torch.utils.tensorboard"), ("tensorboardX", "tensorboardX")):
            with contextlib.suppress(ImportError):
                writer = importlib.import_module(module).SummaryWriter(str(directory / module))
                measure(
                    f"{name}, one add_scalar a number",
                    partial(add_scalars, writer, scalars),
                )
                writer.close()
        with contextlib.suppress(ImportError):
            run = importlib.import_module("wandb").init(dir=directory)
            measure("W&B offline, one log", lambda _: run.log(scalars))
            run.finish()
    ours = next(iter(took.values()))
    rows = [
        [name, *(f"{mine:,.1f} µs, {mine / our:,.1f}×" for mine, our in zip(theirs, ours, strict=True))]
        for name, theirs in took.items()
    ]
    return table([f"{len(scalars)} numbers, recorded with", "one after the other", "every 5 ms"], rows)


def main() -> None:
    """Print every table."""
    print(f"{machine('tensorboard', 'torch', 'wandb')}\n")
    sections = {
        "One event, on the caller's thread": emit_cost,
        "A loop with 110 µs of Python an event": slowdown,
        f"A burst of {BURST:,} events into the log": burst,
        "One PPO update, on the caller's thread": ppo_update,
    }
    for title, section in sections.items():
        print(f"## {title}\n\n{section()}\n", flush=True)


if __name__ == "__main__":
    main()
