"""An export holds what the logs do, says what every other view says, and is written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import event, numbered
from tests.effort import tries
from tests.karn.drawn_runs import DrawnRun, drawn_runs

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.export import FORMATS, Format, export, format_of, tables
from esper.karn.export.arrays import schema_of
from esper.karn.export.columns import KINDS, columns_of
from esper.karn.importing.exports import exported_lines, exported_runs
from esper.leyline import (
    EVENT_TYPES,
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.leyline.invalid_lines import NoEventsError
from esper.leyline.schema import duckdb_views
from esper.leyline.testing import events, same
from esper.leyline.validate import validate
from esper.leyline.wire import encode_event, read_shards

SUFFIX: dict[Format, str] = {"parquet": "", "csv": ".csv", "duckdb": ".duckdb"}


def write_log(log: Path, emitted: list[TelemetryEvent]) -> Path:
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(encode_event(one) + "\n" for one in emitted))
    return log


def write_run(run: Path, drawn: DrawnRun) -> Path:
    for rank, emitted in drawn.shards.items():
        write_log(run / (f"events-rank{rank}.jsonl" if drawn.is_sharded else "events.jsonl"), emitted)
    return run


def table_of(source: Path, name: str) -> pa.Table:
    return pa.Table.from_batches([rows for table, rows in tables(source) if table == name])


# --- lossless --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_read_back_holds_the_same_events(form: Format, tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(max_examples=tries(5 if form == "duckdb" else 12))
    @given(st.lists(events(), min_size=1, max_size=10))
    def check(emitted: list[TelemetryEvent]) -> None:
        directory = tmp_path_factory.mktemp("lossless")
        log = write_log(directory / "events.jsonl", emitted)
        made = export([log], directory / f"x{SUFFIX[form]}").path
        read = [line.record for line in exported_lines(made)]
        assert len(read) == len(emitted)
        for one, other in zip(emitted, read, strict=True):
            assert same(one, other)

    check()


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_and_a_none_that_was_supplied_are_told_apart(form: Format, tmp_path: Path) -> None:
    nothing = event(PPOUpdatePayload)
    data = PPOUpdatePayload.from_dict({**nothing.data.to_dict(), "explained_variance": None})
    log = write_log(tmp_path / "events.jsonl", [nothing, TelemetryEvent(data=data)])
    made = export([log], tmp_path / f"x{SUFFIX[form]}").path
    first, second = (line.record for line in exported_lines(made))
    assert isinstance(first, TelemetryEvent)
    assert isinstance(second, TelemetryEvent)
    assert "explained_variance" not in first.data.supplied
    assert "explained_variance" in second.data.supplied
    assert table_of(log, "ppo_update_completed")["exact"].to_pylist() == [None, '{"explained_variance":null}']


def test_what_a_column_cannot_say_stands_beside_it(tmp_path: Path) -> None:
    one = event(EpochCompletedPayload, env_id=2**70, val_loss=3, val_accuracy=math.nan)
    row = table_of(write_log(tmp_path / "events.jsonl", [one]), "epoch_completed").to_pylist()[0]
    assert (row["env_id"], row["val_loss"]) == (None, 3.0)
    assert math.isnan(row["val_accuracy"])
    assert json.loads(row["exact"]) == {"env_id": 2**70, "val_loss": 3}


# --- types -----------------------------------------------------------------------------------------------------------


def test_every_field_has_a_column_of_its_type_and_the_sql_views_have_the_same(tmp_path: Path) -> None:
    log = write_log(tmp_path / "events.jsonl", [numbered(1)])
    with duckdb.connect() as database:
        database.execute(duckdb_views(log))
        viewed = {table: types_of_columns(database, table, "main") for table in KINDS}
    made = export([log], tmp_path / "x.duckdb").path
    with duckdb.connect(str(made), read_only=True) as database:
        exported = {table: types_of_columns(database, table, "log") for table in KINDS}
    for table, cls in KINDS.items():
        found = exported[table]
        assert {field.name for field in dataclasses.fields(cls)} < found.keys()
        assert found.items() >= viewed[table].items()
        assert viewed[table]
        assert schema_of(table, flat=False).names == [*found]


def types_of_columns(database: duckdb.DuckDBPyConnection, table: str, schema: str) -> dict[str, str]:
    query = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? AND schema_name = ?"
    return dict(database.execute(query, [table, schema]).fetchall())


def test_parquet_has_every_table_with_its_types_even_without_rows(tmp_path: Path) -> None:
    made = export([write_log(tmp_path / "events.jsonl", [numbered(1)])], tmp_path / "x").path
    assert sorted(file.stem for file in made.iterdir()) == sorted([*KINDS, "invalid_lines", "runs"])
    for table in KINDS:
        schema = pq.read_schema(made / f"{table}.parquet")
        assert schema.equals(schema_of(table, flat=False))
        assert {str(schema.field(each.name).type) for each in columns_of(table) if each.sql == "DOUBLE"} <= {"double"}


# --- what other views say --------------------------------------------------------------------------------------------


@settings(max_examples=tries(4))
@given(drawn=drawn_runs(), other=drawn_runs())
def test_export_views_fold_and_validate_agree_on_every_count_of_many_runs(
    tmp_path_factory: pytest.TempPathFactory, drawn: DrawnRun, other: DrawnRun
) -> None:
    directory = tmp_path_factory.mktemp("runs")
    runs = [write_run(directory / "a" / "run", drawn), write_run(directory / "b" / "run", other)]
    with (runs[1] / "events.jsonl").open("a") as log:
        log.write("nonsense\n")
    made = export(runs, directory / "x.duckdb").path
    counts = "SELECT run_name, event_type, superseded, count(*) FROM events GROUP BY ALL ORDER BY ALL"
    places = "SELECT run_name, parse_filename(file), line, run, superseded FROM events ORDER BY ALL"
    bad = "SELECT run_name, line, kind FROM invalid_lines ORDER BY ALL"
    standing = [f"SELECT run_name, count(*) FROM {table} GROUP BY ALL ORDER BY ALL" for table in KINDS]
    with duckdb.connect() as database:
        database.execute(duckdb_views(*runs))
        viewed = [database.execute(query).fetchall() for query in (counts, places, bad, *standing)]
    with duckdb.connect(str(made), read_only=True) as database:
        assert [database.execute(query).fetchall() for query in (counts, places, bad, *standing)] == viewed
        in_table = dict(database.execute("SELECT run_name, events FROM runs").fetchall())
    names = ["run", "b/run"]
    for name, run, emitted in zip(names, runs, (drawn, other), strict=True):
        aggregator = TelemetryAggregator()
        for shard, record in read_shards(run):
            if isinstance(record, TelemetryEvent):
                aggregator.process(record, shard)
        total = sum(map(len, emitted.shards.values()))
        assert aggregator.snapshot().n_events == in_table[name] == total
        out = StringIO()
        validate([str(run)], as_json=True, out=out)
        assert json.loads(out.getvalue().splitlines()[-1])["events"] == total
        by_type = Counter(made.event_type.name for shard in emitted.shards.values() for made in shard)
        assert by_type == _summed(viewed[0], name)


def _summed(rows: list[Any], name: str) -> Counter[str]:
    counted: Counter[str] = Counter()
    for run_name, event_type, _, number in rows:
        counted[event_type] += number if run_name == name else 0
    return +counted


def start(**fields: Any) -> TelemetryEvent:
    return event(TrainingStartedPayload, **{"n_envs": 2, "max_epochs": 1, "n_episodes": 6} | fields)


def test_batch_episode_and_what_a_resume_took_back_are_the_position_s(tmp_path: Path) -> None:
    def batch(index: int) -> list[TelemetryEvent]:
        return [
            *(event(EpochCompletedPayload, env_id=env, inner_epoch=1, epoch=1) for env in range(2)),
            event(BatchEpochCompletedPayload, batch_idx=index, episodes_completed=2 * index + 2, n_envs=2),
        ]

    emitted = [start(), *batch(0), *batch(1), start(start_episode=2), *batch(1), *batch(2)]
    log = write_log(tmp_path / "events.jsonl", emitted)
    epochs = table_of(log, "epoch_completed")
    assert epochs["batch"].to_pylist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert epochs["episode"].to_pylist() == [0, 1, 2, 3, 2, 3, 4, 5]
    assert epochs["superseded"].to_pylist() == [False, False, True, True, False, False, False, False]
    assert epochs["line"].to_pylist() == [2, 3, 5, 6, 9, 10, 12, 13]
    assert set(epochs["run_name"].to_pylist()) == {tmp_path.name}


def test_a_run_whose_start_was_lost_stands_in_the_batch_that_ends_first(tmp_path: Path) -> None:
    ends = event(BatchEpochCompletedPayload, batch_idx=3, episodes_completed=8, n_envs=2)
    log = write_log(tmp_path / "events.jsonl", [event(PPOUpdatePayload), ends])
    assert table_of(log, "ppo_update_completed")["event_batch"].to_pylist() == [3]


def test_positions_beyond_64_bits_are_null(tmp_path: Path) -> None:
    ends = event(BatchEpochCompletedPayload, batch_idx=2**64, episodes_completed=2**65, n_envs=2)
    row = table_of(write_log(tmp_path / "events.jsonl", [ends]), "batch_epoch_completed").to_pylist()[0]
    assert (row["batch"], row["episode"], row["batch_idx"]) == (None, None, None)
    assert json.loads(row["exact"])["batch_idx"] == 2**64


# --- bounded, side by side, whole or not at all ----------------------------------------------------------------------


def test_rows_come_in_batches_of_bounded_length(tmp_path: Path) -> None:
    log = write_log(tmp_path / "events.jsonl", [numbered(number) for number in range(5_000)])
    lengths = [rows.num_rows for _, rows in tables(log)]
    assert sum(lengths) == 5_000
    assert max(lengths) == 2_048


def test_logs_read_side_by_side_make_the_same_export(tmp_path: Path) -> None:
    logs = [write_log(tmp_path / f"run{n}" / "events.jsonl", [numbered(n), numbered(n + 1)]) for n in range(3)]
    read: list[int] = []
    one = export(logs, tmp_path / "one", processes=1)
    two = export(logs, tmp_path / "two", processes=2, progress=read.append)
    assert dataclasses.replace(one, path=two.path) == two
    for file in one.path.iterdir():
        assert pq.read_table(file).equals(pq.read_table(two.path / file.name))
    assert [run.name for run in exported_runs(two.path)] == ["run0", "run1", "run2"]


def test_what_exists_is_not_written_over(tmp_path: Path) -> None:
    log = write_log(tmp_path / "events.jsonl", [numbered(1)])
    for there in (tmp_path / "x", tmp_path / "dangling"):
        there.symlink_to(tmp_path / "nowhere")
        with pytest.raises(FileExistsError, match="exists: name another one, or remove it first"):
            export([log], there)


@pytest.mark.parametrize(("form", "processes"), [("parquet", 1), ("csv", 1), ("duckdb", 1), ("parquet", 2)])
def test_an_export_that_fails_leaves_nothing(form: Format, processes: int, tmp_path: Path) -> None:
    good = write_log(tmp_path / "good" / "events.jsonl", [numbered(1)])
    (tmp_path / "bad" / "events.jsonl").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match="bad"):
        export([good, tmp_path / "bad"], tmp_path / "x", form=form, processes=processes)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad", "good"]


def test_a_run_without_an_event_is_named_and_costs_the_others_nothing(tmp_path: Path) -> None:
    good = write_log(tmp_path / "good" / "events.jsonl", [numbered(1)])
    bad = tmp_path / "bad.jsonl"
    bad.write_text("nonsense\n")
    done = export([bad, good], tmp_path / "x")
    assert [(run.name, run.events) for run in exported_runs(done.path)] == [("bad.jsonl", 0), ("good", 1)]
    assert "bad.jsonl: 1 line of kind json" in str(done.empty["bad.jsonl"])
    with pytest.raises(NoEventsError, match=r"bad\.jsonl: 1 line of kind json"):
        export([bad], tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_lines_that_are_no_events_are_a_table(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"\xff\n" + encode_event(numbered(1)).encode() + b'\n{"a": 1}\n\n{"torn')
    done = export([log], tmp_path / "x")
    rows = pq.read_table(done.path / "invalid_lines.parquet").to_pylist()
    assert [(row["line"], row["kind"], row["text"]) for row in rows] == [
        (1, "utf-8", "\\xff"), (3, "envelope", '{"a": 1}'), (4, "empty", ""), (5, "torn", '{"torn'),
    ]  # fmt: skip
    assert {name: lines.total for name, lines in done.invalid.items()} == {tmp_path.name: 4}


def test_an_export_names_no_path_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    log = write_log(tmp_path / "run=7 [*]" / "events.jsonl", [numbered(1)])
    made = export([log.parent], tmp_path / "x").path
    assert pq.read_table(made / "epoch_completed.parquet").to_pylist()[0]["file"] == "events.jsonl"
    assert [line.run for line in exported_lines(made)] == ["run=7 [*]"]
    assert all(str(tmp_path).encode() not in file.read_bytes() for file in made.iterdir())


def test_the_name_says_what_to_write() -> None:
    assert [format_of(name) for name in ("a", "a.parquet", "b/c.CSV", "d.duckdb", "d.db")] == [
        "parquet", "parquet", "csv", "duckdb", "duckdb",
    ]  # fmt: skip


def test_every_kind_has_its_table() -> None:
    assert [*KINDS.values()] == [*EVENT_TYPES]
