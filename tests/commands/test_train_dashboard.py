"""A run with the dashboard beside it, in a real terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 90.0
PROGRAM = """
import fcntl, pathlib, sys, termios, warnings
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
import esper.simic.training.vectorized as vectorized
train, broken = vectorized.train_arms, pathlib.Path(sys.argv.pop(1))
def watched(config, emit, **more):
    def output(event):
        emit(event)
        if broken.exists():
            raise ArithmeticError("the disk is on fire")
    warnings.warn("the weather is bad")
    return train(config, output, **more)
vectorized.train_arms = watched
from esper.cli import main
sys.exit(main(sys.argv[1:]))
"""
LEAVES_ALTERNATE_SCREEN, NO_MOUSE = b"\x1b[?1049l", b"\x1b[?1000l"


class Run(NamedTuple):
    terminal: int
    inside: int
    process: subprocess.Popen[bytes]

    def read_until(self, wanted: bytes) -> bytes:
        """Read the screen until it has said something."""
        said = b""
        deadline = time.monotonic() + PATIENCE
        while wanted not in said:
            assert time.monotonic() < deadline, said[-2000:]
            if select.select([self.terminal], [], [], 0.1)[0]:
                said += os.read(self.terminal, 1 << 16)
        return said


@contextlib.contextmanager
def training(directory: Path) -> Iterator[Run]:
    """Train with the dashboard, in a terminal of its own; the training breaks once there is a file named broken."""
    terminal, inside = pty.openpty()
    size = ["--envs", "1", "--max-epochs", "4", "--episodes", "100000"]
    arguments = [str(directory / "broken"), "train", *size, "--dashboard", "--run-dir", str(directory / "run")]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    ) as process:
        try:
            yield Run(terminal, inside, process)
        finally:
            process.kill()
    os.close(inside)
    os.close(terminal)


def test_when_the_dashboard_is_closed_the_training_goes_on_in_plain_sight(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        assert b"the weather is bad" not in run.read_until(b"batch")
        os.write(run.terminal, b"q")
        closed = run.read_until(b"dashboard closed; training goes on (Ctrl-C ends it)")
        assert b"the weather is bad" in closed.rpartition(LEAVES_ALTERNATE_SCREEN)[2]
        run.read_until(b"accuracy")
        run.process.send_signal(signal.SIGINT)
        assert b"interrupted after" in run.read_until(b"esper report")
        assert run.process.wait(PATIENCE) == 130


@pytest.mark.parametrize("how", ["interrupted", "failed"])
def test_a_training_that_ends_badly_takes_the_dashboard_off_the_terminal_first(how: str, tmp_path: Path) -> None:
    with training(tmp_path) as run:
        before = termios.tcgetattr(run.inside)
        run.read_until(b"batch")
        assert termios.tcgetattr(run.inside) != before
        if how == "interrupted":
            run.process.send_signal(signal.SIGINT)
        else:
            (tmp_path / "broken").touch()
        said = run.read_until(b"esper report")
        assert run.process.wait(PATIENCE) == (130 if how == "interrupted" else 1)
        plain = said.rpartition(LEAVES_ALTERNATE_SCREEN)[2]
        assert f"{how} after".encode() in plain
        assert (b"ArithmeticError: the disk is on fire" in plain) == (how == "failed")
        assert b"training goes on" not in plain
        assert NO_MOUSE in said
        assert termios.tcgetattr(run.inside) == before
