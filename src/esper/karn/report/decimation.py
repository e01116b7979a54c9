"""Numbers fit to be drawn, and fewer than were measured, without losing a spike or bridging a gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise

from esper.karn.absence import supplied_number
from esper.leyline.limits import real
from esper.leyline.telemetry import TelemetryPayload

__all__ = ["COLUMNS", "HUGE", "SMALLEST_SPAN", "clamped", "decimate", "is_measured", "measured_value", "ticks"]

COLUMNS = 1500
"""Pixel columns of the widest plot."""


HUGE = 2**53
"""A count beyond this is a mistake, and must not take the page with it."""


_LARGEST_DRAWN = 1e100
"""Beyond this, the arithmetic of the browser overflows."""


SMALLEST_SPAN = 1e-100
"""Below this, a share of the span is no number any more."""


def clamped(count: int) -> int:
    """Return a count, brought to where arithmetic with it is safe."""
    return max(-HUGE, min(HUGE, count))


def measured_value(payload: TelemetryPayload, field: str) -> float | None:
    """Return a numeric field as a float, or None when its maker did not supply it."""
    value = supplied_number(payload, field)
    return None if value is None else real(value)


def is_measured(value: float | None) -> bool:
    """Return whether there is a number that can be drawn."""
    return value is not None and abs(value) <= _LARGEST_DRAWN


def decimate(x: Sequence[float], y: Sequence[float | None], columns: int = COLUMNS) -> list[int]:
    """Return the ascending indices of the points to draw.

    Of each pixel column the first, last, lowest and highest finite value are kept, and one of each kind that is not
    finite. Where a gap lay between two neighbours that are kept, a point of the gap is kept, so that no line is drawn
    across it.

    Args:
        x: ascending and finite.
        y: as long as x; None where nothing was measured.
        columns: pixel columns to spread the points over, 1 or more.
    """
    if len(x) <= 4 * columns:
        return list(range(len(x)))
    start, width = x[0], (x[-1] - x[0]) / columns or 1.0
    kept: set[int] = set()
    for _, column in groupby(range(len(x)), lambda i: int((x[i] - start) / width)):
        kept.update(_extremes(list(column), y))
    gaps = list(accumulate((not is_measured(value) for value in y), initial=0))
    drawn = sorted(i for i in kept if is_measured(y[i]))
    for left, right in pairwise(drawn):
        if gaps[right] > gaps[left]:
            kept.add(next(i for i in range(left + 1, right) if not is_measured(y[i])))
    return sorted(kept)


def _extremes(column: list[int], y: Sequence[float | None]) -> set[int]:
    finite: list[tuple[float, int]] = []
    not_finite: dict[str, int] = {}
    for i in column:
        value = y[i]
        if value is not None and is_measured(value):
            finite.append((value, i))
        elif value is not None:
            not_finite.setdefault(str(value), i)
    kept = set(not_finite.values())
    if finite:
        kept |= {finite[0][1], finite[-1][1], min(finite)[1], max(finite)[1]}
    return kept


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round values between two, at most so many steps apart: multiples of 1, 2 or 5 times a power of ten.

    Where the span is none, or none that can be divided, the lower end stands alone.
    """
    rough = (high - low) / most
    if not SMALLEST_SPAN <= rough < math.inf:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((n * power for n in (1, 2, 5) if n * power >= rough), 10 * power)
    multiples = (n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1))
    # a product may be rounded past the end that its factor was counted to
    return [tick for tick in multiples if low <= tick <= high] or [low]
