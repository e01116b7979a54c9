"""What the documentation says of its code is true: what a line prints, and that a checker takes it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from esper.simic.determinism import one_thread

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)
TYPED = ["tutorial", "own-loop", "own-dashboard", "sinks", "testing-emitters", "emitting-less", "runs"]
"""What somebody copies into a checked program, and no library that takes a checker minutes."""


def python_of(page: Path) -> str:
    """Return the code of a page, each line where it stands there."""
    source = page.read_text(encoding="utf-8")
    code = ""
    for block in re.finditer(r"^```python\n(.*?)^```", source, re.DOTALL | re.MULTILINE):
        code += "\n" * (source.count("\n", 0, block.start(1)) - code.count("\n")) + block.group(1)
    return code


@pytest.mark.parametrize(
    "page", [page for page in PAGES if PRINTED.search(python_of(page))], ids=lambda page: page.stem
)
def test_a_line_prints_what_stands_behind_it(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: defaultdict[int, list[str]] = defaultdict(list)

    def noting(*values: object) -> None:
        printed[sys._getframe(1).f_lineno].append(" ".join(map(str, values)))

    monkeypatch.chdir(tmp_path)
    code = python_of(page)
    with one_thread():
        exec(compile(code, str(page), "exec", dont_inherit=True), {"__name__": "__docs__", "print": noting})
    said = {number: found[1] for number, line in enumerate(code.split("\n"), 1) if (found := PRINTED.match(line))}
    assert said
    for number, text in said.items():
        assert text.partition(": ")[0] in printed[number], f"{page.name}:{number}"


def test_what_is_copied_from_the_pages_for_typed_programs_passes_mypy_strict(tmp_path: Path) -> None:
    files = [tmp_path / f"{name.replace('-', '_')}.py" for name in TYPED]
    for name, file in zip(TYPED, files, strict=True):
        code, _, _ = python_of(ROOT / "docs" / f"{name}.md").partition("import torch\n")
        file.write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, files)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # with make check's cache
    assert (checked.stdout, checked.stderr, checked.returncode) == ("", "", 0)
