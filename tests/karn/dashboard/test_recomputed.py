"""Every number on the screen, counted again from the raw lines of the log by code that does not import esper."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest
from tests.karn.dashboard import recount
from tests.karn.dashboard.conftest import Story

from esper.karn.dashboard.app import Dashboard
from esper.karn.dashboard.feed import LogTail
from esper.karn.dashboard.following import FollowedRun
from esper.karn.dashboard.rows import Rows

pytestmark = pytest.mark.no_cover  # what it runs has tests of its own, and the tracer would take a third of the time

SIZES = ((80, 24), (120, 40), (200, 60))


def test_who_counts_again_knows_nothing_of_esper() -> None:
    tree = ast.parse(Path(recount.__file__).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names
    assert not any(name.startswith("esper") for name in names)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[recount.Event], dict[str, str]]:
    """The lines of a log, and what each screen says of it, at each size."""
    story = Story(episodes=48)
    log = tmp_path_factory.mktemp("run") / "events.jsonl"
    story.write(log)
    shown: dict[str, str] = {}
    for size in SIZES:
        asyncio.run(look(story, log, size, shown))
    return recount.read(log), shown


async def look(story: Story, log: Path, size: tuple[int, int], shown: dict[str, str]) -> None:
    app = Dashboard(FollowedRun("run", LogTail(log), lambda: story.now))
    async with app.run_test(size=size) as pilot:
        while app.view.reading is not None or not app.view.snapshot.n_events:
            await pilot.pause(0.05)
        for name, key in (("main", None), ("charts", "c"), ("health", "u"), ("run", "r"), ("env", None)):
            if name == "env":
                await pilot.press("escape", "enter")
            elif key is not None:
                await pilot.press(key)
            for _ in range(2):
                app.refresh_shown()
                await pilot.pause()
            shown[f"{name} {size[0]}"] = text(app) if name == "main" else everything(app)


def text(app: Dashboard) -> str:
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


def everything(app: Dashboard) -> str:
    """All rows of a screen, also those that one has to scroll to."""
    return "\n".join(
        "".join(span for span, _ in widget.row(item).spans)
        for widget in app.screen.query(Rows)
        for item in widget._items
    )


@pytest.mark.parametrize("columns", [size[0] for size in SIZES])
def test_the_charts_name_the_newest_values_the_best_and_their_range(
    told: tuple[list[recount.Event], dict[str, str]], columns: int
) -> None:
    events, shown = told
    screen = shown[f"charts {columns}"]
    expected = recount.learning(events)
    assert len(expected) >= 15
    for name, value in expected.items():
        title = name if re.search(rf" {re.escape(name)}  ", screen) else None
        if title is None:  # a note of another title, or a title that had no room
            assert value in screen, name
        else:
            (found,) = set(re.findall(rf" {re.escape(title)}  (\S+)", screen))
            assert found == value, name


@pytest.mark.parametrize("columns", [120, 200])
def test_a_scale_ends_at_the_lowest_and_the_highest(
    told: tuple[list[recount.Event], dict[str, str]], columns: int
) -> None:
    events, shown = told
    rows = shown[f"charts {columns}"].splitlines()
    for name, (low, high) in recount.scales(events).items():
        title = next(at for at, row in enumerate(rows) if f" {name}  " in row)
        start = rows[title].index(f" {name}  ")
        ticks = [
            float(row[start : start + 8]) for row in rows[title + 1 : title + 11] if row[start : start + 9].strip(" │┤")
        ]
        assert ticks[0] == pytest.approx(high, rel=0.01), name
        assert ticks[-1] == pytest.approx(low, rel=0.01, abs=0.02 * (high - low)), name
        assert ticks == sorted(ticks, reverse=True)


@pytest.mark.parametrize("columns", [size[0] for size in SIZES])
def test_the_first_lines_say_how_far_it_is(told: tuple[list[recount.Event], dict[str, str]], columns: int) -> None:
    events, shown = told
    for name, value in recount.progress(events).items():
        assert value.strip() in " ".join(shown[f"main {columns}"].split()), name


@pytest.mark.parametrize("columns", [120, 200])
def test_the_best_episode_and_what_grew_in_it(told: tuple[list[recount.Event], dict[str, str]], columns: int) -> None:
    events, shown = told
    screen = " ".join(shown[f"main {columns}"].split())
    for name, value in recount.best_episode(events).items():
        assert value in screen, name


def test_every_environment_has_its_numbers_worst_first(told: tuple[list[recount.Event], dict[str, str]]) -> None:
    events, shown = told
    lines = shown["main 200"].splitlines()
    heading = next(at for at, row in enumerate(lines) if row.startswith("env epoch"))
    expected = recount.environments(events)
    rows = [line.split() for line in lines[heading + 1 : heading + 1 + len(expected)]]
    assert [int(row[0]) for row in rows] == recount.worst_first(events)
    for row in rows:
        cells = expected[int(row[0])]
        assert len(cells) >= 11
        position = 1
        for cell in cells:
            position = row.index(cell, position) + 1  # in the order of the columns


@pytest.mark.parametrize("columns", [size[0] for size in SIZES])
def test_tables_of_the_whole_run_add_up(told: tuple[list[recount.Event], dict[str, str]], columns: int) -> None:
    events, shown = told
    screen = shown[f"run {columns}"]
    expected = recount.totals(events)
    assert sum(map(len, expected.values())) >= 30
    for name, counts in expected.items():
        rows = re.findall(rf"^ {re.escape(name)} +([\d,].*)$", screen, flags=re.MULTILINE)
        found = [[int(cell.replace(",", "")) for cell in re.findall(r"[\d,]+", row)][: len(counts)] for row in rows]
        assert counts in found, name


@pytest.mark.parametrize("columns", [size[0] for size in SIZES])
def test_a_reward_is_shown_with_its_parts(told: tuple[list[recount.Event], dict[str, str]], columns: int) -> None:
    events, shown = told
    screen = shown[f"env {columns}"]
    env_id = recount.worst_first(events)[0]
    assert f"ENVIRONMENT {env_id} " in screen
    for name, value in recount.reward_parts(events, env_id).items():
        assert re.search(rf"^ {name} +{re.escape(value)} ", screen, flags=re.MULTILINE), name
