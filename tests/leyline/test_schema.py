"""The schema says about a line what the decoder does, and the views give back what the events hold."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import event, numbered
from tests.effort import tries

from esper.leyline import (
    EVENT_TYPES,
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PayloadError,
    TelemetryEvent,
    TelemetryEventType,
    TelemetryPayload,
    TrainingStartedPayload,
    WireError,
)
from esper.leyline._payload.table import types_of
from esper.leyline.doubtful import doubtful
from esper.leyline.field_docs import meanings
from esper.leyline.schema import duckdb_views, json_schema
from esper.leyline.testing import events, same
from esper.leyline.wire import SCHEMA_VERSION, InvalidRecord, decode_event, encode_event, read_events

LIMITS = {"minimum", "maximum", "exclusiveMinimum"}


def without_limits(schema: Any) -> Any:
    """The schema of the types alone, which any value of its type fits."""
    if isinstance(schema, dict):
        return {key: without_limits(value) for key, value in schema.items() if key not in LIMITS}
    return [without_limits(item) for item in schema] if isinstance(schema, list) else schema


SCHEMA = json_schema()
BY_TYPE = {event_type.name: cls for cls, event_type in EVENT_TYPES.items()}
IN_RANGE = jsonschema.Draft202012Validator(SCHEMA)
VALIDATOR = jsonschema.Draft202012Validator(without_limits(SCHEMA))
DATA = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=math.inf, inner_epoch=3, seeds={"a": {"b": 1}})
RECORD: dict[str, Any] = json.loads(encode_event(TelemetryEvent(data=DATA)))
NEWER = RECORD | {"schema_version": SCHEMA_VERSION + 1}


def decodes(record: object) -> bool:
    try:
        decode_event(json.dumps(record))
    except (WireError, PayloadError):
        return False
    return True


# ---- JSON Schema


def test_the_schema_is_a_json_schema_and_json() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA


@settings(max_examples=tries(60))
@given(events())
def test_it_accepts_every_line_that_is_written_with_values_in_range(event: TelemetryEvent) -> None:
    record = json.loads(encode_event(event))
    VALIDATOR.validate(record)
    doubted = [problem for problem in doubtful(event) if problem.path not in {"from_stage", "to_stage"}]
    assert IN_RANGE.is_valid(record) == all("inf" in problem.actual for problem in doubted)


def test_a_number_s_range_is_in_the_schema() -> None:
    properties = {cls.__name__: SCHEMA["$defs"][cls.__name__]["properties"] for cls in EVENT_TYPES}
    epoch, update = properties["EpochCompletedPayload"], properties["PPOUpdatePayload"]
    assert (epoch["val_accuracy"]["minimum"], epoch["val_accuracy"]["maximum"]) == (0, 1)
    assert (epoch["env_id"]["minimum"], "maximum" in epoch["env_id"]) == (0, False)
    assert update["kl_divergence"]["minimum"] == 0
    assert update["explained_variance"]["anyOf"][0]["maximum"] == 1
    assert "maximum" not in update["entropy_loss"]  # of a density it may be above 0
    assert update["loss_scale"]["anyOf"][0]["exclusiveMinimum"] == 0
    assert update["head_op_entropy"]["anyOf"][0]["additionalProperties"]["minimum"] == 0
    assert properties["BatchEpochCompletedPayload"]["env_accuracies"]["anyOf"][0]["items"]["maximum"] == 1
    assert not LIMITS & {*properties["TrainingStartedPayload"]["seed"]}


WHATEVER: list[Any] = [None, True, 3, 0.5, "text", "NaN", [], [1], ["a"], {}, {"a": 1}, {"a": {"b": "NaN"}}, [{"a": 1}]]


def test_it_rejects_what_the_decoder_rejects_and_accepts_what_it_accepts(event: TelemetryEvent) -> None:
    record = json.loads(encode_event(event))
    verdicts = set()
    for part, names in ((record, [*record, "foreign"]), (record["data"], [*record["data"], "foreign"])):
        for name in names:
            whole = part.get(name)
            for value in WHATEVER:
                part[name] = value
                accepted = VALIDATOR.is_valid(record)
                assert accepted == decodes(record), (name, value)
                verdicts.add(accepted)
            del part[name]
            assert VALIDATOR.is_valid(record) == decodes(record), name
            if name != "foreign":
                part[name] = whole
    assert verdicts == {True, False}


@pytest.mark.parametrize("record", [None, 3, [], {}, {"schema_version": 2}, NEWER])
def test_it_rejects_what_is_no_event_at_all(record: object) -> None:
    assert not VALIDATOR.is_valid(record)
    assert not decodes(record)


def test_where_schema_and_decoder_differ() -> None:
    """The list in the module's docstring."""
    lenient: list[dict[str, Any]] = [
        RECORD | {"epoch": 3.0},
        RECORD | {"message": "\ud800"},
        RECORD | {"timestamp": "2026-13-01T00:00:00+00:00"},
    ]
    for record in lenient:
        assert VALIDATOR.is_valid(record)
        assert not decodes(record)
    stricter = RECORD | {"timestamp": "20260101T000000Z"}
    assert decodes(stricter)
    assert not VALIDATOR.is_valid(stricter)


