"""What can be said in words and tables: configuration, outcome, differences, and how well the telemetry was kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from esper.karn.absence import supplied
from esper.karn.derived import accuracy_of
from esper.karn.formatting import ABSENT, age, mean, number
from esper.karn.learning import did_it_learn
from esper.karn.progress import best_value, measures_accuracy, played_text, unsupplied_text
from esper.karn.quantities import QUANTITIES, Quantity, lifecycle_counts, score_texts
from esper.karn.report.decimation import measured_value
from esper.karn.report.findings import verdict_of
from esper.karn.report.log import INVALID_KEPT, NOTABLE_KEPT, RunLog
from esper.karn.report.plot import Arm, Section, Table, as_text
from esper.karn.totals import ENDINGS
from esper.leyline.event_types import TelemetryEventType
from esper.leyline.limits import real
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import PPOUpdatePayload, TrainingStartedPayload
from esper.leyline.validate import rejected_records

__all__ = ["configuration", "differences", "headline", "outcome", "telemetry"]

_COUNTED = (
    "Counted and averaged over the whole log: batches are BATCH_EPOCH_COMPLETED, updates PPO_UPDATE_COMPLETED, seeds "
    "the seed events. A tenth is a tenth of the batches or updates, at least one. — was not supplied."
)
_SHORT_TIME = "%Y-%m-%d %H:%M:%S UTC"


# ── headline ──────────────────────────────────────────────────────────────────────────────────────────────────


def headline(arm: Arm) -> str:
    """Return in two sentences what was run, how it ended and whether something was learnt."""
    started, evaluation = _started(arm), arm.log.info.evaluation if arm.log.info else None
    what = "Its start is missing"
    if started is not None:
        what = f"Task {as_text(started.task)}, seed {started.seed}, {number(started.n_envs)} environments"
        if arm.has_host:
            what += f", {len(started.slot_ids)} slots, {number(started.max_epochs)} host epochs an episode"
    done = "no completed batch" if arm.group.batch is None else _progress(arm)
    ending = f", {_ending(arm.log)}" if arm.log.info else ""
    answer = (
        f"Did it learn? {did_it_learn(arm.group, evaluation).word.capitalize()}. {as_text(verdict_of(arm).headline)}."
    )
    if evaluation is None:
        return f"{what}; {done}{ending}. {answer} {unsupplied_text(arm.group) or 'Not evaluated.'}"
    learnt = evaluation.learnt.test_accuracy
    above = " and ".join(
        f"{learnt.errors_above(other.test_accuracy):+.1f} standard errors from {name}"
        for name, other in (("doing nothing", evaluation.do_nothing), ("random", evaluation.random))
    )
    test = f"Test accuracy of the learnt policy {score_texts(evaluation.learnt)[2]}: {above}."
    return f"{what}; {done}{ending}. {answer} {test}"


# ── outcome ────────────────────────────────────────────────────────────────────────────────────────────────────


def outcome(arms: Sequence[Arm]) -> Section:
    """Return what came out, in numbers."""
    says = (
        "How the learnt policy, chance and doing nothing played the same fresh episodes (run.json), how far the run "
        f"came, and its numbers. {_COUNTED}"
    )
    rows = [["log", *(as_text(arm.log.source) for arm in arms)]]
    rows.append(["first event", *(arm.log.first.strftime(_SHORT_TIME) for arm in arms)])
    rows.append(["first to last event", *(age((arm.log.last - arm.log.first).total_seconds()) for arm in arms)])
    rows.append(["played", *(_progress(arm) for arm in arms)])
    rows.append(["runs before this one in the log, resumes, events taken back", *(_history(arm) for arm in arms)])
    rows.append(["how it ended", *(_ending(arm.log) for arm in arms)])
    if len(arms) == 1:  # several are set against each other in a section of their own
        rows += [[name, write(value)] for name, (value, write) in _measures(arms[0]).items()]
    parts = [Table(["", *(arm.label for arm in arms)], rows)]
    evaluated = {arm.log.source: arm for arm in arms if arm.log.info and arm.log.info.evaluation}
    if evaluated:
        parts.insert(0, _evaluations(list(evaluated.values())))
    unknown = {arm.log.no_info for arm in arms if arm.log.no_info}
    missing = f"How it ended and the evaluation stand in run.json: {'; '.join(sorted(unknown))}." if unknown else ""
    if not unknown and not evaluated:
        missing = "No evaluation is in run.json: nothing says how the policy does on held-out data."
    return Section("What came out", says, parts, missing)


def _ending(log: RunLog) -> str:
    """Return what run.json says about the end; a run that says it is running may have been killed."""
    if log.info is None:
        return ABSENT
    return as_text(f"{log.info.status}: {log.info.error}" if log.info.error else log.info.status)


def _evaluations(arms: Sequence[Arm]) -> Table:
    """Return how each policy did on the same fresh episodes, and by how much the learnt one is above the others."""
    head = ["", "episodes", "episode return", "validation accuracy", "test accuracy",
            "learnt above it in return", "learnt above it in test accuracy"]  # fmt: skip
    rows = []
    for arm in arms:
        assert arm.log.info is not None
        evaluation = arm.log.info.evaluation
        assert evaluation is not None
        learnt = evaluation.learnt
        for name, score in (("learnt", learnt), ("random", evaluation.random), ("do nothing", evaluation.do_nothing)):
            above = ["", ""] if score is learnt else [
                f"{estimate.errors_above(other):+.1f} standard errors"
                for estimate, other in ((learnt.reward, score.reward), (learnt.test_accuracy, score.test_accuracy))
            ]  # fmt: skip
            label = name if len(arms) == 1 else f"{arm.label}: {name}"
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
    batches = [entry.data for entry in arm.group.batches]
    updates = [entry.data for entry in arm.group.ppo if not entry.data.skipped]
    accuracies = [accuracy for accuracy in map(accuracy_of, batches) if accuracy is not None]
    became = ["germinated", *(ending.value for ending in ENDINGS)]
    counts = map(sum, zip([0] * len(became), *map(lifecycle_counts, arm.group.lifecycle.values()), strict=True))
    seeds: dict[str, _Measure] = {f"seeds {name}": (count, number) for name, count in zip(became, counts, strict=True)}
    return {
        **_of_batches(QUANTITIES["avg_reward"], [data.avg_reward for data in batches]),
        **(_of_batches(QUANTITIES["avg_accuracy"], accuracies) if measures_accuracy(arm.group) else {}),
        **(seeds if arm.has_host else {}),
        "PPO updates": (len(updates), number),
        **{f"{name}, last tenth": (_of_updates(updates, field), number) for field, name in _MEASURED.items()},
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
    return {
        f"{quantity.name}, first tenth": (mean(_tenth(values, first=True)), quantity.text),
        f"{quantity.name}, last tenth": (mean(_tenth(values)), quantity.text),
        f"{quantity.name}, best batch": (best_value(values), quantity.text),
    }


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _tenth(values: Sequence[float], *, first: bool = False) -> Sequence[float]:
    n = max(1, len(values) // 10)
    return values[:n] if first else values[-n:]


def _of_updates(updates: Sequence[PPOUpdatePayload], name: str) -> float | None:
    values = [value for update in updates if (value := measured_value(update, name)) is not None]
    return mean(_tenth(values))


# ── comparison ─────────────────────────────────────────────────────────────────────────────────────────────────


def differences(arms: Sequence[Arm]) -> Section:
    """Return what differs from the first arm, in what was configured and in what came out."""
    first = arms[0]
    says = f"{_COUNTED} Every difference is to {as_text(first.label)}."
    measures = [_measures(arm) for arm in arms]
    head = ["", first.label]
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
    changed = [row for row in _settings(arms) if len(set(row[1:])) > 1]
    parts = [Table(head, rows, "Outcome")]
    if changed:
        parts.append(Table(["", *(arm.label for arm in arms)], changed, "Configured differently", text=True))
    missing = "" if changed else "TRAINING_STARTED has the same configuration for all."
    return Section("How do they differ?", says, parts, missing)


def _difference(base: float | None, value: float | None) -> str:
    if base is None or value is None:
        return ABSENT
    difference = value - base
    if not math.isfinite(difference):
        return "undefined"
    sign = "+" if difference > 0 else ""
    return f"{sign}{number(difference)}"


# ── configuration ──────────────────────────────────────────────────────────────────────────────────────────────


def configuration(arms: Sequence[Arm]) -> Section:
    """Return every field of TRAINING_STARTED."""
    says = (
        "Every field of TRAINING_STARTED under its own name, as the lowest rank emitted it, then options and versions "
        "from run.json; — was not supplied."
    )
    missing_in = [arm.label for arm in arms if _started(arm) is None]
    missing = f"No TRAINING_STARTED in: {', '.join(missing_in)}." if missing_in else ""
    rows = [*(_settings(arms) if len(missing_in) < len(arms) else []), *_surroundings(arms)]
    marked = frozenset(i for i, row in enumerate(rows) if len(set(row[1:])) > 1)
    table = Table(["", *(arm.label for arm in arms)], rows, text=True, marked=marked)
    return Section("How was it configured?", says, [table] if rows else [], missing)


def _surroundings(arms: Sequence[Arm]) -> list[list[str]]:
    """Return options and versions, from run.json."""
    columns = [
        {}
        if arm.log.info is None
        else {f"option {name}": str(value) for name, value in arm.log.info.configuration.items()}
        | {f"version of {name}": version for name, version in arm.log.info.versions.items()}
        for arm in arms
    ]
    names = dict.fromkeys(name for settings in columns for name in settings)
    return [[as_text(name), *(as_text(settings.get(name, "—")) for settings in columns)] for name in names]


def _started(arm: Arm) -> TrainingStartedPayload | None:
    start = arm.group.started
    return None if start is None else start.data


def _settings(arms: Sequence[Arm]) -> list[list[str]]:
    return [
        [field.name, *(_setting(_started(arm), field.name) for arm in arms)]
        for field in dataclasses.fields(TrainingStartedPayload)
    ]


def _setting(started: TrainingStartedPayload | None, name: str) -> str:
    value = None if started is None else supplied(started, name)
    if value is None:
        said = started is not None and name in started.supplied
        return "none" if said else ABSENT
    if isinstance(value, Mapping):
        return as_text(", ".join(f"{key} {item}" for key, item in value.items()))
    if isinstance(value, tuple):
        items = list(map(str, value))
        same = len(items) > 1 and len(set(items)) == 1
        return as_text(f"{items[0]} ({len(items)} times)" if same else ", ".join(items)) or "(empty)"
    return as_text(str(value)) or "(empty)"


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
        _row("of severity warning and above", columns, lambda log: log.severities.total() - _routine(log)),
        _row("lines that are no events", columns, lambda log: log.n_invalid),
        _row("events that name more than is kept", columns, lambda log: log.snapshot.omitted),
        ["events rejected", *(number(len(found)) for found in rejected.values())],
    ]
    parts = [Table(["", *logs], rows)]
    parts += [_sinks(name, log.info) for name, log in logs.items() if log.info and log.info.sinks]
    parts += [_invalid(name, log) for name, log in logs.items() if log.invalid]
    parts += [
        Table(["event type", "field", "reason"], found[:INVALID_KEPT], f"Rejected: {name}", text=True)
        for name, found in rejected.items()
        if found
    ]
    parts += [_notable(name, log) for name, log in logs.items() if log.notable]
    unknown = [f"{as_text(name)}: {log.no_info}" for name, log in logs.items() if log.no_info]
    missing = f"What the sinks delivered and dropped is not known. {'; '.join(unknown)}." if unknown else ""
    return Section("How good is the telemetry?", says, parts, missing)


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
    return log.severities["debug"] + log.severities["info"]


def _invalid(name: str, log: RunLog) -> Table:
    more = f", the first {INVALID_KEPT} of {log.n_invalid:,}" if log.n_invalid > INVALID_KEPT else ""
    rows = [
        [f"{as_text(Path(bad.file).name)}:{bad.line}", bad.kind, as_text(bad.reason), as_text(bad.text)]
        for bad in log.invalid
    ]
    return Table(["file:line", "kind", "reason", "text"], rows, f"Lines that are no events: {name}{more}", text=True)


def _notable(name: str, log: RunLog) -> Table:
    more = f", the newest {NOTABLE_KEPT}" if len(log.notable) == NOTABLE_KEPT else ""
    rows = [
        [
            event.timestamp.strftime("%H:%M:%S"),
            event.severity,
            event.event_type.name,
            as_text(event.slot_id or "") or "—",
            as_text(event.message) or "—",
        ]
        for event in log.notable
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
