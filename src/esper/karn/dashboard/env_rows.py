"""What each environment is doing, a line each."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from esper.karn.absence import supplied, supplied_number
from esper.karn.dashboard.chips import LARGE, SIZES, SMALL, TINY, chip, occupant_of, short_word
from esper.karn.dashboard.following import Order
from esper.karn.dashboard.overview import WIDE
from esper.karn.dashboard.rows import Row, Span, Viewing, line
from esper.karn.derived import accuracy_of, confidence_of, has_host
from esper.karn.formatting import (
    ABSENT,
    cells,
    columns,
    fraction,
    is_finite,
    mean,
    number,
    plot,
    plural,
    scale,
    signed,
    tidy,
    value_text,
)
from esper.leyline.limits import real

if TYPE_CHECKING:
    from esper.karn.dashboard.following import View
    from esper.karn.snapshot import EnvSnapshot

__all__ = ["MANY", "EnvRows", "Layout", "all_row", "env_heading", "env_row"]

MANY = 16
"""Environments from which on there is a row for all."""
_SORTED_EVERY = 2.0
"""Seconds that an order stays: rows that change their places with every step cannot be read."""
_DRAWN = 14
"""Newest epochs whose accuracies are drawn."""
_MORE = 4
"""Columns that say how many chips there is no room for."""
_MISSING: Span = (ABSENT, "dim")


_ID = 3
"""Columns of an environment's number, where none is longer."""


class _Column(NamedTuple):
    title: str
    width: int
    least: int = 0
    """Columns of a terminal from which on it is shown."""
    left: bool = False
    host: bool = False
    """Whether it is about a host, and is left out where none grows."""


_COLUMNS = (
    _Column("env", _ID),
    _Column("epoch", 5, WIDE, host=True),
    _Column("acc", 5, host=True),
    _Column("accuracy by epoch", 24, WIDE, left=True, host=True),
    _Column("loss", 6, 100, host=True),
    _Column("reward", 6),
    _Column("value", 6, WIDE),
    _Column("action", 12, left=True),
    _Column("conf", 5, 100),
    _Column("entropy", 7, WIDE),
)


