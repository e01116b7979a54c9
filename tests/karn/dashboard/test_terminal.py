"""The dashboard in a real terminal of its own, its keys typed and its screen read."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.karn.dashboard.conftest import Story

PATIENCE = 60.0
PROGRAM = """
import fcntl, sys, termios
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
from esper.karn.dashboard import watch
sys.exit(watch(sys.argv[1], speed=float(sys.argv[2]) if len(sys.argv) > 2 else None))
"""


def read_until(terminal: int, wanted: bytes) -> None:
    """Read the screen until it has said something."""
    said = b""
    deadline = time.monotonic() + PATIENCE
    while wanted not in said:
        assert time.monotonic() < deadline, said[-2000:]
        if select.select([terminal], [], [], 0.1)[0]:
            said += os.read(terminal, 1 << 16)


@pytest.mark.parametrize("how", ["directory", "pipe", "playback"])
def test_it_shows_a_run_and_leaves_when_asked(how: str, tmp_path: Path, tell: type[Story]) -> None:
    log = tmp_path / "events.jsonl"
    tell(n_episodes=8, episodes=8, extra_epochs=0).write(log)
    arguments = {"directory": [str(tmp_path)], "pipe": ["-"], "playback": [str(tmp_path), "100000"]}[how]
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.PIPE if how == "pipe" else inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    ) as process:
        os.close(inside)
        if process.stdin is not None:
            process.stdin.write(log.read_bytes())
            process.stdin.close()
        read_until(terminal, b"FINISHED")
        os.write(terminal, b"q")
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    os.read(terminal, 1 << 16)
                except OSError:  # the other end is closed
                    break
        assert process.wait(PATIENCE) == 0
    os.close(terminal)
