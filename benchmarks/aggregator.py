"""What folding and looking cost: events a second from 4 to 1,024 environments, and one snapshot.

Run: python benchmarks/aggregator.py
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING

from esper.karn.aggregator import TelemetryAggregator
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
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = ("r0c0", "r1c0", "r2c0")
EPOCHS = 24
WARM_UP = 6
REPEATS = 7


def mix(n_envs: int, n_batches: int) -> list[TelemetryEvent]:
    """Return the events of a realistic run: steps, epochs, ablations, seeds that come and go, updates, batches."""
    return [
        TelemetryEvent(data=data, epoch=1, slot_id=slot, seed_id=seed)
        for batch in range(n_batches)
        for data, slot, seed in _batch(n_envs, batch)
    ]


def _batch(n_envs: int, batch: int) -> Iterator[tuple[TelemetryPayload, str | None, str | None]]:
    for epoch in range(1, EPOCHS + 1):
        for env_id in range(n_envs):
            slot, seed = SLOTS[epoch % 3], f"{env_id}-{batch}-{epoch // 8}"
            if epoch % 8 == 1:
                yield SeedGerminatedPayload(slot_id=slot, env_id=env_id, blueprint_id="mlp", params=812), slot, seed
                yield _stage(env_id, slot, "DORMANT", "GERMINATED"), slot, seed
            if epoch % 8 == 6:
                yield SeedPrunedPayload(slot_id=slot, env_id=env_id, reason="policy", blueprint_id="mlp"), slot, seed
                yield _stage(env_id, slot, "GERMINATED", "PRUNED"), slot, seed
            if epoch % 2:
                configs = ({"seed_mask": [True], "accuracy": 0.5},)
                yield CounterfactualMatrixPayload(env_id=env_id, slot_ids=(slot,), configs=configs), None, None
            yield EpochCompletedPayload(env_id=env_id, val_accuracy=0.5, val_loss=1.0, inner_epoch=epoch), None, None
            yield (
                RewardComputedPayload(
                    env_id=env_id, total_reward=0.1, action_name="WAIT", value_estimate=0.2, action_confidence=0.9
                ),
                None,
                None,
            )
    for env_id in range(n_envs):
        yield AnalyticsSnapshotPayload(kind="last_action", env_id=env_id, action_name="WAIT"), None, None
    yield AnalyticsSnapshotPayload(kind="action_distribution", action_counts={"WAIT": n_envs}), None, None
    yield (
        PPOUpdatePayload(
            policy_loss=0.1, value_loss=0.2, entropy=1.0, grad_norm=0.5, kl_divergence=0.01, clip_fraction=0.1,
            nan_grad_count=0,
        ),
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
    )  # fmt: skip


def _stage(env_id: int, slot: str, left: str, entered: str) -> SeedStageChangedPayload:
    return SeedStageChangedPayload(slot_id=slot, env_id=env_id, from_stage=left, to_stage=entered)


def events_per_second(events: list[TelemetryEvent]) -> float:
    """Return the median rate of an aggregator whose histories are full, as they are for all but a run's beginning."""
    gc.collect()
    gc.freeze()  # a live run's events come and go; these are kept by the benchmark and must not burden the collector
    process = TelemetryAggregator().process
    rates = []
    for _ in range(WARM_UP + REPEATS):
        begin = time.perf_counter()
        for event in events:
            process(event)
        rates.append(len(events) / (time.perf_counter() - begin))
    gc.unfreeze()
    return statistics.median(rates[WARM_UP:])


def snapshot_us(n_envs: int) -> float:
    """Return the median time of a snapshot after long histories have filled, in microseconds."""
    aggregator = TelemetryAggregator()
    for event in mix(n_envs, 12):
        aggregator.process(event)
    times = []
    for _ in range(200):
        begin = time.perf_counter()
        aggregator.snapshot()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def main() -> None:
    """Print the table."""
    few, many = events_per_second(mix(4, 512)), events_per_second(mix(1024, 2))
    print("| aggregator | measured | target |\n|---|---|---|")
    print(f"| events/s, 4 environments | {few:,.0f} | ≥ 300,000 |")
    print(f"| events/s, 1,024 environments | {many:,.0f} | as many |")
    print(f"| snapshot, 64 environments, every one changed | {snapshot_us(64):.0f} µs | ≤ 100 µs |")


if __name__ == "__main__":
    main()
