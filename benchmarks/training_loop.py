"""How fast the training loop is beside that of another commit, and whether both do the same to the last bit.

Run: python benchmarks/training_loop.py [--against COMMIT] [--episodes N]

Both play the same episodes in processes of their own, taking turns. What they emitted, but for ids, times and measured
durations, and the weights they ended with are compared; processor time is the least of each. Needs git.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import machine, ratio, table

if TYPE_CHECKING:
    from esper.leyline.telemetry import TelemetryEvent

ROOT = Path(__file__).parents[1]
BEFORE = "17f3e5b677"
"""The last commit whose loop calls an optimizer a seed, and evaluates each ablated network from its inputs on."""
TURNS = 3
MEASURED = {"event_id", "timestamp", "update_time_ms", "compute_time_ms"}
SEEDS = ("mixer", "norm", "mixer")
"""What a trained policy likes to grow."""


# ---- in a process of its own, for whichever esper is on its path


def scripted(grow: Iterable[str]) -> tuple[float, str]:
    """Play episodes in which these seeds are grown, kept, and trained on; of no seed, ones of a bare host."""
    import numpy as np

    from esper.kasmina.blueprints import BLUEPRINTS
    from esper.leyline.actions import HEADS, Op
    from esper.simic.environment import GrowthEnv

    events: list[TelemetryEvent] = []
    env = GrowthEnv("digits", env_id=0, param_budget=2000, emit=events.append, control=(0.5,) * 24)
    blueprints = [list(BLUEPRINTS).index(name) for name in grow]
    ops = list(Op)
    plan = [
        {"op": ops.index(op), "slot": slot, "blueprint": blueprint, "alpha_target": 2, "style": slot % 2}
        for op in (Op.GERMINATE, Op.ADVANCE, Op.WAIT, Op.WAIT, Op.FOSSILIZE)
        for slot, blueprint in enumerate(blueprints)
    ]
    least = float("inf")
    for seed in range(4):
        env.reset(seed=seed)
        began = time.process_time()
        done = False
        for step in itertools.count():
            choice = plan[step] if step < len(plan) else {}
            done = env.step(np.array([choice.get(head, 0) for head in HEADS]))[2]
            if done:
                break
        least = min(least, time.process_time() - began)
    return least, _digest(events)


def whole_run(episodes: int) -> tuple[float, str]:
    """Train, and return the processor time and what it came to."""
    from esper.simic.config import TrainingConfig
    from esper.simic.training.vectorized import train

    train(TrainingConfig(episodes=1, envs=1, max_epochs=2), lambda _event: None)  # torch makes much on first use
    events: list[TelemetryEvent] = []
    began = time.process_time()
    trained = train(TrainingConfig(episodes=episodes, seed=2), events.append)
    taken = time.process_time() - began
    weights = hashlib.sha256()
    for name, weight in trained.policy().state_dict().items():
        weights.update(name.encode() + weight.numpy().tobytes())
    return taken, f"{_digest(events)} {weights.hexdigest()}"


PARTS: dict[str, Callable[[int], tuple[float, str]]] = {
    "an episode of a bare host": lambda _: scripted(()),
    "an episode that keeps a seed": lambda _: scripted(SEEDS[:1]),
    "an episode that keeps three": lambda _: scripted(SEEDS),
    "an episode that keeps one each of the others": lambda _: scripted(("attention", "mlp")),
    "a run": whole_run,
}


def _digest(events: Iterable[TelemetryEvent]) -> str:
    digest = hashlib.sha256()
    for event in events:
        whole: dict[str, Any] = event.to_dict()
        for part in (whole, whole["data"]):
            for name in MEASURED & part.keys():
                del part[name]
        digest.update(json.dumps(whole).encode())
    return digest.hexdigest()


# ---- both, in turns


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--against", metavar="COMMIT", default=BEFORE, help="what to compare with (default: %(default)s)"
    )
    parser.add_argument("--episodes", type=int, default=8, help="of the run (default: %(default)s)")
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.apart:
        print(json.dumps({name: part(options.episodes) for name, part in PARTS.items()}))
        return
    paths = {"here": ROOT / "src", "before": _source_of(options.against)}
    rows = []
    turns = []
    for turn in range(TURNS):
        order = sorted(paths, reverse=turn % 2 == 0)  # who comes first has another machine than who comes second
        turns.append({name: _apart(paths[name], options.episodes) for name in order})
    for part in PARTS:
        here, before = (min(turn[name][part][0] for turn in turns) for name in paths)
        same = len({each[part][1] for turn in turns for each in turn.values()}) == 1
        rows.append((part, f"{before:.3f} s", f"{here:.3f} s", ratio(here, before), "yes" if same else "NO"))
    print(machine("torch"), end="\n\n")
    print(f"CPU time on one torch thread, beside commit {options.against}; a run of {options.episodes} episodes\n")
    print(table(("what", "before", "here", "as fast", "every event and weight equal"), rows))


def _source_of(commit: str) -> Path:
    """Return the directory of a commit's packages, taken out of the repository."""
    git = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, capture_output=True, check=False)
    if git.returncode:
        sys.exit(f"cannot compare with {commit}: {git.stderr.decode().strip()}")
    where = ROOT / "build" / "training_loop" / commit
    with tarfile.open(fileobj=BytesIO(git.stdout)) as archive:
        archive.extractall(where, filter="data")
    return where / "src"


def _apart(path: Path, episodes: int) -> dict[str, tuple[float, str]]:
    done = subprocess.run(
        [sys.executable, __file__, "--apart", "--episodes", str(episodes)],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    measured: dict[str, tuple[float, str]] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    main()
