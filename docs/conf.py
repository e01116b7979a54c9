"""How the documentation is built into a site: ``make docs``. What it lists of the code is written anew each time."""

# ruff: noqa: INP001 - Sphinx runs it, no package

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE),
    str(HERE.parent),
]  # for reference_pages, and for tests.field_census, which knows who emits what

import reference_pages  # noqa: E402 - found by the line above

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "esper"
author = "the esper authors"
copyright = "the esper authors, MIT licence"  # noqa: A001 - Sphinx's name
release = version = installed("esper-telemetry")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role = "code"
python_display_short_literal_types = True
python_maximum_signature_line_length = 100
copybutton_prompt_text = "$ "
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "esper"
html_static_path: list[str] = []
html_domain_indices = False


def setup(app: Sphinx) -> None:
    """Write the pages that are made from code before any page is read, and read attributes' docstrings as sentences."""
    app.connect("builder-inited", lambda _: reference_pages.write(HERE / "reference"))
    app.connect("autodoc-process-docstring", _keep_colons, priority=100)  # before napoleon


def _keep_colons(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    if what in ("attribute", "data", "property"):
        lines[:0] = [
            "..",
            "",
        ]  # in a first line napoleon takes what stands before a colon for a type: let it be a comment
