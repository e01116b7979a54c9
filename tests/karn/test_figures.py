from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.karn.figures import ABSENT, age, bar, cells, fraction, number, plot, signed, tidy, value_text
from esper.leyline.testing import FLOATS, INTEGERS, JSON, TEXT


@given(TEXT | st.text(), st.integers(1, 50))
def test_tidy_text_is_printable_and_not_longer_than_asked_but_for_escapes(text: str, width: int) -> None:
    tidied = tidy(text, width)
    assert tidied.isprintable()
    assert len(tidied) <= width
    if text.isprintable() and len(text) <= width:
        assert tidied == text


def test_control_characters_are_shown_as_escapes() -> None:
    assert tidy("\x1b[2J\u202egnp.exe\n") == "\\x1b[2J\\u202egnp.exe\\n"


def test_what_is_cut_says_so() -> None:
    assert tidy("abcdef", 4) == "abc…"
    assert tidy("abcd", 4) == "abcd"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ABSENT),
        (0, "0"),
        (-0.0, "-0"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (1e-9, "1e-09"),
        (math.nan, "NaN"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (10**400, "huge"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@given(FLOATS | INTEGERS)
def test_a_number_keeps_its_sign_and_size_when_it_is_made_to_fit(value: float) -> None:
    for text in (number(value, 6), signed(value, 6), fraction(value)):
        plain = text.replace(",", "")
        if plain in {"NaN", "huge", "-huge"} or 1e307 < abs(value) < math.inf:
            continue  # the latter may be rounded beyond all floats
        assert math.isclose(float(plain), float(value), rel_tol=0.51, abs_tol=0.51)


@given(FLOATS | INTEGERS | st.none())
def test_what_was_not_supplied_looks_like_no_number(value: float | None) -> None:
    for text in (number(value), signed(value), fraction(value)):
        assert (text == ABSENT) is (value is None)


@given(JSON)
def test_any_value_becomes_printable_text_of_bounded_length(value: object) -> None:
    assert value_text(value).isprintable()


def test_large_and_deep_containers_are_shown_in_part() -> None:
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    assert "…" in value_text(deep)
    assert value_text([0] * 1000).endswith("… 900 more]")


def test_ages() -> None:
    assert [age(s) for s in (0.25, 59.9, 61, 3700, 90000)] == ["0.2 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]


@given(FLOATS, st.integers(1, 40))
def test_a_bar_has_the_width_it_was_given(share: float, width: int) -> None:
    assert len(bar(share, width)) == width


def test_a_bar_is_as_full_as_its_share() -> None:
    assert (bar(0, 4), bar(0.5, 4), bar(1, 4), bar(7, 4)) == ("    ", "██  ", "████", "████")


@given(st.lists(FLOATS | INTEGERS | st.none(), max_size=60), st.integers(1, 30), st.integers(1, 4))
def test_a_plot_fills_its_box_and_marks_what_cannot_be_drawn(
    values: list[float | None], width: int, height: int
) -> None:
    rows = plot(values, width, height)
    assert len(rows) == height
    assert {len(row) for row in rows} == {width}
    if len(values) <= width:
        assert rows[-1].count("·") == values.count(None)
        told = [value for value in values if value is not None]
        assert rows[-1].count("×") == sum(number(value) in {"NaN", "inf", "-inf", "huge", "-huge"} for value in told)


def test_a_plot_rises_from_the_lowest_value_to_the_highest() -> None:
    assert plot([0, 1, 2, 3, 4, 5, 6, 7], 10) == ["▁▂▃▄▅▆▇█  "]
    assert plot([1.0, 2.0], 2, 2) == [" █", "▁█"]


def test_a_flat_series_of_zeros_lies_on_the_ground() -> None:
    assert plot([0, 0], 2) == ["▁▁"]
    assert plot([3, 3], 2) == ["▄▄"]


def test_a_long_series_is_condensed_and_a_nan_is_not_averaged_away() -> None:
    values: list[float | None] = [1.0] * 100
    values[40] = math.nan
    assert plot(values, 10)[0].count("×") == 1


def test_cells_cut_and_pad() -> None:
    assert (cells("ab", 4), cells("ab", 4, right=True), cells("abcdef", 4)) == ("ab  ", "  ab", "abc…")
