"""What errors say about values, in a few words that are safe to print."""

from __future__ import annotations

from typing import TypeAlias

from esper.leyline._payload.frozen import FrozenDict, FrozenList
from esper.leyline.printable import is_printable

__all__ = ["Path", "brief", "is_unicode", "path_text", "shorten", "shorten_with_remedy"]

_BRIEF = 60
_LONG = 1_000
"""Characters of a repr that are looked at."""

Path: TypeAlias = "str | tuple[Path, object]"
"""A field's name, or where a container is and the key or index in it. It becomes text only to name a problem."""


def brief(value: object) -> str:
    """Return the beginning of a value's repr, which holds neither control characters nor line ends."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a foreign __repr__ may do anything, and we are reporting an error
        return "…"
    if not is_printable(text[:_LONG]):
        text = " ".join("".join(char if is_printable(char) else " " for char in text[:_LONG]).split())
    return text if len(text) <= _BRIEF else text[: _BRIEF - 3] + "…"


def shorten(value: object) -> str:
    """Describe a value in a few words: its type and the beginning of its repr."""
    kind = {FrozenDict: dict, FrozenList: list}.get(type(value), type(value))
    return f"{kind.__name__} {brief(value)}"


def shorten_with_remedy(value: object, *, container: bool = False) -> str:
    """Do as `shorten`, and say of a tensor or an array how its content is had.

    Args:
        value: what came.
        container: whether a tuple, list or dict was asked for rather than one value.
    """
    kind = type(value)
    if not (hasattr(kind, "item") and hasattr(kind, "tolist")):
        return shorten(value)
    try:
        is_one = value.size == 1 if isinstance(value.size, int) else value.numel() == 1  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - it only looked like an array
        is_one = True
    remedy = ".tolist()" if container or not is_one else ".item()"
    return f"{shorten(value)}: pass what its {remedy} returns"


def is_unicode(text: str) -> bool:
    """Whether a str is valid Unicode, that is, holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def path_text(path: Path) -> str:
    """Return a path as errors name it: ``seeds['r0c1']['alpha']``."""
    return path if isinstance(path, str) else f"{path_text(path[0])}[{brief(path[1])}]"
