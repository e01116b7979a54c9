"""The documentation's code runs, and its links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

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
    source = page.read_text()
    names: dict[str, object] = {"__name__": "__docs__"}
    for block in re.finditer(r"^```python\n(.*?)^```", source, re.DOTALL | re.MULTILINE):
        line = source[: block.start(1)].count("\n")
        with one_thread():  # networks of this size are faster so, and other tests need the cores
            exec(compile("\n" * line + block.group(1), str(page), "exec", dont_inherit=True), names)


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
