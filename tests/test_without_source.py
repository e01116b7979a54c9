"""Installed as bytecode only: every command works, and what only the source text says is named as missing once."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders import numbered

import esper
from esper.leyline.wire import encode_event

LACK = "esper is installed without its source text"


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bytecode")
    shutil.copytree(Path(esper.__path__[0]), place / "esper", ignore=shutil.ignore_patterns("__pycache__"))
    assert compileall.compile_dir(place, quiet=1, legacy=True)
    for source in place.rglob("*.py"):
        source.unlink()
    (place / "events.jsonl").write_text(encode_event(numbered(1)) + "\n")
    return place


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys, esper; assert esper.__path__ == [sys.argv.pop(1)]\n"
    code += "from esper.cli import script; sys.exit(script())"
    return subprocess.run(
        [sys.executable, "-c", code, str(place / "esper"), *arguments],
        env={**os.environ, "PYTHONPATH": str(place)}, cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says_the_lack"),
    [
        (["--help"], False),
        (["--version"], False),
        (["train", "--help"], False),
        (["schema"], True),
        (["schema", "--fields"], True),
        (["schema", "--duckdb", "events.jsonl"], True),
        (["validate", "events.jsonl"], True),
        (["replay", "events.jsonl"], False),
        (["health", "events.jsonl"], False),
        (["report", "events.jsonl"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_works_and_says_what_it_cannot(bytecode: Path, arguments: list[str], says_the_lack: bool) -> None:
    done = run(bytecode, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    lines = done.stderr.splitlines()
    assert [LACK in line for line in lines] == [True] * says_the_lack, done.stderr


def test_the_schema_holds_everything_but_what_the_text_says(bytecode: Path) -> None:
    schema = json.loads(run(bytecode, "schema").stdout)
    assert schema["$defs"]["EpochCompletedPayload"]["required"] == ["env_id", "val_accuracy", "val_loss", "inner_epoch"]
    assert "minimum" not in json.dumps(schema)


def test_help_of_a_payload_is_shown_without_meanings(bytecode: Path) -> None:
    code = "from esper.leyline import EpochCompletedPayload; help(EpochCompletedPayload)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(bytecode)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "val_accuracy" in done.stdout
