"""What the checkpoint at each batch's end costs a training run: ``python benchmarks/checkpoint.py [--batches N]``.

A short run is trained as `esper train` does it, with its log. What is done at a batch's end is timed by the wall, since
most of it is waiting for the disk, and set against the time of a batch.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esper.nissa.run import open_run
from esper.simic.config import TrainingConfig
from esper.simic.training.checkpoint import Checkpoint
from esper.simic.training.vectorized import train_arms
from harness import machine, table


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batches", type=int, default=8)
    config = TrainingConfig()
    config = TrainingConfig(episodes=config.envs * parser.parse_args().batches)
    taken: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        before = time.perf_counter()
        yield
        taken[name].append(time.perf_counter() - before)

    with tempfile.TemporaryDirectory() as directory, open_run(Path(directory) / "run") as run:
        path = run.path / "checkpoint.pt"

        def keep(checkpoint: Checkpoint) -> None:
            with timed("flush the log, fsync included"):
                run.flush(durable=True)
            with timed("write checkpoint.pt, fsync included"):
                checkpoint.save(path)
            with timed("write policy.pt, fsync included"):
                checkpoint.policies()[0].save(run.path / "policy.pt")

        before = time.perf_counter()
        train_arms(config, run.emit, keep=keep)
        batch = (time.perf_counter() - before) / config.updates
        size = path.stat().st_size

    print(machine("torch"), end="\n\n")
    print(f"A batch of {config.envs} episodes takes {batch:.2f} s; checkpoint.pt has {size / 1e3:.0f} kB.\n")
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    medians["in all"] = sum(medians.values())
    print(
        table(
            ("what", "median", "share of a batch"),
            [(n, f"{s * 1e3:.1f} ms", f"{s / batch:.2%}") for n, s in medians.items()],
        )
    )


if __name__ == "__main__":
    main()