class Layout(NamedTuple):
    """What a line shows, at a width."""

    columns: tuple[_Column, ...]
    slot_ids: tuple[str, ...]
    size: int
    """Of a slot's chip."""
    left_out: int
    """Slots there is no room for."""
    wide: bool

    @classmethod
    def of(cls, view: View, width: int) -> Layout:
        """Return the layout for the shown group."""
        group = view.group
        host = has_host(group)
        first, *others = _COLUMNS
        shown = [column for column in others if width >= column.least and (host or not column.host)]
        env_ids = () if group is None else tuple(group.envs)
        at = (first._replace(width=_id_width(env_ids)), *shown)
        named = () if group is None or group.started is None else group.started.data.slot_ids
        slot_ids = named or (
            ()
            if group is None
            else tuple(dict.fromkeys(s for env in islice(group.envs.values(), 64) for s in env.slots))
        )
        room = width - sum(column.width + 1 for column in at) - 1
        size = next((size for size in SIZES if size * len(slot_ids) <= room), TINY)
        fit = len(slot_ids) if size * len(slot_ids) <= room else max((room - _MORE) // size, 0)
        return cls(at, slot_ids[:fit], size, len(slot_ids) - fit, width >= WIDE)


def env_heading(view: View, width: int, _height: int) -> list[Row]:
    """Return the column titles of the environments, and their order."""
    count = 0 if view.group is None else len(view.group.envs)
    layout = Layout.of(view, width)
    titles = " ".join(cells(column.title, column.width, right=not column.left) for column in layout.columns)
    slots = "".join(cells(slot_id, layout.size) for slot_id in layout.slot_ids) if layout.size > TINY else "slots "
    text = f"{titles} {slots if layout.slot_ids else ''}"
    order = f"{view.order.value} (o)"
    notes = (f"{plural(count, 'environment')} {order}", order, f"{view.order.name.lower()} (o)", "")
    note = next(note for note in notes if not note or columns(text.rstrip()) + columns(note) + 2 <= width)
    return [line((cells(text.rstrip(), max(width - columns(note) - 1, 0)), "title"), (f" {note}", "title"))]


def _id_width(env_ids: Iterable[int]) -> int:
    return min(max((_ID, *(len(str(env_id)) for env_id in env_ids))), 9)


def _id_text(env_id: int, width: int) -> str:
    """Return an environment's number; of one that is too long its end, which differs from its neighbours."""
    text = str(env_id)
    return text if len(text) <= width else "…" + text[1 - width :]


class EnvRows(Viewing):
    """The environments, a line each; above many of them, one for all."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._view: View | None = None
        self._layout: Layout | None = None
        self._sorted: tuple[tuple[object, ...], float] | None = None
        self._env_ids: list[int] = []
        self._of_all: Row | None = None

    def refresh_view(self, view: View) -> None:
        """Show what is to be seen now."""
        self._view = view
        group = view.group
        if group is None:
            self.show([])
            return
        self._layout = Layout.of(view, self.columns)
        envs = group.envs
        now, of = time.monotonic(), (group.group_id, view.order, view.reading is not None, len(envs))
        if self._sorted is None or self._sorted[0] != of or now - self._sorted[1] >= _SORTED_EVERY:
            self._sorted = of, now
            self._sort(envs, view.order)
            self._of_all = all_row(tuple(envs.values()), self._layout) if len(envs) >= MANY else None
        above = [] if self._of_all is None else [self._of_all]
        self.show([*above, *(envs[env_id] for env_id in self._env_ids)])

    def on_resize(self) -> None:
        """Make the rows anew for the new room."""
        super().on_resize()
        self._sorted = None
        if self._view is not None:
            self.refresh_view(self._view)

    def _sort(self, envs: Mapping[int, EnvSnapshot], order: Order) -> None:
        """Sort, with the cursor staying on its environment, unless it is at the top, where one watches the worst."""
        above = int(self._of_all is not None)
        held = self._env_ids[self.cursor - above] if 0 < self.cursor - above < len(self._env_ids) else None
        self._env_ids = (
            sorted(envs)
            if order is Order.NUMBER
            else sorted(envs, key=lambda env_id: (*_rank(envs[env_id], order), env_id))
        )
        if held is not None and held in envs:
            self.action_move(self._env_ids.index(held) + above - self.cursor)

    def row(self, item: object) -> Row:
        """Return what an environment is doing, or what all are."""
        if isinstance(item, Row):
            return item
        env: EnvSnapshot = item  # type: ignore[assignment]  # `show` is given these
        assert self._layout is not None
        return env_row(env, self._layout)


def env_row(env: EnvSnapshot, layout: Layout) -> Row:
    """Return what an environment is doing."""
    env_id: Span = (_id_text(env.env_id, layout.columns[0].width), "bad" if _diverged(env) else "dim")
    spans = _in_columns(layout, {"env": env_id, **_learning(env, wide=layout.wide), **_decision(env)})
    for slot_id in layout.slot_ids:
        spans += chip(env, slot_id, layout.size)
    if layout.left_out:
        spans.append((f"+{layout.left_out}", "dim"))
    return Row(tuple(spans), env.env_id)


def all_row(envs: Sequence[EnvSnapshot], layout: Layout) -> Row:
    """Return all environments in one: means of what is finite, and the stages that most seeds are in."""
    spans = _in_columns(layout, _aggregate(envs))
    for slot_id in layout.slot_ids if layout.size > SMALL else ():
        states = (occupant_of(env, slot_id) for env in envs)
        stages = Counter(state.word for state in states if state is not None and state.stage != "DORMANT")
        texts = [
            f"{count} {word if layout.size == LARGE else short_word(word)}" for word, count in stages.most_common(3)
        ]
        text = next((said for n in (3, 2, 1) if columns(said := " ".join(texts[:n])) < layout.size), "")
        spans.append((cells(text or "·", layout.size - 1) + " ", "accent"))
    return Row(tuple(spans))


def _in_columns(layout: Layout, texts: Mapping[str, Span]) -> list[Span]:
    return [
        (f"{cells(texts[column.title][0], column.width, right=not column.left)} ", texts[column.title][1])
        for column in layout.columns
    ]


def _diverged(env: EnvSnapshot) -> bool:
    epoch, reward = env.epoch, env.reward
    return (epoch is not None and not is_finite(epoch.data.val_loss)) or (
        reward is not None and not is_finite(reward.data.total_reward)
    )


def _rank(env: EnvSnapshot, order: Order) -> tuple[int, float]:
    """Return what environments are sorted by: those of which nothing is known come last."""
    epoch, reward = env.epoch, env.reward
    value: float | None
    if order is Order.WORST:
        if _diverged(env):
            return 0, 0.0
        value = None if epoch is None else accuracy_of(epoch.data)
        if value is None and reward is not None:
            value = reward.data.total_reward
    elif order is Order.ACCURACY:
        value = None if epoch is None else accuracy_of(epoch.data)
    elif order is Order.LOSS:
        value = None if epoch is None else -real(epoch.data.val_loss)
    else:
        value = (
            None
            if reward is None
            else reward.data.total_reward
            if order is Order.REWARD
            else reward.data.value_estimate
        )
    if value is None:
        return 2, 0.0
    value = real(value)
    return (0, 0.0) if math.isnan(value) else (1, value)


def _aggregate(envs: Sequence[EnvSnapshot]) -> dict[str, Span]:
    epochs = [entry.data for env in envs if (entry := env.epoch) is not None]
    rewards = [newest.data for env in envs if (newest := env.reward) is not None]
    accuracies = [value for epoch in epochs if (value := accuracy_of(epoch)) is not None]
    inner = {epoch.inner_epoch for epoch in epochs}
    actions = Counter(reward.action_name for reward in rewards)
    top, times = actions.most_common(1)[0] if actions else ("", 0)
    entropies = [value for reward in rewards if (value := supplied_number(reward, "decision_entropy")) is not None]
    confidences = [value for reward in rewards if (value := confidence_of(reward)) is not None]
    return {
        "env": ("all", "accent"),
        "epoch": (f"{min(inner)}–{max(inner)}" if len(inner) > 1 else number(min(inner, default=None), 5), "accent"),
        "acc": _mean_text(accuracies, fraction, 5),
        "accuracy by epoch": (f"{scale(accuracies)}" if accuracies else ABSENT, "accent"),
        "loss": _mean_text([epoch.val_loss for epoch in epochs], number, 6),
        "reward": _mean_text([reward.total_reward for reward in rewards], signed, 6),
        "value": _mean_text([reward.value_estimate for reward in rewards], signed, 6),
        "action": (tidy(f"{tidy(top, 7)} {times / len(rewards):.0%}") if rewards else ABSENT, "accent"),
        "conf": _mean_text(confidences, fraction, 5),
        "entropy": _mean_text(entropies, fraction, 7),
    }


def _mean_text(values: Sequence[float], text: Callable[[float | None, int], str], width: int) -> Span:
    finite = [value for value in values if is_finite(value)]
    return text(mean(finite), width), "accent" if len(finite) == len(values) else "bad"


def _learning(env: EnvSnapshot, *, wide: bool) -> dict[str, Span]:
    if env.epoch is None:
        return dict.fromkeys(("epoch", "acc", "accuracy by epoch", "loss"), _MISSING)
    epoch = env.epoch.data
    sound = is_finite(epoch.val_loss)
    return {
        "epoch": (number(epoch.inner_epoch, 5), "plain"),
        "acc": (fraction(accuracy_of(epoch), 5), "plain"),
        "accuracy by epoch": (_accuracies(env) if wide else "", "plot"),
        "loss": (("" if sound else "✗ ") + number(epoch.val_loss, 6), "plain" if sound else "bad"),
    }


def _accuracies(env: EnvSnapshot) -> str:
    """Return the newest accuracies, and from where to where they are drawn."""
    values = [accuracy_of(past.data) for past in env.epochs[-_DRAWN:]]
    finite = [value for value in values if value is not None and is_finite(value)]
    ends = f" {fraction(min(finite), 4)}–{fraction(max(finite), 4)}" if finite else ""
    return plot(values, _DRAWN)[0] + ends


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
