"""One environment up close: what its last reward is made of, what else was possible, what its seeds are worth."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from esper.karn.absence import supplied, supplied_number
from esper.karn.dashboard.chart import Panel, draw
from esper.karn.dashboard.chips import STAGE_WORDS, occupant_of
from esper.karn.dashboard.courses import Course
from esper.karn.dashboard.rows import Row, Span, Tone, heading, line
from esper.karn.derived import (
    accuracy_of,
    age_in,
    confidence_of,
    has_host,
    known,
    matrix_rows,
    reward_components,
)
from esper.karn.formatting import (
    ABSENT,
    bar,
    cells,
    fraction,
    is_finite,
    number,
    plural,
    signed,
    tidy,
    value_text,
)
from esper.leyline.telemetry import SeedFossilizedPayload

if TYPE_CHECKING:
    from esper.karn.dashboard.following import View
    from esper.karn.snapshot import Entry, EnvSnapshot, SeedRecord
    from esper.leyline.telemetry import CounterfactualMatrixPayload, RewardComputedPayload, SeedStageChangedPayload

__all__ = ["env_detail"]

_EVIDENCE = ("val_acc", "host_accuracy", "seed_contribution", "value_estimate", "action_confidence", "decision_entropy")
_LABEL = 26
_BY_EPOCH = "accuracy by epoch"
_HIGH = 7
"""Lines of its chart."""
_TOLERANCE = 1e-6
"""Of the sum of a reward's components, relative."""


def env_detail(view: View, env_id: int, width: int) -> tuple[list[Row], list[Row]]:
    """Return what there is to know of an environment: its reward and decision, its seeds and their worth."""
    group = view.group
    if group is None or env_id not in group.envs:
        return [heading(f"ENVIRONMENT {env_id}", "no event of it"), line(" Nothing yet.")], []
    env = group.envs[env_id]
    growing = has_host(group)
    return (
        [*_summary(view, env, width), *_reward(env, width), *_alternatives(env, width)],
        [*_counterfactual(env, width), *_seeds(env, width)] if growing or env.slots or env.counterfactual else [],
    )


def _summary(view: View, env: EnvSnapshot, width: int) -> list[Row]:
    if env.epoch is None:
        host = has_host(view.group)
        return [heading(f"ENVIRONMENT {env.env_id}", "no epoch yet" if host else "")]
    epoch = env.epoch.data
    epochs = None if view.group is None or view.group.started is None else known(view.group.started.data.max_epochs)
    of = "" if epochs is None else f"/{epochs}"
    loss_tone: Tone = "plain" if is_finite(epoch.val_loss) else "bad"
    rows = [
        heading(f"ENVIRONMENT {env.env_id}", f"epoch {epoch.inner_epoch}{of}", env.epoch.event),
        line((f" {'accuracy':<10}", "dim"), fraction(accuracy_of(epoch))),
        line((f" {'loss':<10}", "dim"), (number(epoch.val_loss), loss_tone)),
        *(Row(spans) for spans in draw(_accuracies(env), width, _HIGH)),
    ]
    slots = view.group.started.data.slot_ids if view.group is not None and view.group.started is not None else env.slots
    if not slots:
        return [*rows, line()]
    return [
        *rows,
        line(),
        heading("SLOTS", "α is how much of a seed is blended in"),
        *(_slot(env, slot_id) for slot_id in slots),
        line(),
    ]


def _accuracies(env: EnvSnapshot) -> Panel:
    """Return the chart of the accuracies that are kept, the newest at the right."""
    course = Course((_BY_EPOCH,))
    for entry in env.epochs:
        course.add([accuracy_of(entry.data)], entry.position.batch, entry.position.about)
    newest = accuracy_of(env.epochs[-1].data)
    ends = []
    for entry in (env.epochs[0], env.epochs[-1]):
        batch = "" if entry.position.batch is None else f"batch {entry.position.batch:,}, "
        ends.append(f"{batch}epoch {entry.data.inner_epoch:,}")
    return Panel(
        title=_BY_EPOCH,
        short=_BY_EPOCH,
        newest=fraction(newest),
        sound=newest is None or is_finite(newest),
        course=course,
        field=_BY_EPOCH,
        version=course.version,
        first=ends[0],
        last=ends[1],
    )


def _slot(env: EnvSnapshot, slot_id: str) -> Row:
    """Return what a slot holds, in words."""
    name: Span = (f" {cells(slot_id, 9)} ", "dim")
    state = occupant_of(env, slot_id)
    if state is None:
        return line(name, (f"{ABSENT} nothing is known of it", "unknown"))
    if state.stage == "DORMANT":
        return line(name, ("empty", "dim"))
    facts = [
        ABSENT if state.blueprint is None else tidy(state.blueprint, 20),
        *([] if state.params is None else [plural(state.params, "parameter")]),
        f"α {number(state.alpha, 6)}",
        *([] if state.epochs is None else [f"for {number(state.epochs)} epoch{'' if state.epochs == 1 else 's'}"]),
    ]
    return line(name, (f"{state.word:<11}", state.tone), ", ".join(facts))


