"""The page in a real browser: everything drawn, nothing asked of the network, nothing complained about."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esper.karn.report import report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[Path], tuple[str, list[str]]]:
    """Open a page; return its document once it is quiet, and every line it wrote to the console."""

    def open_page(page: Path) -> tuple[str, list[str]]:
        assert CHROMIUM is not None
        done = subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}",
                "--enable-logging=stderr", "--v=0",
                "--virtual-time-budget=60000", "--window-size=1300,900", "--dump-dom", page.as_uri(),
            ],
            capture_output=True, text=True, timeout=100, check=True,
        )  # fmt: skip
        return done.stdout, re.findall(r"CONSOLE.*", done.stderr)

    return open_page


def test_every_figure_is_drawn_without_a_word_in_the_console(
    run_of: Any, write_log: Any, browse: Any, tmp_path: Path
) -> None:
    sources = [write_log("a", [*run_of(n_batches=4).events()]), write_log("b", [*run_of(n_batches=3, seed=2).events()])]
    page = report(sources, tmp_path / "report.html")
    n_figures = page.read_text().count('class="plot"')

    document, console = browse(page)

    assert console == []
    assert f'data-drawn="{n_figures}"' in document
    assert document.count('class="main-svg"') >= n_figures > 30


def test_zooming_one_figure_zooms_all_that_share_its_axis(
    write_log: Any, run_of: Any, browse: Any, tmp_path: Path
) -> None:
    page = report([write_log("a", [*run_of(n_batches=3).events()])], tmp_path / "report.html")
    zoom = """<script>
    const wait = setInterval(async () => {
      if (!document.body.dataset.drawn) return;
      clearInterval(wait);
      const linked = [...document.querySelectorAll(".plot")].filter((plot) => plot.spec.linked);
      await Plotly.relayout(linked[0], {"xaxis.range[0]": 1, "xaxis.range[1]": 3});
      setTimeout(() => {
        document.body.dataset.ranges = [...new Set(linked.map((plot) => plot.layout.xaxis.range.join(" to ")))].join();
      }, 5000);
    }, 100);
    </script>"""
    page.write_text(page.read_text().replace("</body>", f"{zoom}</body>"))

    document, console = browse(page)

    assert console == []
    assert 'data-ranges="1 to 3"' in document


def test_a_page_that_asked_the_network_would_be_found_out(
    write_log: Any, run_of: Any, browse: Any, tmp_path: Path
) -> None:
    page = report([write_log("a", [*run_of(n_batches=1).events()])], tmp_path / "report.html")
    asking = page.read_text().replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>')
    page.write_text(asking)

    _, console = browse(page)

    assert len(console) == 1
    assert "Content Security Policy" in console[0]
