"""Training runs in processes of their own that are killed, resumed and compared with one that was left alone.

``PYTHONPATH=. python tests/killed_runs.py --times 200`` does so at random, for ``make soak``; tests do so a few times.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NoReturn

import torch

from esper.cli import main
from esper.leyline.position import Positions
from esper.leyline.telemetry import TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import read_shards
from esper.simic.config import TrainingConfig
from esper.simic.training.vectorized import train

WALL_TIME = {"update_time_ms", "compute_time_ms"}
QUIET = ["--evaluate-episodes", "0", "--quiet"]
TINY = ["--envs", "2", "--episodes", "5", "--max-epochs", "3", "--seed", "3", *QUIET]
PATIENCE = 120.0
"""Seconds after which a process that has not ended hangs."""
CALLS = ("fsync", "replace", "write")
"""What puts something on the disk."""


@dataclass(frozen=True)
class Death:
    """SIGKILL at one of a process's calls that put something on the disk."""

    call: int
    """Which of them, the first being 0."""
    moment: Literal["before", "amid", "after"]
    """Of a write half is written amid it; of the others amid is after."""
    name: str = ""
    """Which of `CALLS` are meant; all of them by default."""
    target: str = ""
    """How the file's name ends that they are about."""


def start(
    arguments: list[str],
    *,
    death: Death | None = None,
    out: Path = Path(os.devnull),
    first: Callable[[], object] = lambda: None,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run ``esper`` in a forked process, after something else there, and return its number."""
    _import_everything()
    child = os.fork()
    if not child:
        os.environ.update(environ)
        _be_esper(arguments, death, out, first)
    return child


@cache
def _import_everything() -> None:
    """Import here what forked processes would otherwise import each: it takes longer than their training."""
    for command in ("train", "resume"):
        importlib.import_module(f"esper.commands.{command}")
    train(TrainingConfig(episodes=1, envs=1, max_epochs=1), lambda _event: None)


def _be_esper(arguments: list[str], death: Death | None, out: Path, first: Callable[[], object]) -> NoReturn:
    status = 99
    try:
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if death is not None:
            _die(death)
        torch.set_num_threads(1)  # the pool of threads that the parent may have computed with is not here
        first()
        status = main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 98
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _die(death: Death) -> None:
    calls = 0

    def deadly(name: str, call: Any) -> Any:
        def made(*arguments: Any) -> Any:
            nonlocal calls
            if not (name.startswith(death.name) and _target(name, arguments).endswith(death.target)):
                return call(*arguments)
            mine, calls = calls, calls + 1
            if mine == death.call and death.moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            if mine == death.call and death.moment == "amid" and name == "write":
                descriptor, data = arguments
                call(descriptor, bytes(data)[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            done = call(*arguments)
            if mine == death.call:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return made

    for name in CALLS:
        setattr(os, name, deadly(name, getattr(os, name)))


def _target(name: str, arguments: tuple[Any, ...]) -> str:
    if name == "replace":
        return str(arguments[1])
    return str(Path(f"/proc/self/fd/{arguments[0]}").readlink())


def end(child: int) -> int:
    """Wait until a process has ended; return its exit status, negative for a signal."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("a process hangs")


def start_ranks(
    count: int,
    arguments: list[str],
    *,
    out: Path = Path(os.devnull),
    first: Callable[[], object] = lambda: None,
) -> list[int]:
    """Start so many processes as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environs = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [start(arguments, out=out, first=first, environ=environ) for environ in environs]


def lasting(run: Path) -> list[tuple[object, ...]]:
    """Return what no resume has taken back of a run's log, starts, identities and times aside."""
    positions: dict[str, Positions] = defaultdict(Positions)
    found = []
    for shard, event in read_shards(run):
        assert isinstance(event, TelemetryEvent), event
        found.append((positions[event.group_id].locate(event, shard), event))
    return [
        comparable(event)
        for position, event in found
        if position.run == positions[event.group_id].run
        and not positions[event.group_id].is_superseded(position)
        and not isinstance(event.data, TrainingStartedPayload)
    ]


def comparable(event: TelemetryEvent) -> tuple[object, ...]:
    fields = {name: repr(value) for name, value in event.data.to_dict().items() if name not in WALL_TIME}
    envelope = (event.group_id, event.epoch, event.slot_id, event.seed_id, event.message, event.severity)
    return (type(event.data).__name__, *envelope, tuple(sorted(fields.items())))


def differences(run: Path, alone: Path, *, ordered: bool = True) -> str:
    """Say in what a run differs from one that was left alone; empty when in nothing."""
    for name in sorted(path.name for path in alone.glob("policy*.pt")):
        mine, other = (torch.load(path / name, weights_only=True) for path in (run, alone))
        if mine["return_scale"] != other["return_scale"]:
            return f"the return scales in {name}"
        if any(not torch.equal(mine["state"][key], weight) for key, weight in other["state"].items()):
            return f"the weights in {name}"
    events, expected = lasting(run), lasting(alone)
    if not ordered:
        events, expected = sorted(events, key=repr), sorted(expected, key=repr)
    if len(events) != len(expected):
        return f"{len(events)} events instead of {len(expected)}"
    at = next((at for at, pair in enumerate(zip(events, expected, strict=True)) if pair[0] != pair[1]), None)
    return "" if at is None else f"event {at}: {events[at]} instead of {expected[at]}"


# ── at random ───────────────────────────────────────────────────────────────────────────────────────────────────────

_PRECISIONS: tuple[list[str], ...] = ([], ["--amp-dtype", "float16"], ["--amp-dtype", "bfloat16"])


def _soak(times: int, seed: int) -> int:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        alone: dict[int, Path] = {}
        deaths = 0
        for time_ in range(times):
            precision = rng.randrange(len(_PRECISIONS))
            options = [*TINY, *_PRECISIONS[precision]]
            if precision not in alone:
                alone[precision] = Path(directory) / f"alone{precision}"
                assert end(start(["train", *options, "--run-dir", str(alone[precision])])) == 0
            run = Path(directory) / f"run{time_}"
            deaths += _kill_until_done(rng, run, options, several=time_ % 3 == 2)
            wrong = differences(run, alone[precision], ordered=False)
            if wrong:
                kept = run.rename(Path(tempfile.gettempdir()) / f"esper-soak-{seed}-{time_}")
                sys.stdout.write(f"run {time_} of seed {seed}: {wrong}; see {kept}\n")
                return 1
    same = "each ended as one that was left alone, bit for bit"
    sys.stdout.write(f"{times} runs were killed {deaths} times and resumed; {same}\n")
    return 0


def _kill_until_done(rng: random.Random, run: Path, options: list[str], *, several: bool) -> int:
    """Begin a run and kill it, up to four times, and let it end; return how often it was killed."""
    deaths, out = 0, run.with_suffix(".out")
    while deaths <= 4:
        begun = (run / "checkpoint.pt").exists()
        arguments = ["train", "--resume", str(run), *QUIET] if begun else ["train", *options]
        if not begun:
            run = _empty(run)
            arguments += ["--run-dir", str(run)]
        alive = deaths >= 4
        ranks = rng.choice((1, 2)) if several else 1
        if ranks > 1:
            children = start_ranks(ranks, arguments, out=out)
        elif alive or rng.random() < 0.5:
            children = [start(arguments, out=out)]
        else:
            moment: Any = rng.choice(("before", "amid", "after"))
            children = [start(arguments, death=Death(rng.randrange(80), moment), out=out)]
        if not alive:
            time.sleep(rng.random() * 6)
            os.kill(rng.choice(children), rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
            time.sleep(rng.random() / 5)
            for child in children if ranks > 1 else ():
                os.kill(child, signal.SIGTERM)  # as torchrun does
        statuses = [end(child) for child in children]
        if all(status == 0 for status in statuses):
            return deaths
        if alive:
            raise AssertionError(f"{run}: {statuses}: {out.read_text()}")
        deaths += 1
    raise AssertionError("not reached: the fifth time nothing is killed")


def _empty(run: Path) -> Path:
    """Remove what a run left that was killed before there was anything to go on from."""
    for path in run.iterdir() if run.exists() else ():
        path.unlink()
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    chosen = parser.parse_args()
    sys.exit(_soak(chosen.times, chosen.seed))
