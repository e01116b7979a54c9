"""The dashboard in a real terminal of its own, its keys typed and its screen read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

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


LEAVES_ALTERNATE_SCREEN, NO_MOUSE = b"\x1b[?1049l", b"\x1b[?1000l"


@contextlib.contextmanager
def opened(arguments: list[str], program: str = PROGRAM, *, pipe: Path | None = None) -> Iterator[Opened]:
    """Open the dashboard in a terminal of its own."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=inside if pipe is None else subprocess.PIPE,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    ) as process:
        if process.stdin is not None and pipe is not None:
            process.stdin.write(pipe.read_bytes())
            process.stdin.close()
        try:
            yield Opened(terminal, inside, process)
        finally:
            process.kill()
    os.close(inside)
    os.close(terminal)


class Opened(NamedTuple):
    terminal: int
    inside: int
    process: subprocess.Popen[bytes]

    def ended(self) -> tuple[int, bytes]:
        """Return the exit status, and what was written until then."""
        said, deadline = b"", time.monotonic() + PATIENCE
        while self.process.poll() is None or select.select([self.terminal], [], [], 0)[0]:
            assert time.monotonic() < deadline
            if select.select([self.terminal], [], [], 0.05)[0]:
                said += os.read(self.terminal, 1 << 16)
        return self.process.wait(), said


@pytest.mark.parametrize("how", ["directory", "pipe", "playback"])
def test_it_shows_a_run_and_leaves_when_asked(how: str, tmp_path: Path, make_story: type[Story]) -> None:
    log = tmp_path / "events.jsonl"
    make_story(n_episodes=8, episodes=8, extra_epochs=0).write(log)
    now = datetime.now(UTC)
    RunDirectory(tmp_path).write_info(RunInfo(status="completed", started=now, configuration={}, versions={}))
    arguments = {"directory": [str(tmp_path)], "pipe": ["-"], "playback": [str(tmp_path), "100000"]}[how]
    with opened(arguments, pipe=log if how == "pipe" else None) as dashboard:
        read_until(dashboard.terminal, b"INPUT ENDED" if how == "pipe" else b"FINISHED")
        os.write(dashboard.terminal, b"q")
        assert dashboard.ended()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_it_was(
    number: signal.Signals, tmp_path: Path, make_story: type[Story]
) -> None:
    make_story(n_episodes=8, episodes=8).write(tmp_path / "events.jsonl")
    with opened([str(tmp_path)]) as dashboard:
        before = termios.tcgetattr(dashboard.inside)
        read_until(dashboard.terminal, b"learnt")
        assert termios.tcgetattr(dashboard.inside) != before
        dashboard.process.send_signal(number)
        status, said = dashboard.ended()
        assert status == 128 + number
        assert LEAVES_ALTERNATE_SCREEN in said
        assert NO_MOUSE in said
        assert termios.tcgetattr(dashboard.inside) == before


BROKEN = (
    """
from esper.karn.dashboard.app import Overview
def broken(screen, view):
    run = [0] * 10**7
    raise ArithmeticError("[b]no markup[/b] \\x1b[2J")
Overview.refresh_view = broken
"""
    + PROGRAM
)


def test_an_error_of_its_own_ends_it_with_a_short_traceback_and_a_clean_terminal(
    tmp_path: Path, make_story: type[Story]
) -> None:
    make_story(n_episodes=8, episodes=8).write(tmp_path / "events.jsonl")
    with opened([str(tmp_path)], BROKEN) as dashboard:
        before = termios.tcgetattr(dashboard.inside)
        status, said = dashboard.ended()
        assert status == 1
        output = said.rpartition(LEAVES_ALTERNATE_SCREEN)[2]
        assert b"ArithmeticError: [b]no markup[/b] \\x1b[2J" in output
        assert len(output) < 5000
        assert termios.tcgetattr(dashboard.inside) == before
