"""One environment while it grows."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from esper.karn.bounds import Bounds, Room
from esper.karn.history_writer import HistoryWriter
from esper.karn.seeds import SlotWriter
from esper.karn.snapshot import EnvSnapshot, SlotSnapshot
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
        "bounds",
        "counterfactuals",
        "env_id",
        "epochs",
        "frozen",
        "frozen_slots",
        "last_actions",
        "resume",
        "rewards",
        "slots",
    )

    def __init__(self, env_id: int, bounds: Bounds, resume: int) -> None:
        self.env_id = env_id
        self.bounds = bounds
        self.resume = resume
        """The resume up to which everything that is superseded has been taken back."""
        self.epochs = HistoryWriter[EpochCompletedPayload](bounds.env_history)
        self.rewards = HistoryWriter[RewardComputedPayload](bounds.env_history)
        self.last_actions = HistoryWriter[AnalyticsSnapshotPayload](_NEWEST)
        self.counterfactuals = HistoryWriter[CounterfactualMatrixPayload](_NEWEST)
        self.slots: dict[str, SlotWriter] = {}
        self.frozen: EnvSnapshot | None = None
        """What a snapshot shows, until something changes."""
        self.frozen_slots: MappingProxyType[str, SlotSnapshot] | None = None

    def freeze(self) -> EnvSnapshot:
        """Return what there is now; it costs the same however long that is, and nothing while nothing comes."""
        if self.frozen is None:
            self.frozen = EnvSnapshot(
                self.env_id,
                self.epochs.view(),
                self.rewards.view(),
                self.last_actions.newest(),
                self.counterfactuals.newest(),
                self._freeze_slots(),
            )
        return self.frozen

    def _freeze_slots(self) -> MappingProxyType[str, SlotSnapshot]:
        if self.frozen_slots is None:
            self.frozen_slots = MappingProxyType(
                {slot_id: view for slot_id, slot in self.slots.items() if (view := slot.view()) is not None}
            )
        return self.frozen_slots

    def slot(self, slot_id: str, room: Room) -> SlotWriter:
        """Return a slot, that it may change."""
        if slot_id not in self.slots:
            room.take()
            self.slots[slot_id] = SlotWriter(slot_id, self.bounds.seeds, self.bounds.stages)
        self.frozen_slots = None
        return self.slots[slot_id]

    def take_back(self, episode: int) -> None:
        """Forget what is about an episode from this one on."""
        for history in (self.epochs, self.rewards, self.last_actions, self.counterfactuals):
            history.take_back(episode)
        for slot in self.slots.values():
            slot.take_back(episode)
        self.frozen = self.frozen_slots = None
