"""Which seed an event belongs to, and how a seed ended: one rule for all views.

- An event belongs to the newest seed of its slot that carries its ``seed_id``; one without ``seed_id``, to the newest
  seed of the slot in the same episode. When there is none, it begins a seed of which the rest is None.
- A second germination, a second leave from DORMANT or a second end begins another seed, whatever its ``seed_id``.
- A germination after the end of its seed begins another one too: it cannot be told from a re-used ``seed_id``. So does,
  without a ``seed_id``, the entry into a stage that only a living seed has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from esper.karn.snapshot import Ending, Entry, SeedEntry, SeedOutcome, SeedRecord, SlotSnapshot, new_record
from esper.leyline.position import Position
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import SeedGerminatedPayload, SeedStageChangedPayload

__all__ = ["SEED_REACH", "SlotWriter", "count_endings"]

SEED_REACH: Final = 16
"""Newest seeds of a slot among which that of an event is looked for."""
_DORMANT: Final = SeedStage.DORMANT.name
_ALIVE: Final = {
    stage.name for stage in (SeedStage.GERMINATED, SeedStage.TRAINING, SeedStage.BLENDING, SeedStage.HOLDING)
}


class _Seed:
    """One seed while it grows."""

    __slots__ = ("germinated", "outcome", "position", "seed_id", "stages")

    def __init__(self, seed_id: str | None, position: Position) -> None:
        self.seed_id = seed_id
        self.position = position
        self.germinated: Entry[SeedGerminatedPayload] | None = None
        self.stages: list[Entry[SeedStageChangedPayload]] = []
        self.outcome: SeedOutcome | None = None

    def view(self) -> SeedRecord:
        return new_record(SeedRecord, (self.seed_id, self.position, self.germinated, tuple(self.stages), self.outcome))

    def take_back(self, episode: int) -> bool:
        """Forget what is about an episode from this one on; return whether anything is left."""
        if self.germinated is not None and self.germinated.position.is_from(episode):
            self.germinated = None
        if self.outcome is not None and self.outcome.position.is_from(episode):
            self.outcome = None
        self.stages = [entry for entry in self.stages if not entry.position.is_from(episode)]
        return bool(self.germinated or self.stages or self.outcome)


class SlotWriter:
    """The growing side of a slot: takes the events of its seeds, each to the seed that it belongs to.

    Args:
        slot_id: of the slot.
        seeds: newest ones kept; None for all.
        stages: newest transitions kept of each; None for all.
    """

    __slots__ = ("_kept", "_kept_stages", "_records", "_seeds", "slot_id")

    def __init__(self, slot_id: str, seeds: int | None, stages: int | None) -> None:
        self.slot_id = slot_id
        self._kept = seeds
        self._kept_stages = stages
        self._seeds: list[_Seed] = []
        self._records: list[SeedRecord] = []
        """What was seen of the seeds, from the oldest on, up to the first that has changed since."""

    def germinate(self, entry: Entry[SeedGerminatedPayload]) -> None:
        """Add the beginning of a seed."""
        seed = self._seed(entry)
        if seed.germinated is not None or seed.outcome is not None:
            seed = self._begin(entry)
        seed.germinated = entry

    def change_stage(self, entry: Entry[SeedStageChangedPayload]) -> None:
        """Add a transition."""
        data, seed = entry.data, self._seed(entry)
        if (seed.stages and data.from_stage == _DORMANT) or (
            seed.outcome is not None and entry.event.seed_id is None and data.to_stage in _ALIVE
        ):
            seed = self._begin(entry)
        elif len(seed.stages) == self._kept_stages:
            del seed.stages[0]
        seed.stages.append(entry)

    def end(self, entry: SeedOutcome) -> SeedRecord:
        """Add the end of a seed, and return what is known of that."""
        seed = self._seed(entry)
        if seed.outcome is not None:
            seed = self._begin(entry)
        seed.outcome = entry
        return seed.view()

    def _seed(self, entry: SeedEntry) -> _Seed:
        """Return the seed of an event, which will change: the newest that it can belong to, else another one."""
        seed_id, seeds = entry.event.seed_id, self._seeds
        at = len(seeds) - 1
        if at < 0 or seed_id is None or seeds[at].seed_id != seed_id:  # nearly always it is that of the newest
            at = self._look_back(seed_id, entry.position)
            if at < 0:
                return self._begin(entry)
        if at < len(self._records):
            del self._records[at:]
        return seeds[at]

    def _look_back(self, seed_id: str | None, position: Position) -> int:
        """Return where the newest seed stands that carries an identifier or, without one, is of the episode; or -1."""
        for back, seed in enumerate(self._seeds[: -SEED_REACH - 1 : -1], 1):
            if seed.seed_id == seed_id if seed_id is not None else _same_episode(seed.position, position):
                return len(self._seeds) - back
        return -1

    def _begin(self, entry: SeedEntry) -> _Seed:
        seed = _Seed(entry.event.seed_id, entry.position)
        self._seeds.append(seed)
        if len(self._seeds) - 1 == self._kept:
            del self._seeds[0], self._records[:1]
        return seed

    def view(self) -> SlotSnapshot | None:
        """Return what there is now; None when everything has been taken back."""
        records = self._records
        for seed in self._seeds[len(records) :]:
            records.append(seed.view())
        return new_record(SlotSnapshot, (self.slot_id, tuple(records))) if records else None

    def take_back(self, episode: int) -> None:
        """Forget what is about an episode from this one on."""
        self._seeds = [seed for seed in self._seeds if seed.take_back(episode)]
        self._records = []


def _same_episode(seed: Position, event: Position) -> bool:
    """Whether both can be of one episode: an environment's seeds end with it."""
    return seed.episode is None or event.episode is None or seed.episode == event.episode


def count_endings(seeds: Iterable[SeedRecord]) -> dict[Ending, int]:
    """Return how many seeds ended in which way; every way is there."""
    counts = dict.fromkeys(Ending, 0)
    for seed in seeds:
        counts[seed.ending] += 1
    return counts
