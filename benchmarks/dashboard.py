"""What the dashboard costs: `esper watch` in a real terminal of its own, following a log that grows.

Run with ``python benchmarks/dashboard.py [RUN]``. It emits the events of a real run: that of RUN, or of a short
training made for this, spread over as many environments and emitted at ten steps a second. Printed is the CPU time of
the dashboard's process (user and system), as a share of one core, from its first screen on.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import pty
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from uuid import uuid4

from esper.leyline.telemetry import RewardComputedPayload, TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import InvalidRecord, encode_event, read_events
from esper.simic.config import TrainingConfig

SECONDS = 15.0
RATE = 10.0
"""Steps of every environment a second."""
SLOW = 2.0
"""The same where there are more than `FEW` environments."""
FEW = 64
WARM_UP = 40
"""Steps before the measurement: the first screen has long been drawn."""
THEN = datetime(2000, 1, 1, 1, 1, 1, 1, tzinfo=UTC)
"""Stands for the moment of emitting, in lines that are ready to be written."""


def events_of_a_run(source: str | None) -> list[TelemetryEvent]:
    if source is not None:
        return [event for event in read_events(source) if not isinstance(event, InvalidRecord)]
    from esper.simic.training.vectorized import train

    events: list[TelemetryEvent] = []
    train(TrainingConfig(envs=4, episodes=32, episode_id=uuid4().hex), events.append)
    return events


def steps_of(events: list[TelemetryEvent]) -> list[list[TelemetryEvent]]:
    """Divide a run into steps: each ends with the reward of its last environment."""
    last = max(event.data.env_id for event in events if isinstance(event.data, RewardComputedPayload))
    steps: list[list[TelemetryEvent]] = [[]]
    for event in events:
        steps[-1].append(event)
        if isinstance(event.data, RewardComputedPayload) and event.data.env_id == last:
            steps.append([])
    return steps[:-1]


def spread(step: list[TelemetryEvent], n_recorded: int, n_envs: int) -> Iterator[TelemetryEvent]:
    """Emit a step of the recorded environments as one of so many."""
    for first in range(0, n_envs, n_recorded):
        for event in step:
            fields = event.data.to_dict()
            if isinstance(event.data, TrainingStartedPayload):
                fields |= {"n_envs": n_envs, "env_devices": ("cpu",) * n_envs}
            env_id = fields["env_id"] if "env_id" in fields else None
            if isinstance(env_id, int):
                fields["env_id"] = first + env_id
            if first + (env_id if isinstance(env_id, int) else 0) >= n_envs or (first and not isinstance(env_id, int)):
                continue
            data = type(event.data).from_dict(fields)
            yield dataclasses.replace(event, data=data, timestamp=THEN, event_id=uuid4().hex)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drain(terminal: int) -> None:
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:
        return


def measure(
    steps: list[list[TelemetryEvent]], n_envs: int, columns: int, rows: int, rate: float
) -> tuple[float, float]:
    """Return the share of a core, and how many events a second it was sent."""
    n_recorded = 1 + max(event.data.env_id for event in steps[0] if isinstance(event.data, RewardComputedPayload))
    lines = cycle([[encode_event(event) for event in spread(step, n_recorded, n_envs)] for step in steps])
    with tempfile.TemporaryDirectory() as directory, Path(directory, "events.jsonl").open("w") as log:
        pid, terminal = pty.fork()
        if pid == 0:
            watch = f"from esper.karn.dashboard import watch; watch({directory!r})"
            os.execv(sys.executable, [sys.executable, "-c", watch])
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        threading.Thread(target=drain, args=(terminal,), daemon=True).start()
        opened = time.monotonic()
        begun = spent = 0.0
        n_events = 0
        for beat, step in enumerate(lines):
            now = datetime.now(UTC).isoformat()
            log.write("".join(f"{line.replace(THEN.isoformat(), now)}\n" for line in step))
            log.flush()
            n_events += len(step)
            time.sleep(max(opened + (beat + 1) / rate - time.monotonic(), 0.0))
            if beat == WARM_UP:
                begun, spent, n_events = time.monotonic(), cpu_seconds(pid), 0
            elif beat > WARM_UP and time.monotonic() - begun > SECONDS:
                break
        seconds = time.monotonic() - begun
        share = (cpu_seconds(pid) - spent) / seconds
        os.write(terminal, b"q")
        os.waitpid(pid, 0)
    return share, n_events / seconds


def main() -> None:
    steps = steps_of(events_of_a_run(sys.argv[1] if len(sys.argv) > 1 else None))
    print("| environments | terminal | events/s | share of one core |\n|---|---|---|---|")
    for n_envs, columns, rows in ((1, 80, 24), (4, 80, 24), (64, 80, 24), (64, 200, 60), (1024, 200, 60)):
        few = n_envs <= FEW
        share, events = measure(steps if few else steps[:WARM_UP], n_envs, columns, rows, RATE if few else SLOW)
        print(f"| {n_envs} | {columns}×{rows} | {events:,.0f} | {share:.1%} |", flush=True)


if __name__ == "__main__":
    main()
