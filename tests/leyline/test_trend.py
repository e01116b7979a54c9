"""A series of any length in constant memory, and what is said of its course."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from esper.leyline.trend import Course, Series, course_of


def many(length: int, seed: int) -> list[float]:
    drawn = random.Random(seed)
    return [drawn.gauss(0, 100) for _ in range(length)]


values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20) | st.builds(many, st.integers(1, 700), st.integers(0))


def course(given_values: Iterable[float]) -> Course | None:
    series = Series()
    for value in given_values:
        series.add(value)
    return course_of(series.blocks)


def some(found: Course | None) -> Course:
    assert found is not None
    return found


@given(values)
def test_blocks_keep_every_value_and_their_number_is_bounded(drawn: list[float]) -> None:
    series = Series()
    for value in drawn:
        series.add(value)
    assert len(series.blocks) <= 128
    assert sum(block.n for block in series.blocks) == len(drawn)
    assert {block.n for block in series.blocks[:-1]} <= {series.width}
    assert fmean([b.mean for b in series.blocks], [b.n for b in series.blocks]) == pytest.approx(fmean(drawn), abs=1e-9)
    assert sum(block.steps for block in series.blocks) == len(drawn) - 1
    parts = [drawn[at : at + series.width] for at in range(0, len(drawn), series.width)]
    assert [block.mean for block in series.blocks] == pytest.approx([fmean(part) for part in parts], abs=1e-9)
    squares = sum((after - before) ** 2 for before, after in pairwise(drawn))
    assert sum(block.squares for block in series.blocks) == pytest.approx(squares)


@settings(deadline=None)
@given(values, st.sampled_from([1e-3, 1000.0, 1e6]), st.sampled_from([0.0, 1e6, -1e6]))
def test_scale_and_shift_change_no_comparison(drawn: list[float], scale: float, shift: float) -> None:
    rounded = [round(value, 2) for value in drawn]
    one, other = course(rounded), course([scale * value + shift for value in rounded])
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    assume(one.spread > 0.1)
    assert other.drop() == pytest.approx(one.drop(), abs=1e-5)
    assume(one.error > 1e-3)  # where there is no noise, the arithmetic's is all there is
    assert other.drop_errors() == pytest.approx(one.drop_errors(), rel=1e-3, abs=1e-4)
    assert other.rise_errors == pytest.approx(one.rise_errors, rel=1e-3, abs=1e-4)


def test_what_is_not_finite_is_left_out() -> None:
    with_gaps = [math.nan if at % 3 == 0 else float(at) for at in range(60)]
    assert course(with_gaps) == course(value for value in with_gaps if not math.isnan(value))
    assert course([math.nan] * 50) is None


def test_of_few_values_nothing_is_said() -> None:
    assert course(range(5)) is None
    assert some(course(range(6))).levels == (1.0, 4.0)


@pytest.mark.parametrize("n", [12, 40, 300, 5000])
def test_a_rise_is_clear_and_noise_is_none(n: int) -> None:
    drawn = random.Random(n)
    rise = some(course(10 * at / n + drawn.gauss(0, 0.5) for at in range(n)))
    assert rise.rise_errors > 3
    assert rise.trend_errors > 2.5
    assert rise.drop() < 0.25
    flat = some(course(5 + drawn.gauss(0, 0.5) for _ in range(n)))
    assert abs(flat.rise_errors) < 3
    assert abs(flat.trend_errors) < 3


@pytest.mark.parametrize("n", [40, 300, 5000])
def test_a_fall_is_seen_where_it_began(n: int) -> None:
    drawn = random.Random(n)
    fall = some(course((10.0 if at < 0.8 * n else 0.0) + drawn.gauss(0, 0.5) for at in range(n)))
    assert fall.drop() > 0.9
    assert fall.drop_errors() > 5
    assert fall.best_at <= 0.8 * n


def test_a_series_without_noise_has_clear_levels_and_a_constant_one_none() -> None:
    assert some(course([0.0] * 20 + [1.0] * 20)).rise_errors > 1e3
    constant = some(course([7.0] * 40))
    assert (constant.rise_errors, constant.drop(), constant.drop_errors(), constant.spread) == (0.0, 0.0, 0.0, 0.0)


def test_the_noise_is_that_of_the_values_however_they_rise() -> None:
    drawn = random.Random(5)
    assert some(course(at + drawn.gauss(0, 5.0) for at in range(400))).noise == pytest.approx(5.0, rel=0.3)


def test_numbers_too_large_to_be_squared_end_nothing() -> None:
    assert course([1e300, -1e300] * 40) is None


def test_it_settles_where_no_level_is_clearly_higher_any_more() -> None:
    drawn = random.Random(1)
    settled = some(course(10 * min(at / 50, 1) + drawn.gauss(0, 0.3) for at in range(200)))
    assert 40 <= settled.settled_at <= 70


@pytest.mark.parametrize(("n", "levels"), [(7, (2.0, 5.0)), (8, (0.5, 3.0, 6.0))])
def test_the_first_level_may_be_of_fewer_values_but_not_of_one(n: int, levels: tuple[float, ...]) -> None:
    found = some(course(range(n)))
    assert found.levels == levels
    assert [found.ended(at) for at in range(len(levels))] == [n - 3 * at for at in reversed(range(len(levels)))]


def test_a_level_is_held_against_those_up_to_it_and_none_after() -> None:
    found = Course(15, 3, (0.0, 4.0, 2.0, 8.0, 7.0), 1.0, 1.0, 0.0)
    assert [found.drop(at) for at in range(5)] == [0.0, 0.0, 0.25, 0.0, 0.125]
    assert [found.drop(at - 5) for at in range(5)] == [found.drop(at) for at in range(5)]
    assert [found.drop_errors(at - 5) for at in range(5)] == [found.errors(of, 0.0) for of in (0.0, 0.0, 2.0, 0.0, 1.0)]


def test_three_standard_errors_are_clear() -> None:
    clear = 3 * math.sqrt(2)
    assert Course(6, 3, (0.0, clear), 1.0, 1.0, 0.0).settled_at == 6
    assert Course(6, 3, (0.0, clear * 0.999), 1.0, 1.0, 0.0).settled_at == 3


def test_the_trend_test_counts_each_pair_once_and_ties_not_at_all() -> None:
    assert some(course(range(6))).trend_errors == pytest.approx(15 / math.sqrt(6 * 5 * 17 / 18))
    assert some(course([1.0] * 9)).trend_errors == 0.0


def test_noise_is_the_standard_deviation_of_single_values() -> None:
    assert some(course(many(120, 0))).noise == pytest.approx(100, rel=0.25)


def test_levels_that_wander_without_noise_are_as_uncertain_as_they_wander() -> None:
    found = some(course([0.0] * 3 + [9.0] * 3 + [0.0] * 3 + [9.0] * 3 + [0.0] * 3))
    assert (len(found.levels), found.noise) == (5, 0.0)
    assert found.error == pytest.approx(1.4826 * 18 / math.sqrt(6))
