"""What each environment is doing, a line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from esper.karn.absence import supplied, supplied_number
from esper.karn.dashboard.overview import WIDE
from esper.karn.dashboard.rows import Row, Span, Tone, Viewing, line
from esper.karn.derived import accuracy_of, confidence_of, has_host
from esper.karn.formatting import (
    ABSENT,
    cells,
    columns,
    fraction,
    is_finite,
    number,
    plot,
    plural,
    signed,
    tidy,
    value_text,
)
from esper.leyline.telemetry import SeedFossilizedPayload

if TYPE_CHECKING:
    from esper.karn.dashboard.following import View
    from esper.karn.snapshot import EnvSnapshot, SeedRecord

__all__ = ["LARGE", "MEDIUM", "TINY", "EnvRows", "chip", "env_heading"]

LARGE, MEDIUM, TINY = 26, 12, 2
"""Columns of a slot's chip: all of it; the stage by its letter; that letter alone."""

_MORE = 4
"""Columns that say how many chips there is no room for."""
_MISSING: Span = (ABSENT, "dim")


_ID = 3
"""Columns of an environment's number, where none is longer."""


class _Column(NamedTuple):
    title: str
    width: int
    wide: bool = False
    """Whether it is shown where there is room only."""
    left: bool = False
    host: bool = False
    """Whether it is about a host, and is left out where none grows."""


_COLUMNS = (
    _Column("env", _ID),
    _Column("epoch", 5, wide=True, host=True),
    _Column("acc", 5, host=True),
    _Column("accuracy by epoch", 24, wide=True, left=True, host=True),
    _Column("loss", 6, host=True),
    _Column("reward", 6),
    _Column("value", 6, wide=True),
    _Column("action", 12, left=True),
    _Column("conf", 5),
    _Column("entropy", 7, wide=True),
)


def env_heading(view: View, width: int, _height: int) -> list[Row]:
    """Return the column titles of the environments."""
    env_ids = () if view.group is None else tuple(view.group.envs)
    host = _has_host(view)
    titles = [
        cells(column.title, column.width, right=not column.left)
        for column in _columns(_id_width(env_ids), wide=width >= WIDE, host=host)
    ]
    count = f"({plural(len(env_ids), 'environment')})" if env_ids or host else "(no event is about a single one)"
    return [line((cells(" ".join(titles) + (" slots  " if host else "  ") + count, width), "title"))]


def _has_host(view: View) -> bool:
    return has_host(view.group)


def _columns(id_width: int, *, wide: bool, host: bool) -> list[_Column]:
    first, *others = _COLUMNS
    shown = (column for column in others if (wide or not column.wide) and (host or not column.host))
    return [first._replace(width=id_width), *shown]


def _id_width(env_ids: Iterable[int]) -> int:
    return min(max((_ID, *(len(str(env_id)) for env_id in env_ids))), 9)


def _id_text(env_id: int, width: int) -> str:
    """Return an environment's number; of one that is too long its end, which differs from its neighbours."""
    text = str(env_id)
    return text if len(text) <= width else "…" + text[1 - width :]


