"""Make docs/dashboard.png from a real run: the dashboard's main screen as a terminal shows it.

python docs/picture_dashboard.py RUN [-o docs/dashboard.png]
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.dashboard.app import Dashboard
from esper.karn.dashboard.feed import NewRecords
from esper.karn.dashboard.following import FollowedRun
from esper.leyline.limits import Limits
from esper.leyline.run_directory import RunDirectory
from esper.leyline.telemetry import TelemetryEvent
from esper.leyline.wire import read_events

SIZE = (132, 40)
SHARE = 0.8
"""Of the run that has been emitted: a run in full swing says more than a finished one …"""
EPOCH = 12
"""… and so does the middle of an episode."""


class Entry:
    """A feed that has everything at once."""

    def __init__(self, events: list[TelemetryEvent]) -> None:
        self._events = tuple(events)

    def take(self) -> NewRecords:
        """Return the events, once."""
        events, self._events = self._events, ()
        return NewRecords(events)


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="directory of the run")
    parser.add_argument("-o", "--output", default=Path(__file__).with_name("dashboard.png"), type=Path)
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("no Chromium here: install the package chromium")
    events = [record for record in read_events(options.run) if isinstance(record, TelemetryEvent)]
    least = int(len(events) * SHARE)
    until = next((n for n, event in enumerate(events) if n >= least and event.epoch == EPOCH), len(events) - 1)
    photograph(chromium, asyncio.run(draw(options.run, events[: until + 1])), options.output)
    print(options.output)  # noqa: T201 - a command


async def draw(name: str, events: list[TelemetryEvent]) -> str:
    """Return the screen as SVG, a moment after the newest of the events."""
    moment = events[-1].timestamp + timedelta(seconds=0.2)
    info = RunDirectory.open(name).read_info()
    then = replace(info, status="running", ended=None, evaluation=None, verdict=None)
    aggregator = TelemetryAggregator(limits=Limits.of_run(info.configuration))
    app = Dashboard(FollowedRun(name, Entry(events), lambda: moment, aggregator=aggregator, info=then))
    async with app.run_test(size=SIZE) as pilot:
        while not app.view.log:
            await pilot.pause(0.1)
        await pilot.pause(0.5)
        return app.export_screenshot(title=f"esper watch {name}")


def photograph(chromium: str, svg: str, picture: Path) -> None:
    """Let a headless Chromium draw an SVG into a PNG of its size."""
    svg = svg.replace("Fira Code", "DejaVu Sans Mono")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size is not None
    width, height = (round(float(side)) for side in size.groups())
    with tempfile.TemporaryDirectory() as temporary:
        page = Path(temporary, "dashboard.html")
        page.write_text(f"<body style='margin: 0'>{svg}</body>", encoding="utf-8")
        browse = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
            "--hide-scrollbars", f"--user-data-dir={temporary}/profile", f"--window-size={width},{height}",
            f"--screenshot={picture.resolve()}", page.as_uri(),
        ]  # fmt: skip
        subprocess.run(browse, capture_output=True, timeout=180, check=True)  # noqa: S603 - a path of our own


if __name__ == "__main__":
    main()
