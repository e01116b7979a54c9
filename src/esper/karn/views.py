"""What grows, by name, and what was seen of it: a look makes anew what has changed, and hands the rest out again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from types import MappingProxyType
from typing import Generic, TypeVar

from esper.karn.bounds import Room

__all__ = ["Views"]

K = TypeVar("K", bound=Hashable)
G = TypeVar("G")
V = TypeVar("V")


class Views(Generic[K, G, V]):
    """Growing things by name, of which frozen views are made when somebody looks.

    Args:
        room: how many more may begin.
        make: begins what is not there yet.
        look: returns the view of one; None where there is nothing to be seen.
        order: the names, in the order in which they are shown.
    """

    __slots__ = ("_look", "_make", "_order", "_room", "_seen", "all", "changed")

    def __init__(
        self,
        room: Room,
        make: Callable[[K], G],
        look: Callable[[G], V | None],
        order: Callable[[Iterable[K]], Iterable[K]] = iter,
    ) -> None:
        self._room = room
        self._make = make
        self._look = look
        self._order = order
        self.all: dict[K, G] = {}
        self.changed: dict[K, G] = {}
        """Since the last look: these may change freely."""
        self._seen: MappingProxyType[K, V] = MappingProxyType({})

    def change(self, name: K) -> G:
        """Return one of them, that it may change.

        Raises:
            FullError: it is another one, and there is no room.
        """
        if name not in self.all:
            self._room.take()
            self.all[name] = self._make(name)
        self.changed[name] = self.all[name]
        return self.all[name]

    def change_all(self) -> None:
        """Let everything be made anew."""
        self.changed, self._seen = dict(self.all), MappingProxyType({})

    def view(self) -> MappingProxyType[K, V]:
        """Return what there is now; it costs what has changed, and copying references to the rest."""
        if self.changed:
            seen, n = self._seen.copy(), len(self._seen)
            for name, growing in self.changed.items():
                view = self._look(growing)
                if view is not None:
                    seen[name] = view
            if len(seen) > n:
                seen = {name: seen[name] for name in self._order(self.all) if name in seen}
            self._seen, self.changed = MappingProxyType(seen), {}
        return self._seen
