"""Statistics of few seeds: what a handful of runs says about all the runs that there could have been.

Point and interval estimates are those of Agarwal et al. 2021, *Deep Reinforcement Learning at the Edge of the
Statistical Precipice*: interquartile mean, probability of improvement, percentile bootstrap over runs. Whether a
difference is real is asked of a permutation test, which is exact for any number of seeds: under-covering intervals of
three runs are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, variance
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Array: TypeAlias = NDArray[np.float64]

__all__ = [
    "ALPHA",
    "Interval",
    "band",
    "difference_interval",
    "holm",
    "improvement",
    "improvement_interval",
    "interquartile_mean",
    "interval",
    "least_p",
    "p_value",
    "require_scipy",
    "seeds_needed",
]

Interval: TypeAlias = tuple[float, float]

ALPHA: Final = 0.05
"""Share of comparisons of a thing with itself that may be called different."""
_POWER: Final = 0.8
_RESAMPLES: Final = 9_999
_TINY: Final = 1e-9
"""Share of the spread of all values below which a standard error is the arithmetic's."""
_SEED: Final = 20210830
"""The same numbers give the same intervals."""
_MOST_SEEDS: Final = 10_000


def require_scipy() -> None:
    """Import what everything here needs.

    Raises:
        ModuleNotFoundError: scipy is not installed; the message says what to do.
    """
    try:
        import scipy.stats  # noqa: F401, PLC0415 - an extra, and asked for here only
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("comparing runs needs scipy: pip install 'esper-telemetry[compare]'") from error


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean of the middle half: as robust as a median, and less wasteful. 1 value or more."""
    from scipy import stats  # noqa: PLC0415 - an extra

    return float(stats.trim_mean(values, 0.25))


def interval(values: Sequence[float], *, robust: bool = False) -> Interval | None:
    """Return the 95 % percentile bootstrap interval of the mean, or of the interquartile mean; None for one value."""

    def iqm(sample: _Array, axis: int = -1) -> Any:
        from scipy import stats  # noqa: PLC0415 - an extra

        return stats.trim_mean(sample, 0.25, axis=axis)

    def mean(sample: _Array, axis: int = -1) -> Any:
        return sample.mean(axis=axis)

    return None if len(values) < 2 else _bootstrap((values,), iqm if robust else mean)  # noqa: PLR2004 - nothing varies


def _bootstrap(samples: tuple[Sequence[float], ...], statistic: Callable[..., Any]) -> Interval:
    import numpy as np  # noqa: PLC0415 - as above
    from scipy import stats  # noqa: PLC0415 - as above

    found = stats.bootstrap(
        tuple(np.asarray(sample, dtype=float) for sample in samples),
        statistic,
        n_resamples=_RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def improvement(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the probability that a run is better than one of the baseline, ties being halves.

    Source: Mann and Whitney 1947; Agarwal et al. 2021, equation 1.
    """
    from scipy import stats  # noqa: PLC0415 - an extra

    u = stats.mannwhitneyu(values, baseline, method="asymptotic").statistic
    return float(u) / (len(values) * len(baseline))


def improvement_interval(values: Sequence[float], baseline: Sequence[float]) -> Interval | None:
    """Return its 95 % percentile bootstrap interval; None where an arm has a single run."""
    if min(len(values), len(baseline)) < 2:  # noqa: PLR2004 - nothing varies
        return None

    def share(one: _Array, other: _Array, axis: int = -1) -> Any:  # noqa: ARG001 - scipy names it
        above = one[..., :, None] > other[..., None, :]
        equal = one[..., :, None] == other[..., None, :]
        return (above + 0.5 * equal).mean(axis=(-2, -1))

    return _bootstrap((values, baseline), share)


