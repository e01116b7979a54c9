"""A log, folded, for a command about one run: that it holds no event is an error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from esper.commands.streams import say
from esper.karn.folding import FoldedLog, fold
from esper.leyline.run_directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from esper.leyline.limits import Limits

__all__ = ["FoldedLog", "fold_log"]


def fold_log(source: str, adapt: Callable[[Limits], Limits] | None = None) -> FoldedLog:
    """Fold a log, under the limits of its run, and say what of it could not be read.

    Args:
        source: a run directory, a log, or ``-``.
        adapt: changes the limits; None to take the run's own.

    Raises:
        NoEventsError: the log holds no event.
        OSError: there is no such log, or it cannot be read.
    """
    if Path(source).is_dir():
        RunDirectory.open(source)
    log = fold(source, adapt)
    if log.problem:
        say(f"{log.problem}: what follows is from the log alone\n")
    if not log.snapshot.n_events:
        raise log.invalid_lines.no_events(source)
    return log
