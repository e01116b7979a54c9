"""Nothing that a file says acts on a screen: not by a value, a key or a path, on any command's or view's medium."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import examples
from tests.effort import tries
from tests.every_command import COMMANDS, arguments_of, command

from esper.karn.console import Console
from esper.karn.dashboard.app import Dashboard
from esper.karn.dashboard.feed import LogTail
from esper.karn.dashboard.following import FollowedRun
from esper.leyline.printable import is_printable
from esper.leyline.run_directory import RunDirectory
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent
from esper.leyline.wire import encode_event

pytestmark = pytest.mark.no_cover  # what it runs has tests of its own, and the tracer would take a third of the time

ACTS = [
    "\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\x7f", "\x00", "\x85", "\u2028",  # controls and line ends
    "\u202e", "\u2066", "\u200f",  # direction
    "\u200b", "\u2060", "\ufeff", "\u00ad", "\ufe0f", "\u034f", "\u3164", "\U000e0041",  # no width, or nothing to see
    "[bold red]", "[/]", "[link=http://evil]", "[@click=app.quit]",  # Rich's and Textual's markup
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;", "\"'", "%{x}", "</title>", "javascript:",
]  # fmt: skip
ALL = "".join(ACTS)
hostile = st.lists(st.sampled_from(ACTS) | st.characters(codec="utf-8"), min_size=1, max_size=6).map("".join)


def spoilt(value: Any, text: str) -> Any:
    """Put a text wherever a value, or a key, may be any."""
    if isinstance(value, str):
        return text
    if isinstance(value, dict):
        return {f"{text}{key}": spoilt(item, text) for key, item in value.items()}
    return type(value)(spoilt(item, text) for item in value) if isinstance(value, list | tuple) else value


def hostile_run(run: Path, text: str) -> list[TelemetryEvent]:
    """Write a run of which everything that may be text is this one, and lines and files that are damaged by it."""
    run.mkdir(parents=True, exist_ok=True)
    events = []
    for variant in (0, 1):
        for cls in EVENT_TYPES:
            fields: dict[str, Any] = {name: spoilt(value, text) for name, value in examples(cls, variant).items()}
            if cls.__name__ == "SeedStageChangedPayload" and variant:
                fields |= {"from_stage": "TRAINING", "to_stage": "BLENDING"}
            envelope: dict[str, Any] = dict.fromkeys(("slot_id", "seed_id", "group_id", "message"), text)
            made: Any = cls
            events.append(
                TelemetryEvent(data=made(**fields), severity="error", event_id=f"{text}{variant}", **envelope)
            )
    bare = text.replace("\n", " ").encode(errors="replace").decode()
    broken = [json.dumps({"schema_version": 1, text: 1}, ensure_ascii=False), f'{{"{bare}', bare]
    lines = [*map(encode_event, events), *broken]
    (run / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    rejected = dict.fromkeys(("event_id", "event_type", "field", "reason"), text)
    (run / "rejected.jsonl").write_text(json.dumps(rejected) + f"\n{bare}\n", encoding="utf-8", newline="")
    sink = {"name": text, "durable": True, "emitted": 2, "delivered": 1, "rejected": 1, "dropped": 0, "queued": 0}
    info = {
        "status": "failed", "started": "2026-01-01T00:00:00+00:00", "error": text, "versions": {text: text},
        "configuration": {text: [text, {text: text}]},
        "sinks": [{**sink, "lag": 0.0, "set_aside": True, "last_error": text}],
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(info))
    return events


def assert_harmless(text: str) -> None:
    for line in text.split("\n"):
        assert is_printable(line), ascii(line)


class Parsed(HTMLParser):
    """The elements of a page, its attributes, and its text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.specs: list[str] = []
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            self.texts.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.specs += [data] if data.startswith("{") else []
        elif self._within != "style":
            self.texts.append(data)


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts_in(item)


def assert_harmless_page(page: str) -> None:
    parsed = Parsed()
    parsed.feed(page)
    assert parsed.tags.count("script") == 2 + len(parsed.specs)
    assert "img" not in parsed.tags
    for text in parsed.texts:
        assert_harmless(text)
    for text in texts_in([json.loads(spec) for spec in parsed.specs]):
        ours = text.replace("%\u200b{", "")  # which keeps plotly from reading a template
        assert_harmless(ours)
        assert not re.search(r"<(?!/?(b|br|i|extra)\b)", text), text  # what plotly reads as markup


@settings(max_examples=tries(5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.just(ALL) | hostile)
def test_on_no_medium_of_any_command(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    place = tmp_path_factory.mktemp("hostile")
    run = place / text.replace("/", "").replace("\0", "")[:60]
    hostile_run(run, text)
    for name in COMMANDS:
        status, out, err = command(*arguments_of(name, run, place / "page.html"))
        assert status in {0, 1, 2}, (name, err)
        assert "Traceback" not in err
        assert_harmless(out)
        assert_harmless(err)
        if "--json" in name:
            for document in out.splitlines() if name.startswith("validate") else [out]:
                json.loads(document)
    assert_harmless_page((place / "page.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_not_in_the_message_about_a_run_that_is_not_there(tmp_path: Path, name: str) -> None:
    if "RUN" in COMMANDS[name]:
        status, out, err = command(*arguments_of(name, tmp_path / "\x1b[2J\u202eno", tmp_path / "page.html"))
        assert status in {1, 2}
        assert_harmless(out + err)


def test_sql_finds_a_log_whose_path_it_may_not_print(tmp_path: Path) -> None:
    import duckdb

    hostile_run(tmp_path / "\x1b[2J\u202e'run", "x")
    status, sql, _ = command("schema", "--duckdb", str(tmp_path / "\x1b[2J\u202e'run"))
    assert_harmless(sql)
    with duckdb.connect() as connection:
        connection.execute(sql)
        (count, file) = connection.execute("SELECT count(*), any_value(file) FROM events").fetchall()[0]
    assert (status, count, file) == (0, 22, f"{tmp_path}/\x1b[2J\u202e'run/events.jsonl")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_not_on_the_console_of_a_training(tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(stream)
    for event in hostile_run(tmp_path, ALL):
        console.show(event)
    console.close()
    assert_harmless(stream.getvalue())


def test_on_no_screen_of_the_dashboard(tmp_path: Path) -> None:
    hostile_run(tmp_path, ALL)
    now = datetime.now(UTC)
    app = Dashboard(FollowedRun(ALL, LogTail(tmp_path), lambda: now, RunDirectory(tmp_path)))
    seen: list[str] = []

    async def look() -> None:
        async with app.run_test(size=(200, 60)) as pilot:
            for key in (
                "",
                "u",
                "escape",
                "r",
                "escape",
                "tab",
                "down",
                "enter",
                "escape",
                "escape",
                "f",
                "escape",
                "z",
            ):
                if key != "-":
                    await pilot.press(key)
                for _ in range(2):
                    app.refresh_shown()
                    await pilot.pause()
                strips = app.screen._compositor.render_strips()
                seen.append("\n".join("".join(segment.text for segment in strip) for strip in strips))

    asyncio.run(look())
    assert app.is_running is False
    assert any("[bold red]" in text for text in seen)  # it is shown, as text
    for text in seen:
        assert_harmless(text)
