"""What an export costs an event beside reading the log alone, and its size: ``python benchmarks/export.py RUN``."""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from pathlib import Path

from esper.karn.export import FORMATS, export
from esper.karn.folding import RARELY
from esper.leyline.wire import read_shards

ROUNDS = 5


def main(run: str) -> None:
    gc.set_threshold(*RARELY)  # as the command does
    best: dict[str, float] = {}
    sizes: dict[str, float] = {}
    for _ in range(ROUNDS):
        begun = time.process_time()
        events = sum(1 for _ in read_shards(run))
        best["reading alone"] = min(best.get("reading alone", 1e9), (time.process_time() - begun) / events)
        for form in FORMATS:
            with tempfile.TemporaryDirectory() as directory:
                begun = time.process_time()
                made = export([run], Path(directory) / "x", form=form).path
                best[form] = min(best.get(form, 1e9), (time.process_time() - begun) / events)
                files = [made] if made.is_file() else made.iterdir()
                sizes[form] = sum(file.stat().st_size for file in files) / events
    print(f"{events:,} events, the least CPU time of {ROUNDS} interleaved rounds\n")
    print("| what | µs an event | events a second and core | bytes an event |\n|---|---|---|---|")
    for what, seconds in best.items():
        size = f"{sizes[what]:.0f}" if what in sizes else ""
        print(f"| {what} | {seconds * 1e6:.1f} | {1 / seconds:,.0f} | {size} |")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["runs/demo"]))
