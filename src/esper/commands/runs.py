"""``esper runs``: every run below a directory, and what it came to."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from esper.commands.progress_bar import with_bar
from esper.commands.streams import say, show
from esper.karn.listing import FoundRun, chosen, list_runs, ordered, rows_json, runs_table
from esper.karn.listing.cache import cache_file
from esper.karn.listing.filters import columns_named
from esper.karn.listing.table import counted
from esper.leyline.printable import printable

__all__ = ["runs_command"]

_NOT_A_TERMINAL = 200
"""Columns where nobody says how many there are."""


def runs_command(root: str, *, sort: str, reverse: bool, where: Sequence[str], as_json: bool) -> int:
    """List runs.

    Args:
        root: a directory, however deep the runs lie below it.
        sort: the column to sort by.
        reverse: from the highest to the lowest.
        where: conditions that all have to hold.
        as_json: a list of objects instead of a table.

    Returns:
        The exit status: 1 where there is no run, else 0.

    Raises:
        ValueError: there is no such column, or a condition is none.
        OSError: there is no such directory.
    """
    now = datetime.now(UTC)
    asked = columns_named(where) | {sort}
    ordered([], sort, now)  # a column that is none is told before anything is read
    listing = list_runs(root, progress=_bar, cache=cache_file(root))
    rows = ordered(chosen(listing.rows, where, now), sort, now, reverse=reverse)
    of = len({row.run for row in listing.rows})
    if as_json:
        show(rows_json(rows, now) + "\n")
    elif rows:
        width = shutil.get_terminal_size((_NOT_A_TERMINAL, 24)).columns
        show(runs_table(rows, now, width, asked) + f"{counted(rows, of)}\n")
    for note in listing.notes:
        say(f"{printable(note)}\n")
    if not of:
        say(f"no run below {printable(root)}: a run is a directory with events.jsonl or run.json in it\n")
        return 1
    if not rows:
        say(f"none of {of:,} runs fits\n")
    return 0


def _bar(runs: Iterable[FoundRun], total: int) -> Iterable[FoundRun]:
    return with_bar(runs, total, "runs read")
