from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.effort import tries

from esper.karn.report.decimation import decimate, is_measured, ticks
from esper.leyline.limits import real

VALUES = st.floats(allow_nan=True, allow_infinity=True) | st.none() | st.floats(-10, 10)


@st.composite
def curves(draw: st.DrawFn) -> tuple[list[float], list[float | None], int]:
    y = draw(st.lists(VALUES, max_size=150))
    steps = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 40.0]), min_size=len(y), max_size=len(y)))
    x = [sum(steps[: i + 1]) for i in range(len(y))]
    return x, y, draw(st.integers(1, 12))


@given(curves())
def test_the_lowest_and_highest_and_both_ends_survive(curve: tuple[list[float], list[float | None], int]) -> None:
    x, y, columns = curve
    kept = decimate(x, y, columns)

    before = [value for value in y if value is not None and is_measured(value)]
    after = [value for i in kept if (value := y[i]) is not None and is_measured(value)]
    assert kept == sorted(set(kept))
    assert bool(before) == bool(after)
    if before:
        assert (min(after), max(after), after[0], after[-1]) == (min(before), max(before), before[0], before[-1])


@given(curves())
def test_no_line_is_drawn_across_a_gap(curve: tuple[list[float], list[float | None], int]) -> None:
    x, y, columns = curve
    kept = decimate(x, y, columns)

    for left, right in pairwise(kept):
        if is_measured(y[left]) and is_measured(y[right]):
            assert all(is_measured(value) for value in y[left:right])


@given(curves())
def test_every_kind_of_value_that_is_not_finite_survives(curve: tuple[list[float], list[float | None], int]) -> None:
    x, y, columns = curve
    kept = decimate(x, y, columns)

    def not_finite(values: list[float | None]) -> set[str]:
        return {str(value) for value in values if value is not None and not is_measured(value)}

    assert not_finite([y[i] for i in kept]) == not_finite(y)


@settings(max_examples=tries(30))
@given(st.integers(1, 20), st.integers(0, 5000))
def test_the_points_that_are_left_are_bounded_by_the_columns(columns: int, n: int) -> None:
    x = [float(i) for i in range(n)]
    assert len(decimate(x, [math.sin(i) for i in x], columns)) <= 4 * (columns + 1)


def test_a_spike_in_a_long_series_is_drawn() -> None:
    y: list[float | None] = [0.01] * 100_000
    y[54_321] = 7.5
    assert 54_321 in decimate([float(i) for i in range(len(y))], y)


def test_an_integer_beyond_floats_is_infinite() -> None:
    assert (real(10**400), real(-(10**400)), real(3)) == (math.inf, -math.inf, 3.0)


# ── ticks ──────────────────────────────────────────────────────────────────────────────────────────────────────

DRAWN = st.floats(-1e100, 1e100)


@given(DRAWN, DRAWN, st.integers(2, 9))
@example(1.0000000000000002e63, 1.9690015071156222e-261, 2)
def test_ticks_are_a_few_round_values_of_the_scale(one: float, other: float, most: int) -> None:
    low, high = sorted((one, other))
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most + 1
    assert all(low <= tick <= high for tick in found)
    assert found == sorted(found)


@pytest.mark.parametrize("high", [0.0, 5e-324, 1e-310, 1e308, math.inf])
def test_a_span_that_cannot_be_divided_has_at_least_one_tick(high: float) -> None:
    assert all(0.0 <= tick <= high for tick in ticks(0.0, high, 4))
    assert ticks(0.0, high, 4)


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 10, 4, [0, 5, 10]),
        (3, 21, 6, [5, 10, 15, 20]),
        (-1, 1, 4, [-1, -0.5, 0, 0.5, 1]),
        (0, 1.1, 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_ticks_are_multiples_of_1_2_or_5(low: float, high: float, most: int, expected: list[float]) -> None:
    assert ticks(low, high, most) == pytest.approx(expected)
