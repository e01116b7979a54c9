"""How much of a run the fold keeps: constant for a live view, and never without a limit for what a log names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["LIVE", "WHOLE_RUN", "Bounds", "FullError", "Room", "Rooms"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept; None for all of it."""

    log: int | None = 2000
    """Events, whatever they carry."""
    env_history: int = 240
    """Epochs and steps of each environment."""
    run_history: int | None = 2000
    """Updates, batches and analytics."""
    episodes: int | None = 1 << 14
    """Newest episodes with whose totals a resume can be taken back."""
    seeds: int | None = 16
    """Newest seeds of each slot."""
    stages: int | None = 32
    """Newest transitions of each seed."""


LIVE: Final = Bounds()
WHOLE_RUN: Final = Bounds(log=0, run_history=None, episodes=None, seeds=None, stages=None)
"""For whoever needs a run from its beginning: memory grows with batches and seeds, not with steps."""
_GROUPS: Final = 1 << 10
_ENVS: Final = 1 << 14
_SLOTS: Final = 1 << 16
_NAMES: Final = 1 << 14
"""Of all groups together, as everything else here that says how many are kept. Of actions and blueprints."""


class FullError(Exception):
    """There is no room for another group, environment, slot or name."""


class Room:
    """For how many more there is room, in all groups together."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self) -> None:
        """Take room for one.

        Raises:
            FullError: there is none.
        """
        if self.left == 0:
            raise FullError
        self.left -= 1


class Rooms:
    """Room for everything that a log names."""

    def __init__(self) -> None:
        self.groups = Room(_GROUPS)
        self.envs = Room(_ENVS)
        self.slots = Room(_SLOTS)
        self.names = Room(_NAMES)
