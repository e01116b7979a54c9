"""What is said of a release in several places agrees, and what an index shows leads somewhere."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ADDRESS = "https://example.org/owner/esper"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))


@pytest.fixture(scope="module", name="absolute")
def _absolute() -> Callable[[str, str, str], str]:
    made: Callable[[str, str, str], str] = runpy.run_path(str(ROOT / "hatch_build.py"))["absolute"]
    return made


def test_the_pythons_of_the_classifiers_are_those_that_are_installed_on_checked_for_and_tested() -> None:
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"
    assert [json.loads(found) for found in re.findall(r"python: (\[.*\])", WORKFLOW)] == [PYTHONS]
    assert re.findall(r"^PYTHONS := (.*)$", MAKEFILE, re.MULTILINE) == [" ".join(PYTHONS[1:])]


def test_a_commit_is_checked_by_what_make_check_does() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: ([^,}]*)", hooks) == ["make check"]


def test_every_target_that_the_workflow_makes_is_there() -> None:
    made = re.findall(r"run: make ([a-z-]+)", WORKFLOW)
    assert {"test", "types", "test-wheel", "dist"} <= set(made)
    assert [target for target in made if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)] == []


def test_every_link_of_the_readme_is_an_address_on_the_index(absolute: Callable[[str, str, str], str]) -> None:
    shown = absolute((ROOT / "README.md").read_text(encoding="utf-8"), ADDRESS, "v1.0")
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", shown, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)]*)\)|(?:src|href)=\"([^\"]*)\"|^\[[^\]]+\]: (\S+)", prose, re.MULTILINE)
    named = [target for found in targets for target in found if target]
    assert len(named) > 20
    assert [target for target in named if not target.startswith("https://")] == []


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a](docs/a.md#x)", f"[a]({ADDRESS}/blob/v1.0/docs/a.md#x)"),
        ("![a](docs/a.svg)", f"![a]({ADDRESS}/raw/v1.0/docs/a.svg)"),
        ("[![b](docs/b.png)](docs/b.md)", f"[![b]({ADDRESS}/raw/v1.0/docs/b.png)]({ADDRESS}/blob/v1.0/docs/b.md)"),
        ("[a](https://example.org/) [b](#b) [c](mailto:c@example.org)",) * 2,
        ("`x[0](y)` and [no link]", "`x[0](y)` and [no link]"),
        ("```python\ncalls[0](argument)\n```\n",) * 2,
    ],
)
def test_a_link_is_made_absolute_and_code_is_left_alone(
    written: str, shown: str, absolute: Callable[[str, str, str], str]
) -> None:
    assert absolute(written, ADDRESS, "v1.0") == shown


def test_a_citation_names_this_version_and_this_repository() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [PROJECT["project"]["version"]]
    address = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"]
    assert re.findall(r"^repository-code: \"?([^\"\n]*)", citation, re.MULTILINE) == ([address] if address else [])


def test_the_changelog_begins_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == PROJECT["project"]["version"]


def test_what_the_benchmarks_compare_with_is_no_part_of_what_the_tests_need() -> None:
    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}

    needed = names(PROJECT["project"]["optional-dependencies"]["dev"])
    assert names(PROJECT["dependency-groups"]["bench"]) & needed == {"pydantic"}  # a test compares with it, too
