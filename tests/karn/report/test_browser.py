"""The page in a real browser, as on a laptop and as on a telephone.

Everything is drawn and nothing clipped, nothing is asked of the network, nothing is complained about.
"""

from __future__ import annotations

import json
import math
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esper.karn.report import report
from esper.leyline.telemetry import BatchEpochCompletedPayload, PPOUpdatePayload, TelemetryEvent
from esper.leyline.wire import encode_event

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

LAPTOP, TELEPHONE = (1440, 900), (390, 844)
DRAWN = "document.body && document.body.dataset.drawn"
ALL_DRAWN = "document.querySelectorAll('.plot').length === Number(document.body.dataset.drawn)"


class Browser:
    """A headless Chromium, commanded over its DevTools pipe."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        commands, self.out = os.pipe()
        self.into, answers = os.pipe()
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{commands} 4>&{answers}', CHROMIUM, *options],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self.unread, self.n_commands = b"", 0
        self.said: list[str] = []
        """Every line of the console, every uncaught error."""
        self.asked: list[str] = []
        """Every address that something was fetched from."""
        self.session: dict[str, str] = {}
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **params: object) -> dict[str, Any]:
        self.n_commands += 1
        message = {"id": self.n_commands, "method": method, "params": params, **self.session}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (emitted := self.read()).get("id") != self.n_commands:  # events come before the answer
            self.note(emitted)
        assert "result" in emitted, emitted
        found: dict[str, Any] = emitted["result"]
        return found

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.into], [], [], 60)
            assert ready, "the browser does not answer"
            self.unread += os.read(self.into, 1 << 20)
        line, _, self.unread = self.unread.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def note(self, emitted: dict[str, Any]) -> None:
        if emitted["method"] in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}:
            self.said.append(json.dumps(emitted["params"]))
        elif emitted["method"] == "Network.requestWillBeSent":
            self.asked.append(emitted["params"]["request"]["url"])

    def evaluate(self, expression: str) -> Any:
        emitted = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in emitted, emitted
        return emitted["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        until = time.monotonic() + 60
        while not (found := self.evaluate(expression)):
            assert time.monotonic() < until, expression
            time.sleep(0.05)
        return found

    def open(self, page: Path, size: tuple[int, int] = LAPTOP, *, drawn: bool = True) -> None:
        """Open a page; and, unless it is said otherwise, all that is folded or far away, as for printing."""
        telephone = size == TELEPHONE
        self.size = width, height = size
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=telephone
        )
        self.command("Emulation.setTouchEmulationEnabled", enabled=telephone)
        self.said.clear()
        self.asked.clear()
        self.command("Page.navigate", url=page.as_uri())
        self.wait_for(DRAWN)
        if drawn:
            self.evaluate("dispatchEvent(new Event('beforeprint'))")
            self.wait_for(ALL_DRAWN)

    def press(self, key: str) -> None:
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)
        os.close(self.out)
        os.close(self.into)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def two_runs(run_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report on two runs, one of which broke off."""
    directory = tmp_path_factory.mktemp("runs")
    whole, broken = [*run_of(n_batches=4).events()], [*run_of(n_batches=3, seed=2).events()]
    sources = [directory / "events.jsonl", directory / "events-of-a-run-of-rather-long-name-that-broke-off.jsonl"]
    for source, emitted in zip(sources, (whole, broken[:-40]), strict=True):
        source.write_text("".join(f"{encode_event(event)}\n" for event in emitted), encoding="ascii")
    return report(sources, directory / "report.html")


