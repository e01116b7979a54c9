"""Every command of the command line, as a test would run it on a run directory: what holds for one holds for all.

A command that is new stands here, or `test_surroundings` says so.
"""

from __future__ import annotations

import argparse
import io
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from esper.cli import _parser, main

__all__ = ["COMMANDS", "arguments_of", "command", "names"]

COMMANDS = {
    "train": ["train", "--resume", "RUN", "--quiet", "--evaluate-episodes", "0"],
    "evaluate": ["evaluate", "RUN", "--episodes", "2"],
    "watch": ["watch", "RUN"],
    "replay": ["replay", "RUN"],
    "replay --json": ["replay", "--json", "RUN"],
    "health": ["health", "RUN"],
    "health --all": ["health", "--all", "RUN"],
    "health --json": ["health", "--json", "RUN"],
    "report": ["report", "RUN", "-o", "PAGE"],
    "validate": ["validate", "RUN"],
    "validate --json": ["validate", "--json", "RUN"],
    "runs": ["runs", "RUN"],
    "runs --json": ["runs", "--json", "RUN"],
    "compare": ["compare", "RUN"],
    "compare --json": ["compare", "--json", "RUN"],
    "compare -o": ["compare", "RUN", "-o", "NEW"],
    "export": ["export", "RUN", "-o", "NEW"],
    "import": ["import", "LOG", "--map", "MAP", "-o", "NEW"],
    "schema": ["schema"],
    "schema --fields": ["schema", "--fields"],
    "schema --duckdb": ["schema", "--duckdb", "RUN"],
}
"""By name. RUN is the run directory, LOG its log; PAGE what the command may write, NEW what it makes, MAP what it
imports by."""


def names() -> set[str]:
    """Return the commands that the parser knows."""
    (commands,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return set(commands.choices)


def arguments_of(name: str, run: Path, page: Path) -> list[str]:
    """Return the command's arguments for a run."""
    new = page.with_name(f"new-{time.monotonic_ns()}")
    old_map = page.with_name("map.toml")
    if "MAP" in COMMANDS[name]:
        old_map.write_text('kind = "event_type"\n')  # lines of esper's own need no more
    log = next(iter(sorted(run.glob("events*.jsonl"))), run)
    places = {"RUN": run, "LOG": log, "PAGE": page, "NEW": new, "MAP": old_map}
    return [str(places.get(word, word)) for word in COMMANDS[name]]


def command(*arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; return its status, and what it said on standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
    return status, out.getvalue(), err.getvalue()
