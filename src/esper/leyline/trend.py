"""How a series went: where it rose, fell or stayed, and whether that is more than noise.

A series of any length is kept as at most 128 blocks of equal length, each with its mean. Everything here stays the
same when all values are multiplied by a positive number or shifted: levels are compared with each other, in standard
errors and in shares of the range between the lowest and the highest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Final, NamedTuple

__all__ = ["Block", "Course", "Series", "course_of"]

_MOST: Final = 128
"""Blocks kept; an even number."""
_LEAST: Final = 3
"""Values whose mean is a level, at least: the mean of fewer is noise."""
_ROUNDING: Final = 1e-12
"""Share of the largest magnitude below which a difference may be the arithmetic's."""
_RANKED: Final = 48
_NORMAL_MAD: Final = 1.4826
"""Standard deviations in a median absolute deviation, of a normal distribution."""


class Block(NamedTuple):
    """Successive values."""

    n: int
    """Finite values; 1 or more."""
    mean: float
    steps: int
    """Differences between neighbours, that to the block before included."""
    squares: float
    """Sum of the squares of those differences."""


class Series:
    """Takes one value after the other, at constant memory. What is not finite is left out."""

    __slots__ = ("_last", "_open", "blocks", "width")

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        """All but the last are of ``width`` values."""
        self.width = 1
        self._open = 0
        self._last: float | None = None

    def add(self, value: float) -> None:
        """Add the next value."""
        if not math.isfinite(value):
            return
        steps, square = (0, 0.0) if self._last is None else (1, _square(value - self._last))
        self._last = value
        new = Block(1, value, steps, square)
        if self._open:
            self.blocks[-1] = _join(self.blocks[-1], new)
        else:
            if len(self.blocks) == _MOST:
                self.blocks = [_join(*pair) for pair in zip(self.blocks[::2], self.blocks[1::2], strict=True)]
                self.width *= 2
            self.blocks.append(new)
        self._open = (self._open + 1) % self.width


def _square(value: float) -> float:
    return value * value  # infinite, where a power would raise


def _join(one: Block, other: Block) -> Block:
    n = one.n + other.n
    mean = one.mean + (other.mean - one.mean) * (other.n / n)
    return Block(n, mean, one.steps + other.steps, one.squares + other.squares)


@dataclass(frozen=True, slots=True)
class Course:
    """The levels that a series went through."""

    values: int
    """Values in all. Unit: values; 1 or more."""
    window: int
    """Values whose mean is one level; the first level may be of fewer. Unit: values; 1 or more."""
    levels: tuple[float, ...]
    """Means of successive windows, the newest last."""
    error: float
    """Standard error of one level, from how neighbours differ. Unit: of the series; 0 or more."""
    noise: float
    """Standard deviation of one value around its level. Unit: of the series; 0 or more."""
    trend_errors: float
    """Kendall's trend test: concordant less discordant pairs, in standard errors. Whatever the noise does, it asks only
    which of two is higher. Source: Mann 1945, Nonparametric Tests Against Trend."""

    @property
    def first(self) -> float:
        """The level at the beginning."""
        return self.levels[0]

    @property
    def newest(self) -> float:
        """The level now."""
        return self.levels[-1]

    @property
    def best(self) -> float:
        """The highest level."""
        return max(self.levels)

    @property
    def best_at(self) -> int:
        """Values before the end of the window with the highest level. Unit: values; 1 or more."""
        return self.ended(self.levels.index(self.best))

    @property
    def spread(self) -> float:
        """From the lowest level to the highest; 0 or more."""
        return max(self.levels) - min(self.levels)

    def ended(self, window: int) -> int:
        """Return the values that had come when a window ended, windows being counted from 0."""
        return max(self.values - (len(self.levels) - 1 - window) * self.window, 1)

    def errors(self, higher: float, lower: float) -> float:
        """Return by how many standard errors of their difference one level is above another; 0 for equal ones."""
        difference = higher - lower
        if difference == 0.0:
            return 0.0
        error = math.sqrt(2) * self.error
        return difference / error if error else math.copysign(math.inf, difference)

    def drop(self, window: int = -1) -> float:
        """Return how far a window's level is below the highest up to it, as a share of the spread; 0 to 1."""
        return (max(self._up_to(window)) - self.levels[window]) / self.spread if self.spread else 0.0

    def drop_errors(self, window: int = -1) -> float:
        """Return the same in standard errors."""
        return self.errors(max(self._up_to(window)), self.levels[window])

    def _up_to(self, window: int) -> tuple[float, ...]:
        return self.levels[: range(len(self.levels))[window] + 1]

    @property
    def rise_errors(self) -> float:
        """By how many standard errors the newest level is above the first."""
        return self.errors(self.newest, self.first)

    @property
    def settled_at(self) -> int:
        """Values after which no level was clearly above the one reached by then. Unit: values; 1 or more."""
        reached = next(at for at, level in enumerate(self.levels) if self.errors(self.best, level) < _CLEAR)
        return self.ended(reached)


