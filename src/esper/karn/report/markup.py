"""The one way in which text gets into the page."""

from __future__ import annotations

import html

from esper.karn.formatting import tidy

__all__ = ["escaped"]


def escaped(text: str) -> str:
    """Return text, from a log or not, so that HTML shows it as it is, control characters made visible."""
    return html.escape(tidy(text))
