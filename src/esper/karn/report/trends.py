"""What a curve does, in a sentence: for those who do not see it, and beside it for all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.karn.formatting import mean, number, plural
from esper.karn.progress import ends_of
from esper.karn.report.decimation import is_measured

__all__ = ["all_of", "course_text", "several"]

_MOST_NAMED = 6
"""Curves of one plot that a sentence names."""


def all_of(count: int, thing: str) -> str:
    """Return over what a plot reaches, which is always all of it: ``All 80 batches``, ``The only batch``."""
    return f"The only {thing}" if count == 1 else f"All {plural(count, thing)}"


def course_text(
    values: Sequence[float | None], thing: str, write: Callable[[float | None], str] = number, also: str = ""
) -> str:
    """Return over what a curve reaches, where it began and ended, and its extremes.

    Args:
        values: None where nothing was measured.
        thing: what each value is of, such as a batch.
        write: a value as text.
        also: what there is to say about it besides.
    """
    known = [value for value in values if value is not None]
    if not known:
        return "Not supplied."
    broken = sum(not is_measured(value) for value in known)
    lost = f"; not finite in {number(broken)} of them" if broken else ""
    return f"{all_of(len(known), thing)}: {_moved(known, write)}{lost}{also}."


def _moved(values: Sequence[float], write: Callable[[float | None], str]) -> str:
    """Return where values began and ended, as means of both ends, and their finite extremes."""
    finite = [value for value in values if is_measured(value)]
    if not finite:
        return "nothing finite"
    low, high, n = min(finite), max(finite), ends_of(values)
    if not n:
        return write(low)
    if low == high and len(finite) == len(values):
        return f"{write(low)} throughout"
    first, newest = write(mean(values[:n])), write(mean(values[-n:]))
    return f"from {first} (first {n}) to {newest} (newest {n}); lowest {write(low)}, highest {write(high)}"


def several(texts: dict[str, str]) -> str:
    """Return what several curves do, each after its name; of many the first."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    named = [f"{name}: {text}" for name, text in list(texts.items())[:_MOST_NAMED]]
    more = len(texts) - _MOST_NAMED
    return " ".join([*named, *([f"And {number(more)} more."] if more > 0 else [])])
