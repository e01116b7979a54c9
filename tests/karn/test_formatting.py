from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from esper.karn.formatting import (
    ABSENT,
    age,
    bar,
    cells,
    columns,
    fraction,
    mean,
    number,
    plot,
    plural,
    scale,
    signed,
    tidy,
    value_text,
)
from esper.leyline.event_types import TelemetryEventType
from esper.leyline.testing import FLOATS, INTEGERS, JSON, TEXT


@given(TEXT | st.text(), st.integers(1, 50))
def test_tidy_text_is_printable_and_not_longer_than_asked_but_for_escapes(text: str, width: int) -> None:
    tidied = tidy(text, width)
    assert tidied.isprintable()
    assert len(tidied) <= width
    if text.isprintable() and len(text) <= width and columns(text) <= width:
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
    for text in (number(value, 6), signed(value, 6), fraction(value), fraction(value, 5)):
        plain = text.replace(",", "")
        if set(plain) == {"#"}:
            assert abs(value) >= 1
            assert len(f"{value:+.0e}") > len(plain)
            continue
        if plain in {"NaN", "huge", "-huge"} or 1e307 < abs(value) < math.inf:
            continue  # the latter may be rounded beyond all floats
        assert math.isclose(float(plain), float(value), rel_tol=0.51, abs_tol=0.51)


@pytest.mark.parametrize("value", [1.2e308, -1.2e308, -1e-300, 12.5, -0.3, 0.9996, -4321.0])
@pytest.mark.parametrize("width", [3, 5, 6, 7, 9])
def test_a_number_that_has_to_fit_is_rounded_or_marked_never_cut(value: float, width: int) -> None:
    for text in (number(value, width), fraction(value, width), signed(value, width)):
        assert len(text) <= width
        assert text == "#" * width or math.isclose(float(text), value, rel_tol=0.51, abs_tol=0.51)


def test_a_wide_letter_is_two_columns_and_an_accent_none() -> None:
    for text in ("plain", "日本語", "🌱 seed", "é", "ﬁ —·✓█", "한글"):
        assert columns(text) == cell_len(text)


@given(st.text("ab日本🌱\u0301é—", max_size=30), st.integers(1, 20), st.booleans())
@example("日本語", 4, False)
def test_cells_are_as_wide_as_asked_whatever_the_letters(text: str, width: int, right: bool) -> None:
    assert columns(cells(text, width, right=right)) == width
    assert columns(tidy(text, width)) <= width


def test_one_is_singular() -> None:
    assert (plural(0, "event"), plural(1, "event"), plural(1200, "event")) == ("0 events", "1 event", "1,200 events")


def test_a_plot_says_what_it_spans() -> None:
    assert scale([0.25, None, math.nan, -2]) == "-2 to 0.25"
    assert scale([3, 3]) == "3"
    assert scale([None, math.inf]) == ""


def test_a_moment_and_a_name_are_shown_as_such() -> None:
    assert value_text(datetime(2026, 3, 1, 12, tzinfo=UTC)) == "2026-03-01T12:00:00+00:00"
    assert value_text(TelemetryEventType.PPO_UPDATE_COMPLETED) == "PPO_UPDATE_COMPLETED"


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
        supplied = [value for value in values if value is not None]
        assert rows[-1].count("×") == sum(
            number(value) in {"NaN", "inf", "-inf", "huge", "-huge"} for value in supplied
        )


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


def test_a_mean_is_finite_when_all_values_are_and_not_when_one_is_not() -> None:
    assert mean([]) is None
    assert mean([1.0, 2]) == 1.5
    assert mean([1.7e308, 1.7e308]) == pytest.approx(1.7e308)
    assert mean([1.0, math.inf, 10**400]) == math.inf
    assert str(mean([math.inf, -math.inf])) == "nan"
