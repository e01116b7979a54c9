"""Libraries that only some sinks need: missing, they are named; broken, they harm nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from esper.nissa.signals import Stopped

__all__ = ["SinkUnavailableError", "isolated"]

T = TypeVar("T")


class SinkUnavailableError(Exception):
    """A sink's library is installed and does not work; the message is one line that says how."""


def isolated(sink: str, library: str, extra: str, use: Callable[[], T], *, hint: str = "") -> T:
    """Import or start an optional library, which may raise anything, even SystemExit; a signal ends it all the same.

    Args:
        sink: what needs it.
        library: the library, as users call it.
        extra: its package, and the extra to install when it is missing.
        use: imports it, or makes it start.
        hint: what else may help.

    Raises:
        ImportError: it is not installed.
        SinkUnavailableError: it is, and failed.
    """
    try:
        return use()
    except (KeyboardInterrupt, Stopped):
        raise
    except BaseException as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{error.name}".partition(".")[0] == extra
        if missing:
            raise ImportError(f"{sink} needs {library}: pip install 'esper-telemetry[{extra}]'") from error
        first_line = f"{error}".strip().partition("\n")[0]
        reason = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
        raise SinkUnavailableError(f"{library} cannot be used: {reason}{hint and f' ({hint})'}") from error
