"""The statistics agree with rliable on the same numbers, and call nothing different from itself too often."""

from __future__ import annotations

import importlib
import importlib.util
import math
import random
import sys
import warnings
from collections.abc import Callable, Sequence
from statistics import fmean
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.karn.comparison import statistics
from esper.karn.comparison.statistics import (
    band,
    difference_interval,
    holm,
    improvement,
    improvement_interval,
    interquartile_mean,
    interval,
    least_p,
    p_value,
    seeds_needed,
)


def _rliable() -> tuple[ModuleType, ModuleType]:
    """Import rliable with nothing of arch but its bootstrap: the rest of it breaks with new versions of pandas."""
    spec = importlib.util.find_spec("arch")
    assert spec is not None
    bare = ModuleType("arch")
    bare.__path__ = list(spec.submodule_search_locations or ())
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # of its own imports
        patch.setitem(sys.modules, "arch", bare)
        return importlib.import_module("rliable.library"), importlib.import_module("rliable.metrics")


library, metrics = _rliable()
ONE = [11.2, 12.9, 10.4, 13.1, 12.2, 9.8, 12.0]
OTHER = [9.1, 12.0, 8.7, 10.9, 11.8]
SAMPLES = st.lists(st.floats(-100, 100).map(lambda value: round(value, 3)), min_size=2, max_size=9)


def scores(values: Sequence[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return runs of one task, as rliable has them."""
    return np.asarray(values, dtype=float)[:, None]


@given(SAMPLES)
def test_the_interquartile_mean_is_rliable_s(values: list[float]) -> None:
    assert interquartile_mean(values) == pytest.approx(metrics.aggregate_iqm(scores(values)))


@given(SAMPLES, SAMPLES)
def test_the_probability_of_improvement_is_rliable_s(one: list[float], other: list[float]) -> None:
    assert improvement(one, other) == pytest.approx(metrics.probability_of_improvement(scores(one), scores(other)))


@pytest.mark.filterwarnings("ignore:random_state is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("robust", "metric"), [(False, metrics.aggregate_mean), (True, metrics.aggregate_iqm)], ids=["mean", "IQM"]
)
def test_intervals_are_rliable_s(robust: bool, metric: Callable[..., float]) -> None:
    _, theirs = library.get_interval_estimates(
        {"arm": scores(ONE)}, lambda x: np.array([metric(x)]), reps=5_000, random_state=np.random.RandomState(1)
    )
    assert interval(ONE, robust=robust) == pytest.approx(theirs["arm"][:, 0], abs=0.1)


@pytest.mark.filterwarnings("ignore:random_state is deprecated:FutureWarning")
def test_the_interval_of_the_probability_of_improvement_is_rliable_s() -> None:
    _, theirs = library.get_interval_estimates(
        {"pair": (scores(ONE), scores(OTHER))}, metrics.probability_of_improvement, reps=2_000,
        random_state=np.random.RandomState(1),
    )  # fmt: skip
    assert improvement_interval(ONE, OTHER) == pytest.approx(np.ravel(theirs["pair"]), abs=0.04)


def test_the_same_numbers_give_the_same_intervals() -> None:
    assert interval(ONE) == interval(ONE)
    assert p_value(ONE * 3, OTHER * 3) == p_value(ONE * 3, OTHER * 3)


def test_a_single_run_has_no_interval_and_decides_nothing() -> None:
    assert interval([1.0]) is interval([1.0], robust=True) is None
    assert improvement_interval([1.0], OTHER) is difference_interval(OTHER, [1.0]) is None
    assert seeds_needed([1.0], OTHER) is None
    assert p_value([1.0], OTHER) == 1.0


@given(SAMPLES, SAMPLES)
def test_the_difference_has_welch_s_interval(one: list[float], other: list[float]) -> None:
    found = difference_interval(one, other)
    assert found is not None
    if len({*one}) > 1 < len({*other}):  # scipy warns of arms without any spread
        from scipy import stats

        theirs = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
        assert found == pytest.approx((float(theirs.low), float(theirs.high)), rel=1e-6, abs=1e-9)
    elif len({*one}) == 1 == len({*other}):
        assert found == pytest.approx((one[0] - other[0],) * 2)


def test_p_is_the_share_of_all_ways_to_deal() -> None:
    apart, below = [4.0, 5.0, 6.0, 7.0], [0.0, 1.0, 2.0, 3.0]
    assert p_value(apart, below) == pytest.approx(2 / 70) == pytest.approx(least_p(4, 4))
    assert p_value(below, apart) == pytest.approx(2 / 70)
    assert p_value([1.0] * 4, [1.0] * 4) == 1.0
    assert p_value([2.0] * 4, [1.0] * 4) == pytest.approx(2 / 70)


def test_p_values_are_corrected_for_how_many_were_looked_at() -> None:
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_seeds_needed_are_those_that_find_the_difference_four_times_out_of_five() -> None:
    rng = random.Random(5)
    spread = [-1.5, -0.5, 0.5, 1.5]  # a variance of 5/3
    n = seeds_needed([value + 2 for value in spread], spread)
    assert n is not None
    found = [
        p_value([rng.gauss(2, math.sqrt(5 / 3)) for _ in range(n)], [rng.gauss(0, math.sqrt(5 / 3)) for _ in range(n)])
        for _ in range(150)
    ]
    assert 0.68 < fmean(p <= 0.05 for p in found) < 0.92


def test_no_number_of_seeds_is_named_where_none_would_do() -> None:
    assert seeds_needed([1.0, 2.0], [2.0, 1.0]) is None
    assert seeds_needed([1.0, 2.0], [1.001, 2.001]) is None
    assert seeds_needed([5.0, 5.0], [1.0, 1.0]) == 4
    assert seeds_needed([5.0, 5.0], [1.0, 1.0], comparisons=3) == 5


DRAWN: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(10, 2),
    "skewed": lambda rng: rng.lognormvariate(0, 1),
    "two ends": lambda rng: rng.choice([1.0, 12.0]) + rng.gauss(0, 0.1),
    "tied": lambda rng: float(rng.randint(0, 3)),
}


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("n", [3, 5, 10])
def test_of_200_comparisons_of_a_thing_with_itself_no_more_than_5_percent_are_called_real(
    n: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_RESAMPLES", 999)
    rng = random.Random(f"{n} {kind}")
    ps = [p_value([DRAWN[kind](rng) for _ in range(n)], [DRAWN[kind](rng) for _ in range(n)]) for _ in range(200)]
    real = sum(p <= 0.05 for p in ps)
    assert real <= 18  # 10 are expected; more than 18 come once in a hundred such tests
    assert (real == 0) is (n == 3)  # three seeds an arm cannot tell


def test_a_band_is_the_bootstrap_at_each_point() -> None:
    mean, low, high = band([[0.0, value] for value in ONE])
    assert mean == pytest.approx([0.0, fmean(ONE)])
    whole = interval(ONE)
    assert whole is not None
    assert (low[0], high[0]) == (0.0, 0.0)
    assert (low[1], high[1]) == pytest.approx(whole, abs=0.1)
    assert band([[1.0, 2.0]]) == ([1.0, 2.0],) * 3


def test_without_scipy_there_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'esper-telemetry\[compare\]'"):
        statistics.require_scipy()
