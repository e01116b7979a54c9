"""What several runs are called beside each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["run_names", "unicode_text"]


def unicode_text(name: str) -> str:
    """Return a name as the system has it so that any file can hold it: bytes that are no Unicode as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def run_names(sources: Sequence[str | os.PathLike[str]]) -> dict[str, str]:
    """Name each source by as much of the end of its path as distinguishes them.

    Args:
        sources: log files, run directories or ``-``.

    Returns:
        The sources by name, in order.
    """
    names: dict[str, str] = {}
    for source in [os.fspath(source) for source in sources]:
        path = Path(source).resolve()
        parts = path.parent.parts if path.name.startswith("events") and not path.is_dir() else path.parts
        parts = tuple(map(unicode_text, parts))
        name = "standard input" if source == "-" else parts[-1]
        for depth in range(2, len(parts) + 1):
            if name in names:
                name = "/".join(parts[-depth:])
        n = 2
        while name in names:
            name, n = f"{parts[-1]} ({n})", n + 1
        names[name] = source
    return names
