"""The schema says about a line what the decoder does, and the views give back what the events hold."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.leyline import EpochCompletedPayload, PayloadError, TelemetryEvent, TelemetryPayload, WireError
from esper.leyline.envelope import PAYLOADS
from esper.leyline.field_docs import meanings
from esper.leyline.schema import duckdb_views, json_schema
from esper.leyline.shapes import shapes_of
from esper.leyline.testing import events, same
from esper.leyline.wire import decode_event, encode_event

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DATA = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=math.inf, inner_epoch=3, seeds={"a": {"b": 1}})
RECORD: dict[str, Any] = json.loads(encode_event(TelemetryEvent(data=DATA)))


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


@settings(max_examples=60)
@given(events())
def test_it_accepts_every_line_that_is_written(event: TelemetryEvent) -> None:
    VALIDATOR.validate(json.loads(encode_event(event)))


WHATEVER: list[Any] = [None, True, 3, 0.5, "text", "NaN", [], [1], ["a"], {}, {"a": 1}, {"a": {"b": "NaN"}}, [{"a": 1}]]


def test_it_rejects_what_the_decoder_rejects_and_accepts_what_it_accepts(event: TelemetryEvent) -> None:
    record = json.loads(encode_event(event))
    verdicts = set()
    for part, names in ((record, [*record, "foreign"]), (record["data"], [*record["data"], "foreign"])):
        for name in names:
            whole = part.get(name)
            for value in WHATEVER:
                part[name] = value
                assert VALIDATOR.is_valid(record) == decodes(record), (name, value)
                verdicts.add(VALIDATOR.is_valid(record))
            del part[name]
            assert VALIDATOR.is_valid(record) == decodes(record), name
            if name != "foreign":
                part[name] = whole
    assert verdicts == {True, False}


@pytest.mark.parametrize("record", [None, 3, [], {}, {"schema_version": 2}, RECORD | {"schema_version": 2}])
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
    for name, shape in shapes_of(cls).items():
        floats = "#/$defs/float" in json.dumps(properties[name])
        assert floats == ("float" in shape.text), name


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
    with duckdb.connect() as database:
        database.execute(duckdb_views(log))
        result = database.execute(query)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


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
        for name in shapes_of(type(one.data)):
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


@settings(max_examples=25)
@given(floats=st.lists(st.floats(), min_size=1, max_size=20))
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
    newer = json.dumps(RECORD | {"schema_version": 2})
    log.write_text(f"{line}\n\n{newer}\n{line}\n{line[:100]}")
    assert rows(log, "SELECT count(*) AS n FROM events") == [{"n": 2}]
    assert len(rows(log, "FROM epoch_completed")) == 2


def test_an_integer_beyond_64_bits_is_an_error_and_not_a_wrong_number(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(encode_event(TelemetryEvent(data=dataclasses.replace(DATA, env_id=2**70))) + "\n")
    with pytest.raises(duckdb.ConversionException):
        rows(log, "SELECT env_id FROM epoch_completed")


def test_a_path_with_quotes_and_shards_in_a_directory_are_read(tmp_path: Path) -> None:
    run = tmp_path / 'Ann\'s "run" -- ; é'
    run.mkdir()
    for rank in range(2):
        (run / f"events-rank{rank}.jsonl").write_text(json.dumps(RECORD) + "\n")
    assert rows(run, "SELECT count(*) AS n FROM events") == [{"n": 2}]


def test_views_of_an_empty_log_are_empty(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.touch()
    for event_type in PAYLOADS:
        assert rows(log, f"FROM {event_type.lower()}") == []


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
