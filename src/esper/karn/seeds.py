"""Which seed an event belongs to, and how a seed ended: one rule for all views.

- An event belongs to the newest seed of its slot that carries its ``seed_id``; one without ``seed_id``, to the newest
  seed of the slot in the same episode. When there is none, it begins a seed of which the rest is None.
- A second germination, a second leave from DORMANT or a second end begins another seed, whatever its ``seed_id``.
- A germination after the end of its seed begins another one too: it cannot be told from a re-used ``seed_id``. So does,
  without a ``seed_id``, the entry into a stage that only a living seed has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from esper.karn.snapshot import Ending, Entry, SeedEntry, SeedRecord
from esper.leyline.position import Position
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import SeedGerminatedPayload, SeedStageChangedPayload

__all__ = ["SEED_REACH", "count_endings", "seed_before", "seed_of", "seed_with"]

SEED_REACH: Final = 16
"""Newest seeds of a slot among which that of an event is looked for."""
_ALIVE: Final = {
    stage.name for stage in (SeedStage.GERMINATED, SeedStage.TRAINING, SeedStage.BLENDING, SeedStage.HOLDING)
}


def seed_of(seeds: Sequence[SeedRecord], entry: SeedEntry) -> int | None:
    """Return the index of the seed that an event belongs to; None when it begins another one.

    Args:
        seeds: of the slot, oldest first.
        entry: the event.
    """
    seed_id = entry.event.seed_id
    for at in range(len(seeds) - 1, max(len(seeds) - SEED_REACH, 0) - 1, -1):
        seed = seeds[at]
        if seed.seed_id == seed_id if seed_id is not None else _same_episode(seed.position, entry.position):
            return None if _begins_another(seed, entry) else at
    return None


def _same_episode(seed: Position, event: Position) -> bool:
    """Whether both can be of one episode: an environment's seeds end with it."""
    if seed.episode is None or event.episode is None:
        return True
    return seed.episode == event.episode


def _begins_another(seed: SeedRecord, entry: SeedEntry) -> bool:
    data = entry.data
    if isinstance(data, SeedGerminatedPayload):
        return seed.germinated is not None or seed.outcome is not None
    if isinstance(data, SeedStageChangedPayload):
        if data.from_stage == SeedStage.DORMANT.name and seed.stages:
            return True
        return entry.event.seed_id is None and seed.outcome is not None and data.to_stage in _ALIVE
    return seed.outcome is not None


def seed_with(seed: SeedRecord | None, entry: SeedEntry, stages_kept: int | None) -> SeedRecord:
    """Return what is known of a seed with one more event; None for a seed that it begins."""
    if seed is None:
        seed = SeedRecord(entry.event.seed_id, entry.position)
    germinated, stages, outcome = seed.germinated, seed.stages, seed.outcome
    data, event, position = entry
    if isinstance(data, SeedGerminatedPayload):
        germinated = Entry(data, event, position)
    elif isinstance(data, SeedStageChangedPayload):
        stages = (*(stages if stages_kept is None else stages[1 - stages_kept :]), Entry(data, event, position))
    else:
        outcome = Entry(data, event, position)
    return SeedRecord(seed.seed_id, seed.position, germinated, stages, outcome)


def seed_before(episode: int, seed: SeedRecord) -> SeedRecord | None:
    """Return what is left of a seed when everything from an episode on is taken back; None when nothing is."""
    stays = [entry for entry in seed.entries if not entry.position.is_from(episode)]
    if len(stays) == len(seed.entries):
        return seed
    left: SeedRecord | None = None
    for entry in stays:
        left = seed_with(left, entry, None)
    return None if left is None else SeedRecord(seed.seed_id, seed.position, left.germinated, left.stages, left.outcome)


def count_endings(seeds: Iterable[SeedRecord]) -> dict[Ending, int]:
    """Return how many seeds ended in which way; every way is there."""
    counts = dict.fromkeys(Ending, 0)
    for seed in seeds:
        counts[seed.ending] += 1
    return counts
