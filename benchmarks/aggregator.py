"""What folding and looking cost: by environments, by the length of the run, and with a reader beside the run.

Run: python benchmarks/aggregator.py

Rates and costs are of the processor's time, the garbage collector's included; what an emitter waits is of the wall.
Instructions are counted by valgrind where it is installed; they are compared with what `INSTRUCTIONS` says.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from itertools import count, cycle, groupby, islice, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import candidates
import harness
from esper.karn.aggregator import TelemetryAggregator
from esper.karn.bounds import LIVE
from esper.karn.snapshot import (
    Entry,
    EntryHistory,
    EnvSnapshot,
    Epochs,
    Rewards,
    RunSnapshot,
    SeedRecord,
    SlotSnapshot,
    new_record,
)
from esper.leyline.position import Position
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)
from esper.leyline.wire import read_events
from esper.nissa.output import Durable, FunctionSink, Sink, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink
from harness import machine, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SLOTS = ("r0c0", "r1c0", "r2c0")
EPOCHS = 24
DISTINCT = 150_000
"""Events made beforehand, whatever the number of environments."""
REPEATS = 3
MARKS = (10_000, 100_000, 1_000_000)
PACE = 0.001
PACED = 1_000
LOOKS = 50
"""A second."""
BETWEEN = 10
"""Events of each environment between two looks of a dashboard: four looks and ten steps a second."""
AGAIN = (1, 10, 100)
"""How often a recorded run is folded, one after the other."""
INSTRUCTIONS = {"a recorded run": 19_900, "4": 17_200, "64": 14_800}
"""To fold an event of these, when last looked at, by CPython 3.11: much above it is a step back."""
COUNTED = (6_000, 18_000)
"""Events; what the second lot costs is what is counted."""


def mix(n_envs: int) -> Iterator[TelemetryEvent]:
    """Yield the events of a realistic run, built as they are asked for: steps, epochs, ablations, seeds, updates."""
    start = TrainingStartedPayload(
        n_envs=n_envs, max_epochs=EPOCHS, task="digits", host_params=706, slot_ids=SLOTS, seed=1, n_episodes=4096,
        lr=3e-3, clip_ratio=0.2, entropy_coef=0.05, param_budget=2000, policy_device="cpu",
        env_devices=("cpu",) * n_envs,
    )  # fmt: skip
    yield TelemetryEvent(data=start)
    for batch in count():
        for data, epoch, slot, seed in _batch(n_envs, batch):
            yield TelemetryEvent(data=data, epoch=epoch, slot_id=slot, seed_id=seed)


def _batch(n_envs: int, batch: int) -> Iterator[tuple[TelemetryPayload, int | None, str | None, str | None]]:
    for epoch in range(1, EPOCHS + 1):
        for env_id in range(n_envs):
            slot, seed = SLOTS[epoch % 3], f"{env_id}-{batch}-{epoch // 8}"
            if epoch % 8 == 1:
                yield (
                    SeedGerminatedPayload(slot_id=slot, env_id=env_id, blueprint_id="mlp", params=812),
                    epoch,
                    slot,
                    seed,
                )
                yield _stage(env_id, slot, "DORMANT", "GERMINATED"), epoch, slot, seed
            if epoch % 8 == 6:
                yield (
                    SeedPrunedPayload(slot_id=slot, env_id=env_id, reason="policy", blueprint_id="mlp"),
                    epoch,
                    slot,
                    seed,
                )
                yield _stage(env_id, slot, "GERMINATED", "PRUNED"), epoch, slot, seed
            if epoch % 2:
                configs = ({"seed_mask": [True], "accuracy": 0.5},)
                yield CounterfactualMatrixPayload(env_id=env_id, slot_ids=(slot,), configs=configs), epoch, None, None
            yield (
                EpochCompletedPayload(env_id=env_id, val_accuracy=0.5, val_loss=1.0, inner_epoch=epoch),
                epoch,
                None,
                None,
            )
            yield (
                RewardComputedPayload(
                    env_id=env_id, total_reward=0.1, action_name="WAIT", value_estimate=0.2, action_confidence=0.9
                ),
                epoch,
                None,
                None,
            )
    for env_id in range(n_envs):
        yield AnalyticsSnapshotPayload(kind="last_action", env_id=env_id, action_name="WAIT"), EPOCHS, None, None
    yield AnalyticsSnapshotPayload(kind="action_distribution", action_counts={"WAIT": n_envs}), None, None, None
    yield (
        PPOUpdatePayload(
            policy_loss=0.1, value_loss=0.2, entropy=1.0, grad_norm=0.5, kl_divergence=0.01, clip_fraction=0.1,
            nan_grad_count=0,
        ),
        None,
        None,
        None,
    )  # fmt: skip
    done = (batch + 1) * n_envs
    yield (
        BatchEpochCompletedPayload(
            episodes_completed=done, batch_idx=batch, avg_accuracy=0.5, avg_reward=1.0, total_episodes=4096,
            n_envs=n_envs,
        ),
        None,
        None,
        None,
    )  # fmt: skip


def _stage(env_id: int, slot: str, left: str, entered: str) -> SeedStageChangedPayload:
    return SeedStageChangedPayload(slot_id=slot, env_id=env_id, from_stage=left, to_stage=entered)


def seconds_to(
    call: Callable[[TelemetryEvent], object], events: list[TelemetryEvent] | Iterator[TelemetryEvent]
) -> float:
    """Return the processor's time that calling with each event takes."""
    begin = time.process_time()
    for event in events:
        call(event)
    return time.process_time() - begin


