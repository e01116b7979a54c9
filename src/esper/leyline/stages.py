"""The stages of a seed's life and the transitions between them that are legal."""

from __future__ import annotations

from enum import Enum

__all__ = ["NEXT_STAGES", "SeedStage"]


class SeedStage(Enum):
    """Where the seed of a slot stands; the name is what stands in telemetry."""

    DORMANT = "dormant"
    """The slot is empty."""
    GERMINATED = "germinated"
    """The seed has been built and has not been trained yet."""
    TRAINING = "training"
    """The seed learns behind the host, on detached features; the host does not feel it."""
    BLENDING = "blending"
    """The seed's alpha rises along its schedule."""
    HOLDING = "holding"
    """Alpha has reached its target; the seed waits for a verdict."""
    FOSSILIZED = "fossilized"
    """Kept for good. Terminal within an episode."""
    PRUNED = "pruned"
    """Removed."""
    EMBARGOED = "embargoed"
    """The slot rests after a prune and accepts no seed."""


NEXT_STAGES: dict[SeedStage, frozenset[SeedStage]] = {
    SeedStage.DORMANT: frozenset({SeedStage.GERMINATED}),
    SeedStage.GERMINATED: frozenset({SeedStage.TRAINING, SeedStage.PRUNED}),
    SeedStage.TRAINING: frozenset({SeedStage.BLENDING, SeedStage.PRUNED}),
    SeedStage.BLENDING: frozenset({SeedStage.HOLDING, SeedStage.PRUNED}),
    SeedStage.HOLDING: frozenset({SeedStage.FOSSILIZED, SeedStage.PRUNED}),
    SeedStage.FOSSILIZED: frozenset(),
    SeedStage.PRUNED: frozenset({SeedStage.EMBARGOED}),
    SeedStage.EMBARGOED: frozenset({SeedStage.DORMANT}),
}
"""The stages that may follow each stage; anything else is refused by the slot."""
