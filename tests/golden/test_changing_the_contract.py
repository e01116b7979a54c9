"""What docs/changing-the-contract.md walks through is done, on a copy, and every test of the contract passes there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.golden.contract import CONTRACT, Contract, differences

from esper.leyline.wire import SCHEMA_VERSION

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "changing-the-contract.md"


def edit(root: Path, page: str) -> None:
    """Apply the page's diffs: where a hunk's old lines stand, its new ones will."""
    for block in re.findall(r"^```diff\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        for file in re.split(r"^--- ", block, flags=re.MULTILINE)[1:]:
            name, *hunks = re.split(r"\n@@.*\n", file)
            source = (root / name).read_text()
            for hunk in hunks:
                lines = hunk.strip("\n").split("\n")
                old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
                assert source.count(old) == 1, f"{name}: {old}"
                source = source.replace(old, "\n".join(line[1:] for line in lines if not line.startswith("-")))
            (root / name).write_text(source)


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    # the copy is no part of what the tests cover
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment["PYTHONPATH"] = f"{root / 'src'}{os.pathsep}{root}"
    command = (sys.executable, "-m", *command)
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("CHANGELOG.md", "pyproject.toml"):
        shutil.copy(ROOT / part, tmp_path / part)
    return tmp_path


def test_after_a_new_field_a_new_payload_and_one_command_the_tests_of_the_contract_pass(copy: Path) -> None:
    edit(copy, PAGE.read_text())
    done = run(copy, "tests.golden.contract")
    assert done.returncode == 0, done.stderr
    assert "PPOUpdatePayload.update_cosine is new, float | None = None" in done.stdout
    assert "HardwareMeasuredPayload is new" in done.stdout
    assert f"This is schema version {SCHEMA_VERSION + 1}." in done.stdout
    tests = ["tests/golden", "tests/leyline", "tests/karn/test_field_coverage.py", "tests/typing/test_accepted.py"]
    new = "golden or contract or HardwareMeasured or PPOUpdatePayload-update_cosine or accepted"
    slow = "--deselect=tests/golden/test_changing_the_contract.py"
    passed = run(copy, "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", slow, "-k", new, *tests)
    assert passed.returncode == 0, passed.stdout[-3000:]


def test_a_field_that_is_narrowed_is_refused_by_name_and_nothing_is_written(copy: Path) -> None:
    telemetry = copy / "src/esper/leyline/telemetry.py"
    source = telemetry.read_text()
    telemetry.write_text(source.replace("    ratio_max: float = 1.0\n", "    ratio_max: int = 1\n"))
    assert telemetry.read_text() != source
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    done = run(copy, "tests.golden.contract")
    assert done.returncode == 1
    assert "PPOUpdatePayload.ratio_max" in done.stderr
    assert "Nothing was written." in done.stderr
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.suffix != ".pyc"} == before


def test_the_present_contract_differs_in_nothing_from_itself() -> None:
    assert differences(CONTRACT, json.loads(json.dumps(CONTRACT))) == ([], [])


OLD: Contract = {"P": [{"name": "a", "type": "int"}, {"name": "b", "type": "str", "default": "x"}]}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ([{"name": "a", "type": "int | None"}, OLD["P"][1]], "P.a was int, required and is int | None, required"),
        ([{"name": "a", "type": "float"}, OLD["P"][1]], "P.a was int, required and is float, required"),
        ([{"name": "a", "type": "int", "default": 0}, OLD["P"][1]], "P.a was int, required and is int = 0"),
        ([*OLD["P"], {"name": "c", "type": "bool", "default": False}], "P.c is new, bool = False"),
    ],
)
def test_what_old_logs_still_fit_is_a_widening(fields: list[dict[str, object]], sentence: str) -> None:
    assert differences(OLD, {"P": fields}) == ([sentence], [])


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        (OLD["P"][:1], "P.b is gone"),
        ([*OLD["P"], {"name": "c", "type": "bool"}], "P.c is new and required"),
        ([{"name": "a", "type": "str"}, OLD["P"][1]], "P.a was int and is str"),
        ([OLD["P"][0], {"name": "b", "type": "str", "default": "y"}], "P.b has another default"),
        ([OLD["P"][0], {"name": "b", "type": "str"}], "P.b has another default"),
        ([{"name": "n", "type": "int"}, *OLD["P"]], "P.a stands where n stands now"),
    ],
)
def test_what_old_logs_would_not_fit_is_refused(fields: list[dict[str, object]], refused: str) -> None:
    _, found = differences(OLD, {"P": fields})
    assert found[0].startswith(refused)


def test_a_payload_that_is_gone_is_refused() -> None:
    assert differences(OLD, {})[1] == ["P is gone: logs hold events of it"]
