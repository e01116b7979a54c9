"""One environment while it grows."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, TypeVar

from esper.karn.bounds import Bounds, Room
from esper.karn.history_writer import HistoryWriter
from esper.karn.seeds import seed_before, seed_of, seed_with
from esper.karn.snapshot import Entry, EnvSnapshot, SeedEntry, SeedRecord, SlotSnapshot
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
    TelemetryPayload,
)

__all__ = ["EnvState", "keep_newest"]

P = TypeVar("P", bound=TelemetryPayload)
_NEWEST: Final = 8
"""Where only the newest is shown, a few are kept: a resume may take some back."""


class _Slot:
    """One slot while it grows."""

    __slots__ = ("frozen", "seeds", "slot_id")

    def __init__(self, slot_id: str) -> None:
        self.slot_id = slot_id
        self.seeds: list[SeedRecord] = []
        self.frozen: SlotSnapshot | None = None
        """The same for a snapshot, until something changes."""

    def freeze(self) -> SlotSnapshot:
        if self.frozen is None:
            self.frozen = SlotSnapshot(self.slot_id, tuple(self.seeds))
        return self.frozen


class EnvState:
    """One environment while it grows."""

    __slots__ = (
        "bounds",
        "counterfactuals",
        "env_id",
        "epochs",
        "frozen",
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
        self.last_actions: list[Entry[AnalyticsSnapshotPayload]] = []
        self.counterfactuals: list[Entry[CounterfactualMatrixPayload]] = []
        self.slots: dict[str, _Slot] = {}
        self.frozen: MappingProxyType[str, SlotSnapshot] | None = None

    def freeze(self) -> EnvSnapshot:
        """Return what there is now; it costs the same however long that is."""
        if self.frozen is None:
            self.frozen = MappingProxyType(
                {slot_id: slot.freeze() for slot_id, slot in self.slots.items() if slot.seeds}
            )
        return EnvSnapshot(
            self.env_id,
            self.epochs.view(),
            self.rewards.view(),
            self.last_actions[-1] if self.last_actions else None,
            self.counterfactuals[-1] if self.counterfactuals else None,
            self.frozen,
        )

    def add_seed_event(self, entry: SeedEntry, room: Room) -> SeedRecord:
        """Add an event to the seed that it belongs to, and return that."""
        slot_id = entry.data.slot_id
        if slot_id not in self.slots:
            room.take()
            self.slots[slot_id] = _Slot(slot_id)
        slot = self.slots[slot_id]
        seeds, at = slot.seeds, seed_of(slot.seeds, entry)
        seed = seed_with(None if at is None else seeds[at], entry, self.bounds.stages)
        if at is not None:
            seeds[at] = seed
        else:
            seeds.append(seed)
            if len(seeds) - 1 == self.bounds.seeds:
                del seeds[0]
        slot.frozen = self.frozen = None
        return seed

    def take_back(self, episode: int) -> None:
        """Forget what is about an episode from this one on."""
        self.epochs.take_back(episode)
        self.rewards.take_back(episode)
        self.last_actions = [entry for entry in self.last_actions if not entry.position.is_from(episode)]
        self.counterfactuals = [entry for entry in self.counterfactuals if not entry.position.is_from(episode)]
        for slot in self.slots.values():
            slot.seeds = [left for left in (seed_before(episode, seed) for seed in slot.seeds) if left is not None]
            slot.frozen = None
        self.frozen = None


def keep_newest(newest: list[Entry[P]], entry: Entry[P]) -> None:
    """Add an entry to the few of which the newest is shown."""
    newest.append(entry)
    if len(newest) > _NEWEST:
        del newest[0]