def events_to_fill(n_envs: int) -> int:
    """Return how many events fill the histories and the seeds of every environment."""
    return max(LIVE.env_history // EPOCHS, LIVE.seeds or 0) * sum(1 for _ in _batch(n_envs, 0))


def by_environments() -> str:
    """Return what an event costs with full histories: made beforehand, and built as they come."""
    return table(
        ["environments", "events/s, made beforehand", "build one", "build and fold one", "of that, collector"],
        [[f"{n_envs:,}", f"{_prepared(n_envs):,.0f}", *_as_they_come(n_envs)] for n_envs in (4, 64, 1024)],
    )


def _prepared(n_envs: int) -> float:
    events = list(islice(mix(n_envs), DISTINCT))
    gc.collect()
    gc.freeze()  # a live run's events come and go; these are kept by the benchmark and must not burden the collector
    process = TelemetryAggregator().process
    for _ in range(events_to_fill(n_envs) // DISTINCT + 1):
        seconds_to(process, events)
    rates = [len(events) / seconds_to(process, events) for _ in range(REPEATS)]
    gc.unfreeze()
    return statistics.median(rates)


def _as_they_come(n_envs: int) -> list[str]:
    events, process = mix(n_envs), TelemetryAggregator().process
    gc.disable()
    seconds_to(process, islice(events, events_to_fill(n_envs)))
    gc.enable()
    gc.collect()
    collecting: list[float] = []

    def collector(phase: str, _: dict[str, int]) -> None:
        now = time.process_time()
        collecting.append(-now if phase == "start" else now)

    alone, folding = [], []
    gc.callbacks.append(collector)
    for _ in range(REPEATS):
        alone.append(seconds_to(id, islice(mix(n_envs), DISTINCT)))
        collecting.clear()
        folding.append((seconds_to(process, islice(events, DISTINCT)), sum(collecting)))
    gc.callbacks.remove(collector)
    built, folded = statistics.median(alone), statistics.median(total for total, _ in folding)
    walked = statistics.mean(walks for _, walks in folding)
    return [f"{seconds / DISTINCT * 1e6:.2f} µs" for seconds in (built, folded, walked)]


def by_instructions() -> str:
    """Return the instructions to fold an event, beside those when it was last looked at."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed: no instructions are counted"
    if not candidates.MIX.exists():
        candidates.record()
    rows = []
    for events, before in INSTRUCTIONS.items():
        few, many = (harness.instructions(__file__, "--count", events, "--folded", folded) for folded in COUNTED)
        rows.append([events, f"{(many - few) / (COUNTED[1] - COUNTED[0]):,.0f}", f"{before:,}"])
    return table(["environments", "instructions to fold an event", "before"], rows)


def fold(name: str, folded: int) -> None:
    """Make the events to count, and fold so many of them."""
    gc.disable()
    made: Iterator[TelemetryEvent]
    if name.isdigit():
        made = mix(int(name))
    else:
        made = cycle([event for event in read_events(candidates.MIX) if isinstance(event, TelemetryEvent)])
    events, process = list(islice(made, COUNTED[1])), TelemetryAggregator().process
    for event in events[:folded]:
        process(event)


def by_length(marks: Sequence[int] = MARKS) -> str:
    """Return the rate, at 4 environments, of aggregators that have folded so many events already.

    They take turns, so that a slow moment of the machine falls on all of them. Memory is that of the process when the
    first one had come so far.
    """
    events, oldest = mix(4), TelemetryAggregator().process
    memory = []
    for before, mark in pairwise((0, *marks)):
        seconds_to(oldest, islice(events, mark - before))
        memory.append(f"{resident_megabytes():.0f} MB")
    aggregators = [*(TelemetryAggregator().process for _ in marks[:-1]), oldest]
    for mark, process in zip(marks, aggregators[:-1], strict=False):
        seconds_to(process, islice(events, mark))
    taken: list[list[float]] = [[] for _ in marks]
    for _ in range(25):
        for process, seconds in zip(aggregators, taken, strict=True):
            seconds.append(seconds_to(process, list(islice(events, 400))) / 400)
    rows = [
        [f"{mark:,}", f"{1 / statistics.median(seconds):,.0f}", megabytes]
        for mark, seconds, megabytes in zip(marks, taken, memory, strict=True)
    ]
    return table(["events folded before", "events/s", "memory"], rows)


def memory() -> str:
    """Return the memory in use when a recorded run, its events made beforehand, has been folded so often."""
    if not candidates.MIX.exists():
        candidates.record()
    events = [event for event in read_events(candidates.MIX) if isinstance(event, TelemetryEvent)]
    process, rows = TelemetryAggregator().process, []
    for before, times in pairwise((0, *AGAIN)):
        seconds_to(process, islice(cycle(events), (times - before) * len(events)))
        rows.append([f"{times * len(events):,}", f"{resident_megabytes():.1f} MB"])
    return table(["events of a recorded run, again and again", "memory"], rows)


def resident_megabytes() -> float:
    """Return the memory in use; where the system does not say, NaN."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except FileNotFoundError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def looking() -> str:
    """Return what a snapshot costs: after nothing, a step, a step and a seed of every environment, and between looks.

    The last column is the least that the one before it can be: the records of so much, made of what is at hand.
    """
    rows = []
    for n_envs in (4, 64):
        aggregator, events = TelemetryAggregator(), mix(n_envs)
        for event in islice(events, events_to_fill(n_envs)):
            aggregator.process(event)
        shown = deque([aggregator.snapshot()], maxlen=1)  # a view holds what it shows until it has the next
        times: dict[str, list[float]] = {"nothing": [], "a step": [], "a step and a seed": [], "between": []}
        for epoch, of_epoch in islice(groupby(events, lambda event: event.epoch), 10 * EPOCHS):
            for event in of_epoch:
                aggregator.process(event)
            if epoch is not None:
                times["a step and a seed" if epoch % 8 in {1, 6} else "a step"].append(_snapshot(aggregator, shown))
                times["nothing"].append(_snapshot(aggregator, shown))
        for _ in range(4 * EPOCHS):
            for event in islice(events, BETWEEN * n_envs):
                aggregator.process(event)
            times["between"].append(_snapshot(aggregator, shown))
        times["bare"] = [_bare(aggregator.snapshot()) for _ in range(4 * EPOCHS)]
        rows.append(
            [f"{n_envs:,}", *(f"{min(of) * 1e6:.0f} to {statistics.median(of) * 1e6:.0f} µs" for of in times.values())]
        )
    header = ["nothing new", "a step of each", "a step and a seed of each", f"{BETWEEN} events of each", "bare records"]
    return table(["environments, minimum to median", *header], rows)


def _bare(snapshot: RunSnapshot) -> float:
    """Return the seconds to make anew what changed in the step of a seed: five records an environment, two views."""
    group = snapshot.groups["default"]
    parts = [(env, next(iter(env.slots.values())), dict(env.slots)) for env in group.envs.values()]
    events, positions, envs = list[TelemetryEvent](), list[Position](), dict[int, EnvSnapshot]()
    begin = time.perf_counter()
    for env, slot, others in parts:
        entry = env.counterfactual and new_record(Entry, tuple(env.counterfactual))
        slots = {
            **others,
            slot.slot_id: new_record(
                SlotSnapshot, (slot.slot_id, (*slot.seeds[:-1], new_record(SeedRecord, slot.seed)))
            ),
        }
        views: tuple[Epochs, Rewards] = EntryHistory(events, positions, 0, 0), EntryHistory(events, positions, 0, 0)
        envs[env.env_id] = new_record(EnvSnapshot, (env.env_id, *views, None, entry, MappingProxyType(slots)))
    return time.perf_counter() - begin


def _snapshot(aggregator: TelemetryAggregator, shown: deque[RunSnapshot]) -> float:
    begin = time.perf_counter()
    snapshot = aggregator.snapshot()
    taken = time.perf_counter() - begin
    shown.append(snapshot)
    return taken


class Looker:
    """A thread that takes snapshots and reads what a dashboard shows of them."""

    def __init__(self, aggregator: TelemetryAggregator) -> None:
        self._aggregator = aggregator
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(1 / LOOKS):
            for group in self._aggregator.snapshot().groups.values():
                for env in group.envs.values():
                    for entry in (env.epoch, env.reward, env.last_action, env.counterfactual):
                        assert entry is None or entry.data is entry.event.data


@contextlib.contextmanager
def watching(directory: Path) -> Iterator[None]:
    """Follow a run with `esper watch`, in a terminal and a process of its own."""
    watch = [sys.executable, "-m", "esper", "watch", str(directory)]
    process = subprocess.Popen(
        [sys.executable, "-c", f"import pty; pty.spawn({watch!r})"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "200", "LINES": "60", "TERM": "xterm-256color"},
        start_new_session=True,
    )
    try:
        time.sleep(2)  # until its first screen is drawn
        yield
    finally:
        process.terminate()
        process.wait()


def beside_a_reader() -> str:
    """Return what the emitter and the aggregator wait, 64 environments, an event a millisecond."""
    waits: dict[tuple[str, str], list[list[float]]] = {}
    for training, pause in (("computes in Python", _spin), ("waits in C", _sleep)):
        for _ in range(REPEATS):
            for reader in ("nobody", f"a thread, {LOOKS} times a second", "`esper watch`"):
                waits.setdefault((training, reader), []).append(_paced(reader, pause))
    rows = [
        [*names, *(f"{statistics.median(column):.2f} µs" for column in zip(*repeats, strict=True))]
        for names, repeats in waits.items()
    ]
    return table(["the emitter's thread", "reader", "emit p50", "p99", "process p50", "p99"], rows)


def _paced(reader: str, pause: Callable[[float], None]) -> list[float]:
    aggregator, folding, emitting = TelemetryAggregator(), list[int](), list[int]()
    events, clock = mix(64), time.perf_counter_ns
    seconds_to(aggregator.process, islice(events, events_to_fill(64)))

    def process(event: TelemetryEvent) -> None:
        begin = clock()
        aggregator.process(event)
        folding.append(clock() - begin)

    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sinks: list[Sink] = [JsonlSink(directory / "events.jsonl"), FunctionSink("aggregator", process, Durable())]
        hub = stack.enter_context(TelemetryHub(sinks))
        if reader.startswith("a thread"):
            stack.enter_context(Looker(aggregator))
        elif reader != "nobody":
            stack.enter_context(watching(directory))
        for event in islice(events, PACED):
            begin = clock()
            hub.emit(event)
            emitting.append(clock() - begin)
            pause(begin / 1e9 + PACE)
    return [
        sorted(taken)[int(len(taken) * part)] / 1000
        for taken, part in ((emitting, 0.5), (emitting, 0.99), (folding, 0.5), (folding, 0.99))
    ]


def _spin(until: float) -> None:
    while time.perf_counter() < until:
        pass


def _sleep(until: float) -> None:
    time.sleep(max(until - time.perf_counter(), 0))


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", help=argparse.SUPPRESS)
    parser.add_argument("--folded", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.count is not None:
        return fold(given.count, given.folded)
    print(f"{machine()}\n")
    sections = {
        "Instructions": by_instructions,
        "By the length of the run": by_length,
        "Runs one after the other": memory,
        "By environments": by_environments,
        "Looking": looking,
        "Beside a reader": beside_a_reader,
    }
    for title, section in sections.items():
        print(f"## {title}\n\n{section()}\n", flush=True)
    return None


if __name__ == "__main__":
    main()
