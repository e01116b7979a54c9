"""A library that only one sink needs can fail in any way without harming the run: it is one line, before training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esper.nissa.optional import SinkUnavailableError, isolated
from esper.nissa.signals import Stopped, stoppable

SCRIPT = """
import sys
from esper.nissa import TensorBoardSink, WandbSink
from esper.nissa.optional import SinkUnavailableError
sys.path.insert(0, "broken")
try:
    {sink}("there")
except (ImportError, SinkUnavailableError) as error:
    print(type(error).__name__, error)
"""
FAILURES = {
    "raise TypeError('Descriptors cannot be created directly.\\nIf this call came from a _pb2.py file')": (
        "SinkUnavailableError {library} cannot be used: TypeError: Descriptors cannot be created directly."
    ),
    "raise SystemExit(3)": "SinkUnavailableError {library} cannot be used: SystemExit: 3",
    "import nothing_of_that_name": "SinkUnavailableError {library} cannot be used: ModuleNotFoundError: No module",
    "class Odd(BaseException): pass\nraise Odd": "SinkUnavailableError {library} cannot be used: Odd",
}


@pytest.mark.parametrize(("package", "sink"), [("tensorboard", "TensorBoardSink"), ("wandb", "WandbSink")])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_library_that_breaks_when_it_is_imported_is_one_line(
    tmp_path: Path, package: str, sink: str, failure: str
) -> None:
    (tmp_path / "broken" / package).mkdir(parents=True)
    (tmp_path / "broken" / package / "__init__.py").write_text(failure)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(sink=sink)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    library = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases"}[package]
    assert done.stdout.startswith(FAILURES[failure].format(library=library))
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    "failure",
    ["raise RuntimeError('api_key not configured (no-tty). call wandb.login')", "raise SystemExit('no network')"],
)
def test_a_run_that_wandb_cannot_begin_is_one_line_that_says_what_helps(tmp_path: Path, failure: str) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "wandb.py").write_text(f"def init(**_):\n    {failure}\n")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(sink="WandbSink")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("SinkUnavailableError Weights & Biases cannot be used: ")
    assert done.stdout.endswith("(WANDB_MODE=offline needs neither account nor network)\n")


def test_ctrl_c_is_nobody_s_failure() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        isolated("Sink", "Library", "library", interrupted)
    with pytest.raises(SinkUnavailableError):
        isolated("Sink", "Library", "library", sys.exit)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_library_begins_is_no_failure_of_it(number: int) -> None:
    def begin() -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGTERM,)}
    try:
        with pytest.raises(Stopped) as stopped, stoppable():
            isolated("WandbSink", "Weights & Biases", "wandb", begin)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert stopped.value.exit_status == 128 + number
