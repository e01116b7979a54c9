"""Ways of an event from the thread that trains to the disk, each measured in a process of its own.

Run: python benchmarks/ways.py esper    (`benchmarks/end_to_end.py` runs them all, in turns)
"""

from __future__ import annotations

import copy
import json
import logging
import logging.handlers
import queue
import statistics
import sys
import tempfile
import threading
import time
import timeit
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from candidates import CANDIDATES, Arguments, build_dict, build_esper, mix
from esper.karn.aggregator import TelemetryAggregator
from esper.nissa.output import Durable, FunctionSink, Sink, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink

__all__ = ["LOOP", "WAYS"]

LOOP = 110e-6
"""Seconds that a loop computes between two events."""
STRETCH = 200
"""Events of a loop, before as many turns of it without."""
REST = 0.2
"""Seconds after which every way has written what it was given."""
SLOWEST = 0.01
"""The share of calls that are slower than the 99th percentile."""

Take: TypeAlias = Callable[[Arguments], object]


@contextmanager
def esper_log(path: Path, *, fold: bool = False) -> Iterator[Take]:
    """The hub and its log, and the aggregator if asked for."""
    sinks: list[Sink] = [JsonlSink(path)]
    if fold:
        sinks.append(FunctionSink("aggregator", TelemetryAggregator().process, Durable()))
    with TelemetryHub(sinks) as hub:
        yield lambda of: hub.emit(build_esper(of))


@contextmanager
def queued(path: Path, name: str) -> Iterator[Take]:
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
def logging_queue(path: Path) -> Iterator[Take]:
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
def structlog_file(path: Path) -> Iterator[Take]:
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


@contextmanager
def tensorboard(path: Path) -> Iterator[Take]:
    """A curve for every number of an event, by tensorboardX; text and what is nested beyond one dict is left out."""
    from tensorboardX import SummaryWriter

    writer, steps = SummaryWriter(str(path)), iter(range(sys.maxsize))

    def add(of: Arguments) -> None:
        step = next(steps)
        for name, number in _numbers(of).items():
            writer.add_scalar(name, number, step)

    yield add
    writer.close()


@contextmanager
def wandb_offline(path: Path) -> Iterator[Take]:
    """The same numbers by `wandb.log`, offline. What its own process spends is not seen here."""
    import wandb

    path.mkdir()
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    run = wandb.init(mode="offline", dir=str(path), project="esper", settings=settings)
    yield lambda of: run.log(_numbers(of))
    run.finish()


def _numbers(of: Arguments) -> dict[str, float]:
    flat = {f"{of.event_type}/{name}": value for name, value in of.fields.items()}
    for name, value in of.fields.items():
        if isinstance(value, dict):
            flat |= {f"{of.event_type}/{name}/{key}": inner for key, inner in value.items()}
    return {name: value for name, value in flat.items() if isinstance(value, float | int)}


WAYS: dict[str, Callable[[Path], Any]] = {
    "esper": esper_log,
    "esper, with its aggregator": lambda path: esper_log(path, fold=True),
    **{name: (lambda path, name=name: queued(path, name)) for name in CANDIDATES if name != "esper"},
    "logging.QueueHandler": logging_queue,
    "structlog": structlog_file,
    "TensorBoard": tensorboard,
    "W&B offline": wandb_offline,
}


def measured(name: str) -> dict[str, float]:
    """Return what one way costs: processor time, bytes, the slowest emits, and by how much it slows down two loops."""
    arguments = mix(1)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "events.jsonl"
        fresh = copy.deepcopy(arguments * 9)
        warm_up = len(arguments)  # so that each kind was met: its code is made once a process, in 50 ms for all of them
        with WAYS[name](path) as emit:
            for of in fresh[:warm_up]:
                emit(of)
            start = time.process_time()
            for of in fresh[warm_up:]:
                emit(of)
        cpu = (time.process_time() - start) / (len(fresh) - warm_up)
        size = sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()) / len(fresh)
        result = {"cpu": cpu, "bytes": size}
        for loop, compute in (("loop", _python()), ("torch", _torch())):
            with WAYS[name](Path(directory) / loop) as emit:
                result[loop], waits = _slowed(copy.deepcopy(arguments * 4), compute, emit)
            if loop == "loop":
                result["p99"] = statistics.quantiles(waits, n=round(1 / SLOWEST))[-1]
    return result


def _slowed(arguments: list[Arguments], compute: Callable[[], object], emit: Take) -> tuple[float, list[float]]:
    """Return how many times as long a loop takes that emits what it computes, and the seconds of each emit.

    A stretch with events and one without take turns, since a machine is not equally fast for long. What the other
    threads have still to do behind a stretch is added to it.
    """
    waits: list[float] = []
    ratios = []
    for first in range(0, len(arguments), STRETCH):
        stretch = arguments[first : first + STRETCH]
        start = time.perf_counter()
        for of in stretch:
            compute()
            before = time.perf_counter()
            emit(of)
            waits.append(time.perf_counter() - before)
        taken, spent = time.perf_counter() - start, time.process_time()
        time.sleep(REST)
        taken += time.process_time() - spent
        start = time.perf_counter()
        for _ in stretch:
            compute()
        ratios.append(taken / (time.perf_counter() - start))
    return statistics.median(ratios), waits


def _python() -> Callable[[], object]:
    """Return what takes so long in the interpreter."""

    def compute(turns: int) -> int:
        total = 0
        for turn in range(turns):
            total += turn
        return total

    turn = min(timeit.repeat(lambda: compute(1000), number=20, repeat=5)) / 20_000
    return lambda: compute(int(LOOP / turn))


def _torch() -> Callable[[], object]:
    """Return what takes about so long in torch: a forward and a backward pass of a small network."""
    import torch

    torch.set_num_threads(1)
    net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    inputs = torch.randn(32, 64)

    def compute() -> None:
        net(inputs).square().mean().backward()

    return compute


if __name__ == "__main__":
    print(json.dumps(measured(" ".join(sys.argv[1:]))))