@pytest.fixture(scope="module")
def one_run(run_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_on([*run_of(n_batches=12).events()], tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def run_of_trouble(run_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_on([troubled(event) for event in run_of(n_batches=12).events()], tmp_path_factory.mktemp("run"))


def report_on(emitted: list[TelemetryEvent], directory: Path) -> Path:
    text = "".join(f"{encode_event(event)}\n" for event in emitted)
    (directory / "events.jsonl").write_text(text, encoding="ascii")
    return report([directory], directory / "report.html")


@pytest.fixture(scope="module", params=[LAPTOP, TELEPHONE], ids=["laptop", "telephone"])
def opened(request: pytest.FixtureRequest, two_runs: Path, chromium: Browser) -> Browser:
    """Open the report, as on a laptop and as on a telephone."""
    chromium.open(two_runs, request.param)
    return chromium


def test_every_plot_is_drawn_without_a_word_in_the_console(two_runs: Path, opened: Browser) -> None:
    assert opened.said == []
    assert {address for address in opened.asked if not address.startswith("data:")} == {two_runs.as_uri()}
    n_plots = two_runs.read_text().count('class="plot"')
    assert opened.evaluate(DRAWN) == str(n_plots)
    assert opened.evaluate("document.querySelectorAll('.plot .main-svg').length") >= n_plots > 30


def test_the_page_is_as_wide_as_the_screen(opened: Browser) -> None:
    root = "document.documentElement"
    assert opened.evaluate("[innerWidth, innerHeight]") == [*opened.size]
    assert opened.evaluate(f"{root}.scrollWidth === {root}.clientWidth")
    # What is wider scrolls inside a box of its own.
    clipped = """[...document.querySelectorAll("body *")]
        .filter((element) => !element.closest(".box > *, nav > div > *"))
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
        .map((element) => element.outerHTML.slice(0, 80))"""
    assert opened.evaluate(clipped) == []


def test_nothing_in_a_plot_hides_anything_else(opened: Browser) -> None:
    plots = opened.evaluate("""[...document.querySelectorAll(".plot")].map((plot) => {
        const box = (name) => plot.querySelector(name)?.getBoundingClientRect();
        const legend = box(".legend"), bar = box(".modebar"), area = box(".nsewdrag");
        return {
            name: plot.ariaLabel, height: area.height, width: area.width,
            overlaps: legend && (legend.bottom > area.top + 2 || (bar?.height && bar.bottom > legend.top + 1)) || false,
        };
    })""")

    assert [plot["name"] for plot in plots if plot["overlaps"]] == []
    assert [plot["name"] for plot in plots if plot["height"] < 50 or plot["width"] < 190] == []


def test_no_text_is_too_small_to_read(opened: Browser) -> None:
    smallest = """Math.min(...[...document.querySelectorAll("p, td, th, text, a, summary")]
        .filter((element) => element.textContent.trim())
        .map((element) => parseFloat(getComputedStyle(element).fontSize)))"""
    assert opened.evaluate(smallest) >= 10


@pytest.mark.parametrize("size", [LAPTOP, TELEPHONE])
def test_the_first_screen_answers_before_anything_is_scrolled(
    one_run: Path, run_of_trouble: Path, chromium: Browser, size: tuple[int, int]
) -> None:
    bottoms = """["#verdict .badge", "#verdict .learnt", "#verdict .sketch", "#verdict .strip", "#verdict table",
        "#verdict table:last-of-type tr:last-child"].map((part) => {
            const found = [...document.querySelectorAll(part)];
            return found.length ? Math.max(...found.map((one) => one.getBoundingClientRect().bottom)) : Infinity;
        })"""
    width = "document.querySelector('#verdict .plane path.curve').getBoundingClientRect().width"
    for page in (one_run, run_of_trouble):
        chromium.open(page, size, drawn=False)
        assert max(chromium.evaluate(bottoms)) <= size[1]
        assert chromium.evaluate(width) > 150


def test_what_is_far_away_or_folded_is_drawn_when_it_comes_near(one_run: Path, chromium: Browser) -> None:
    chromium.open(one_run, drawn=False)
    assert not chromium.evaluate(ALL_DRAWN)
    folded = "document.querySelector('.fold:not([open]) .plot')"
    chromium.evaluate(f"{folded}.closest('.fold').querySelector('summary').scrollIntoView()")
    assert not chromium.evaluate(f"Boolean({folded}.drawn)")
    chromium.evaluate(f"window.near = {folded}; near.closest('.fold').open = true")
    chromium.wait_for("near.drawn && near.querySelector('.main-svg')")
    assert chromium.said == []


@pytest.mark.parametrize("size", [LAPTOP, TELEPHONE])
def test_the_keyboard_goes_through_the_page_in_its_order_and_out_of_it(
    one_run: Path, chromium: Browser, size: tuple[int, int]
) -> None:
    chromium.open(one_run, size, drawn=False)
    visited = """(() => {
        const all = [...document.querySelectorAll("*")], one = document.activeElement;
        return [all.indexOf(one), one.tagName, one.closest(".plot") !== null];
    })()"""
    chromium.press("Tab")
    assert chromium.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    stops = [chromium.evaluate(visited)]
    while stops[-1][1] != "BODY" and len(stops) < 300:
        chromium.press("Tab")
        stops.append(chromium.evaluate(visited))
    *stops, last = stops
    assert last[1] == "BODY"
    assert [at for at, _, _ in stops] == sorted(at for at, _, _ in stops)
    assert {tag for _, tag, _ in stops} <= {"A", "SUMMARY", "DIV"}
    assert not any(in_plot for _, _, in_plot in stops)
    assert sum(tag == "SUMMARY" for _, tag, _ in stops) >= 10

    chromium.press("Tab")
    chromium.press("Enter")
    chromium.wait_for("document.activeElement.id === 'verdict'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_its_ground(one_run: Path, chromium: Browser, scheme: str) -> None:
    chromium.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    chromium.open(one_run)
    poor = """(() => {
        const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
            const v = c[i] / 255;
            return sum + weight * (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        }, 0);
        const ground = (element) => {
            for (let one = element; one; one = one.parentElement) {
                const c = channels(getComputedStyle(one).backgroundColor);
                if (c.length < 4 || c[3] > 0.9) return c;
            }
            return sheet;
        };
        const sheet = channels(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll("p, a, td, th, h1, h2, summary, li, .plane > span, .scale span, " +
            ".ends span, .xtitle, .ytitle, .xtick text, .ytick text, .legendtext, .annotation-text")]
            .filter((one) => one.textContent.trim() && one.getClientRects().length)
            .map((one) => {
                const style = getComputedStyle(one);
                const a = light(channels(one instanceof SVGElement ? style.fill : style.color)), b = light(ground(one));
                return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.tagName, one.textContent.slice(0, 40)];
            })
            .filter(([contrast]) => contrast < 4.5);
    })()"""
    found = chromium.evaluate(poor)
    chromium.command("Emulation.setEmulatedMedia", features=[])
    assert found == []


def test_plots_beyond_the_browsers_arithmetic_trouble_nobody(
    run_of: Any, write_log: Any, chromium: Browser, tmp_path: Path
) -> None:
    emitted = [*run_of(n_batches=4).events()]
    extreme = (1e308, -1e308, float("nan"), float("inf"))
    ends = [i for i, event in enumerate(emitted) if isinstance(event.data, BatchEpochCompletedPayload)]
    for i, value in zip(ends, extreme, strict=True):
        emitted[i] = batch_with(emitted[i], value)

    chromium.open(report([write_log("a", emitted)], tmp_path / "report.html"))

    assert chromium.said == []


def troubled(event: TelemetryEvent) -> TelemetryEvent:
    """Return an event with whatever can go wrong with an update, from the seventh on."""
    data = event.data
    if not isinstance(data, PPOUpdatePayload) or data.batch < 6:
        return event
    told = {name: getattr(data, name) for name in data.supplied} | {
        "policy_loss": math.nan, "value_loss": 1e9, "entropy": data.entropy, "grad_norm": 1e9, "kl_divergence": 3.0,
        "clip_fraction": 0.99, "nan_grad_count": 9, "explained_variance": -9.0, "ratio_max": 1e9,
    }  # fmt: skip
    return TelemetryEvent(data=PPOUpdatePayload(**told))


def batch_with(event: Any, reward: float) -> Any:
    data = event.data
    emitted = {name: getattr(data, name) for name in data.supplied} | {
        name: getattr(data, name)
        for name in ("episodes_completed", "batch_idx", "avg_accuracy", "total_episodes", "n_envs")
    }
    return type(event)(data=BatchEpochCompletedPayload(**{**emitted, "avg_reward": reward}))


def test_hover_shows_the_exact_value(run_of: Any, write_log: Any, chromium: Browser, tmp_path: Path) -> None:
    emitted = [*run_of(n_batches=1).events()]
    chromium.open(report([write_log("a", emitted)], tmp_path / "report.html"))
    at = """(() => {
        const area = document.querySelector('[aria-label^="Mean episode return"] .nsewdrag');
        area.scrollIntoView({block: "center"});
        const box = area.getBoundingClientRect();
        return [box.x + box.width * 0.99, box.y + box.height / 2];
    })()"""
    x, y = chromium.evaluate(at)
    chromium.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    shown = chromium.wait_for(
        """document.querySelector('[aria-label^="Mean episode return"] .hoverlayer').textContent"""
    )

    (reward,) = (event.data.avg_reward for event in emitted if isinstance(event.data, BatchEpochCompletedPayload))
    assert f"{reward:.8g}" in shown
    assert "2 episodes completed" in shown


def test_a_finger_on_a_plot_scrolls_the_page_until_it_asks_for_the_zoom(two_runs: Path, chromium: Browser) -> None:
    def swipe() -> int:
        chromium.evaluate("""document.querySelector(".plot .nsewdrag").scrollIntoView({block: "center"})""")
        before: int = chromium.evaluate("scrollY")
        chromium.command("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": 200, "y": 420}])
        for y in range(410, 200, -10):
            chromium.command("Input.dispatchTouchEvent", type="touchMove", touchPoints=[{"x": 200, "y": y}])
        chromium.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        at_rest = """new Promise((done) => {
            let last = scrollY;
            const wait = setInterval(() => {
                if (scrollY === last) { clearInterval(wait); done(last); }
                last = scrollY;
            }, 200);
        })"""
        after: int = chromium.evaluate(at_rest)
        return after - before

    chromium.open(two_runs, TELEPHONE)
    assert swipe() > 100
    chromium.evaluate("""document.querySelector('.plot [data-val="zoom"]').click()""")
    assert swipe() == 0


def test_plots_follow_the_turn_of_a_telephone(two_runs: Path, chromium: Browser) -> None:
    chromium.open(two_runs, TELEPHONE)
    ill_fitting = """[...document.querySelectorAll(".plot")].filter((plot) => {
        const drawn = plot.querySelector(".main-svg").getBoundingClientRect();
        const area = plot.querySelector(".nsewdrag").getBoundingClientRect();
        return Math.abs(drawn.width - plot.clientWidth) > 1 || Math.abs(drawn.height - plot.clientHeight) > 1
            || (plot.querySelector(".legend")?.getBoundingClientRect().bottom ?? 0) > area.top + 2;
    }).map((plot) => plot.ariaLabel).join()"""
    for width, height in ((844, 390), TELEPHONE):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        chromium.command("Emulation.setDeviceMetricsOverride", **metrics)
        chromium.wait_for(f"innerWidth === {width} && document.querySelector('.main-svg').clientWidth < {width}")
        chromium.wait_for(f"{ill_fitting} === ''")
        assert chromium.evaluate("document.documentElement.scrollWidth") == width


def test_zooming_one_plot_zooms_all_that_share_its_axis(two_runs: Path, chromium: Browser) -> None:
    chromium.open(two_runs)
    ranges = """[...new Set([...document.querySelectorAll(".plot")].filter((plot) => plot.spec.linked)
        .map((plot) => plot.layout.xaxis.range.join(" to ")))].join()"""
    assert chromium.evaluate(ranges) != "1 to 3"

    chromium.evaluate("""Plotly.relayout([...document.querySelectorAll(".plot")].find((plot) => plot.spec.linked),
        {"xaxis.range[0]": 1, "xaxis.range[1]": 3}).then(() => null)""")

    chromium.wait_for(f'{ranges} === "1 to 3"')
    assert chromium.said == []


def test_plots_follow_the_colours_of_the_system(two_runs: Path, chromium: Browser) -> None:
    chromium.open(two_runs)
    for scheme, ink in (("dark", "rgb(227, 231, 236)"), ("light", "rgb(28, 36, 48)")):
        chromium.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        chromium.wait_for(f"""[...document.querySelectorAll(".xtitle")].every(
            (title) => getComputedStyle(title).fill === "{ink}")""")


def test_a_page_that_asked_the_network_would_be_found_out(two_runs: Path, chromium: Browser, tmp_path: Path) -> None:
    asking = tmp_path / "asking.html"
    asking.write_text(two_runs.read_text().replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>'))

    chromium.open(asking)

    assert len(chromium.said) == 1
    assert "Content Security Policy" in chromium.said[0]
