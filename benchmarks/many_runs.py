"""Many runs: how long a listing of a thousand takes, and how often ``esper compare`` calls a difference real.

    python benchmarks/many_runs.py

The runs are written anew, each with the log of a short run, into a temporary directory; the command is run as a process
of its own, its start included. The second part draws runs from known distributions: arms that are the same, and arms
whose means are so many standard deviations apart.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from esper.karn.comparison.statistics import interval, p_value
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import encode_event

RUNS = 1000
BATCHES = 40
SETTLING = 4.0
"""Seconds before what was just written is remembered."""
TIMES = 1000
BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


def write(path: Path, seed: int, rng: random.Random) -> None:
    """Write one run."""
    start = TrainingStartedPayload(
        n_envs=4, max_epochs=24, task="digits", host_params=706, slot_ids=("r0",), seed=seed, n_episodes=4 * BATCHES,
        lr=3e-3, clip_ratio=0.2, entropy_coef=0.05, param_budget=1000, policy_device="cpu", env_devices=("cpu",) * 4,
    )  # fmt: skip
    events = [TelemetryEvent(data=start, timestamp=BEGAN)]
    for at in range(BATCHES):
        batch = BatchEpochCompletedPayload(
            episodes_completed=4 * (at + 1), batch_idx=at, avg_accuracy=rng.random(), avg_reward=rng.gauss(at, 3),
            total_episodes=4 * BATCHES, n_envs=4,
        )  # fmt: skip
        events.append(TelemetryEvent(data=batch, timestamp=BEGAN + timedelta(minutes=at)))
    path.mkdir(parents=True)
    (path / "events.jsonl").write_text("".join(encode_event(each) + "\n" for each in events))
    info = RunInfo(status="completed", started=BEGAN, configuration={"seed": seed}, versions={"python": "3.11"})
    RunDirectory(path).write_info(info)


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return seconds by the clock, and of CPU."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return time.perf_counter() - begun, cpu


def listing() -> None:
    """Print how long a listing takes, the first time and later."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "runs"
        for seed in range(RUNS):
            write(root / f"sweep-{seed % 10}" / f"seed-{seed}", seed, rng)
        time.sleep(SETTLING)
        environment = {**os.environ, "XDG_CACHE_HOME": f"{directory}/cache", "COLUMNS": "120"}
        print(f"| `esper runs`, {RUNS:,} runs of {BATCHES + 1} events | seconds | of CPU |\n|---|---|---|")
        command = [sys.executable, "-m", "esper", "runs", str(root)]
        nothing = [sys.executable, "-m", "esper", "runs", "--help"]
        for name, line in (
            ("the first time", command),
            ("the second", command),
            ("the third", command),
            ("its --help", nothing),
        ):
            clock, cpu = timed(line, environment)
            print(f"| {name} | {clock:.2f} | {cpu:.2f} |")


KINDS: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(0, 1),
    "skewed (log-normal)": lambda rng: rng.lognormvariate(0, 1) / 2.16,
    "two ends": lambda rng: rng.choice([-1.0, 1.0]) + rng.gauss(0, 0.1),
    "tied (four values)": lambda rng: rng.randint(0, 3) / 1.12,
}


def calibration() -> None:
    """Print how often arms with a standard deviation of about 1 are called different, by how far apart they are."""
    rng = random.Random(2)
    print(f"\n| called different, of {TIMES:,} | seeds an arm | the same | 1 apart | 2 apart |\n|---|---|---|---|---|")
    for kind, draw in KINDS.items():
        for n in (3, 4, 5, 10):
            shares = []
            for apart in (0.0, 1.0, 2.0):
                real = [
                    p_value([draw(rng) + apart for _ in range(n)], [draw(rng) for _ in range(n)]) <= 0.05
                    for _ in range(TIMES)
                ]
                shares.append(f"{sum(real) / TIMES:.1%}")
            print(f"| {kind} | {n} | {' | '.join(shares)} |")
    print("\n| 95 % bootstrap interval of the mean holds the mean, normal | share |\n|---|---|")
    for n in (3, 5, 10):
        found = [interval([rng.gauss(0, 1) for _ in range(n)]) for _ in range(TIMES)]
        holds = [one is not None and one[0] <= 0 <= one[1] for one in found]
        print(f"| {n} seeds | {sum(holds) / TIMES:.1%} |")


if __name__ == "__main__":
    listing()
    calibration()
