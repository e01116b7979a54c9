"""The command lines of the pages on resuming and on ranks, run as far as one machine can, with small networks."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.killed_runs import PATIENCE, QUIET, differences, end, start

DOCS = Path(__file__).parents[2] / "docs"
SMALL = ["--envs", "2", "--episodes", "3", "--max-epochs", "2", *QUIET]


def lines(page: str, heading: str = "") -> list[list[str]]:
    """Return the command lines of a page, from a heading on."""
    text = (DOCS / page).read_text()
    return [shlex.split(line) for line in re.findall(r"^\$ (.*)$", text[text.index(heading) :], re.MULTILINE)]


def test_the_lines_of_the_page_on_resuming_go_on_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begin, resume, more = (line for line in lines("resuming.md")[:3])
    child = start([*begin[1:], *SMALL])
    deadline = time.monotonic() + PATIENCE
    while not Path("runs/long/policy.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child, signal.SIGINT)
    assert end(child) == 130
    assert end(start([*resume[1:], *QUIET])) == 0
    more[more.index("--episodes") + 1] = "5"
    assert end(start([*more[1:], *QUIET])) == 0
    assert "5 of 5" in subprocess.run(
        [sys.executable, "-m", "esper", "replay", "runs/long"], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip


def test_the_lines_for_two_machines_make_one_run_of_them(tmp_path: Path) -> None:
    two = [line for line in lines("ranks.md") if "--nnodes" in line]
    run = tmp_path / "shared" / "runs" / "wide"
    given = {"node0": "127.0.0.1", "29400": str(30_000 + os.getpid() % 20_000), "/shared/runs/wide": str(run)}
    processes = []
    for line in two:
        line[line.index("--nproc-per-node") + 1] = "1"
        words = [given[word] if word in given else word for word in line[1:]]
        command = [sys.executable, "-m", "torch.distributed.run", *words, *SMALL]
        processes.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    said = [process.communicate(timeout=PATIENCE)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "completed"
    assert "2 of 2 processes have started" in said[0]
    assert "processes have started" not in said[1], "rank 0 alone speaks"
    alone = tmp_path / "alone"
    assert end(start(["train", *SMALL, "--run-dir", str(alone)])) == 0
    assert differences(run, alone, ordered=False) == ""
