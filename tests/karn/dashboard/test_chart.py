"""A chart shows every extreme at every size, names its range, and marks what is not finite where it was."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import tries

from esper.karn.dashboard.chart import Level, Panel, draw
from esper.karn.dashboard.courses import Course

SIZES = [(38, 6), (80, 8), (120, 12), (200, 20), (300, 40)]


def panel(values: Sequence[float | None], levels: tuple[Level, ...] = (), name: str = "value") -> Panel:
    course = Course(("value",))
    for at, value in enumerate(values):
        course.add([value], at, at)
    return Panel(
        title=name,
        short=name,
        newest="1",
        course=course,
        field="value",
        version=course.version,
        levels=levels,
        first="batch 0",
        last=f"{len(values) - 1}",
    )


def lines(drawn: Panel, width: int = 80, height: int = 8) -> list[str]:
    return ["".join(text for text, _ in spans) for spans in draw(drawn, width, height)]


def dots(row: str) -> list[int]:
    """The columns of a row in which something is drawn."""
    return [at for at, letter in enumerate(row) if 0x2800 < ord(letter) < 0x2900]


@settings(max_examples=tries(12))
@given(at=st.integers(0, 9999), up=st.booleans(), size=st.sampled_from(SIZES))
def test_one_spike_at_any_of_ten_thousand_updates_is_seen_at_every_size(
    at: int, up: bool, size: tuple[int, int]
) -> None:
    width, height = size
    spike = 50.0 if up else -50.0
    values = [spike if index == at else math.sin(index / 7) for index in range(10_000)]
    _, *plot, axis = lines(panel(values), width, height)
    row = plot[0] if up else plot[-1]
    (where,) = (
        {*dots(row)} if len(dots(row)) == 1 else {min(dots(row), key=lambda column: abs(column - expected(at, width)))}
    )
    assert abs(where - expected(at, width)) <= 1
    assert float(row.split("┤")[0]) == spike
    assert "batch 0" in axis
    assert axis.rstrip().endswith("9999")


def expected(at: int, width: int) -> float:
    """The column in which an update of ten thousand is to be."""
    return 9 + at / 10_000 * (width - 10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [1, 2, 3, 50, 2048, 2049, 9000])
def test_every_size_shows_the_run_from_its_beginning_to_its_end(n: int, size: tuple[int, int]) -> None:
    width, height = size
    values = [0.0 if at == 0 else 10.0 if at == n - 1 else 5.0 for at in range(n)]
    title, *plot, axis = lines(panel(values), width, height)
    assert {len(row) for row in (title, *plot, axis)} == {width}
    columns = sorted({column for row in plot for column in dots(row)})
    assert columns[0] == 9
    if n > 1:
        assert columns[-1] == width - 2
        assert min(dots(plot[-1])) == 9  # the lowest is the first
        assert max(dots(plot[0])) == width - 2  # the highest the last


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("value", "at_the_top"), [(math.nan, False), (math.inf, True), (-math.inf, False)])
def test_what_is_not_finite_is_marked_where_it_was(value: float, at_the_top: bool, size: tuple[int, int]) -> None:
    width, height = size
    values = [value if at == 6000 else 1.0 + at % 3 for at in range(10_000)]
    title, *plot, _ = lines(panel(values), width, height)
    assert "1 not finite" in title
    (mark,) = [column for row in plot for column, letter in enumerate(row) if letter == "×"]
    assert abs(mark - expected(6000, width)) <= 1
    assert ("×" in plot[0]) is at_the_top


def test_no_line_is_drawn_across_what_was_not_measured() -> None:
    _, *plot, _ = lines(panel([1.0, 2.0, None, 2.0, 1.0]), 110, 8)
    columns = {column for row in plot for column in dots(row)}
    assert not columns & set(range(40, 78))
    assert columns >= set(range(9, 30))


def test_a_level_is_drawn_with_its_name_where_it_is_near_and_named_with_an_arrow_where_it_is_not() -> None:
    near, far = Level(1.5, "near", "watch"), Level(900.0, "far", "limit")
    title, *plot, _ = lines(panel([1.0, 2.0, 1.0, 2.0], (near, far)), 100, 9)
    assert "near 1.5" in title
    assert "far 900 ↑" in title
    assert sum("╌" in row for row in plot) == 1
    assert not any("900" in row for row in plot)


def test_a_scale_over_many_magnitudes_is_logarithmic_and_says_so() -> None:
    title, *plot, _ = lines(panel([1e-5, 1e-3, 0.1, 10.0]), 80, 9)
    assert "log scale" in title
    assert plot[0].split("┤")[0].strip() == "10"
    assert plot[-1].split("┤")[0].strip() == "1e-05"
    assert "log scale" not in lines(panel([0.0, 1e-3, 10.0]))[0]


def test_neighbouring_ticks_never_read_the_same() -> None:
    for values in ([11001.0, 11004.0], [0.5, 0.5001], [1e6, 1e6 + 40], [3.0, 3.0], [-1e-3, 1e-3], [0.0, 0.0]):
        ticks = [row.split("┤")[0].strip() for row in lines(panel(values), 80, 12) if "┤" in row]
        assert len(ticks) > 2
        assert len({*ticks}) == len(ticks)


@settings(max_examples=tries(100))
@given(
    values=st.lists(st.none() | st.floats(), max_size=60),
    levels=st.lists(st.floats(), max_size=3),
    width=st.integers(10, 120),
    height=st.integers(3, 20),
)
def test_whatever_the_values_a_chart_has_its_size(
    values: list[float | None], levels: list[float], width: int, height: int
) -> None:
    drawn = lines(panel(values, tuple(Level(value, "limit", "limit") for value in levels)), width, height)
    assert len(drawn) == height
    assert all(text.isprintable() for text in drawn)
    if width >= 20:
        assert {len(text) for text in drawn} == {width}


def test_a_title_from_the_log_does_nothing_to_the_screen() -> None:
    assert "\\x1b[2J" in lines(panel([1.0], name="\x1b[2J[bold]"))[0]