def _reward(env: EnvSnapshot, width: int) -> list[Row]:
    if env.reward is None:
        return [heading("REWARD", "none yet"), line()]
    reward = env.reward.data
    when = "" if env.reward.event.epoch is None else f"of the step in epoch {env.reward.event.epoch}"
    when += _age(env.reward, env)
    rows = [heading("REWARD", when, env.reward.event), *_waterfall(reward, width)]
    evidence = {name: supplied_number(reward, name) for name in _EVIDENCE}
    evidence["action_confidence"] = confidence_of(reward)
    rows += [line((f" {name:<{_LABEL}}", "dim"), f"{number(value):>9}") for name, value in evidence.items()]
    return [*rows, line()]


def _waterfall(reward: RewardComputedPayload, width: int) -> list[Row]:
    """Return each component as a step from where the one before it ended, down to the total."""
    parts = list(reward_components(reward).items())
    if all(value is None for _, value in parts):
        return [line((f" total_reward {number(reward.total_reward)}, its parts not supplied", "plain"))]
    steps = [float(value) if value is not None and is_finite(value) else 0.0 for _, value in parts]
    levels = list(accumulate(steps, initial=0.0))
    total = float(reward.total_reward) if is_finite(reward.total_reward) else math.nan
    ends = [level for level in (*levels, total) if is_finite(level)]
    scale = (min(ends), max(ends), max(min(width - _LABEL - 12, 60), 8))
    rows = [
        _step(name, value, _arrow(start, stop, *scale), "watch" if stop < start else "ok")
        for (name, value), (start, stop) in zip(parts, pairwise(levels), strict=True)
    ]
    rest = total - levels[-1]
    if not abs(rest) <= _TOLERANCE * max(1.0, abs(total)):
        rows.append(_step("(not explained)", rest, _arrow(levels[-1], total, *scale), "bad"))
    return [*rows, _step("total_reward", reward.total_reward, _arrow(0.0, total, *scale), "plot")]


def _step(name: str, value: float | None, drawn: str, tone: Tone) -> Row:
    shown: Tone = "unknown" if value is None else "plain" if is_finite(value) else "bad"
    return line((f" {name:<{_LABEL}}", "dim"), (f"{signed(value):>9}  ", shown), (drawn, tone))


def _arrow(start: float, stop: float, low: float, high: float, room: int) -> str:
    """Draw from one level to another on a scale from the lowest to the highest."""
    if not 0 < high - low < math.inf or not is_finite(start) or not is_finite(stop):
        return ""
    left, right = (round((end - low) / (high - low) * (room - 1)) for end in sorted((start, stop)))
    shaft = "━" * (right - left)
    return " " * left + ("│" if start == stop else f"{shaft}▶" if stop > start else f"◀{shaft}")


def _alternatives(env: EnvSnapshot, width: int) -> list[Row]:
    if env.reward is None:
        return []
    reward, room = env.reward.data, max(min(width - 40, 40), 8)
    slot = supplied(reward, "action_slot")
    rows = [
        heading("DECISION", "and what else was considered", env.reward.event),
        _choice("▶", reward.action_name, slot, confidence_of(reward), room),
    ]
    alternatives = supplied(reward, "alternatives")
    if not isinstance(alternatives, Sequence):
        rows.append(line((f"   {ABSENT} alternatives not supplied", "unknown")))
        return rows
    if not alternatives:
        rows.append(line(("   none: no other choice was possible or likely", "dim")))
    for other in alternatives:
        if isinstance(other, Mapping):
            action, slot, probability = (
                other[key] if key in other else None for key in ("action", "slot", "probability")
            )
            rows.append(_choice(" ", action, slot, probability, room))
    return rows


def _choice(mark: str, action: object, slot: object, probability: object, room: int) -> Row:
    share = probability if isinstance(probability, int | float) else None
    name = value_text(action) if action is not None else ABSENT
    where = "" if slot is None else tidy(str(slot))
    return line(
        (f" {mark} ", "accent"),
        f"{cells(name, 12)} {cells(where, 6)}",
        f"{fraction(share):>6}  ",
        (bar(share or 0.0, room).rstrip(), "plot"),
    )


