"""Whatever happens to a log, its views say the same of every quantity that they share."""

from __future__ import annotations

import html
import math
import random
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from tests.builders import event
from tests.effort import tries
from tests.karn.drawn_runs import DrawnRun, drawn_runs, fold
from tests.karn.shown import screens
from tests.leyline.test_position import between_ends

from esper.karn.bounds import WHOLE_RUN
from esper.karn.health import assess
from esper.karn.progress import best_value, played_text
from esper.karn.quantities import LIFECYCLE, QUANTITIES, lifecycle_counts
from esper.karn.report import report
from esper.karn.report.log import RunLog, read_log
from esper.karn.report.plot import Arm, Fold, Table
from esper.karn.report.tables import outcome
from esper.karn.seeds import count_endings
from esper.karn.snapshot import Ending, RunSnapshot
from esper.karn.summary import summary
from esper.karn.verdict import tally_text
from esper.leyline.position import Positions, Shard, env_of
from esper.leyline.schema import duckdb_views
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.leyline.wire import encode_event
from esper.nissa.sinks.tensorboard import TensorBoardSink

pytestmark = pytest.mark.no_cover  # what it runs has tests of its own, and the tracer would take a third of the time

pytest.importorskip("textual")


def page_of(snapshot: RunSnapshot) -> str:
    return summary(snapshot, None, Path("runs/drawn"))


def sections(page: str, groups: int) -> list[str]:
    """The summary's part about each group, in order."""
    parts = re.split(r"^Training$", page, flags=re.MULTILINE)[1:]
    assert len(parts) == groups
    return parts


def numbers_after(name: str, page: str) -> list[list[str]]:
    """The cells of every row of that name."""
    rows = re.findall(rf"^ +{re.escape(name)} +(\S.*)$", page, flags=re.MULTILINE)
    return [row.split() for row in rows]


@settings(max_examples=tries(60))
@given(drawn_runs(), st.integers(0, 2**32))
def test_how_shards_are_merged_changes_nothing_that_is_shown(run: DrawnRun, seed: int) -> None:
    by_time, merged = fold(run.by_time()), fold(run.merged(random.Random(seed)))
    groups = sorted(by_time.groups)
    assert sorted(merged.groups) == groups
    for group_id in groups:
        shown = [screens(snapshot, snapshot.groups[group_id]) for snapshot in (by_time, merged)]
        without_counts = [re.sub(r"^ [a-z ]+ +[\d,]+$", "", one, flags=re.MULTILINE) for one in shown]
        assert without_counts[0] == without_counts[1]
    if len(groups) == 1:
        assert page_of(by_time) == page_of(merged)


@settings(max_examples=tries(60))
@given(drawn_runs())
def test_summary_and_dashboard_say_the_same(run: DrawnRun) -> None:
    snapshot = fold(run.by_time())
    for group, page in zip(snapshot.groups.values(), sections(page_of(snapshot), len(snapshot.groups)), strict=True):
        screen = screens(snapshot, group)
        if group.batch is not None:
            assert played_text(group.batch.data) in page
            assert played_text(group.batch.data) in screen
            best = best_value(entry.data.avg_reward for entry in group.batches)
            if best is not None:
                shown = QUANTITIES["avg_reward"].text(best)
                assert re.search(rf"best {re.escape(shown)} (in|near) batch", screen)
                rows = numbers_after(QUANTITIES["avg_reward"].name, page)
                assert rows[0][-1] == shown or len(group.batches) == 1
        for blueprint in group.lifecycle:
            name = "—" if blueprint is None else blueprint
            (in_page,), in_screen = numbers_after(name, page.split("Health:")[0])[-1:], numbers_after(name, screen)
            assert in_page in in_screen
        assert ("superseded" in page) == bool(group.resumes or group.earlier_runs)
        if group.superseded:
            assert f"{group.superseded:,} event" in page
            assert f"superseded: {group.superseded:,}" in screen


@settings(max_examples=tries(20))
@given(drawn_runs())
def test_there_is_one_verdict(run: DrawnRun) -> None:
    snapshot = fold(run.by_time())
    verdict = assess(snapshot)
    page = page_of(snapshot)
    for group, section in zip(snapshot.groups.values(), sections(page, len(snapshot.groups)), strict=True):
        own = verdict.of(group.group_id)
        headline = f"{own.status.value} {own.status.name}"
        assert f"Health: {headline} ({tally_text(own.findings)})" in section
        screen = screens(snapshot, group)
        assert f"VERDICT  {headline}  {tally_text(own.findings)}" in screen
        for finding in own.alarms:
            beginning = " ".join(finding.evidence.split()[:4])
            assert beginning in " ".join(section.split())
            assert beginning in screen
    whole = assess(fold(run.by_time(), WHOLE_RUN))
    assert [(one.rule, one.status, one.times) for one in whole.findings] == [
        (one.rule, one.status, one.times) for one in verdict.findings
    ]


