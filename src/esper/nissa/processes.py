"""The hubs of this process: whose a sink is, and what becomes of a hub when the process forks or ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from esper.nissa.protocol import Sink

__all__ = ["Hub", "adopt", "at_exit", "not_at_exit"]


class Hub(Protocol):
    """What a hub is to its process."""

    @property
    def sinks(self) -> Sequence[Sink]:
        """The sinks it owns, also once it is closed."""
        ...

    def disown(self) -> None:
        """Called in a forked child: the sinks are the parent's."""


_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()
_owned: weakref.WeakValueDictionary[int, Sink] = weakref.WeakValueDictionary()
_adopting = threading.Lock()


def adopt(hub: Hub, sinks: Sequence[Sink]) -> None:
    """Make the sinks this hub's, for good: a sink has one hub, which closes it.

    Raises:
        ValueError: a sink is given twice, or has a hub already.
    """
    with _adopting:
        taken = [sink for other in list(_hubs) for sink in other.sinks]
        for sink in sinks:
            if sum(sink is other for other in sinks) > 1:
                raise ValueError(f"sink {sink.name!r} is given twice; make one sink for each place")
            if _owned.get(id(sink)) is sink or any(sink is other for other in taken):
                raise ValueError(f"sink {sink.name!r} has a hub already, which closes it; make another sink")
        _hubs.add(hub)
        for sink in sinks:
            with contextlib.suppress(TypeError):  # it takes no weak reference
                _owned[id(sink)] = sink


def at_exit(close: Callable[[], object]) -> Any:
    """Have a hub closed when the interpreter exits; return what `not_at_exit` needs to take that back.

    A process of multiprocessing ends without atexit, but not without its own finalizers.
    """
    atexit.register(close)
    util: Any = sys.modules.get("multiprocessing.util")
    return None if util is None else util.Finalize(None, close, exitpriority=-100)


def not_at_exit(close: Callable[[], object], finalizer: Any) -> None:
    """Take back what `at_exit` did; doing it again changes nothing."""
    atexit.unregister(close)
    if finalizer is not None:
        finalizer.cancel()


def _disown_all() -> None:
    global _adopting  # noqa: PLW0603 - the parent may have held it
    _adopting = threading.Lock()
    for hub in list(_hubs):
        hub.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
