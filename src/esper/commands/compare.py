"""``esper compare``: runs against each other, in the terminal, as a page, or as JSON."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Sequence
from pathlib import Path

from esper.commands.progress_bar import with_bar
from esper.commands.streams import say, show
from esper.karn.comparison import ComparedRun, compare, comparison_text, read_run
from esper.karn.comparison.results import By
from esper.karn.comparison.statistics import require_scipy
from esper.karn.listing import discover
from esper.leyline.invalid_lines import NoEventsError
from esper.leyline.printable import printable
from esper.leyline.strict_json import strict_json

__all__ = ["compare_command", "read_all", "sources_of"]

_NOT_A_TERMINAL = 120
"""Columns where nobody says how many there are."""


def compare_command(
    patterns: Sequence[str],
    *,
    by: By,
    threshold: float | None,
    ignore: Sequence[str],
    output: str | None,
    as_json: bool,
) -> int:
    """Set runs against each other.

    Args:
        patterns: run directories, logs, patterns, or directories with runs below them.
        by: what decides.
        threshold: mean episode return to which episodes are counted; None for what the weakest arm ends with.
        ignore: settings that make no other arm.
        output: a page to write as well; None for none.
        as_json: everything as JSON instead of text.

    Returns:
        The exit status, 0.

    Raises:
        NoEventsError: no run holds an event.
        FileNotFoundError: a pattern fits nothing.
        ModuleNotFoundError: scipy is not installed, or plotly for the page.
        OSError: the page cannot be written.
    """
    require_scipy()
    if output is not None:
        from esper.karn.report.markup import check_target  # noqa: PLC0415 - an extra, and asked for here only

        check_target(output, "compare.html")
    sources = sources_of(patterns)
    runs, unread = read_all(sources)
    if not runs:
        raise NoEventsError("; ".join(f"{source}: {reason}" for source, reason in unread.items()))
    comparison = compare(runs, by=by, threshold=threshold, ignore=ignore, unread=unread)
    if output is not None:
        from esper.karn.report.comparison_page import write_page  # noqa: PLC0415 - as above

        say(f"{printable(str(write_page(comparison, output)))}\n")
    if as_json:
        show(strict_json(comparison) + "\n")
    else:
        show(comparison_text(comparison, shutil.get_terminal_size((_NOT_A_TERMINAL, 24)).columns))
    return 0


def sources_of(patterns: Sequence[str]) -> list[str]:
    """Return every run that is meant, each once, in the order in which they are given.

    Raises:
        FileNotFoundError: a pattern fits nothing; the message says which.
    """
    sources = dict[str, str]()
    for pattern in patterns:
        paths = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - a text
        found = [run.path for path in paths for run in discover(path).runs]
        if not found:
            raise FileNotFoundError(f"no run fits {pattern}: a run is a directory with events.jsonl or run.json in it")
        for run in found:
            sources.setdefault(str(Path(run).resolve()), run)
    return list(sources.values())


def read_all(sources: Sequence[str]) -> tuple[list[ComparedRun], dict[str, str]]:
    """Read runs; return them, and why others could not be read."""
    runs, unread = list[ComparedRun](), dict[str, str]()
    for source in with_bar(sources, len(sources), "runs read"):
        try:
            runs += read_run(source)
        except NoEventsError as error:
            unread[source] = str(error)
        except (OSError, ValueError) as error:
            unread[source] = getattr(error, "strerror", None) or str(error)
    return runs, unread
