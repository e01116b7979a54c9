"""The sink in the documentation: short, typed as a `Sink`, and kept right by the hub."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from tests.builders import numbered

from esper.nissa.output import Sink, TelemetryHub

PAGE = Path(__file__).parents[2] / "docs" / "sinks.md"


@pytest.fixture(scope="module")
def source() -> str:
    match = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert match
    return match.group(1)


def test_it_is_shorter_than_forty_lines(source: str) -> None:
    assert len(source.splitlines()) < 40


def test_it_gets_every_event_once_and_refuses_what_it_cannot_keep(source: str, tmp_path: Path) -> None:
    names: dict[str, type] = {}
    exec(source, names)
    database = str(tmp_path / "events.db")
    sink: Sink = names["SqliteSink"](database)
    events = [numbered(number) for number in range(100)]
    bad = numbered(100, seeds={"r0": {"grad_ratio": object()}})
    hub = TelemetryHub([sink])
    for event in [*events, bad]:
        hub.emit(event)
    assert hub.close()
    stats = hub.stats()[0]
    assert (stats.name, stats.delivered, stats.rejected, stats.durable) == ("sqlite", 100, 1, True)
    with sqlite3.connect(database) as connection:
        found = [row[0] for row in connection.execute("SELECT id FROM events ORDER BY rowid")]
    assert found == [event.event_id for event in events]