def difference_interval(values: Sequence[float], baseline: Sequence[float]) -> Interval | None:
    """Return Welch's 95 % interval of the difference of means; None where an arm has a single run."""
    n, m = len(values), len(baseline)
    if min(n, m) < 2:  # noqa: PLR2004 - nothing varies
        return None
    from scipy import stats  # noqa: PLC0415 - an extra

    a, b = variance(values) / n, variance(baseline) / m
    difference, error = fmean(values) - fmean(baseline), math.sqrt(a + b)
    if error == 0.0:
        return difference, difference
    share = a / (a + b)
    freedom = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (m - 1))
    reach = float(stats.t.ppf(1 - ALPHA / 2, freedom)) * error
    return difference - reach, difference + reach


def p_value(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Return how often chance alone, dealing the runs out to the two arms anew, sets them as far apart.

    A permutation test of Welch's statistic, two-sided; exact up to ten thousand ways to deal. 1 where an arm has a
    single run. Source: Janssen 1997, Studentized permutation tests for non-i.i.d. hypotheses.
    """
    if min(len(values), len(baseline)) < 2:  # noqa: PLR2004 - nothing varies
        return 1.0
    import numpy as np  # noqa: PLC0415 - an extra
    from scipy import stats  # noqa: PLC0415 - as above

    both = [*values, *baseline]
    least = _TINY * (max(both) - min(both)) or 1.0

    def statistic(one: _Array, other: _Array, axis: int = -1) -> Any:
        squares = one.var(axis=axis, ddof=1) / one.shape[axis] + other.var(axis=axis, ddof=1) / other.shape[axis]
        return (one.mean(axis=axis) - other.mean(axis=axis)) / np.maximum(np.sqrt(squares), least)

    found = stats.permutation_test(
        (np.asarray(values, dtype=float), np.asarray(baseline, dtype=float)),
        statistic,
        n_resamples=_RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def least_p(n: int, m: int) -> float:
    """Return the lowest p that so many runs can have: that of two arms that do not overlap."""
    return 1.0 if min(n, m) < 2 else 2 / math.comb(n + m, n)  # noqa: PLR2004 - as in p_value


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many were looked at. Source: Holm 1979."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, at in enumerate(order):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = worst
    return adjusted


def seeds_needed(values: Sequence[float], baseline: Sequence[float], comparisons: int = 1) -> int | None:
    """Return about how many seeds an arm a difference as large as this one takes to be seen four times out of five.

    None where there is no difference, nothing is known of the spread, or it is beyond all reason. What few seeds show
    is itself uncertain, and so is this number. Source: Guenther 1981, Sample size formulas for normal theory t tests.

    Args:
        values: 2 or more, else the answer is None.
        baseline: 2 or more, else the answer is None.
        comparisons: how many are looked at together.
    """
    difference = fmean(values) - fmean(baseline)
    if min(len(values), len(baseline)) < 2 or difference == 0.0:  # noqa: PLR2004 - nothing varies
        return None
    alpha = ALPHA / comparisons
    least = next(n for n in range(2, 64) if least_p(n, n) <= alpha)
    effect = (variance(values) + variance(baseline)) / 2 / difference / difference
    z, power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(_POWER)
    n = 2 * (z + power) ** 2 * effect + z**2 / 4
    return max(least, math.ceil(n)) if n <= _MOST_SEEDS else None


def band(courses: Sequence[Sequence[float]]) -> tuple[list[float], list[float], list[float]]:
    """Return the mean over runs at each point, and the 95 % percentile bootstrap interval around it.

    Args:
        courses: one a run, all as long and of the same points; 1 or more.
    """
    import numpy as np  # noqa: PLC0415 - an extra

    matrix = np.asarray(courses, dtype=float)
    mean = matrix.mean(axis=0)
    if len(courses) < 2:  # noqa: PLR2004 - nothing varies
        return mean.tolist(), mean.tolist(), mean.tolist()
    dealt = np.random.default_rng(_SEED).multinomial(len(courses), [1 / len(courses)] * len(courses), size=1_999)
    low, high = np.quantile(dealt @ matrix / len(courses), [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return mean.tolist(), low.tolist(), high.tolist()
