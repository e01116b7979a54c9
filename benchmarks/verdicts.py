"""Does the verdict catch trouble and leave healthy runs alone? A table of both, beside rlwatch and rldoctor.

Run: python benchmarks/verdicts.py [--drawn]

With ``--drawn`` only runs that are drawn; else also real ones, trained once and kept under build/verdicts (an hour).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.health import assess
from esper.karn.verdict import tally_text
from esper.leyline.limits import Limits, Status
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import BatchEpochCompletedPayload, PPOUpdatePayload, TelemetryEvent
from esper.leyline.wire import read_events
from esper.simic.config import Fault
from verdict_foreign import FOREIGN
from verdict_logs import HEALTHY, TROUBLE
from verdict_rivals import RIVALS, records

MOST = 1_000
"""Records that the others are given of a run, evenly spaced: what they cost grows with the square."""
CACHE = Path(__file__).parent.parent / "build" / "verdicts"
REAL_TROUBLE = {
    **{f"inject-{fault}": f"--seed 1 --episodes 48 --inject {fault} --inject-at 6" for fault in get_args(Fault)},
    "lr-huge": "--seed 1 --episodes 48 --lr 1.0 --target-kl 1000",
    "lr-zero": "--seed 1 --episodes 80 --lr 1e-9",
}
REAL_HEALTHY = {
    **{f"seed-{seed}": f"--seed {seed}" for seed in range(1, 6)},
    "wine": "--task bench_tasks:wine --episodes 80 --seed 1",
    "cancer": "--task bench_tasks:cancer --episodes 64 --seed 1",
    "one-env": "--envs 1 --episodes 40 --seed 1",
    "simplified": "--reward-mode simplified --episodes 60 --seed 1",
    "two-slots": "--slots 2 --episodes 64 --seed 3",
    "float16": "--amp-dtype float16 --episodes 48 --seed 1",
    "bfloat16": "--amp-dtype bfloat16 --episodes 64 --seed 2",
    "wide": "--envs 8 --episodes 96 --seed 2",
}
FOREIGN_TROUBLE = ("sb3-mountaincar", "sb3-cartpole-lr", "sb3-cartpole-1000")


@dataclass(frozen=True)
class Case:
    name: str
    healthy: bool
    events: Callable[[], Iterable[TelemetryEvent]]
    info: RunInfo | None = None
    invalid: int | None = None


def drawn() -> Iterator[Case]:
    for logs, healthy in ((TROUBLE, False), (HEALTHY, True)):
        for name, log in logs.items():
            yield Case(name, healthy, log.events, log.info)


def made() -> Iterator[Case]:
    """Yield real runs, and what becomes of healthy ones when their logs are tampered with."""
    for runs, healthy in ((REAL_TROUBLE, False), (REAL_HEALTHY, True)):
        for name, options in runs.items():
            if path := _trained(
                name, ["-m", "esper", "train", *options.split(), "--quiet", "--evaluate-episodes", "2"], "--run-dir"
            ):
                yield _case(name, f"esper train {options}", path, healthy=healthy)
    for name in FOREIGN:
        if path := _trained(name, [str(Path(__file__).parent / "verdict_foreign.py"), name], ""):
            yield _case(name, "Stable-Baselines3", path, healthy=name not in FOREIGN_TROUBLE)
    for name in ("seed-1", "sb3-cartpole"):
        if (path := CACHE / name).exists():
            yield replace(_case(f"{name} backwards", "", path, healthy=False), events=lambda path=path: backwards(path))
    if (path := CACHE / "seed-1").exists():
        for share in (0.01, 0.05):
            lossy = lambda share=share: thinned(path, share)  # noqa: E731 - one a share
            yield replace(_case(f"seed-1 with {share:.0%} of its lines lost", "", path, healthy=False), events=lossy)
        yield replace(_case("seed-1 with lines that are no events", "", path, healthy=False), invalid=40)


def _trained(name: str, arguments: list[str], option: str) -> Path | None:
    """Return a run that is there, or train it; None where that cannot be done."""
    path = CACHE / name
    if not (path / "run.json").exists() and "--cached" not in sys.argv:
        path.parent.mkdir(parents=True, exist_ok=True)
        told = [sys.executable, *arguments, *([option] if option else []), str(path)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        subprocess.run(told, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    info = RunDirectory(path).read_info() if path.exists() else None
    return path if info is not None and info.status != "running" else None


def _case(name: str, _how: str, path: Path, *, healthy: bool) -> Case:
    return Case(name, healthy, lambda: _events(path), RunDirectory(path).read_info())


def _events(path: Path) -> Iterator[TelemetryEvent]:
    return (event for event in read_events(path) if isinstance(event, TelemetryEvent))


def backwards(path: Path) -> list[TelemetryEvent]:
    """Return a run whose batches end in the order of the other way round: what it learnt is forgotten."""
    events = list(_events(path))
    for cls, kept in ((BatchEpochCompletedPayload, {"batch_idx", "episodes_completed"}), (PPOUpdatePayload, {"batch"})):
        places = [at for at, event in enumerate(events) if isinstance(event.data, cls)]
        told = [events[at].data for at in reversed(places)]
        for at, data in zip(places, told, strict=True):
            own = events[at].data.to_dict()
            events[at] = replace(events[at], data=cls.from_dict(data.to_dict() | {k: own[k] for k in kept if k in own}))
    return events


def thinned(path: Path, share: float) -> list[TelemetryEvent]:
    drawn = random.Random(1)
    return [event for at, event in enumerate(_events(path)) if at == 0 or drawn.random() > share]


def verdict_of(case: Case) -> tuple[str, str]:
    """Return status and the evidence of the first alarm, or how many rules say what."""
    limits = Limits.of_run({} if case.info is None else case.info.configuration)
    aggregator = TelemetryAggregator(limits=limits)
    for event in case.events():
        aggregator.process(event)
    verdict = assess(aggregator.snapshot(), case.info, invalid=case.invalid)
    said = verdict.headline.partition(" ")[2] if verdict.status is not Status.OK else tally_text(verdict.findings)
    return verdict.status.name, said


def drawn_again() -> dict[str, Counter[str]]:
    """Judge five other draws of each drawn run, the long ones left out: the rules were not made with these."""
    found = {}
    for what, logs in (("trouble", TROUBLE), ("healthy", HEALTHY)):
        draws = [replace(log, seed=seed) for log in logs.values() if log.batches < MOST for seed in range(7, 12)]
        found[what] = Counter(verdict_of(Case("", True, log.events, log.info))[0] for log in draws)
    return found


def main() -> int:
    cases = [*drawn(), *([] if "--drawn" in sys.argv else made())]
    names = ["esper", *RIVALS]
    counts: dict[tuple[bool, str], Counter[str]] = {
        (healthy, name): Counter() for healthy in (True, False) for name in names
    }
    for healthy in (False, True):
        print(f"\n### {'Healthy runs' if healthy else 'Trouble'}\n")
        print(f"| run | {' | '.join(names)} | why |\n|---|{'---|' * len(names)}---|")
        for case in cases:
            if case.healthy is healthy:
                status, why = verdict_of(case)
                told = [status]
                if RIVALS:
                    rows = records(case.events())
                    rows = rows[:: len(rows) // MOST + 1]
                    told += [rival(rows) for rival in RIVALS.values()]
                for name, each in zip(names, told, strict=True):
                    counts[healthy, name][each] += 1
                print(f"| {case.name} | {' | '.join(told)} | {why.replace('|', '/')} |", flush=True)
    print("\n### In sum\n\n| of | runs | " + " | ".join(names) + " |\n|---|---|" + "---|" * len(names))
    wrong = 0
    for what, healthy, statuses in (
        ("trouble called BAD or WATCH", False, ("BAD", "WATCH")),
        ("trouble called OK", False, ("OK",)),
        ("healthy runs called OK", True, ("OK",)),
        ("healthy runs called WATCH", True, ("WATCH",)),
        ("healthy runs called UNKNOWN", True, ("UNKNOWN",)),
        ("healthy runs called BAD", True, ("BAD",)),
    ):
        found = [sum(counts[healthy, name][status] for status in statuses) for name in names]
        print(f"| {what} | {sum(case.healthy is healthy for case in cases)} | {' | '.join(map(str, found))} |")
        wrong += found[0] if what in {"trouble called OK", "healthy runs called BAD"} else 0
    for what, found_again in drawn_again().items():
        told = ", ".join(f"{count} {status}" for status, count in sorted(found_again.items()))
        print(f"\nFive other draws of each drawn run, {what}: {told}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