@settings(max_examples=tries(60))
@given(drawn_runs())
def test_the_fold_of_the_whole_run_counts_what_the_bounded_one_does(run: DrawnRun) -> None:
    live, whole = fold(run.by_time()), fold(run.by_time(), WHOLE_RUN)
    for group_id, group in live.groups.items():
        other = whole.groups[group_id]
        assert (group.lifecycle, group.actions, group.superseded) == (other.lifecycle, other.actions, other.superseded)
        seeds = [seed for env in other.envs.values() for slot in env.slots.values() for seed in slot.seeds]
        counts = count_endings(seeds)
        totals = [sum(getattr(of, name) for of in other.lifecycle.values()) for name in LIFECYCLE]
        germinated = sum(seed.germinated is not None for seed in seeds)
        ended = [counts[ending] for ending in Ending if ending is not Ending.OPEN]
        assert totals == [germinated, *ended] or other.counted_from


@contextmanager
def written(run: DrawnRun) -> Iterator[Path]:
    """The run's directory: a shard for each rank."""
    with tempfile.TemporaryDirectory() as name:
        for rank, shard in run.shards.items():
            log = Path(name, f"events-rank{rank}.jsonl" if run.is_sharded else "events.jsonl")
            log.write_text("".join(f"{encode_event(made)}\n" for made in shard))
        yield Path(name)


def rows_of_outcome(log: RunLog, group_id: str) -> dict[str, str]:
    """What the report says came out of a group."""
    fold = outcome([Arm("arm", 0, log, group_id, log.arms[group_id])]).parts[-1]
    assert isinstance(fold, Fold)
    (table,) = fold.parts
    assert isinstance(table, Table)
    return {row[0]: row[1] for row in table.rows}


def same(one: Iterable[float], other: Iterable[float]) -> bool:
    """Whether two are the same numbers in any order, whatever NaN is compared with."""
    return Counter(map(repr, one)) == Counter(map(repr, other))


@settings(max_examples=tries(60))
@given(drawn_runs())
def test_the_report_says_what_summary_and_dashboard_do(run: DrawnRun) -> None:
    snapshot = fold(run.by_time(), WHOLE_RUN)
    with written(run) as directory:
        log = read_log(str(directory))
    assert sorted(log.arms) == sorted(snapshot.groups)
    for group_id, group in snapshot.groups.items():
        rows, series = rows_of_outcome(log, group_id), log.arms[group_id]
        rewards = [entry.data.avg_reward for entry in group.batches]
        assert same((data.avg_reward for _, data, _ in series.completed), rewards)
        assert rows["mean episode return, best batch"] == QUANTITIES["avg_reward"].text(best_value(rewards))
        assert rows["played"] == (played_text(group.batch.data) if group.batch else "—")
        history = f"{group.earlier_runs}, {group.resumes}, {group.superseded:,}"
        assert rows["runs before this one in the log, resumes, events taken back"] == history
        became = [sum(column) for column in zip([0] * 5, *map(lifecycle_counts, group.lifecycle.values()), strict=True)]
        names = [f"seeds {name}" for name in ("germinated", *SEED_ENDS)]
        if any(became) or any(name in rows for name in names):  # there is nothing about seeds where nothing can grow
            assert [rows[name] for name in names] == [str(count) for count in became]
        lives = count_endings(life.seed for life in series.seeds)
        assert [lives[end] for end in Ending if end is not Ending.OPEN] == became[1:] or group.counted_from
        ops = sum((batch.ops for batch in series.batches), Counter[str]())
        assert dict(ops) == dict(group.actions) or series.unplaced or group.counted_from


def text_of(page: str) -> str:
    """The words of a page of HTML, but for what is drawn."""
    words = re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(words).split())


