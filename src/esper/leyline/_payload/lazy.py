"""What a class is read and written by is compiled when it is first asked for: importing the contract stays cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["LazyCodec"]


class LazyCodec:
    """Stands where a class has its ``_codec``, until it is used.

    Args:
        cls: the class.
        make: makes the codec of the class.
    """

    def __init__(self, cls: Any, make: Callable[[Any], Any]) -> None:
        self._cls = cls
        self._make = make

    def __getattr__(self, name: str) -> Any:
        self._cls._codec = codec = self._make(self._cls)  # noqa: SLF001 - its own class
        return getattr(codec, name)
