"""What each environment is doing, a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from esper.karn.absence import figure, supplied
from esper.karn.dashboard.overview import WIDE
from esper.karn.dashboard.rows import Row, Span, Tone, Viewing, line
from esper.karn.figures import ABSENT, cells, fraction, is_finite, number, plot, signed, tidy

if TYPE_CHECKING:
    from esper.karn.dashboard.watching import View
    from esper.karn.snapshot import EnvSnapshot

__all__ = ["LARGE", "MEDIUM", "TINY", "EnvRows", "chip", "env_heading"]

LARGE, MEDIUM, TINY = 26, 12, 2
"""Columns of a slot's chip: all of it; the stage by its letter; that letter alone."""


_UNTOLD: Span = (ABSENT, "dim")


class _Column(NamedTuple):
    title: str
    width: int
    wide: bool = False
    """Whether it is shown where there is room only."""
    left: bool = False


_COLUMNS = (
    _Column("env", 3),
    _Column("epoch", 5, wide=True),
    _Column("acc", 5),
    _Column("accuracy by epoch", 24, wide=True, left=True),
    _Column("loss", 6),
    _Column("reward", 6),
    _Column("value", 6, wide=True),
    _Column("action", 12, left=True),
    _Column("conf", 5),
    _Column("entropy", 7, wide=True),
)


def env_heading(view: View, width: int, _height: int) -> list[Row]:
    """Return the column titles of the environments."""
    titles = [
        column.title.ljust(column.width) if column.left else column.title.rjust(column.width)
        for column in _COLUMNS
        if width >= WIDE or not column.wide
    ]
    n = 0 if view.group is None else len(view.group.envs)
    return [
        line((cells(" ".join(titles) + f" slots  ({n} {'environment' if n == 1 else 'environments'})", width), "title"))
    ]


class EnvRows(Viewing):
    """The environments, a line each."""

    slot_ids: tuple[str, ...] = ()

    def refresh_view(self, view: View) -> None:
        """Show what is to be seen now."""
        if view.group is not None:
            self.slot_ids = () if view.group.started is None else view.group.started.data.slot_ids
        self.show([] if view.group is None else list(view.group.envs.values()))

    def row(self, item: object) -> Row:
        """Return what an environment is doing."""
        env: EnvSnapshot = item  # type: ignore[assignment]  # `show` is given these
        wide = self.columns >= WIDE
        told = {**_learning(env, wide=wide), **_decision(env)}
        spans: list[Span] = []
        for column in _COLUMNS:
            if wide or not column.wide:
                text, tone = told[column.title]
                spans.append((f"{cells(text, column.width, right=not column.left)} ", tone))
        occupied = None if env.epoch is None else supplied(env.epoch.data, "seeds")
        slot_ids = self.slot_ids or tuple(env.slots)
        room = self.columns - sum(len(text) for text, _ in spans)
        size = next((size for size in (LARGE, MEDIUM) if size * len(slot_ids) <= room), TINY)
        for slot_id in slot_ids:
            slot = None if not isinstance(occupied, Mapping) else occupied[slot_id] if slot_id in occupied else {}
            spans += chip(env, slot_id, slot, size)
        return Row(tuple(spans), env.env_id)


def _learning(env: EnvSnapshot, *, wide: bool) -> dict[str, Span]:
    told: dict[str, Span] = {"env": (str(env.env_id), "dim")}
    if env.epoch is None:
        return told | dict.fromkeys(("epoch", "acc", "accuracy by epoch", "loss"), _UNTOLD)
    epoch = env.epoch.data
    sound = is_finite(epoch.val_loss)
    told |= {
        "epoch": (str(epoch.inner_epoch), "plain"),
        "acc": (fraction(epoch.val_accuracy), "plain"),
        "accuracy by epoch": (
            plot([past.data.val_accuracy for past in env.epochs[-24:]], 24)[0] if wide else "",
            "plot",
        ),
        "loss": (("" if sound else "✗ ") + number(epoch.val_loss, 6), "plain" if sound else "bad"),
    }
    return told


def _decision(env: EnvSnapshot) -> dict[str, Span]:
    """Return the newest step; where steps are not told, the last action of the newest batch."""
    if env.reward is not None:
        reward = env.reward.data
        action, slot = reward.action_name, supplied(reward, "action_slot")
        total: float | None = reward.total_reward
        value: float | None = reward.value_estimate
        confidence: float | None = reward.action_confidence
        entropy = figure(reward, "decision_entropy")
    elif env.last_action is not None:
        last = env.last_action.data
        action, slot, entropy = str(supplied(last, "action_name") or ABSENT), None, None
        total, value = figure(last, "total_reward"), figure(last, "value_estimate")
        confidence = figure(last, "action_confidence")
    else:
        return dict.fromkeys(("reward", "value", "action", "conf", "entropy"), _UNTOLD)
    sound = total is None or is_finite(total)
    return {
        "reward": (signed(total, 6), "plain" if sound else "bad"),
        "value": (signed(value, 6), "plain"),
        "action": (tidy(action if slot is None else f"{action} {slot}"), "plain"),
        "conf": (fraction(confidence), "plain"),
        "entropy": (fraction(entropy), "plain"),
    }


_STAGE_TONES: dict[str, Tone] = {
    "GERMINATED": "dim",
    "TRAINING": "plain",
    "BLENDING": "watch",
    "HOLDING": "accent",
    "FOSSILIZED": "ok",
}


def chip(env: EnvSnapshot, slot_id: str, told: object, size: int) -> list[Span]:
    """Return one slot: stage, blueprint and alpha.

    Args:
        env: whose slot it is.
        slot_id: the slot.
        told: what the newest epoch says of it, ``{}`` for an empty slot, None where epochs do not tell of seeds: then
            the slot's newest seed event is taken.
        size: `LARGE`, `MEDIUM` or `TINY`.
    """
    stage: object = None
    blueprint: object = None
    alpha: object = None
    if isinstance(told, Mapping):
        stage, blueprint, alpha = (told[key] if key in told else None for key in ("stage", "blueprint_id", "alpha"))
    elif slot_id in env.slots:
        seed = env.slots[slot_id].seed
        blueprint = seed.blueprint_id
        if seed.stage is not None:
            stage, alpha = seed.stage.data.to_stage, figure(seed.stage.data, "alpha")
    if stage is None:
        return [(cells("·", size), "dim")]
    name, kind = tidy(str(stage)), ABSENT if blueprint is None else tidy(str(blueprint))
    weight = _weight(alpha) if isinstance(alpha, int | float) else ABSENT
    tone: Tone = _STAGE_TONES[name] if name in _STAGE_TONES else "plain"
    letter = name[:1] or "?"
    if size == TINY:
        return [(f"{letter} ", tone)]
    if size == LARGE:
        return [(cells(name, 10), tone), (f" {cells(kind, 9)} {weight:<4} ", "plain")]
    return [(letter, tone), (f" {cells(kind, 5)} {weight:<4}", "plain")]


def _weight(alpha: float) -> str:
    """Return alpha in three letters: ``.40``, ``1``."""
    return (f"{alpha:.2f}".removeprefix("0") if 0 <= alpha < 1 else number(alpha, 3))[:3]
