"""Health up close: every rule with its evidence, the heads, the layers, and the updates so far."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from esper.karn.absence import supplied, supplied_number
from esper.karn.dashboard.rows import Row, Span, Tone, heading, line
from esper.karn.dashboard.standing import STATUS_TONES, since_text
from esper.karn.formatting import ABSENT, bar, cells, columns, is_finite, number, plot, plural, scale, tidy
from esper.karn.verdict import Finding, gravest_first, tally_text
from esper.leyline.health import judge_update
from esper.leyline.limits import gravest
from esper.leyline.telemetry import PPOUpdatePayload
from esper.leyline.typical import value_of
from esper.leyline.update_rules import RULE_OF

if TYPE_CHECKING:
    from esper.karn.dashboard.following import View
    from esper.karn.snapshot import Entry, GroupSnapshot

__all__ = ["ppo_detail"]

_FIELDS = tuple(field.name for field in dataclasses.fields(PPOUpdatePayload))
_ENTROPIES = tuple(name for name in _FIELDS if name.startswith("head_") and name.endswith("_entropy"))
_GRAD_NORMS = tuple(name for name in _FIELDS if name.startswith("head_") and name.endswith("_grad_norm"))
_UPDATES = 200
"""Updates listed."""


def ppo_detail(view: View, width: int) -> tuple[list[Row], list[Row]]:
    """Return the verdict; the heads, the layers and, as there may be many, the updates last."""
    group = view.group
    if group is None or group.update is None:
        return [heading("PPO", "no update yet"), *_verdicts(view, width)], []
    update = group.update.data
    return (
        _verdicts(view, width),
        [
            *_mappings("ENTROPY OF EACH HEAD", _ENTROPIES, update, width, "nats"),
            *_mappings("GRADIENT NORM OF EACH HEAD", _GRAD_NORMS, update, width, ""),
            *_mappings("LAYERS: GRADIENT / WEIGHT NORM", ("layer_gradient_health",), update, width, ""),
            *_updates(group),
        ],
    )


def _verdicts(view: View, width: int) -> list[Row]:
    updates = () if view.group is None else view.group.ppo
    verdict, room = view.verdict, max(min(width - 72, 40), 8)
    rows = [
        line(
            (" VERDICT ", "title"),
            (f" {verdict.status.value} {verdict.status.name} ", STATUS_TONES[verdict.status]),
            (f" {tally_text(verdict.findings)}  Enter opens the first event of a finding", "dim"),
            opens=None if not updates else updates[-1].event,
        )
    ]
    for finding in gravest_first(verdict.findings):
        rows += _trouble(view, finding, updates, width, room) if finding.is_alarm else _rule(finding, updates, width)
    return [*rows, line()]


def _values(finding: Finding, updates: Sequence[Entry[PPOUpdatePayload]], most: int) -> list[float | None]:
    field = RULE_OF[finding.rule].field
    return [value_of(entry.data, field) for entry in updates[-most:]]


def _trouble(
    view: View, finding: Finding, updates: Sequence[Entry[PPOUpdatePayload]], width: int, room: int
) -> list[Row]:
    """Return a finding, when it began, what it rests on, and what to do about it."""
    drawn, newest, texts = "", "", [finding.evidence]
    since = since_text(view, finding)
    if finding.rule in RULE_OF:
        values = _values(finding, updates, room)
        drawn, newest = plot(values, room)[0], number(values[-1] if values else None, 9)
        of = f"The newest {plural(len(values), 'update')} are drawn: {scale(values)}." if scale(values) else ""
        texts.append(f"{RULE_OF[finding.rule].text} {of}")
    if since:
        texts.append(
            f"First seen in {since.removeprefix('since ')}." + (f" Since then {finding.cost}." if finding.cost else "")
        )
    elif finding.cost:
        texts.append(f"Since then {finding.cost}.")
    if finding.advice is not None:
        texts.append(f"Usually {finding.advice.cause}. Try first: {finding.advice.remedy}. ({finding.advice.source})")
    wrapped = [part for text in texts for part in textwrap.wrap(text, max(width - 13, 20))]
    return [
        _head(finding, f"{newest:>9} ", (drawn, "plot")),
        *(line(f"            {text}", opens=finding.first) for text in wrapped),
    ]


def _head(finding: Finding, newest: str, behind: Span) -> Row:
    """Return the first line of a rule: what it says, what it is about, and the newest value."""
    return line(
        (f" {finding.status.value} {finding.status.name:<8}", STATUS_TONES[finding.status]),
        f"{finding.area:<10}{cells(finding.label, 16)}{newest}",
        behind,
        opens=finding.first,
    )


def _rule(finding: Finding, updates: Sequence[Entry[PPOUpdatePayload]], width: int) -> list[Row]:
    """Return a rule that found nothing, or could not look."""
    values = _values(finding, updates, 1) if finding.rule in RULE_OF else []
    newest = f"{number(values[0], 9):>9}  " if values else ""
    indent = 37 + len(newest)
    said = finding.evidence.removeprefix(f"{finding.label} ")
    first, *rest = textwrap.wrap(said, max(width - indent, 20)) or [""]
    return [
        _head(finding, newest, (first, "dim")),
        *(line((" " * indent + part, "dim"), opens=finding.first) for part in rest),
    ]


def _mappings(title: str, names: tuple[str, ...], update: PPOUpdatePayload, width: int, unit: str) -> list[Row]:
    rows = [heading(title, unit)]
    dicts = {name: value for name in names if isinstance(value := supplied(update, name), Mapping)}
    numbers = [v for value in dicts.values() for v in value.values() if isinstance(v, int | float) and is_finite(v)]
    longest = min(max([20, *(columns(key) for value in dicts.values() for key in value)]), 36)
    top, room = max(numbers, default=0.0), max(min(width - longest - 30, 40), 8)
    if not any(name in update.supplied for name in names):
        return [*rows, line((f" {ABSENT} not supplied", "unknown")), line()]
    for name in names:
        label = (
            name.removeprefix("head_")
            .removesuffix("_entropy")
            .removesuffix("_grad_norm")
            .removesuffix("_gradient_health")
        )
        if name not in dicts:
            rows.append(line((f" {label:<15}", "plain"), (f"{ABSENT} not supplied", "unknown")))
            continue
        for key, value in dicts[name].items():
            share = value / top if top > 0 and is_finite(value) else 0.0
            tone: Tone = "plain" if is_finite(value) else "bad"
            rows.append(
                line(
                    f" {cells(label, 14)} {cells(key, longest)}",
                    (f"{number(value):>9}  ", tone),
                    (bar(share, room).rstrip(), "plot"),
                )
            )
            label = ""
        if not dicts[name]:
            why = ": the head mattered in no step" if name in _ENTROPIES else ""
            rows.append(line(f" {label:<15}", (f"none{why}", "dim")))
    return [*rows, line()]


def _updates(group: GroupSnapshot) -> list[Row]:
    rows = [
        heading("UPDATES", "newest first; Enter opens one in full"),
        line((f" {'batch':>6} {'worst':<10}{'entropy':>9}{'KL':>11}{'clip':>9}{'grad norm':>11}{'ms':>9}", "dim")),
    ]
    for entry in reversed(group.ppo[-_UPDATES:]):
        update = entry.data
        status = gravest(*(judgement.status for judgement in judge_update(update, group.health.limits)))
        shown = [
            supplied_number(update, name)
            for name in ("entropy", "kl_divergence", "clip_fraction", "grad_norm", "update_time_ms")
        ]
        text = "".join(f"{number(value):>{size}}" for value, size in zip(shown, (9, 11, 9, 11, 9), strict=True))
        rows.append(
            line(
                f" {number(supplied_number(update, 'batch')):>6} ",
                (f"{status.value} {status.name:<8}", STATUS_TONES[status]),
                text,
                (f"  {tidy(entry.event.message)}", "dim"),
                opens=entry.event,
            )
        )
    return rows
