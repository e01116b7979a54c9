"""The widget that everything is drawn with, on a terminal of its own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from tests.builders import numbered
from textual.app import App, ComposeResult

from esper.karn.dashboard.overview import EventRows
from esper.karn.dashboard.rows import Rows, line


class Listing(App[None]):
    """Shows as many lines as one likes, all of one text."""

    def __init__(self, text: str, count: int) -> None:
        super().__init__()
        self._rows = [line(text)] * count

    def compose(self) -> ComposeResult:
        yield Rows()

    def on_ready(self) -> None:
        self.query_one(Rows).show(self._rows)


def drawn(text: str, count: int) -> list[str]:
    """What stands on a screen of 30 columns and 5 lines, the scrollbar left out."""

    async def run() -> list[str]:
        app = Listing(text, count)
        async with app.run_test(size=(30, 5)) as pilot:
            await pilot.pause()
            rows = app.query_one(Rows)
            return ["".join(segment.text for segment in rows.render_line(y)) for y in range(5)]

    return asyncio.run(run())


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("letter", ["x", "字"])
def test_a_line_that_is_cut_says_so_beside_the_scrollbar_too(letter: str, count: int) -> None:
    room = 30 if count == 1 else 29
    first = drawn(letter * 40, count)[0]
    assert cell_len(first) == room
    assert first.rstrip().endswith("…")


def test_a_line_that_just_fits_is_left_as_it_is() -> None:
    assert drawn("x" * 30, 1)[0] == "x" * 30
    assert drawn("x" * 29, 50)[0] == "x" * 29


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_a_time_at_either_end_of_the_calendar_is_shown(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        rows = [
            EventRows().row(replace(numbered(1), timestamp=moment))
            for moment in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
        ]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert any("00:00:00" in row.spans[0][0] or "23:59:59" in row.spans[0][0] for row in rows)
