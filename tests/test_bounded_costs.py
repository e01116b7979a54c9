"""What a log costs its readers grows with its length, whatever an enemy has written into it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.builders import event
from tests.every_command import arguments_of, command

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
    TrainingStartedPayload,
)
from esper.leyline.wire import encode_event

pytestmark = pytest.mark.no_cover  # what it runs has tests of its own, and the tracer would take a third of the time

STARTED = {"n_envs": 1, "max_epochs": 6, "n_episodes": 10**6, "slot_ids": ("a",), "clip_ratio": 0.2}


def start() -> TelemetryEvent:
    return event(TrainingStartedPayload, **STARTED)


def groups(n: int) -> Iterable[TelemetryEvent]:
    return (event(EpochCompletedPayload, env_id=0, inner_epoch=1, group_id=f"g{i}") for i in range(n))


def environments(n: int) -> Iterable[TelemetryEvent]:
    yield start()
    yield from (event(EpochCompletedPayload, env_id=i, inner_epoch=1) for i in range(n))


def slots(n: int) -> Iterable[TelemetryEvent]:
    yield start()
    for i in range(n):
        yield event(SeedGerminatedPayload, env_id=0, slot_id=f"s{i}", blueprint_id="mlp", seed_id=f"seed{i}")


def seeds_of_one_slot(n: int) -> Iterable[TelemetryEvent]:
    yield start()
    for i in range(n // 3):
        yield event(SeedGerminatedPayload, env_id=0, slot_id="a", blueprint_id=f"kind{i}", seed_id=f"seed{i}")
        yield event(SeedStageChangedPayload, env_id=0, slot_id="a", from_stage="GERMINATED", to_stage=f"x{i}")
        yield event(SeedPrunedPayload, env_id=0, slot_id="a", reason=f"because {i}", seed_id=f"seed{i}")


def names(n: int) -> Iterable[TelemetryEvent]:
    yield start()
    for i in range(n // 2):
        yield event(RewardComputedPayload, env_id=0, action_name=f"do{i}")
        yield event(AnalyticsSnapshotPayload, kind=f"kind{i}")


def layers(n: int) -> Iterable[TelemetryEvent]:
    yield start()
    yield from (
        event(PPOUpdatePayload, layer_gradient_health={f"h{i}-{j}": 0.1 for j in range(20)}) for i in range(n // 10)
    )


def runs(n: int) -> Iterable[TelemetryEvent]:
    return (start() for _ in range(n))


def batches_backwards(n: int) -> Iterable[TelemetryEvent]:
    yield start()
    for i in range(n, 0, -1):
        yield event(BatchEpochCompletedPayload, batch_idx=i, episodes_completed=i, total_episodes=n, n_envs=1)


def long_texts(n: int) -> Iterable[TelemetryEvent]:
    yield start()
    yield from (
        event(EpochCompletedPayload, env_id=0, message="\x1b" * 20_000, severity="error") for _ in range(n // 20)
    )


def matrices(n: int) -> Iterable[TelemetryEvent]:
    yield start()
    ids = tuple(f"s{i}" for i in range(10))
    configs = tuple({"seed_mask": [bool(j >> i & 1) for i in range(10)], "accuracy": 0.5} for j in range(256))
    yield from (event(CounterfactualMatrixPayload, env_id=i, slot_ids=ids, configs=configs) for i in range(n // 200))


def deep(n: int) -> Iterable[TelemetryEvent]:
    inner: object = 1.0
    for _ in range(60):
        inner = [inner]
    yield from (event(CounterfactualMatrixPayload, slot_ids=("a",), configs=({"x": inner},)) for _ in range(n // 5))


def kinds_of_error(n: int) -> Iterable[str]:
    yield encode_event(start())
    yield from (f'{{"schema_version":1,"key{i}":{i}}}' for i in range(n))


def blank(n: int) -> Iterable[str]:
    yield encode_event(start())
    yield from (encode_event(start()) if i % 2 else "" for i in range(n))


def many_keys(n: int) -> Iterable[str]:
    yield encode_event(start())
    yield '{"schema_version":1,' + ",".join(f'"k{i}":{i}' for i in range(n * 5)) + "}"


def one_long_line(n: int) -> Iterable[str]:
    yield encode_event(event(EpochCompletedPayload, message='"\\' * n * 50))
    yield "[" * (n * 50)


LOGS: dict[str, Callable[[int], Iterable[TelemetryEvent | str]]] = {
    make.__name__: make
    for make in (
        groups, environments, slots, seeds_of_one_slot, names, layers, runs, batches_backwards, long_texts, matrices,
        deep, kinds_of_error, blank, many_keys, one_long_line,
    )
}  # fmt: skip
KNOWN = {("layers", "report")}
"""A curve a layer over all updates: other names in each update make their product, as docs/security.md says."""
READERS = ["validate", "replay", "health --all", "schema --duckdb", "report"]


def cost(name: str, run: Path) -> float:
    """Return how long the process computed, reading a run. Unit: seconds."""
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        status, _, err = command(*arguments_of(name, run, run / "page.html"))
        taken = time.process_time() - began
    finally:
        gc.enable()
    assert status in {0, 1}, err
    return taken


def write(run: Path, lines: Iterable[TelemetryEvent | str]) -> None:
    run.mkdir()
    with (run / "events.jsonl").open("w") as file:
        file.writelines(f"{line if isinstance(line, str) else encode_event(line)}\n" for line in lines)


@pytest.mark.parametrize("log", LOGS)
def test_four_times_the_log_costs_about_four_times_as_much(tmp_path: Path, log: str) -> None:
    write(tmp_path / "short", LOGS[log](200))
    write(tmp_path / "long", LOGS[log](800))
    readers = [name for name in READERS if (log, name) not in KNOWN]
    costs: dict[str, tuple[float, float]] = {}
    for _ in range(2):  # again for those alone that something else may have held up
        costs = {name: (cost(name, tmp_path / "short"), cost(name, tmp_path / "long")) for name in readers}
        # Twice what is linear: a square would be four times. What costs next to nothing is not measured by this clock.
        readers = [name for name, (short, long) in costs.items() if long > 8 * short + 0.1]
    assert {name: costs[name] for name in readers} == {}
