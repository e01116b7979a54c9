"""``esper replay``: a run's closing summary, from its log."""

from __future__ import annotations

from esper.commands.folding import fold_log
from esper.commands.streams import say, show
from esper.karn.formatting import plural
from esper.karn.health import assess
from esper.karn.summary import snapshot_json, summary

__all__ = ["replay_command"]


def replay_command(source: str, *, as_json: bool) -> int:
    """Fold a log and print what it came to.

    Args:
        source: a run directory, a log, or ``-``.
        as_json: the whole snapshot as JSON instead of the summary.

    Raises:
        NoEventsError: the log holds no event.
        OSError: there is no such log, or it cannot be read.
    """
    log = fold_log(source)
    if as_json:
        show(snapshot_json(log.snapshot) + "\n")
    else:
        verdict = assess(log.snapshot, log.info, invalid=log.invalid, rejected=log.rejected)
        show(summary(log.snapshot, log.info, log.where, verdict))
    if log.rejected:
        say(f"{plural(log.rejected, 'event', 'was', 'were')} rejected and cannot be shown: esper validate {source}\n")
    if log.invalid:
        say(f"{plural(log.invalid, 'line', 'is no event', 'are no events')}: esper validate {source}\n")
    return 0