def test_strings_for_floats_are_allowed_exactly_where_floats_are(cls: type[TelemetryPayload]) -> None:
    properties = SCHEMA["$defs"][cls.__name__]["properties"]
    for name, row in types_of(cls).items():
        floats = "#/$defs/float" in json.dumps(properties[name])
        assert floats == ("float" in row.text), name


def test_required_optional_defaults_units_and_meanings_are_the_fields_(cls: type[TelemetryPayload]) -> None:
    payload = SCHEMA["$defs"][cls.__name__]
    fields = dataclasses.fields(cls)
    assert payload["required"] == [f.name for f in fields if f.default is dataclasses.MISSING]
    for field in fields:
        described, meaning = payload["properties"][field.name], meanings(cls)[field.name]
        assert described["description"] == meaning.text
        assert described.get("x-unit") == meaning.unit
        assert described.get("default", dataclasses.MISSING) == field.default


# ---- DuckDB


def rows(log: Path, query: str) -> list[dict[str, Any]]:
    (found,) = answers(log, query)
    return found


def answers(log: Path, *queries: str) -> list[list[dict[str, Any]]]:
    with duckdb.connect() as database:
        database.execute(duckdb_views(log))
        found = []
        for query in queries:
            result = database.execute(query)
            names = [column[0] for column in result.description or ()]
            found.append([dict(zip(names, row, strict=True)) for row in result.fetchall()])
    return found


def as_duckdb(value: Any, *, typed_levels: int) -> Any:
    """What DuckDB gives for a field: JSON text from the level where Any begins, lists for tuples."""
    if not typed_levels:
        return None if value is None else json.loads(value) if isinstance(value, str) else value
    if isinstance(value, dict):
        return {k: as_duckdb(v, typed_levels=typed_levels - 1) for k, v in value.items()}
    return [as_duckdb(v, typed_levels=typed_levels - 1) for v in value] if isinstance(value, list) else value


TYPED_LEVELS = {"seeds": 2, "slot_states": 2, "configs": 2, "alternatives": 2}


def test_a_view_gives_back_exactly_what_was_emitted(
    event: TelemetryEvent, bare: TelemetryPayload, tmp_path: Path
) -> None:
    log = tmp_path / "events.jsonl"
    described = [event, TelemetryEvent(data=bare)]
    log.write_text("".join(encode_event(e) + "\n" for e in described))
    view = event.event_type.name.lower()
    for row, one in zip(rows(log, f"FROM {view} ORDER BY timestamp"), described, strict=True):
        written = json.loads(encode_event(one))["data"]
        for name in types_of(type(one.data)):
            value = row[name]
            if name not in written:
                assert value is None
            elif name in TYPED_LEVELS:
                assert as_duckdb(value, typed_levels=TYPED_LEVELS[name]) == written[name]
            else:
                assert same(value, written[name]), name
        assert (row["event_id"], row["seed_id"], row["epoch"]) == (one.event_id, one.seed_id, one.epoch)
        assert row.get("event_slot_id", row["slot_id"]) == one.slot_id
        assert row["timestamp"].replace(tzinfo=UTC) == one.timestamp
        assert (row["message"], row["severity"], row["group_id"]) == (one.message, one.severity, one.group_id)


EXACT = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf, 1e23, 2.5]


