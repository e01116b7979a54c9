"""One environment while it grows."""

from __future__ import annotations

from typing import Final

from esper.karn.bounds import Bounds, Room
from esper.karn.history_writer import HistoryWriter
from esper.karn.seeds import SlotWriter
from esper.karn.snapshot import EnvSnapshot, SlotSnapshot, new_record
from esper.karn.totals import EpisodeCounts
from esper.karn.views import Views
from esper.leyline.position import Position
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
)

__all__ = ["EnvState"]

_NEWEST: Final = 8
"""Where only the newest is shown, a few are kept: a resume may take some back."""


class EnvState:
    """One environment while it grows."""

    __slots__ = (
        "counterfactuals",
        "counts",
        "env_id",
        "epochs",
        "last_actions",
        "position",
        "resume",
        "rewards",
        "slots",
    )

    def __init__(self, env_id: int, bounds: Bounds, room: Room) -> None:
        self.env_id = env_id
        self.resume = 0
        """The resume up to which everything that is superseded has been taken back."""
        self.position: Position | None = None
        """Where its newest event stands: all of an episode share one."""
        self.counts: EpisodeCounts | None = None
        """Those of that place."""
        self.epochs = HistoryWriter[EpochCompletedPayload](bounds.env_history)
        self.rewards = HistoryWriter[RewardComputedPayload](bounds.env_history)
        self.last_actions = HistoryWriter[AnalyticsSnapshotPayload](_NEWEST)
        self.counterfactuals = HistoryWriter[CounterfactualMatrixPayload](_NEWEST)
        self.slots = Views[str, SlotWriter, SlotSnapshot](
            room, lambda slot_id: SlotWriter(slot_id, bounds.seeds, bounds.stages), SlotWriter.view
        )

    def view(self) -> EnvSnapshot:
        """Return what there is now; it costs the same however long that is."""
        return new_record(
            EnvSnapshot,
            (
                self.env_id,
                self.epochs.view(),
                self.rewards.view(),
                self.last_actions.newest(),
                self.counterfactuals.newest(),
                self.slots.view(),
            ),
        )

    def slot(self, slot_id: str) -> SlotWriter:
        """Return a slot, that it may change."""
        changed = self.slots.changed
        return changed[slot_id] if slot_id in changed else self.slots.change(slot_id)

    def take_back(self, episode: int) -> None:
        """Forget what is about an episode from this one on."""
        for history in (self.epochs, self.rewards, self.last_actions, self.counterfactuals):
            history.take_back(episode)
        self.slots.change_all()
        for slot in self.slots.all.values():
            slot.take_back(episode)
