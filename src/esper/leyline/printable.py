r"""The one escape for screens: nothing that a file says moves a cursor, turns the writing round, or hides.

Escaped, as Python writes it in a string (``\x1b``, ``\u202e``): C0 and C1 controls, line ends, marks of direction and
of no width, surrogates, what has no letter in Unicode, and letters that show nothing.
"""

from __future__ import annotations

import re

__all__ = ["is_printable", "printable", "printable_lines"]

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and accents to Python, and yet invisible: Unicode's Default_Ignorable_Code_Point of categories L and M."""


def is_printable(text: str) -> bool:
    """Whether a text is on one line, and every letter of it shows itself and does nothing else."""
    return text.isprintable() and (text.isascii() or not _UNSEEN.search(text))


def printable(text: str) -> str:
    """Return a text on one line, with what acts on a screen, or hides there, as escapes."""
    if is_printable(text):
        return text
    return "".join(c if is_printable(c) else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Do as `printable` with each line of a text: for what a command prints, of which the line ends are its own."""
    return text if is_printable(text.replace("\n", " ")) else "\n".join(map(printable, text.split("\n")))
