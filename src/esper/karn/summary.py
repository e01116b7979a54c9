"""What a run came to, on one page of plain text: the same page live and from the log.

Everything is read from the snapshot and run.json. What was not supplied is ``—``, and what cannot be assessed unknown.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from esper.karn.absence import supplied, supplied_number
from esper.karn.derived import accuracies_of, evaluation_of, grows, has_host, known, returns_of
from esper.karn.formatting import ABSENT, cells, columns, is_finite, mean, number, plural, tidy
from esper.karn.health import assess
from esper.karn.learning import did_it_learn
from esper.karn.progress import best_value, ends_of, played_text, status_text, times_text, unsupplied_text
from esper.karn.quantities import LIFECYCLE, QUANTITIES, by_name, lifecycle_counts, score_texts, scores_of
from esper.karn.snapshot import Entry, EnvSnapshot, GroupSnapshot, History, RunSnapshot, SeedRecord, SlotSnapshot
from esper.karn.verdict import Verdict, tally_text
from esper.leyline.limits import real
from esper.leyline.run_directory import RunDirectory
from esper.leyline.strict_json import JsonValue, strict_json, to_json
from esper.leyline.typical import value_of
from esper.leyline.update_rules import UPDATE_RULES, UpdateRule

if TYPE_CHECKING:
    from esper.leyline.run_info import Evaluation, RunInfo
    from esper.leyline.telemetry import PPOUpdatePayload

__all__ = ["evaluation_text", "snapshot_json", "summary"]

_WIDTH = 80
_MOST_NAMES = 40
"""Rows of a table whose rows are named by the log."""
_MOST_LOGS = 4


def summary(snapshot: RunSnapshot, info: RunInfo | None, where: Path, verdict: Verdict | None = None) -> str:
    """Return the closing summary.

    Args:
        snapshot: what the events amount to.
        info: what run.json says; None when there is none.
        where: the run directory or the log, as the user would name it.
        verdict: over the run, by who has read its log; None to give one over the events and run.json alone.
    """
    sections = [_head(info, where)]
    verdict = verdict or assess(snapshot, info)
    for group in snapshot.groups.values():
        if len(snapshot.groups) > 1:
            sections.append([f"Group {tidy(group.group_id, 60)}"])
        health = _health(verdict.of(group.group_id), group, where)
        sections += [_run(group), *([_seeds(group)] if has_host(group) else []), health]
    if not snapshot.groups:
        sections.append(["No event."])
    else:
        sections.insert(1, _learnt(snapshot, info))
    sections += [_telemetry(snapshot, info), _next(info, where)]
    return "\n\n".join("\n".join(line.rstrip() for line in lines) for lines in sections) + "\n"


def _head(info: RunInfo | None, where: Path) -> list[str]:
    if info is None:
        return [f"Run {where} (no run.json beside the log)"]
    lines = [f"Run {where}: {status_text(info)}"]
    return lines if info.error is None else [*lines, f"  {tidy(info.error, _WIDTH - 2)}"]


def _learnt(snapshot: RunSnapshot, info: RunInfo | None) -> list[str]:
    lines, evaluations = ["Did it learn?"], []
    for group in snapshot.groups.values():
        evaluation = evaluation_of(snapshot, info, group.group_id)
        answer = did_it_learn(group, evaluation)
        evaluations += [] if evaluation is None else [evaluation]
        name = f"{tidy(group.group_id, 30)}: " if len(snapshot.groups) > 1 else ""
        lines.append(f"  {name}{answer.word[0].upper()}{answer.word[1:]}.")
        for reason in answer.reasons:
            lines += textwrap.wrap(reason, _WIDTH, initial_indent="    ", subsequent_indent="      ")
    return [*lines, *(line for one in evaluations for line in _scores(one))]


def _scores(evaluation: Evaluation) -> list[str]:
    rows = [(name, *score_texts(score)) for name, score in scores_of(evaluation).items()]
    learnt = evaluation.learnt.test_accuracy
    above = [
        f"{learnt.errors_above(other.test_accuracy):+.1f} from {name}"
        for name, other in (("random", evaluation.random), ("doing nothing", evaluation.do_nothing))
    ]
    return [
        *_table(("policy", "episode return", "validation accuracy", "test accuracy"), rows),
        f"  Means ± standard errors of {evaluation.episodes} fresh episodes each; test data is held out.",
        f"  Test accuracy of the learnt policy, in standard errors: {', '.join(above)}.",
    ]


def _run(group: GroupSnapshot) -> list[str]:
    start, batch = group.started, group.batch
    lines = ["Training"]
    if start is None:
        lines.append("  Its start is missing from the log.")
    else:
        begun = start.data
        slots = f", {plural(len(begun.slot_ids), 'slot')}" if grows(begun) else ""
        lines.append(f"  Task {tidy(begun.task, 30)}, seed {begun.seed}, {_count(begun.n_envs, 'environment')}{slots}.")
        lines += [f"  {sentence}"] if (sentence := unsupplied_text(group)) else []
        if begun.world_size > 1:
            lines.append(f"  {len(group.ranks)} of {begun.world_size} processes have started.")
    if group.resumes or group.earlier_runs:
        lines.append(f"  Resumed {times_text(group.resumes)} ({plural(group.superseded, 'event')} superseded).")
        lines.append(f"  Earlier runs in this log: {group.earlier_runs}.")
    if batch is None:
        return [*lines, "  No batch was completed."]
    lines.append(f"  {played_text(batch.data)} were played.")
    series = {
        QUANTITIES["avg_reward"]: returns_of(group),
        QUANTITIES["avg_accuracy"]: accuracies_of(group),
    }
    series = {quantity: values for quantity, values in series.items() if values}
    if not series:
        return [*lines, "  No batch measured a return."]
    n = ends_of(*series.values())
    if n:
        rows = [(one.name, *map(one.text, (mean(v[:n]), mean(v[-n:]), best_value(v)))) for one, v in series.items()]
        lines += _table(("mean over batches", f"first {n}", f"newest {n}", "best batch"), rows)
    else:
        lines += _table(("", "the only batch"), [(one.name, one.text(v[0])) for one, v in series.items()])
    for quantity, values in series.items():
        broken = sum(not is_finite(value) for value in values)
        if broken:
            lines.append(f"  The {quantity.name} was not finite in {plural(broken, 'batch')} of {number(len(values))}.")
    return lines


def _count(count: int, thing: str) -> str:
    """Return how many there are, as far as that is known."""
    return f"{ABSENT} {thing}s" if known(count) is None else plural(count, thing)


def _seeds(group: GroupSnapshot) -> list[str]:
    if not group.lifecycle:
        return ["Seeds", "  None germinated."]
    counts = {blueprint: lifecycle_counts(totals) for blueprint, totals in by_name(group.lifecycle)}
    rows = [
        (ABSENT if blueprint is None else tidy(blueprint, 14), *map(number, counts[blueprint]))
        for blueprint in islice(counts, _MOST_NAMES)
    ]
    sums = map(sum, zip(*counts.values(), strict=True))
    since = f" since episode {number(group.counted_from)}" if group.counted_from else ""
    more = len(counts) - _MOST_NAMES
    return [
        f"Seeds{since}",
        *_table(("blueprint", *LIFECYCLE.values()), [*rows, ("all", *map(number, sums))]),
        *([f"  {number(more)} more blueprints are in the sums and not shown."] if more > 0 else []),
    ]


def _health(verdict: Verdict, group: GroupSnapshot, where: Path) -> list[str]:
    """Return the verdict, what was found, and what PPO measured."""
    lines = [f"Health: {verdict.status.value} {verdict.status.name} ({tally_text(verdict.findings)})"]
    for finding in verdict.alarms:
        text = f"{finding.status.value} {finding.status.name:<5} {finding.evidence}"
        lines += textwrap.wrap(text, _WIDTH - 2, initial_indent="  ", subsequent_indent=" " * 10)
    if verdict.alarms and where != Path("-"):
        lines.append(f"  esper health {where} says since when, what it costs and what to try.")
    found = {finding.rule: finding for finding in verdict.findings}
    rows = [
        (rule.label, *_range(rule, group.ppo), f"{found[rule.name].status.value} {found[rule.name].status.name}")
        for rule in UPDATE_RULES
    ]
    over = f"PPO, newest {len(group.ppo):,} updates" if len(group.ppo) > 1 else "PPO"
    return [*lines, "", *_table((over, "newest", "lowest", "highest", "rule"), rows)]


def _range(rule: UpdateRule, updates: History[Entry[PPOUpdatePayload]]) -> tuple[str, str, str]:
    values = [_shown(update.data, rule.field) for update in updates]
    known = [value for value in values if value is not None]
    if not known:
        return ABSENT, ABSENT, ABSENT
    numbers = [value for value in known if not math.isnan(real(value))]
    lowest, highest = number(min(numbers, default=None)), number(max(numbers, default=None))
    return number(values[-1]), lowest, highest if len(numbers) == len(known) else "NaN"


def _shown(update: PPOUpdatePayload, field: str) -> float | None:
    """Return a number as it was emitted, a flag as 1 or 0; None when it was not supplied, or means nothing."""
    value = supplied(update, field)
    if value is None or value_of(update, field) is None:
        return None
    return int(value) if isinstance(value, bool) else supplied_number(update, field)


def _telemetry(snapshot: RunSnapshot, info: RunInfo | None) -> list[str]:
    lines = [f"Telemetry: {plural(snapshot.n_events, 'event')}"]
    if snapshot.omitted:
        omitted = plural(snapshot.omitted, "event")
        lines.append(f"  {omitted} left out: the log names more groups, environments, slots or actions than are kept.")
    if info is None or not info.sinks:
        return lines
    rows = [
        (tidy(sink.name, 20), *map(number, (sink.delivered, sink.rejected, sink.dropped, sink.queued)))
        for sink in info.sinks
    ]
    lines += _table(("sink", "delivered", "rejected", "dropped", "queued"), rows)
    lines += [
        f"  {tidy(f'{sink.name}: {sink.last_error}', _WIDTH - 2)}" for sink in info.sinks if sink.last_error is not None
    ]
    return lines


def _next(info: RunInfo | None, where: Path) -> list[str]:
    if where == Path("-"):
        return ["Log: standard input"]  # it is gone: nothing can be advised
    logs = sorted(where.glob("events*.jsonl")) if where.is_dir() else [where]
    named = ", ".join(map(str, logs)) if len(logs) <= _MOST_LOGS else f"{where}/events*.jsonl, {len(logs)} files"
    lines = [f"Log: {named}", "Next:"]
    directory = RunDirectory(where)
    if info is not None and info.status != "completed" and directory.checkpoint.exists():
        lines.append(f"  esper train --resume {where}")
    lines += [f"  esper report {where} -o report.html", f"  esper watch {where} --speed 10"]
    return [*lines, f"  esper evaluate {where}"] if directory.policy.exists() else lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, the others to the right."""
    table = [head, *rows]
    widths = [max(map(columns, column)) for column in zip(*table, strict=True)]
    return [
        "  " + "   ".join(cells(text, widths[at], right=at > 0) for at, text in enumerate(row)).rstrip()
        for row in table
    ]


def evaluation_text(evaluation: Evaluation) -> str:
    """Return how the three policies of an evaluation did, as a table."""
    return "\n".join(_scores(evaluation))


def snapshot_json(snapshot: RunSnapshot) -> str:
    """Return the whole snapshot as strict JSON: what is None was not recorded, payloads hold what was supplied."""
    return strict_json(snapshot)


@to_json.register
def _(value: Entry) -> JsonValue:  # type: ignore[type-arg]  # registered for every payload
    return {"position": to_json(value.position), "event": to_json(value.event)}


@to_json.register
def _(value: EnvSnapshot | SlotSnapshot | SeedRecord) -> JsonValue:
    return {name: to_json(item) for name, item in value._asdict().items()}