_CLEAR: Final = 3.0
"""Standard errors that make a difference clear: one in 740 by chance."""


def course_of(blocks: Sequence[Block]) -> Course | None:
    """Return the levels of a series; None before there are values for two of them.

    A window is as long as it must be for levels to be told apart, and short enough that a fall near the end is seen:
    two thirds of the root of how many values there are, and at least three.
    """
    values = sum(block.n for block in blocks)
    if values < 2 * _LEAST:
        return None
    window = max(_LEAST, round(math.sqrt(values) / 1.5))
    levels, filled, total, at_least = list[float](), 0, 0.0, 0
    for block in reversed(blocks):  # windows end with the newest value
        total = block.mean if not filled else total + (block.mean - total) * (block.n / (filled + block.n))
        filled += block.n
        if filled >= window:
            levels.append(total)
            at_least = max(at_least, filled)
            filled = 0
    if filled >= max(window // 2, 2):
        levels.append(total)
    levels.reverse()
    largest = max(abs(block.mean) for block in blocks)
    noise = _noise(blocks)
    error = max(noise / math.sqrt(at_least), _wander(levels), _ROUNDING * largest)
    if len(levels) < 2 or not all(map(math.isfinite, (*levels, noise, error))):  # noqa: PLR2004 - to be compared
        return None
    return Course(values, at_least, tuple(levels), error, noise, _kendall(blocks))


def _noise(blocks: Sequence[Block]) -> float:
    """Return the standard deviation around the trend, from the differences of neighbours; jumps hardly count.

    Source: von Neumann et al. 1941, with the median over blocks, corrected as Wilson and Hilferty 1931 approximate it.
    """
    squares = [(block.squares / block.steps, block.steps) for block in blocks if block.steps]
    if not squares:
        return 0.0
    typical = median(steps for _, steps in squares)
    correction = (1 - 2 / (9 * typical)) ** 3
    return math.sqrt(median(mean for mean, _ in squares) / correction / 2)


def _kendall(blocks: Sequence[Block]) -> float:
    """Compare all pairs of at most ``_RANKED`` means, of two blocks or more."""
    step = -(-len(blocks) // _RANKED)
    means = [fmean(block.mean for block in blocks[at : at + step]) for at in range(0, len(blocks), step)]
    n = len(means)
    score = sum((later > one) - (later < one) for at, one in enumerate(means) for later in means[at + 1 :])
    return score / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def _wander(levels: Sequence[float]) -> float:
    """Return the standard error of a level that its neighbours show, whatever the trend: series wander slowly, too."""
    bends = [abs(before - 2 * level + after) for (before, level), (_, after) in pairwise(pairwise(levels))]
    return _NORMAL_MAD * median(bends) / math.sqrt(6) if len(bends) >= _LEAST else 0.0
