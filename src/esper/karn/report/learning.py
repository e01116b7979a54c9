"""Is it learning: returns, and accuracies from the first host epoch of an episode to its last."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from esper.karn.derived import accuracy_of, return_of
from esper.karn.formatting import fraction, number, plural
from esper.karn.progress import measures_accuracy
from esper.karn.quantities import QUANTITIES
from esper.karn.report.decimation import measured_value
from esper.karn.report.episodes import Spread
from esper.karn.report.history import Batch
from esper.karn.report.plot import (
    PALETTE,
    Arm,
    Fold,
    Line,
    Plot,
    Section,
    panel,
)
from esper.karn.report.trends import all_of, course_text, several
from esper.leyline.limits import real

__all__ = ["learning", "returns_line"]

_Extremes: TypeAlias = tuple[float | None, float | None]


def learning(arms: Sequence[Arm]) -> Section:
    """Return reward and accuracy over the run, and what an episode looks like early and late."""
    says = (
        "Each point is a batch: every environment has played one episode (BATCH_EPOCH_COMPLETED). Bands reach from the "
        "lowest to the highest environment: episode returns are summed from REWARD_COMPUTED where none is missing, "
        "final accuracies are env_accuracies. The curves by host epoch are means over environments of "
        "EPOCH_COMPLETED; early and late are of the episodes recorded from beginning to end."
    )
    missing_in = [arm.label for arm in arms if not arm.series.completed]
    missing = f"No completed batch (BATCH_EPOCH_COMPLETED) in: {', '.join(missing_in)}." if missing_in else ""
    parts: list[Plot | Fold] = []
    if len(missing_in) < len(arms):
        parts += [_rewards(arms), *([_accuracies(arms)] if any(measures_accuracy(arm.group) for arm in arms) else [])]
    if any(batch.loss for arm in arms for batch in arm.series.batches):
        epochs = [
            _episodes(arms),
            _by_epoch(arms, "val_accuracy by host epoch", lambda batch: batch.accuracy, "fraction", fraction),
            _by_epoch(arms, "val_loss by host epoch", lambda batch: batch.loss, "nats", number),
        ]
        parts.append(Fold("Host epoch by host epoch", epochs))
    elif any(arm.has_host for arm in arms):
        missing += " No host epoch (EPOCH_COMPLETED)."
    for arm in arms:
        if arm.series.unplaced:
            events = plural(arm.series.unplaced, "event")
            missing += f" {arm.label}: the batch of {events} of environments is unknown; they are not drawn."
    return Section("Is it learning?", "Learning", says, parts, missing.strip())


def returns_line(arm: Arm) -> tuple[Line, str]:
    """Return the mean episode return of every completed batch, and what it does in a sentence."""
    completed = arm.series.completed
    started = None if arm.group.started is None else arm.group.started.data
    bands = [_returns_band(batch) if arm.series.is_whole(batch) else (None, None) for _, _, batch in completed]
    line = Line(
        arm.label,
        [float(episodes) for episodes, _, _ in completed],
        [return_of(data, started) for _, data, _ in completed],
        arm.colour,
        arm.dash,
        ([low for low, _ in bands], [high for _, high in bands]),
        [_returns_not_finite(batch) for _, _, batch in completed],
    )
    return line, course_text(line.y, "batch", QUANTITIES["avg_reward"].text)


def _rewards(arms: Sequence[Arm]) -> Plot:
    lines = {arm.label: returns_line(arm) for arm in arms}
    trend = several({name: text for name, (_, text) in lines.items()})
    drawn = [line for line, _ in lines.values()]
    axis = {"title": {"text": "return"}}
    return panel("Mean episode return (avg_reward)", drawn, y_axis=axis, height=360, trend=trend)


def _returns_band(batch: Batch) -> _Extremes:
    totals = [steps.total for steps in batch.returns.values() if steps.n and not steps.not_finite]
    return (min(totals), max(totals)) if totals else (None, None)


def _returns_not_finite(batch: Batch) -> str:
    n = sum(1 for steps in batch.returns.values() if steps.not_finite)
    return f"{n} environments with a reward that is not finite" if n else ""


def _accuracies(arms: Sequence[Arm]) -> Plot:
    lines = []
    for arm in arms:
        completed = arm.series.completed
        x = [float(episodes) for episodes, _, _ in completed]
        bands = [_finite_band(data.env_accuracies or ()) for _, data, _ in completed]
        band = ([low for low, _ in bands], [high for _, high in bands])
        lines.append(Line(arm.label, x, [accuracy_of(data) for _, data, _ in completed], arm.colour, arm.dash, band))
        rolling = [measured_value(data, "rolling_accuracy") for _, data, _ in completed]
        if len(arms) == 1 and any(value is not None for value in rolling):
            lines.append(Line("rolling_accuracy (ten batches)", x, rolling, PALETTE[1], "dot"))
    axis = {"title": {"text": "fraction"}}
    write = QUANTITIES["avg_accuracy"].text
    courses = {line.name: course_text(line.y, "batch", write) for line in lines if line.dash != "dot" or len(arms) > 1}
    trend = several(courses)
    return panel("Final validation accuracy (avg_accuracy)", lines, y_axis=axis, height=360, trend=trend)


def _finite_band(values: Sequence[float]) -> _Extremes:
    finite = [value for value in map(real, values) if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (None, None)


def _by_epoch(
    arms: Sequence[Arm],
    title: str,
    pick: Callable[[Batch], Mapping[int, Spread]],
    unit: str,
    write: Callable[[float | None], str],
) -> Plot:
    lines, at_the_end = [], {}
    for arm in arms:
        x: list[float] = []
        spreads: list[Spread | None] = []
        for batch in arm.series.batches:
            for epoch, spread in sorted(pick(batch).items()):
                x.append(arm.series.position(batch, epoch))
                spreads.append(spread)
            if spreads:  # a new episode starts from a new host: no line from the old one's end
                x.append(x[-1])
                spreads.append(None)
        lines.append(_spread_line(arm.label, x, spreads, arm.colour, arm.dash))
        ends = [epochs[max(epochs)].mean for batch in arm.series.batches if (epochs := pick(batch))]
        at_the_end[arm.label] = course_text(ends, "batch", write, also=", each at its last epoch")
    return panel(title, lines, y_axis={"title": {"text": unit}}, trend=several(at_the_end))


def _spread_line(name: str, x: list[float], spreads: Sequence[Spread | None], colour: str, dash: str) -> Line:
    measured = [spread if spread is not None and spread.n else None for spread in spreads]
    band = (
        [None if spread is None else spread.low for spread in measured],
        [None if spread is None else spread.high for spread in measured],
    )
    remarks = [
        f"{spread.not_finite} of {spread.n + spread.not_finite} environments not finite"
        if spread is not None and spread.not_finite
        else ""
        for spread in spreads
    ]
    y = [None if spread is None else spread.mean for spread in measured]
    return Line(name, x, y, colour, dash, band, remarks)


def _episodes(arms: Sequence[Arm]) -> Plot:
    """Compare episodes early and late in the run."""
    lines = []
    for arm in arms:
        longest = _longest(arm)
        batches = [batch for batch in arm.series.batches if batch.accuracy and len(batch.accuracy) == longest]
        tenth = max(1, len(batches) // 10)
        late_colour = arm.colour if len(arms) > 1 else PALETTE[0]
        early_colour = arm.colour if len(arms) > 1 else PALETTE[9]
        prefix = f"{arm.label}: " if len(arms) > 1 else ""
        for name, part, colour, dash in (
            ("first", batches[:tenth], early_colour, "dot"),
            ("last", batches[-tenth:], late_colour, "solid"),
        ):
            epochs = sorted({epoch for batch in part for epoch in batch.accuracy})
            pooled = [_pool([batch.accuracy[epoch] for batch in part if epoch in batch.accuracy]) for epoch in epochs]
            n = f"{tenth} batches" if tenth > 1 else "batch"
            lines.append(_spread_line(f"{prefix}{name} {n}", [float(e) for e in epochs], pooled, colour, dash))
    reached = [f"{line.name} to {fraction(line.y[-1])}" for line in lines if line.y]
    trend = f"{all_of(max(map(_longest, arms)), 'host epoch')} of an episode: {', '.join(reached)}."
    drawn = panel(
        "val_accuracy within an episode, early and late in the run", lines, x_title="host epoch of the episode",
        y_axis={"title": {"text": "fraction"}}, trend=trend,
    )  # fmt: skip
    return replace(drawn, linked=False)


def _longest(arm: Arm) -> int:
    return max((len(batch.accuracy) for batch in arm.series.batches), default=0)


def _pool(spreads: Sequence[Spread]) -> Spread:
    pooled = Spread()
    for spread in spreads:
        pooled.merge(spread)
    return pooled
