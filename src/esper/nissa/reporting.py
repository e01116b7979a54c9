"""Saying what was lost: through logging's logger ``esper``, once a kind, and never at anybody's cost."""

from __future__ import annotations

import _thread
import logging
from collections.abc import Hashable

from esper.leyline.printable import printable

__all__ = ["Reporter", "describe"]

_LOGGER = logging.getLogger("esper")
_LONGEST_WAIT = 2.0
"""Seconds that somebody waits for a report to be written; a stream that blocks may take for ever."""
_KINDS = 100
"""Different kinds that are reported; what comes after them is only counted."""


class Reporter:
    """Reports each kind of loss once.

    Not through `warnings`, which filters mute, de-duplicate over the whole process, and raise. Where logging was not
    configured, Python prints a report to stderr.
    """

    def __init__(self) -> None:
        self._reported: dict[Hashable, object] = {}

    def report(self, text: str, kind: Hashable = None) -> None:
        """Log a warning; nothing is raised, whatever handlers and streams do.

        Args:
            text: one sentence.
            kind: what is reported only once; None is reported every time.
        """
        if kind is not None:
            token = object()
            if len(self._reported) >= _KINDS or self._reported.setdefault(kind, token) is not token:
                return
        shown = printable(text)
        written = _thread.allocate_lock()
        written.acquire()

        def log() -> None:
            try:
                _LOGGER.warning("%s", shown)
            except BaseException:  # noqa: BLE001, S110 - a handler's failure is no reason to lose anything else
                pass
            finally:
                written.release()

        # On a thread of its own, since a stream may block, and whoever emits may hold a lock of logging's. A bare one:
        # starting a threading.Thread takes a lock that a signal handler may find taken by the code it interrupted.
        try:
            _thread.start_new_thread(log, ())
        except RuntimeError:  # no more threads, or the interpreter is on its way out
            log()
        written.acquire(timeout=_LONGEST_WAIT)


def describe(error: BaseException) -> str:
    """Return an exception's repr, or its type where even that fails."""
    try:
        return repr(error)
    except Exception:  # noqa: BLE001 - a foreign exception may do anything
        return type(error).__name__
