"""Make docs/report.png from a real run: the report as a headless Chromium shows it, cut down to what fits a picture.

python docs/picture_report.py RUN [-o docs/report.png]
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from esper.karn.report import report

WIDTH = 1320
# The first screen, reward and accuracy, and the seeds.
PICTURE = """<style>
section { display: none; padding: 14px 0 0; }
#verdict, #s2, #s4 { display: block; }
.says, .fold { display: none !important; }
</style>
<script>
dispatchEvent(new Event("beforeprint"));
const all = document.querySelectorAll(".plot").length;
setInterval(() => {
  if (Number(document.body.dataset.drawn) === all) document.body.dataset.height = document.body.scrollHeight;
}, 200);
</script>
</body>"""


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="directory of the run")
    parser.add_argument("-o", "--output", default=Path(__file__).with_name("report.png"), type=Path)
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("no Chromium here: install the package chromium")
    with tempfile.TemporaryDirectory() as temporary:
        page = report([options.run], Path(temporary) / "report.html")
        page.write_text(page.read_text(encoding="utf-8").replace("</body>", PICTURE), encoding="utf-8")
        browse = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            "--blink-settings=primaryHoverType=2,availableHoverTypes=2",
            f"--user-data-dir={temporary}/profile", "--virtual-time-budget=60000",
        ]  # fmt: skip
        shown = run([*browse, f"--window-size={WIDTH},800", "--dump-dom", page.as_uri()])
        height = re.search(r'data-height="(\d+)"', shown)
        if height is None:
            sys.exit("the page was not drawn")
        run([*browse, f"--window-size={WIDTH},{height[1]}", f"--screenshot={options.output.resolve()}", page.as_uri()])
    print(options.output)  # noqa: T201 - a command


def run(command: list[str]) -> str:
    """Run the browser and return what it printed."""
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout  # noqa: S603


if __name__ == "__main__":
    main()