def _counterfactual(env: EnvSnapshot, width: int) -> list[Row]:
    if env.counterfactual is None:
        return [heading("COUNTERFACTUAL", "no ablation yet"), line()]
    entry = env.counterfactual
    data = entry.data
    cost = supplied_number(data, "compute_time_ms")
    strategy = supplied(data, "strategy")
    note = f"{ABSENT if strategy is None else value_text(strategy)}, {number(cost)} ms"
    if entry.event.epoch is not None:
        note += f", epoch {entry.event.epoch}"
    note += _age(entry, env)
    configs = matrix_rows(data)
    n = len(data.slot_ids)
    full = next((accuracy for mask, accuracy in configs if mask == (True,) * n), None)
    rows = [
        heading("COUNTERFACTUAL", note, entry.event),
        line((" " + "".join(f"{cells(slot_id, 6)} " for slot_id in data.slot_ids) + "accuracy  without them", "dim")),
    ]
    room = max(min(width - 7 * n - 26, 40), 8)
    for mask, accuracy in configs:
        marks = "".join(f"{'● on' if on else '○ off':<7}" for on in mask) if mask is not None else f"{ABSENT:<{7 * n}}"
        loss = None if full is None or accuracy is None else accuracy - full
        rows.append(
            line(
                f" {marks}{fraction(accuracy):<10}",
                f"{signed(loss):<9}",
                (bar(accuracy or 0.0, room).rstrip(), "plot"),
            )
        )
    if not configs:
        rows.append(line(("   none: the ablation has no configurations", "dim")))
    return [*rows, line()]


def _age(entry: Entry[CounterfactualMatrixPayload] | Entry[RewardComputedPayload], env: EnvSnapshot) -> str:
    """Return how long before the newest event of an environment another was, where it is of an earlier episode."""
    ago = age_in(env, entry.position)
    return f", {ago}" if ago else ""


def _seeds(env: EnvSnapshot, width: int) -> list[Row]:
    rows = [heading("SEEDS", "newest first; Δacc: accuracy since germination; worth: accuracy lost without it")]
    for _, slot in sorted(env.slots.items()):
        for seed in reversed(slot.seeds):
            rows += _seed(slot.slot_id, seed, width)
    if len(rows) == 1:
        rows.append(line((" No seed yet.", "dim")))
    return rows


def _seed(slot_id: str, seed: SeedRecord, width: int) -> list[Row]:
    newest = seed.outcome or seed.stage or seed.germinated
    opens = None if newest is None else newest.event
    params = None if seed.germinated is None else seed.germinated.data.params
    batch = "" if seed.position.batch is None else f"batch {seed.position.batch:,}  "
    head: list[Span] = [
        (f" {cells(slot_id, 5)} ", "dim"),
        (f"{cells(ABSENT if seed.blueprint_id is None else seed.blueprint_id, 10)} ", "plain"),
        (f"{number(params):>6} parameters  {batch}", "dim"),
        *_outcome(seed),
    ]
    begins = not seed.stages or seed.stages[0].data.to_stage != "GERMINATED"
    begun = [] if seed.germinated is None or not begins else [f"germinated{_when(seed.germinated.event.epoch)}"]
    path = " → ".join([*begun, *(_stage_text(entry) for entry in seed.stages)])
    stages = textwrap.wrap(path, max(width - 9, 20)) or [ABSENT]
    return [Row(tuple(head), opens), *(line((f"       {part}", "dim"), opens=opens) for part in stages)]


def _stage_text(entry: Entry[SeedStageChangedPayload]) -> str:
    stage = entry.data.to_stage
    word = STAGE_WORDS[stage][0] if stage in STAGE_WORDS else tidy(stage, 12)
    alpha = supplied_number(entry.data, "alpha")
    return f"{word}{_when(entry.event.epoch)}" + ("" if alpha is None else f" α {number(alpha, 4)}")


def _when(epoch: int | None) -> str:
    return "" if epoch is None else f" (epoch {epoch})"


def _outcome(seed: SeedRecord) -> list[Span]:
    tone: Tone
    if seed.outcome is None:
        gradients = None if seed.stage is None else seed.stage.data
        flags = (
            []
            if gradients is None
            else [name for name in ("has_vanishing", "has_exploding") if supplied(gradients, name)]
        )
        flag: Tone = "watch" if flags else "dim"
        return [
            (f"{seed.ending.value} ", "plain"),
            (" ".join(name.removeprefix("has_") + " gradient" for name in flags), flag),
        ]
    data = seed.outcome.data
    if isinstance(data, SeedFossilizedPayload):
        how, tone = "kept (fossilized)", "ok"
    else:
        why = "" if data.reason == "policy" else f" ({tidy(data.reason, 20)})"
        how, tone = f"{seed.ending.value}{why}", "watch"
    gain, worth = supplied_number(data, "improvement"), supplied_number(data, "counterfactual")
    return [(f"{how} ", tone), (f"Δacc {signed(gain)}  worth {signed(worth)}", "plain")]
