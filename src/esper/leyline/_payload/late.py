"""An event's id and time: two numbers when the event is built, and made into text and time when somebody asks.

Most events are built, written and forgotten, and the writer makes text of the numbers without making a time first.
Whoever reads ``event.event_id`` or ``event.timestamp`` finds the text and the time, made once and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from esper.leyline.event_ids import text_of

__all__ = ["LATE", "Late", "time_of", "time_text"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(nanoseconds: int) -> datetime:
    """Return the time so long after 1970 began, without what is below a microsecond."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1_000)


class _Seconds(dict[int, str]):
    """The text of each whole second, in ISO 8601 and without its zone."""

    def __missing__(self, second: int) -> str:
        if len(self) >= _MOST_SECONDS:
            self.clear()
        text = self[second] = (_EPOCH + timedelta(seconds=second)).isoformat()[:19]
        return text


_seconds = _Seconds()
_MOST_SECONDS = 64


def time_text(nanoseconds: int) -> str:
    """Return what `time_of` returns as ``isoformat`` writes it, without making it."""
    second, rest = divmod(nanoseconds, 1_000_000_000)
    micro = rest // 1_000
    return f"{_seconds[second]}.{str(micro + 1_000_000)[1:]}+00:00" if micro else f"{_seconds[second]}+00:00"


LATE: dict[str, tuple[str, Callable[[int], object], Callable[[int], str]]] = {
    "event_id": ("_number", text_of, text_of),
    "timestamp": ("_nanoseconds", time_of, time_text),
}
"""Of each field that is made late: the slot of its number, None when its maker gave the field; what makes the field of
it, and what makes the text of the field."""


class Late:
    """Stands where a class has the descriptor of a slot, and fills the slot from a number when it is first read.

    Args:
        cls: the class.
        field: the name of the slot.

    Attributes:
        slot: the descriptor that it stands for.
    """

    def __init__(self, cls: type[Any], field: str) -> None:
        number, self._make, _ = LATE[field]
        self.slot, self._number = cls.__dict__[field], getattr(cls, number)
        self.__doc__ = self.slot.__doc__

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        if instance is None:
            return self
        try:
            return self.slot.__get__(instance)
        except AttributeError:
            made = self._make(self._number.__get__(instance))
        self.slot.__set__(instance, made)
        return made

    def __set__(self, instance: Any, value: object) -> None:
        self.slot.__set__(instance, value)  # unpickling: the class refuses all else
        self._number.__set__(instance, None)
