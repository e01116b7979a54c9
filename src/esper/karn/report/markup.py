"""The one way in which text gets into the page."""

from __future__ import annotations

import html

from esper.karn.formatting import tidy

__all__ = ["document", "escaped"]


def escaped(text: str) -> str:
    """Return text, from a log or not, so that HTML shows it as it is, control characters made visible."""
    return html.escape(tidy(text))


def document(title: str, *, style: str, policy: str, body: str) -> str:
    """Return a page of one file, light or dark as its reader's system is.

    Args:
        title: as text.
        style: CSS.
        policy: what a browser may load or run of it: its Content-Security-Policy.
        body: as HTML.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escaped(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
