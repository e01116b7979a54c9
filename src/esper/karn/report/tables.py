"""What can be said in words and tables: what came out, differences, and how well the telemetry was kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from esper.karn.formatting import ABSENT, age, mean, number, plural
from esper.karn.progress import best_value, ends_of, played_text
from esper.karn.quantities import QUANTITIES, Quantity, lifecycle_counts, score_texts, scores_of
from esper.karn.report.configured import changed_settings
from esper.karn.report.decimation import measured_value
from esper.karn.report.log import INVALID_KEPT, NOTABLE_KEPT, RunLog
from esper.karn.report.overview import ended_text, series_of
from esper.karn.report.plot import Arm, Fold, Section, Table, as_text
from esper.karn.totals import ENDINGS
from esper.leyline.event_types import TelemetryEventType
from esper.leyline.limits import real
from esper.leyline.run_info import Evaluation, RunInfo
from esper.leyline.telemetry import PPOUpdatePayload
from esper.leyline.validate import rejected_records

__all__ = ["differences", "outcome", "telemetry"]

_COUNTED = (
    "Counted and averaged over the whole log: batches are BATCH_EPOCH_COMPLETED, updates PPO_UPDATE_COMPLETED, seeds "
    "the seed events. First and newest are means of ten batches or updates, or of half of them below twenty. "
    "— was not supplied."
)
_RESUMED = "Whether the run was resumed with another configuration than it began with."
_SHORT_TIME = "%Y-%m-%d %H:%M:%S UTC"


# ── outcome ────────────────────────────────────────────────────────────────────────────────────────────────────


def outcome(arms: Sequence[Arm]) -> Section:
    """Return what came out, in numbers."""
    says = (
        "How the learnt policy, chance and doing nothing played the same fresh episodes (run.json), how far the run "
        f"came, and its numbers. {_COUNTED}"
    )
    rows = [["log", *(as_text(arm.log.source) for arm in arms)]]
    rows.append(["first event", *(arm.log.seen.first.strftime(_SHORT_TIME) for arm in arms)])
    rows.append(
        ["first to last event", *(age((arm.log.seen.last - arm.log.seen.first).total_seconds()) for arm in arms)]
    )
    rows.append(["played", *(_progress(arm) for arm in arms)])
    rows.append(["runs before this one in the log, resumes, events taken back", *(_history(arm) for arm in arms)])
    rows.append(["how it ended", *(ended_text(arm.log) for arm in arms)])
    if len(arms) == 1:  # several are set against each other in a section of their own
        rows += [[name, write(value)] for name, (value, write) in _measures(arms[0]).items()]
    parts: list[Table | Fold] = [Fold("Every number", [Table(["", *(arm.label for arm in arms)], rows)])]
    evaluated = [(arm.label, arm.evaluation) for arm in arms if arm.evaluation is not None]
    if evaluated:
        parts.insert(0, _evaluations(evaluated))
    unknown = {arm.log.folded.no_info for arm in arms if arm.log.folded.no_info}
    missing = f"How it ended and the evaluation stand in run.json: {'; '.join(sorted(unknown))}." if unknown else ""
    if not unknown and not evaluated:
        missing = "No evaluation is in run.json: nothing says how the policy does on held-out data."
    return Section("What came out", "Numbers", says, parts, missing)


def _evaluations(evaluated: Sequence[tuple[str, Evaluation]]) -> Table:
    """Return how each policy did on the same fresh episodes, and by how much the learnt one is above the others."""
    head = ["", "episodes", "episode return", "validation accuracy", "test accuracy",
            "learnt above it in return", "learnt above it in test accuracy"]  # fmt: skip
    rows = []
    for arm, evaluation in evaluated:
        learnt = evaluation.learnt
        for name, score in scores_of(evaluation).items():
            above = ["", ""] if score is learnt else [
                f"{estimate.errors_above(other):+.1f} standard errors"
                for estimate, other in ((learnt.reward, score.reward), (learnt.test_accuracy, score.test_accuracy))
            ]  # fmt: skip
            label = name if len(evaluated) == 1 else f"{arm}: {name}"
            rows.append([label, number(evaluation.episodes), *score_texts(score), *above])
    return Table(head, rows, "Evaluation on fresh episodes, mean ± standard error (run.json)")


def _progress(arm: Arm) -> str:
    batch = arm.group.batch
    return ABSENT if batch is None else played_text(batch.data)


def _history(arm: Arm) -> str:
    group = arm.group
    return f"{group.earlier_runs}, {group.resumes}, {group.superseded:,}"


_Measure: TypeAlias = tuple[float | None, Callable[[float | None], str]]
"""A number, and how it is written."""


def _measures(arm: Arm) -> dict[str, _Measure]:
    """Return the numbers by which runs are compared."""
    updates = [entry.data for entry in arm.group.ppo if not entry.data.skipped]
    returns, accuracies = series_of(arm)
    became = ["germinated", *(ending.value for ending in ENDINGS)]
    counts = map(sum, zip([0] * len(became), *map(lifecycle_counts, arm.group.lifecycle.values()), strict=True))
    seeds: dict[str, _Measure] = {f"seeds {name}": (count, number) for name, count in zip(became, counts, strict=True)}
    return {
        **_of_batches(QUANTITIES["avg_reward"], returns),
        **(_of_batches(QUANTITIES["avg_accuracy"], accuracies) if accuracies else {}),
        **(seeds if arm.has_host else {}),
        "PPO updates": (len(updates), number),
        **{f"{name}, newest updates": (_of_updates(updates, field), number) for field, name in _MEASURED.items()},
        "gradient norm, highest": (
            max((real(data.grad_norm) for data in updates), key=_nan_last, default=None),
            number,
        ),
        "updates with NaN gradients": (sum(1 for data in updates if data.nan_grad_count), number),
    }


_MEASURED = {
    "entropy": QUANTITIES["entropy"].name,
    "kl_divergence": QUANTITIES["kl_divergence"].name,
    "clip_fraction": "clip fraction",
    "explained_variance": "explained variance",
    "update_time_ms": "time of an update (ms)",
}


def _of_batches(quantity: Quantity, values: Sequence[float]) -> dict[str, _Measure]:
    n = ends_of(values)
    return {
        f"{quantity.name}, first batches": (mean(values[:n]) if n else None, quantity.text),
        f"{quantity.name}, newest batches": (mean(values[-n:]) if n else mean(values), quantity.text),
        f"{quantity.name}, best batch": (best_value(values), quantity.text),
    }


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _of_updates(updates: Sequence[PPOUpdatePayload], name: str) -> float | None:
    values = [value for update in updates if (value := measured_value(update, name)) is not None]
    return mean(values[-(ends_of(values) or 1) :])


# ── comparison ─────────────────────────────────────────────────────────────────────────────────────────────────


def differences(arms: Sequence[Arm]) -> Section:
    """Return what differs from the first arm, in what was configured and in what came out."""
    says = f"Every difference is to {as_text(arms[0].label)}. {_COUNTED}" if len(arms) > 1 else _RESUMED
    parts = [_outcomes(arms)] if len(arms) > 1 else []
    changed, alike = changed_settings(arms)
    if changed is not None:
        parts.append(changed)
    return Section("How do they differ?", "Differences", says, parts, alike)


def _outcomes(arms: Sequence[Arm]) -> Table:
    measures = [_measures(arm) for arm in arms]
    head = ["", arms[0].label]
    for arm in arms[1:]:
        head += [arm.label, "difference"]
    rows = []
    for name in dict.fromkeys(name for measure in measures for name in measure):
        base, write = measures[0].get(name, (None, number))
        row = [name, write(base)]
        for measure in measures[1:]:
            value, write = measure.get(name, (None, number))
            row += [write(value), _difference(base, value)]
        rows.append(row)
    return Table(head, rows, "Outcome")


def _difference(base: float | None, value: float | None) -> str:
    if base is None or value is None:
        return ABSENT
    difference = value - base
    if not math.isfinite(difference):
        return "undefined"
    sign = "+" if difference > 0 else ""
    return f"{sign}{number(difference)}"


# ── telemetry ──────────────────────────────────────────────────────────────────────────────────────────────────


def telemetry(logs: Mapping[str, RunLog]) -> Section:
    """Return how many events came, what was lost, and what was worth a warning."""
    says = (
        "Events counted by type over each whole log, nothing taken back; lines that are no events, by file and line; "
        "events that could not be encoded, from rejected*.jsonl beside the log; and the events of severity warning and "
        "above."
    )
    columns = list(logs.values())
    rows = [[kind.name, *(number(log.snapshot.events.get(kind, 0)) for log in columns)] for kind in TelemetryEventType]
    rejected = {name: _rejected(log) for name, log in logs.items()}
    rows += [
        _row("all events", columns, lambda log: log.snapshot.n_events),
        _row("of severity warning and above", columns, lambda log: log.seen.severities.total() - _routine(log)),
        _row("lines that are no events", columns, lambda log: log.folded.invalid),
        _row("events that name more than is kept", columns, lambda log: log.snapshot.omitted),
        ["events rejected", *(number(len(found)) for found in rejected.values())],
    ]
    parts: list[Table | Fold] = [_sinks(name, log.info) for name, log in logs.items() if log.info and log.info.sinks]
    parts += [_invalid(name, log) for name, log in logs.items() if log.seen.invalid]
    parts += [
        Table(["event type", "field", "reason"], found[:INVALID_KEPT], f"Rejected: {name}", text=True)
        for name, found in rejected.items()
        if found
    ]
    parts.append(Fold("Events by type", [Table(["", *logs], rows)]))
    notable = [_notable(name, log) for name, log in logs.items() if log.seen.notable]
    if notable:
        newest = sum(len(log.seen.notable) for log in logs.values())
        parts.append(Fold(f"{plural(newest, 'event')} of severity warning and above", notable))
    unknown = [f"{as_text(name)}: {log.folded.no_info}" for name, log in logs.items() if log.folded.no_info]
    missing = f"What the sinks delivered and dropped is not known. {'; '.join(unknown)}." if unknown else ""
    return Section("How good is the telemetry?", "Telemetry", says, parts, missing)


def _sinks(name: str, info: RunInfo) -> Table:
    head = [
        "sink",
        "emitted",
        "delivered",
        "rejected",
        "dropped",
        "queued",
        "lag, s",
        "durable",
        "set aside",
        "last error",
    ]
    rows = [
        [
            as_text(sink.name),
            *map(number, (sink.emitted, sink.delivered, sink.rejected, sink.dropped, sink.queued, sink.lag)),
            "yes" if sink.durable else "no",
            "yes" if sink.set_aside else "no",
            as_text(sink.last_error or "") or "—",
        ]
        for sink in info.sinks
    ]
    return Table(head, rows, f"Delivery by sink, when run.json was last written: {name}")


def _row(name: str, logs: Sequence[RunLog], count: Callable[[RunLog], int]) -> list[str]:
    return [name, *(number(count(log)) for log in logs)]


def _routine(log: RunLog) -> int:
    return log.seen.severities["debug"] + log.seen.severities["info"]


def _invalid(name: str, log: RunLog) -> Table:
    more = f", the first {INVALID_KEPT} of {log.folded.invalid:,}" if log.folded.invalid > INVALID_KEPT else ""
    rows = [
        [f"{as_text(Path(bad.file).name)}:{bad.line}", bad.kind, as_text(bad.reason), as_text(bad.text)]
        for bad in log.seen.invalid
    ]
    return Table(["file:line", "kind", "reason", "text"], rows, f"Lines that are no events: {name}{more}", text=True)


def _notable(name: str, log: RunLog) -> Table:
    more = f", the newest {NOTABLE_KEPT}" if len(log.seen.notable) == NOTABLE_KEPT else ""
    rows = [
        [
            event.timestamp.strftime("%H:%M:%S"),
            event.severity,
            event.event_type.name,
            as_text(event.slot_id or "") or "—",
            as_text(event.message) or "—",
        ]
        for event in log.seen.notable
    ]
    head = ["time", "severity", "event type", "slot", "message"]
    return Table(head, rows, f"Warnings and errors: {name}{more}", text=True)


def _rejected(log: RunLog) -> list[list[str]]:
    """Read what the log's writer could not encode; a line that cannot be read is named."""
    if log.directory is None:
        return []
    found = []
    for where, record in rejected_records(log.directory):
        if record is None:
            found.append(["—", "—", as_text(f"{where} cannot be read")])
        else:
            found.append([as_text(record[key]) or "—" for key in ("event_type", "field", "reason")])
    return found
