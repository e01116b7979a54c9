"""What the dashboard costs: `esper watch` in a real terminal of its own, following a log that grows.

Run with ``python benchmarks/dashboard.py``. Every environment tells an epoch and a reward ten times a second; printed
is the CPU time of the dashboard's process, as a share of one core, from its first screen on.
"""

from __future__ import annotations

import fcntl
import math
import os
import pty
import struct
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

from esper.leyline.telemetry import EpochCompletedPayload, RewardComputedPayload, TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import encode_event

SECONDS = 15.0
SLOTS = ("r0", "r1", "r2")


def started(n_envs: int) -> TelemetryEvent:
    return TelemetryEvent(
        data=TrainingStartedPayload(
            n_envs=n_envs,
            max_epochs=24,
            task="digits",
            host_params=706,
            slot_ids=SLOTS,
            seed=0,
            n_episodes=160,
            lr=3e-3,
            clip_ratio=0.2,
            entropy_coef=0.05,
            param_budget=1600,
            policy_device="cpu",
            env_devices=("cpu",) * n_envs,
        )
    )


def tick(n_envs: int, beat: int) -> str:
    """Return what all environments tell in one tenth of a second; every figure changes every time."""
    epoch = beat % 24 + 1
    events: list[EpochCompletedPayload | RewardComputedPayload] = []
    for env in range(n_envs):
        wave = math.sin(beat + env)
        accuracy, chance = 0.7 + wave / 10, abs(wave)
        seeds = {slot: {"stage": "BLENDING", "blueprint_id": "mixer", "alpha": chance} for slot in SLOTS}
        events += [
            EpochCompletedPayload(env, accuracy, 1 + wave / 2, epoch, seeds=seeds),
            RewardComputedPayload(env, wave, "WAIT", 5 + wave, chance, val_acc=accuracy, decision_entropy=chance),
        ]
    return "".join(f"{encode_event(TelemetryEvent(data=data, epoch=epoch))}\n" for data in events)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drain(terminal: int) -> None:
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:
        return


def measure(n_envs: int, columns: int, lines: int) -> float:
    with tempfile.TemporaryDirectory() as directory, Path(directory, "events.jsonl").open("w") as log:
        log.write(encode_event(started(n_envs)) + "\n")
        pid, terminal = pty.fork()
        if pid == 0:
            watch = f"from esper.karn.dashboard import watch; watch({directory!r})"
            os.execv(sys.executable, [sys.executable, "-c", watch])
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        threading.Thread(target=drain, args=(terminal,), daemon=True).start()
        beat, begun, spent = 0, 0.0, 0.0
        while not begun or time.monotonic() - begun < SECONDS:
            log.write(tick(n_envs, beat))
            log.flush()
            beat += 1
            time.sleep(0.1)
            if not begun and beat == 40:  # the first screen has long been drawn
                begun, spent = time.monotonic(), cpu_seconds(pid)
        share = (cpu_seconds(pid) - spent) / (time.monotonic() - begun)
        os.write(terminal, b"q")
        os.waitpid(pid, 0)
    return share


def main() -> None:
    print("| environments | terminal | share of one core |\n|---|---|---|")
    for n_envs, columns, lines in ((1, 80, 24), (4, 80, 24), (64, 80, 24), (64, 200, 60)):
        print(f"| {n_envs} | {columns}×{lines} | {measure(n_envs, columns, lines):.1%} |", flush=True)


if __name__ == "__main__":
    main()