@settings(max_examples=tries(20))
@given(drawn_runs().filter(lambda run: len({made.group_id for _, made in run.by_time()}) == 1))
def test_the_page_of_the_report_says_what_the_summary_does(run: DrawnRun) -> None:
    with written(run) as directory:
        snapshot = read_log(str(directory)).snapshot
        page = text_of(report([directory], directory / "report.html").read_text(encoding="utf-8"))
    (group,), verdict = snapshot.groups.values(), assess(snapshot, invalid=0)
    said = summary(snapshot, None, Path("runs/drawn"), verdict)
    (answer,), (n_events,) = re.findall(r"Did it learn\?\s+(.*)", said), re.findall(r"Telemetry: ([\d,]+) ", said)
    assert f"Did it learn? {answer}" in page
    assert f"{n_events} event" in page
    assert tally_text(verdict.findings) in page
    for finding in verdict.alarms:
        assert finding.evidence.split(",")[0] in " ".join(said.split())
        assert finding.evidence in page
    for column, name in enumerate(("mean episode return", "validation accuracy")):
        for *_, best in numbers_after(name, said):
            assert re.search(rf"(best|the only) batch( \S+){{{column}}} {re.escape(best)} ", page)
    if group.batch is not None:
        assert played_text(group.batch.data) in said
        assert f"played {played_text(group.batch.data)}" in page
    for blueprint, totals in group.lifecycle.items():
        name = "—" if blueprint is None else blueprint
        counts = [str(count) for count in lifecycle_counts(totals)]
        assert counts in numbers_after(name, said)
        assert f"{blueprint or 'blueprint unknown'} {' '.join(counts)}" in page
    if group.superseded:
        assert f"{group.superseded:,} event" in said
        assert f"events taken back {group.earlier_runs}, {group.resumes}, {group.superseded:,}" in page


SEED_ENDS = [ending.value for ending in Ending if ending is not Ending.OPEN]


@settings(max_examples=tries(15))
@given(drawn_runs(), st.integers(0, 2**32))
def test_how_environments_interleave_changes_nothing_that_is_drawn(run: DrawnRun, seed: int) -> None:
    with written(run) as directory:
        before = read_log(str(directory))
    rng = random.Random(seed)
    for rank, shard in run.shards.items():
        run.shards[rank] = [made for _, made in between_ends([(None, made) for made in shard], rng)]
    with written(run) as directory:
        after = read_log(str(directory))
    for group_id, series in before.arms.items():
        other = after.arms[group_id]
        assert [drawn_of(batch) for batch in series.batches] == [drawn_of(batch) for batch in other.batches]
        assert (series.unplaced, series.span) == (other.unplaced, other.span)


def drawn_of(batch: Any) -> tuple[object, ...]:
    """What is drawn of a batch, but for the order in which numbers were added."""
    sums = [batch.accuracy, batch.loss, batch.returns, batch.components, batch.contributions]
    spreads = [
        {key: (of.n, round(of.total, 9), of.low, of.high, of.not_finite) for key, of in one.items()} for one in sums
    ]
    seeds = Counter((life.env_id, life.slot_id, life.seed.ending, str(life.stages)) for life in batch.seeds)
    return batch.start, batch.end, batch.epoch, spreads, batch.ops, len(batch.updates), seeds


@settings(max_examples=tries(12))
@given(drawn_runs())
def test_sql_says_what_the_fold_does(run: DrawnRun) -> None:
    snapshot = fold(run.by_time(), WHOLE_RUN)
    with written(run) as directory:
        database = duckdb.connect()
        database.execute(duckdb_views(directory))

        def ask(question: str, *values: object) -> list[tuple[Any, ...]]:
            return database.execute(question, values).fetchall()

        for group_id, group in snapshot.groups.items():
            of_run = (group_id, group.earlier_runs)
            told = ask("SELECT avg_reward FROM batch_epoch_completed WHERE group_id = ? AND run = ?", *of_run)
            assert same((value for (value,) in told), (entry.data.avg_reward for entry in group.batches))
            taken_back = "SELECT count(*) FILTER (superseded) FROM events WHERE group_id = ? AND run = ?"
            assert ask(taken_back, *of_run) == [(group.superseded,)]
            if group.counted_from:
                continue
            ops = "SELECT action_name, count(*) FROM reward_computed WHERE group_id = ? AND run = ? GROUP BY ALL"
            assert dict(ask(ops, *of_run)) == dict(group.actions)
            ends = "SELECT count(*) FROM {} WHERE group_id = ? AND run = ?"
            totals = group.lifecycle.values()
            assert ask(ends.format("seed_germinated"), *of_run) == [(sum(of.germinated for of in totals),)]
            assert ask(ends.format("seed_fossilized"), *of_run) == [(sum(of.fossilized for of in totals),)]
            pruned = sum(of.pruned + of.pruned_by_policy + of.pruned_by_rule for of in totals)
            assert ask(ends.format("seed_pruned"), *of_run) == [(pruned,)]