class EnvRows(Viewing):
    """The environments, a line each."""

    slot_ids: tuple[str, ...] = ()
    id_width = _ID
    host = True

    def refresh_view(self, view: View) -> None:
        """Show what is to be seen now."""
        if view.group is not None:
            self.slot_ids = () if view.group.started is None else view.group.started.data.slot_ids
            self.id_width = _id_width(view.group.envs)
            self.host = _has_host(view)
        self.show([] if view.group is None else list(view.group.envs.values()))

    def row(self, item: object) -> Row:
        """Return what an environment is doing."""
        env: EnvSnapshot = item  # type: ignore[assignment]  # `show` is given these
        wide = self.columns >= WIDE
        cells_of = {
            "env": (_id_text(env.env_id, self.id_width), "dim"),
            **_learning(env, wide=wide),
            **_decision(env),
        }
        spans: list[Span] = []
        for column in _columns(self.id_width, wide=wide, host=self.host):
            text, tone = cells_of[column.title]
            spans.append((f"{cells(text, column.width, right=not column.left)} ", tone))
        slot_ids = self.slot_ids or tuple(env.slots)
        room = self.columns - sum(columns(text) for text, _ in spans)
        size = next((size for size in (LARGE, MEDIUM) if size * len(slot_ids) <= room), TINY)
        fit = len(slot_ids) if size * len(slot_ids) <= room else max((room - _MORE) // size, 0)
        for slot_id in slot_ids[:fit]:
            spans += chip(env, slot_id, size)
        if fit < len(slot_ids):
            spans.append((f"+{len(slot_ids) - fit}", "dim"))
        return Row(tuple(spans), env.env_id)


def _learning(env: EnvSnapshot, *, wide: bool) -> dict[str, Span]:
    if env.epoch is None:
        return dict.fromkeys(("epoch", "acc", "accuracy by epoch", "loss"), _MISSING)
    epoch = env.epoch.data
    sound = is_finite(epoch.val_loss)
    return {
        "epoch": (number(epoch.inner_epoch, 5), "plain"),
        "acc": (fraction(accuracy_of(epoch), 5), "plain"),
        "accuracy by epoch": (
            plot([accuracy_of(past.data) for past in env.epochs[-24:]], 24)[0] if wide else "",
            "plot",
        ),
        "loss": (("" if sound else "✗ ") + number(epoch.val_loss, 6), "plain" if sound else "bad"),
    }


def _decision(env: EnvSnapshot) -> dict[str, Span]:
    """Return the newest step; where there are no steps, the last action of the newest batch."""
    if env.reward is not None:
        reward = env.reward.data
        action, slot = reward.action_name, supplied(reward, "action_slot")
        total: float | None = reward.total_reward
        value: float | None = reward.value_estimate
        confidence = confidence_of(reward)
        entropy = supplied_number(reward, "decision_entropy")
    elif env.last_action is not None:
        last = env.last_action.data
        name = supplied(last, "action_name")
        action, slot, entropy = ABSENT if name is None else value_text(name), None, None
        total, value = supplied_number(last, "total_reward"), supplied_number(last, "value_estimate")
        confidence = supplied_number(last, "action_confidence")
    else:
        return dict.fromkeys(("reward", "value", "action", "conf", "entropy"), _MISSING)
    sound = total is None or is_finite(total)
    return {
        "reward": (signed(total, 6), "plain" if sound else "bad"),
        "value": (signed(value, 6), "plain"),
        "action": (tidy(action if slot is None else f"{action} {slot}"), "plain"),
        "conf": (fraction(confidence, 5), "plain"),
        "entropy": (fraction(entropy, 7), "plain"),
    }


_STAGE_TONES: dict[str, Tone] = {
    "GERMINATED": "dim",
    "TRAINING": "plain",
    "BLENDING": "watch",
    "HOLDING": "accent",
    "FOSSILIZED": "ok",
    "PRUNED": "dim",
    "EMBARGOED": "dim",
}


def chip(env: EnvSnapshot, slot_id: str, size: int) -> list[Span]:
    """Return one slot: stage, blueprint and alpha; ``·`` when it is empty, ``—`` when nothing is known.

    Args:
        env: whose slot it is.
        slot_id: the slot.
        size: `LARGE`, `MEDIUM` or `TINY`.
    """
    state = _occupant(env, slot_id)
    if state is None:
        return [(cells(ABSENT, size), "dim")]
    stage, blueprint, alpha = (state[key] if key in state else None for key in ("stage", "blueprint_id", "alpha"))
    if not state or stage == "DORMANT":
        return [(cells("·", size), "dim")]
    name, kind = (ABSENT if fact is None else tidy(str(fact)) for fact in (stage, blueprint))
    weight = _weight(alpha) if isinstance(alpha, int | float) else ABSENT
    tone: Tone = _STAGE_TONES[name] if name in _STAGE_TONES else "plain"
    letter = name[:1] or "?"
    if size == TINY:
        return [(cells(letter, TINY), tone)]
    if size == LARGE:
        return [(cells(name, 10), tone), (f" {cells(kind, 9)} {weight:<4} ", "plain")]
    return [(cells(letter, 1), tone), (f" {cells(kind, 5)} {weight:<4}", "plain")]


def _occupant(env: EnvSnapshot, slot_id: str) -> Mapping[str, object] | None:
    """Return what the newest epoch says of a slot, ``{}`` when empty; where epochs do not, what the seed's events do.

    None when neither does: events of an earlier episode say nothing of this one.
    """
    seeds = None if env.epoch is None else supplied(env.epoch.data, "seeds")
    if isinstance(seeds, Mapping):
        state = seeds[slot_id] if slot_id in seeds else {}
        return state if isinstance(state, Mapping) else None
    if slot_id not in env.slots:
        return None
    seed = env.slots[slot_id].seed
    newest = seed.outcome or seed.stage or seed.germinated
    if newest is None or (env.epoch is not None and newest.position.is_before(env.epoch.position)):
        return None
    alpha = supplied_number(newest.data, "alpha") if "alpha" in newest.data.supplied else None
    return {"stage": _stage(seed), "blueprint_id": seed.blueprint_id, "alpha": alpha}


def _stage(seed: SeedRecord) -> str:
    """Return the stage that a seed's events leave it in."""
    stage = "GERMINATED" if seed.stage is None else seed.stage.data.to_stage
    if seed.outcome is None or stage in {"EMBARGOED", "DORMANT"}:
        return stage
    return "FOSSILIZED" if isinstance(seed.outcome.data, SeedFossilizedPayload) else "PRUNED"


def _weight(alpha: float) -> str:
    """Return alpha in three letters: ``.40``; ``<1`` where two decimals would say 1, ``>1`` for what cannot be."""
    if alpha in (0, 1) or number(alpha) == "NaN":
        return number(alpha, 3)
    if not 0 < alpha < 1:
        return "<0" if alpha < 0 else ">1"
    text = f"{alpha:.2f}".removeprefix("0")
    return "<1" if text == "1.00" else ">0" if text == ".00" else text
