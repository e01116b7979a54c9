"""Run the Python examples of pages of the documentation from top to bottom: ``python -P tests/run_page.py PAGE…``."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path


def run(page: Path) -> None:
    """Run a page's examples as one script in the working directory; a traceback names the page's own lines."""
    source = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__docs__"}
    for block in re.finditer(r"^```python\n(.*?)^```", source, re.DOTALL | re.MULTILINE):
        line = source[: block.start(1)].count("\n")
        exec(compile("\n" * line + block.group(1), str(page), "exec", dont_inherit=True), names)


if __name__ == "__main__":
    for argument in [Path(name).resolve() for name in sys.argv[1:]]:
        with tempfile.TemporaryDirectory() as directory:
            os.chdir(directory)
            run(argument)
            os.chdir(argument.parent)