def in_step(events: Sequence[tuple[Shard, TelemetryEvent]]) -> bool:
    """Whether every environment plays one episode a batch, as far as anybody knows."""
    groups: defaultdict[str, Positions] = defaultdict(Positions)
    found = [(env_of(made), groups[made.group_id].locate(made, shard)) for shard, made in events]
    return all(env_id is None or at.episode is not None or at.episodes is None for env_id, at in found)


@settings(max_examples=tries(30))
@given(drawn_runs().filter(lambda run: not run.is_sharded))
def test_tensorboard_shows_what_the_report_does(run: DrawnRun) -> None:
    with written(run) as directory:
        log = read_log(str(directory))
        sink = TensorBoardSink(directory / "tensorboard")
        for _, made in run.by_time():
            sink.write(made)
        sink.flush()
        for group_id, series in log.arms.items():
            top = directory / "tensorboard" / ("" if group_id == "default" else group_id)
            completed = {data.batch_idx: data.avg_reward for _, data, _ in series.completed}
            assert close(curve(top, "BatchEpochCompleted/avg_reward"), completed)
            start = log.snapshot.groups[group_id].started
            if start is None or not start.data.max_epochs or not in_step(run.by_time()):
                continue
            if silent_since_the_resume([made for _, made in run.by_time() if made.group_id == group_id]):
                continue
            drawn: defaultdict[int, list[float]] = defaultdict(list)
            for env in top.glob("env*"):
                for step, value in curve(env, "EpochCompleted/val_accuracy").items():
                    drawn[step].append(value)
            told = {
                batch.start // series.n_envs * series.max_epochs + epoch: spread.mean
                for batch in series.batches for epoch, spread in batch.accuracy.items()
            }  # fmt: skip
            assert close({step: sum(values) / len(values) for step, values in drawn.items()}, told)


def silent_since_the_resume(emitted: Sequence[TelemetryEvent]) -> bool:
    """Whether an environment says nothing more, so that its curves still show what the resume took back."""
    starts = [at for at, made in enumerate(emitted) if isinstance(made.data, TrainingStartedPayload)]
    before, since = (
        {made.data.env_id for made in part if isinstance(made.data, EpochCompletedPayload)}
        for part in (emitted[: starts[-1]], emitted[starts[-1] :])
    )
    return not before <= since


def curve(directory: Path, tag: str) -> dict[int, float]:
    """The newest value at each step, as TensorBoard's own reader has it."""
    if not list(directory.glob("events.out*")):
        return {}
    reader = EventAccumulator(str(directory))
    reader.Reload()
    return {point.step: point.value for point in reader.Scalars(tag)} if tag in reader.Tags()["scalars"] else {}


def close(one: dict[int, float], other: dict[int, float | None] | dict[int, float]) -> bool:
    """Whether two curves are the same in 32 bits."""
    return one.keys() == other.keys() and all(
        math.isclose(value, other[step] or 0.0, rel_tol=1e-6, abs_tol=1e-6) or repr(value) == repr(other[step])
        for step, value in one.items()
    )


def test_what_was_supplied_and_empty_is_none_and_what_was_not_supplied_is_a_dash() -> None:
    def shown(**fields: object) -> str:
        snapshot = fold([(None, event(RewardComputedPayload, **fields))])
        return screens(snapshot, snapshot.groups["default"])

    assert "none: no other choice was possible or likely" in shown(alternatives=[])
    assert "— alternatives not supplied" in shown()


def test_an_ablation_of_five_batches_ago_says_so() -> None:
    start = event(TrainingStartedPayload, n_envs=1, max_epochs=1)
    matrix = event(CounterfactualMatrixPayload, slot_ids=("a",), strategy="full_factorial", epoch=1)
    events = [start, event(EpochCompletedPayload, inner_epoch=1), matrix]
    for batch in range(5):
        ended = event(BatchEpochCompletedPayload, episodes_completed=batch + 1, batch_idx=batch, n_envs=1)
        events += [ended, event(EpochCompletedPayload, inner_epoch=1)]
    snapshot = fold([(None, made) for made in events])
    shown = screens(snapshot, snapshot.groups["default"])
    assert re.search(r"COUNTERFACTUAL +full_factorial, — ms, epoch 1, 5 batches ago", shown)
    current = fold([(None, made) for made in events[:3]])
    assert "batches ago" not in screens(current, current.groups["default"])