def test_floats_are_exact_and_those_that_are_not_finite_are_floats(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(
        "".join(
            encode_event(TelemetryEvent(data=dataclasses.replace(DATA, inner_epoch=i, val_loss=value))) + "\n"
            for i, value in enumerate(EXACT)
        )
    )
    read = [row["val_loss"] for row in rows(log, "SELECT val_loss FROM epoch_completed ORDER BY inner_epoch")]
    assert same(read, EXACT)


@settings(max_examples=tries(5))
@given(floats=st.lists(st.floats(), min_size=1, max_size=100))
def test_any_float_is_exact(tmp_path_factory: pytest.TempPathFactory, floats: list[float]) -> None:
    log = tmp_path_factory.mktemp("log") / "events.jsonl"
    lines = [
        encode_event(TelemetryEvent(data=dataclasses.replace(DATA, inner_epoch=i, val_loss=v)))
        for i, v in enumerate(floats)
    ]
    log.write_text("\n".join(lines))
    read = [row["val_loss"] for row in rows(log, "SELECT val_loss FROM epoch_completed ORDER BY inner_epoch")]
    assert same(read, floats)


def test_a_torn_last_line_an_empty_one_and_a_newer_version_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    line = json.dumps(RECORD)
    newer = json.dumps(NEWER)
    log.write_text(f"{line}\n\n{newer}\n{line}\n{line[:100]}")
    assert rows(log, "SELECT count(*) AS n FROM events") == [{"n": 2}]
    assert len(rows(log, "FROM epoch_completed")) == 2


def test_an_integer_beyond_64_bits_costs_its_line(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text("".join(encode_event(numbered(1, env_id=env_id)) + "\n" for env_id in (0, 2**70, -(2**63), 1)))
    assert rows(log, "SELECT env_id, line FROM epoch_completed ORDER BY line") == [
        {"env_id": 0, "line": 1}, {"env_id": -(2**63), "line": 3}, {"env_id": 1, "line": 4},
    ]  # fmt: skip
    (bad,) = rows(log, "FROM invalid_lines")
    assert (bad["line"], bad["kind"]) == (2, "sql")
    assert "env_id is beyond the 64 bits" in bad["reason"]


VERSION = b'"schema_version":%d' % SCHEMA_VERSION
GOOD = [encode_event(numbered(number)).encode() for number in range(3)]
BAD = [
    b"", b" \t", b"\r", b"\v\f", b"\r\r", b"null", b"3", b"[]", b"{}", b"{", b"\x00", b"nonsense", b'"', b"\xff",
    b"// x", b"\xef\xbb\xbf" + GOOD[0], GOOD[0][:50], GOOD[0] + b"}", GOOD[0] + GOOD[1], GOOD[0].replace(b"1", b"NaN"),
    GOOD[0].replace(b'"val_loss"', b'"no\\u0000thing\'s"'),
    GOOD[0].replace(VERSION, VERSION + b"9"),
    GOOD[0].replace(VERSION, b'"schema_version":"x"'), b'{"a":1,"a":2}', b"[" * 2000,
    GOOD[0].replace(b'"inner_epoch":0', b'"inner_epoch":"three"'),
    GOOD[0].replace(b"EPOCH_COMPLETED", b"NO_SUCH_EVENT"),
    GOOD[0].replace(b'"inner_epoch":0', b'"inner_epoch":3.0'), GOOD[0].replace(b"+00:00", b""),
]  # fmt: skip


@settings(max_examples=tries(15))
@given(lines=st.lists(st.sampled_from(GOOD + BAD), max_size=24), end=st.sampled_from([b"", b"\n", b"\r\n"]))
def test_what_is_an_event_is_what_the_reader_takes_for_one(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bytes
) -> None:
    log = tmp_path_factory.mktemp("log") / "events.jsonl"
    log.write_bytes(b"\n".join(lines) + end)
    records = list(read_events(log))
    found, invalid = answers(
        log, "SELECT line, event_id FROM events ORDER BY line", "SELECT line, kind FROM invalid_lines ORDER BY line"
    )
    unread = {1} if log.read_bytes().startswith(b"\xef\xbb\xbf") else set()  # behind a byte order mark
    assert found == [
        {"line": line, "event_id": record.event_id}
        for line, record in enumerate(records, 1)
        if isinstance(record, TelemetryEvent) and line not in unread
    ]
    assert invalid == [
        {"line": line, "kind": record.kind if isinstance(record, InvalidRecord) else "sql"}
        for line, record in enumerate(records, 1)
        if isinstance(record, InvalidRecord) or line in unread
    ]


def test_neighbouring_lines_are_described_once(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text("x\n" * 20_000 + "".join(f'{{"a{n}\n' for n in range(20_000)))
    sql = duckdb_views(log)
    assert len(sql) < len(duckdb_views(_empty(tmp_path))) + 3_000_000
    assert rows(log, "SELECT count(*) AS n FROM invalid_lines") == [{"n": 40_000}]


def test_many_short_stretches_cost_what_their_lines_do(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    line = encode_event(event(EpochCompletedPayload))
    log.write_text(f"{line}\nx\n" * 2_000)
    database = duckdb.connect()
    database.execute(duckdb_views(log))
    ((_, plan),) = database.execute("EXPLAIN SELECT line FROM events").fetchall()
    assert "Hash Join" in plan.replace(
        "HASH_JOIN", "Hash Join"
    )  # any other join compares every line with every stretch
    assert "VALUES" not in duckdb_views(log)  # parsing those is far from linear
    assert rows(log, "SELECT count(*) AS n, max(line) AS last FROM events") == [{"n": 2_000, "last": 3_999}]
    assert rows(log, "SELECT count(*) AS n, max(line) AS last FROM invalid_lines") == [{"n": 2_000, "last": 4_000}]


def _empty(directory: Path) -> Path:
    log = directory / "empty.jsonl"
    log.touch()
    return log


@pytest.mark.parametrize("name", ["epoch=5", "event_type=EPOCH_COMPLETED", "r*n", "r?n", "[r]un", "run[1]", "line=7"])
def test_nothing_is_taken_from_a_path(tmp_path: Path, name: str) -> None:
    for directory in ("run", "ran", "r", "run1"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "events.jsonl").write_text(encode_event(numbered(0)) + "\n")
    run = tmp_path / name / "run"
    run.mkdir(parents=True)
    (run / "events.jsonl").write_text("".join(encode_event(numbered(n, epoch=n)) + "\n" for n in (1, 2)))
    found = rows(run, "SELECT event_type, epoch, line FROM events ORDER BY line")
    assert found == [{"event_type": "EPOCH_COMPLETED", "epoch": n, "line": n} for n in (1, 2)]


@pytest.mark.parametrize(
    "written", ["2026-01-01T02:30:00+02:30", "2025-12-31T22:00:00-0200", "2026-01-01T00:00:00Z", "2026-01-01 00:00+00"]
)
def test_a_time_is_utc_whatever_its_offset(tmp_path: Path, written: str) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(json.dumps(RECORD | {"timestamp": written}) + "\n")
    (row,) = rows(log, "SELECT timestamp FROM events")
    assert row["timestamp"].replace(tzinfo=UTC) == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("written", ["2026-01-01T02:30:15+02:30:15", "20260101T000000Z", "2026-W01-4T00:00:00Z"])
def test_a_time_that_duckdb_would_read_wrongly_is_null(tmp_path: Path, written: str) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(json.dumps(RECORD | {"timestamp": written}) + "\n")
    (row,) = rows(log, "SELECT timestamp FROM events")
    assert row["timestamp"] is None


def start(**fields: Any) -> TelemetryEvent:
    return event(TrainingStartedPayload, **{"n_envs": 1, "max_epochs": 1, "n_episodes": 6} | fields)


def end_of_batch(index: int, **fields: Any) -> TelemetryEvent:
    return event(BatchEpochCompletedPayload, batch_idx=index, episodes_completed=index + 1, n_envs=1, **fields)


def test_what_a_resume_took_back_is_marked_and_not_counted(tmp_path: Path) -> None:
    emitted = [start(), *map(end_of_batch, range(4)), start(start_episode=2), *map(end_of_batch, range(2, 6))]
    log = tmp_path / "events.jsonl"
    log.write_text("".join(encode_event(one) + "\n" for one in emitted))
    batches = rows(log, "SELECT batch_idx, run, superseded FROM batch_epoch_completed ORDER BY line")
    assert batches == [{"batch_idx": n, "run": 0, "superseded": False} for n in range(6)]
    taken = rows(log, "SELECT line FROM events WHERE superseded ORDER BY line")
    assert taken == [{"line": 4}, {"line": 5}]


def test_runs_of_one_log_are_numbered_and_each_has_its_resumes(tmp_path: Path) -> None:
    run = [start(), *map(end_of_batch, range(3)), start(start_episode=1), end_of_batch(1)]
    log = tmp_path / "events.jsonl"
    log.write_text("".join(encode_event(one) + "\n" for one in [*run, *run, start(), end_of_batch(0)]))
    counted = rows(log, "SELECT run, count(*) AS n FROM batch_epoch_completed GROUP BY run ORDER BY run")
    assert counted == [{"run": 0, "n": 2}, {"run": 1, "n": 2}, {"run": 2, "n": 1}]


def test_a_path_with_quotes_and_shards_in_a_directory_are_read(tmp_path: Path) -> None:
    run = tmp_path / 'Ann\'s "run" -- ; é'
    run.mkdir()
    for rank in range(2):
        (run / f"events-rank{rank}.jsonl").write_text(json.dumps(RECORD) + "\n")
    assert rows(run, "SELECT count(*) AS n FROM events") == [{"n": 2}]


def test_views_of_several_runs_tell_them_apart_by_as_much_of_their_paths_as_that_takes(tmp_path: Path) -> None:
    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "it's"]
    for count, run in enumerate(runs, 1):
        run.mkdir(parents=True)
        (run / "events.jsonl").write_text((encode_event(numbered(0)) + "\n") * count + "x\n")
    with duckdb.connect() as database:
        database.execute(duckdb_views(*runs))
        counted = "SELECT run_name, count(*) FROM {} GROUP BY run_name ORDER BY run_name"
        names = ["b/run", "it's", "run"]
        for view, counts in (("epoch_completed", [2, 3, 1]), ("events", [2, 3, 1]), ("invalid_lines", [1, 1, 1])):
            assert database.execute(counted.format(view)).fetchall() == [*zip(names, counts, strict=True)]


def test_views_of_an_empty_log_are_empty(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.touch()
    found = answers(log, *(f"FROM {event_type.value}" for event_type in TelemetryEventType))
    assert found == [[] for _ in TelemetryEventType]


def test_columns_carry_their_meaning(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.touch()
    (row,) = rows(
        log, "SELECT comment FROM duckdb_columns() WHERE table_name = 'epoch_completed' AND column_name = 'val_loss'"
    )
    assert row["comment"].endswith("Unit: nats; 0 or more, not finite once a host diverged.")


def test_there_is_nothing_to_view_where_there_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        duckdb_views(tmp_path)


def test_a_line_of_forty_megabytes_a_foreign_time_zone_and_one_bad_value_each_cost_their_line_only(
    tmp_path: Path,
) -> None:
    log = tmp_path / "events.jsonl"
    good = [encode_event(numbered(n)) for n in (1, 2, 3)]
    zone = re.sub(r'"timestamp":"[^"]*"', '"timestamp":"2026-03-01T12:00:00+05:30"', encode_event(numbered(4)))
    nowhere = zone.replace("+05:30", "")
    lines = [
        good[0],
        encode_event(numbered(5, message="x" * 40_000_000)),  # an event, and long
        '{"schema_version":1,"message":"' + "y" * 40_000_000,  # torn off, and long
        good[1],
        zone,
        nowhere,
        encode_event(numbered(6)).replace('"inner_epoch":6', '"inner_epoch":"six"'),
        good[2],
    ]
    log.write_text("\n".join(lines) + "\n")
    with duckdb.connect() as connection:
        connection.execute(duckdb_views(log))
        rows = connection.execute("SELECT line, inner_epoch, timestamp, length(message) FROM epoch_completed")
        found = rows.fetchall()
        invalid = connection.execute("SELECT line, kind FROM invalid_lines ORDER BY line").fetchall()
    assert sorted(row[:2] for row in found) == [(1, 1), (2, 5), (4, 2), (5, 4), (8, 3)]
    assert max(row[3] or 0 for row in found) == 40_000_000
    assert datetime(2026, 3, 1, 6, 30) in {row[2] for row in found}  # noqa: DTZ001 - DuckDB's are naive, in UTC
    assert invalid == [(3, "json"), (6, "type"), (7, "type")]
