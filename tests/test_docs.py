"""The documentation's code runs, and its links lead somewhere."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from tests.run_page import run

from esper.cli import _parser
from esper.kasmina.blueprints import BLUEPRINTS
from esper.leyline.actions import Op
from esper.leyline.stages import SeedStage
from esper.simic.determinism import one_thread

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# The code of questions.md runs where its SQL does: tests/karn/export/test_questions.py
WITH_CODE = [page for page in PAGES if "```python\n" in page.read_text() and page.name != "questions.md"]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with one_thread():  # networks of this size are faster so, and other tests need the cores
        run(page)


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield what follows ``esper`` in the lines that a page has typed in a shell."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in re.findall(r"^\$ (.*)", block, re.MULTILINE):
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = list(lexer)
            for start in (i + 1 for i, word in enumerate(words) if word == "esper"):
                yield list(takewhile(lambda word: word[0] not in "|&;<>", words[start:]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_command_lines_of_a_page_are_taken_by_the_parser(page: Path) -> None:
    for words in command_lines(page):
        if "--help" not in words:
            _parser().parse_args(["1" if word == "$seed" else word for word in words])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_to_files_that_exist(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(
        r"\]\(((?!reference/)[^)#:]+?)(?:#[^)]*)?\)", prose
    )  # make docs writes and checks the reference
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("name", ["seed_life", "rooms"])
def test_the_drawings_are_those_of_the_stages_and_of_the_import_linter_s_contract_as_they_are(name: str) -> None:
    drawn: str = runpy.run_path(str(ROOT / "docs" / f"picture_{name}.py"))["draw"]()
    assert drawn == (ROOT / "docs" / f"{name.replace('_', '-')}.svg").read_text(encoding="utf-8"), "run make pictures"


def test_the_glossary_explains_every_stage_op_and_blueprint() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| ([A-Z]+) \|", glossary, re.MULTILINE) == [stage.name for stage in SeedStage]
    assert [word for word in (*(op.value for op in Op), *BLUEPRINTS) if word not in glossary] == []
