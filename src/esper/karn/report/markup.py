"""A page of one file: whether it can be written, and the one way in which text gets into it."""

from __future__ import annotations

import html
import os
from pathlib import Path

from esper.karn.formatting import tidy

__all__ = ["check_target", "document", "escaped"]


def check_target(output: str | os.PathLike[str], such_as: str) -> None:
    """Ask whether a page could be written here, before anything is read.

    Args:
        output: the file to write.
        such_as: what a file may be called, for the message.

    Raises:
        OSError: it is a directory, or there is none to write it to.
    """
    target = Path(output)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a directory: name the file to write, such as {target / such_as}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"no such directory: {target.parent}")


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
