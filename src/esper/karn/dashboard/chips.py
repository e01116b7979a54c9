"""What a slot holds, in as many columns as there are: stage in a word, blueprint, alpha, for how many epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from esper.karn.absence import supplied, supplied_number
from esper.karn.dashboard.rows import Span, Tone
from esper.karn.formatting import ABSENT, cells, number, tidy
from esper.karn.snapshot import Ending

if TYPE_CHECKING:
    from esper.karn.snapshot import EnvSnapshot, SeedRecord

__all__ = ["LARGE", "MEDIUM", "SIZES", "SMALL", "STAGE_WORDS", "TINY", "Occupant", "chip", "occupant_of", "short_word"]

LARGE, MEDIUM, SMALL, TINY = 29, 16, 6, 2
"""Columns of a slot's chip: all of it; without the epochs; the stage alone; its first letter alone."""
SIZES: Final = (LARGE, MEDIUM, SMALL, TINY)
STAGE_WORDS: Final[dict[str, tuple[str, Tone]]] = {
    "GERMINATED": ("germinated", "dim"),
    "TRAINING": ("training", "plain"),
    "BLENDING": ("blending", "watch"),
    "HOLDING": ("holding", "accent"),
    "FOSSILIZED": ("kept", "ok"),
    "PRUNED": ("pruned", "dim"),
    "EMBARGOED": ("resting", "dim"),
    "DORMANT": ("empty", "dim"),
}
"""What a stage is called, and how it is drawn."""
_SHORT: Final = {
    "germinated": "germ",
    "training": "train",
    "blending": "blend",
    "holding": "hold",
    "pruned": "prune",
    "resting": "rest",
}


class Occupant(NamedTuple):
    """What is in a slot."""

    stage: str
    """As events have it; ``DORMANT`` for an empty slot."""
    blueprint: str | None
    alpha: float | None
    epochs: int | None
    """In its stage so far; None when unknown."""
    params: int | None

    @property
    def word(self) -> str:
        """The stage in a word; one that no version knows as it is."""
        return STAGE_WORDS[self.stage][0] if self.stage in STAGE_WORDS else tidy(self.stage)

    @property
    def tone(self) -> Tone:
        """How the stage is drawn."""
        return STAGE_WORDS[self.stage][1] if self.stage in STAGE_WORDS else "plain"


def chip(env: EnvSnapshot, slot_id: str, size: int) -> list[Span]:
    """Return one slot; ``·`` when it is empty, ``—`` when nothing is known.

    Args:
        env: whose slot it is.
        slot_id: the slot.
        size: one of `SIZES`.
    """
    state = occupant_of(env, slot_id)
    if state is None:
        return [(cells(ABSENT, size), "dim")]
    if state.stage == "DORMANT":
        return [(cells("·", size), "dim")]
    word = state.word
    if size == TINY:
        return [(cells(word[:1].upper(), TINY), state.tone)]
    if size == SMALL:
        return [(cells(short_word(word), SMALL - 1) + " ", state.tone)]
    kind = ABSENT if state.blueprint is None else state.blueprint
    weight = _weight(state.alpha)
    if size == LARGE:
        epochs = "" if state.epochs is None else f"{number(state.epochs, 3)} ep"
        return [(cells(word, 10), state.tone), (f" {cells(kind, 6)} α{weight:<4}{cells(epochs, 6)}", "plain")]
    return [(cells(short_word(word), 5), state.tone), (f" {cells(kind, 5)} {weight:<4}", "plain")]


def short_word(word: str) -> str:
    """Return a stage's word in five letters."""
    return _SHORT[word] if word in _SHORT else word


def occupant_of(env: EnvSnapshot, slot_id: str) -> Occupant | None:
    """Return what the newest epoch says of a slot; where epochs do not, what the seed's events do.

    None when neither does: events of an earlier episode say nothing of this one.
    """
    seeds = None if env.epoch is None else supplied(env.epoch.data, "seeds")
    if isinstance(seeds, Mapping):
        return _as_told(seeds[slot_id]) if slot_id in seeds else Occupant("DORMANT", None, None, None, None)
    if slot_id not in env.slots:
        return None
    seed = env.slots[slot_id].seed
    newest = seed.outcome or seed.stage or seed.germinated
    if newest is None or (env.epoch is not None and newest.position.is_before(env.epoch.position)):
        return None
    alpha = supplied_number(newest.data, "alpha") if "alpha" in newest.data.supplied else None
    return Occupant(_stage(seed), seed.blueprint_id, alpha, _epochs(env, seed), None)


def _as_told(state: object) -> Occupant | None:
    if not isinstance(state, Mapping):
        return None
    stage, blueprint, alpha, epochs, params = (
        state[key] if key in state else None for key in ("stage", "blueprint_id", "alpha", "epochs_in_stage", "params")
    )
    return Occupant(
        ("DORMANT" if not state else ABSENT) if stage is None else str(stage),
        None if blueprint is None else str(blueprint),
        alpha if isinstance(alpha, int | float) else None,
        epochs if isinstance(epochs, int) else None,
        params if isinstance(params, int) else None,
    )


def _epochs(env: EnvSnapshot, seed: SeedRecord) -> int | None:
    """Return the epochs since a seed's newest transition, both being of one episode."""
    newest = seed.stage or seed.germinated
    if env.epoch is None or newest is None or newest.event.epoch is None or env.epoch.position != newest.position:
        return None
    return max(env.epoch.data.inner_epoch - newest.event.epoch, 0)


def _stage(seed: SeedRecord) -> str:
    """Return the stage that a seed's events leave it in."""
    stage = "GERMINATED" if seed.stage is None else seed.stage.data.to_stage
    if seed.outcome is None or stage in {"EMBARGOED", "DORMANT"}:
        return stage
    return "FOSSILIZED" if seed.ending is Ending.FOSSILIZED else "PRUNED"


def _weight(alpha: float | None) -> str:
    """Return alpha in three letters: ``.40``; ``<1`` where two decimals would say 1, ``>1`` for what cannot be."""
    if alpha is None or alpha in (0, 1) or number(alpha) == "NaN":
        return number(alpha, 3)
    if not 0 < alpha < 1:
        return "<0" if alpha < 0 else ">1"
    text = f"{alpha:.2f}".removeprefix("0")
    return "<1" if text == "1.00" else ">0" if text == ".00" else text
