"""One event, one line; and a reader that neither skips a line without a word nor stops at one."""

from __future__ import annotations

import io
import json
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.leyline import (
    EpochCompletedPayload,
    PayloadError,
    PPOUpdatePayload,
    TelemetryEvent,
    TelemetryPayload,
    WireError,
)
from esper.leyline._payload.containers import DEEPEST
from esper.leyline.testing import events, same
from esper.leyline.wire import SCHEMA_VERSION, InvalidRecord, decode_event, encode_event, log_files, read_events

START = datetime(2026, 1, 1, tzinfo=UTC)


def made(**envelope: Any) -> TelemetryEvent:
    seeds = {"r0c1": {"alpha": 0.5, "note": "a:b"}}
    data = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3, seeds=seeds)
    return TelemetryEvent(**{"timestamp": START, "data": data, **envelope})


LINE = encode_event(made())
FLAT = encode_event(made(data=EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3)))
"""A line whose payload holds no object."""


def changed(**values: Any) -> str:
    """The line with some of the envelope's values replaced."""
    return json.dumps(json.loads(LINE) | values)


def changed_data(**values: Any) -> str:
    return changed(data=json.loads(LINE)["data"] | values)


def read(text: str | bytes) -> list[TelemetryEvent | InvalidRecord]:
    return list(read_events(io.BytesIO(text.encode() if isinstance(text, str) else text)))


# ---- what is written


@given(events())
def test_any_event_survives_the_wire(event: TelemetryEvent) -> None:
    line = encode_event(event)
    assert same(decode_event(line), event)
    assert same(decode_event(line.encode()), event)


@given(events())
def test_a_line_is_one_line_of_ascii_and_strict_json(event: TelemetryEvent) -> None:
    line = encode_event(event)
    assert line.isascii()
    assert line.isprintable()
    assert len(line.splitlines()) == 1

    def refuse(token: str) -> None:
        raise AssertionError(token)

    record = json.loads(line, parse_constant=refuse)
    assert record.keys() == {"schema_version"} | event.to_dict().keys()
    assert record["data"].keys() == event.data.to_dict().keys()


def test_what_was_not_supplied_is_not_written(bare: TelemetryPayload, required: dict[str, Any]) -> None:
    line = encode_event(TelemetryEvent(data=bare))
    assert json.loads(line)["data"].keys() == required.keys()
    assert decode_event(line).data.supplied == frozenset()


def test_numbers_that_are_not_finite_are_strings_and_never_null() -> None:
    seeds: dict[str, dict[str, Any]] = {
        "a": {"x": math.inf, "$float": "NaN"},
        "b": {"$float": "NaN"},
        "c": {"$dict": 1},
        "d": {"e": {"$float": 1}},
    }
    data = EpochCompletedPayload(env_id=0, val_accuracy=math.nan, val_loss=-math.inf, inner_epoch=1, seeds=seeds)
    line = encode_event(made(data=data))
    assert json.loads(line)["data"] == {
        "env_id": 0,
        "val_accuracy": "NaN",
        "val_loss": "-Infinity",
        "inner_epoch": 1,
        "seeds": {
            "a": {"x": {"$float": "Infinity"}, "$float": "NaN"},
            "b": {"$float": "NaN"},
            "c": {"$dict": 1},
            "d": {"e": {"$dict": {"$float": 1}}},
        },
    }
    assert same(decode_event(line).data, data)


HUGE = 10**5000
"""An integer of more digits than Python writes."""


class Unencodable:
    pass


UNENCODABLE: dict[str, dict[str, Any]] = {
    "env_id": {"env_id": "0"},
    "val_accuracy": {"val_accuracy": "0.5"},
    "val_loss": {"val_loss": Unencodable()},
    "inner_epoch": {"inner_epoch": 1.0},
    "seeds": {"seeds": {1: {}}},
    "seeds['a']": {"seeds": {"a": [1]}},
    "seeds['a']['b']": {"seeds": {"a": {"b": Unencodable()}}},
    "seeds['a']['c']": {"seeds": {"a": {"c": "\ud800"}}},
    "seeds['a']['d']": {"seeds": {"a": {"d": (1,)}}},
}


@pytest.mark.parametrize("path", UNENCODABLE)
def test_a_payload_that_cannot_be_written_is_refused_by_field(path: str) -> None:
    fields = {"env_id": 0, "val_accuracy": 0.5, "val_loss": 1.0, "inner_epoch": 3} | UNENCODABLE[path]
    with pytest.raises(PayloadError) as caught:
        encode_event(made(data=EpochCompletedPayload(**fields)))
    assert [p.path for p in caught.value.problems] == [path]
    assert caught.value.payload == "EpochCompletedPayload"


@pytest.mark.parametrize(
    ("name", "value", "actual"),
    [
        pytest.param("nan_grad_count", HUGE, "int …", id="huge"),
        ("layer_gradient_health", MappingProxyType({"a": 1.0}), "mappingproxy mappingproxy({'a': 1.0})"),
        ("layer_gradient_health", {1: 1.0}, "key int 1"),
        ("head_op_entropy", {None: 1.0}, "key NoneType None"),
    ],
)
def test_what_only_a_payload_cannot_hold_is_refused_by_field_too(name: str, value: Any, actual: str) -> None:
    numbers = ("policy_loss", "value_loss", "entropy", "grad_norm", "kl_divergence", "clip_fraction", "nan_grad_count")
    with pytest.raises(PayloadError) as caught:
        encode_event(made(data=PPOUpdatePayload(**(dict.fromkeys(numbers, 0) | {name: value}))))
    assert [(problem.path, problem.actual) for problem in caught.value.problems] == [(name, actual)]


def nested(depth: int, value: Any, of: str) -> Any:
    """A value in a field of dict[str, dict[str, Any]], as deep as asked for."""
    for _ in range(depth - 2):
        value = [value] if of == "list" else {"é" if of == "foreign" else "a": value}
    return {"s": {"k": value}}


@pytest.mark.parametrize("of", ["list", "dict", "foreign"])
@pytest.mark.parametrize("value", [0.5, math.nan, "$float"])
def test_what_is_nested_as_deep_as_may_be_is_written_and_read_and_deeper_is_neither(of: str, value: Any) -> None:
    fields: dict[str, Any] = {"env_id": 0, "val_accuracy": 0.5, "val_loss": 1.0, "inner_epoch": 3}
    data = EpochCompletedPayload(**fields, seeds=nested(DEEPEST, value, of))
    assert same(decode_event(encode_event(made(data=data))).data, data)
    assert same(EpochCompletedPayload.from_dict(data.to_dict()), data)

    deeper = EpochCompletedPayload(**fields, seeds=nested(DEEPEST + 1, value, of))
    problem = f"seeds: expected containers at most {DEEPEST} deep, got deeper ones"
    with pytest.raises(PayloadError, match=problem):
        encode_event(made(data=deeper))
    with pytest.raises(PayloadError, match=problem):
        EpochCompletedPayload.from_dict(deeper.to_dict())
    with pytest.raises(PayloadError, match=problem):
        decode_event(changed_data(seeds=nested(DEEPEST + 1, 0.5, of)))


def test_a_tensor_is_refused_and_not_written_as_text() -> None:
    torch = pytest.importorskip("torch")
    data = EpochCompletedPayload(env_id=0, val_accuracy=torch.tensor(71.5), val_loss=1.0, inner_epoch=3)
    with pytest.raises(PayloadError, match=r"val_accuracy: expected float, got Tensor tensor\(71.5"):
        encode_event(made(data=data))


def test_content_without_end_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    data = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3, seeds={"a": endless})
    with pytest.raises(PayloadError, match="at most 64 deep"):
        encode_event(made(data=data))


def test_every_problem_of_the_envelope_and_its_payload_is_reported_at_once() -> None:
    wrong = {"event_id": 5, "timestamp": "x", "severity": "loud", "level": 1, "data": {"env_id": "0", "loss": 1}}
    with pytest.raises(PayloadError) as caught:
        decode_event(changed(**wrong))
    assert caught.value.missing == ("data.val_accuracy", "data.val_loss", "data.inner_epoch")
    assert caught.value.unknown == ("level", "data.loss")
    assert {p.path for p in caught.value.problems} == {"event_id", "timestamp", "severity", "data.env_id"}


def test_of_very_many_wrong_values_only_the_first_are_reported() -> None:
    with pytest.raises(PayloadError) as caught:
        decode_event(changed_data(seeds=dict.fromkeys(map(str, range(1_000_000)))))
    problems = caught.value.problems
    assert [p.path for p in problems[:2]] == ["seeds['0']", "seeds['1']"]
    assert (len(problems), problems[-1].actual) == (101, "more of such values")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", 3), ("event_id", None), ("seed_id", 0), ("seed_id", "\ud800"), ("slot_id", ["a"]), ("epoch", "1"),
        ("epoch", 1.0), ("epoch", HUGE), ("group_id", None), ("message", b"x"), ("severity", "loud"), ("severity", []),
    ],
    ids=lambda value: "huge" if value is HUGE else None,
)  # fmt: skip
def test_an_envelope_that_cannot_be_written_is_refused_by_field(field: str, value: Any) -> None:
    with pytest.raises(PayloadError) as caught:
        encode_event(made(**{field: value}))
    assert [p.path for p in caught.value.problems] == [field]
    assert caught.value.payload == "TelemetryEvent"


# ---- what is read: one case a row of the table in the module's docstring, and more

NO_EVENT: dict[str, tuple[str, str, str]] = {
    # what: (the line, its kind, part of the reason)
    "empty": ("", "empty", "an empty line"),
    "blanks": (" \t ", "empty", "an empty line"),
    "text": ("epoch 3 done", "json", "not JSON: Expecting value at column 1"),
    "two objects": (LINE + LINE, "json", "more text after the object"),
    "bare NaN": (LINE.replace("1.0", "NaN"), "json", "not strict JSON: bare NaN"),
    "bare -Infinity": (LINE.replace("1.0", "-Infinity"), "json", "bare -Infinity"),
    "single quotes": ("{'a': 1}", "json", "not JSON"),
    "control character": (LINE.replace("a:b", "a\x01b"), "json", "not JSON: Invalid control character"),
    "key twice": (LINE.replace('"epoch":null', '"epoch":1,"epoch":1'), "json", "key 'epoch' stands twice"),
    "key twice in the payload": (LINE.replace('"env_id":0', '"env_id":0,"env_id":1'), "json", "'env_id' stands twice"),
    "key twice in a container": (LINE.replace('"alpha":0.5', '"alpha":0.5,"\\u0061lpha":1'), "json", "'alpha' stands"),
    "key twice in a flat line": (FLAT.replace('"epoch":null', '"epoch":1,"epoch":1'), "json", "'epoch' stands"),
    "key twice in a flat payload": (FLAT.replace('"env_id":0', '"env_id":0,"env_id":0'), "json", "'env_id' stands"),
    "payload twice": (FLAT.replace('"data":{', '"data":{},"data":{'), "json", "key 'data' stands twice"),
    "payload a number in a flat line": (FLAT.replace('"data":{', '"data":3,"x":{'), "unknown", "unknown x"),
    "time with another separator": (changed(timestamp="2026-01-02é03:04:05Z"), "type", "timestamp: expected a time"),
    "surrogate in a key that is no field": (changed_data(**{"\ud800": 1}), "unknown", r"unknown '\ud800'"),
    "line end in a key that is no field": (changed(**{"a\nb.jsonl:1: json": 1}), "unknown", r"unknown 'a\nb.jsonl"),
    "object for text in a flat line": (FLAT.replace('"seed_id":null', '"seed_id":{}'), "type", "got dict {}"),
    "key twice behind an escaped colon": (
        LINE.replace("+00:00", "+00\\u003a00").replace('"epoch":null', '"epoch":1,"epoch":1'),
        "json",
        "key 'epoch' stands twice",
    ),
    "nesting bomb of lists": ("[" * 200_000, "json", "nested too deeply"),
    "nesting bomb of objects": ('{"a":' * 200_000, "json", "nested too deeply"),
    "integer bomb": (changed().replace('"env_id": 0', '"env_id": ' + "9" * 5000), "json", "not readable: Exceeds"),
    "list": ("[1, 2]", "envelope", "expected a JSON object, got list"),
    "number": ("3", "envelope", "expected a JSON object, got int"),
    "no version": ('{"level": "info"}', "envelope", "no schema_version"),
    "version 0": (changed(schema_version=0), "envelope", "expected a number from 1, got 0"),
    "version of another type": (changed(schema_version="1"), "envelope", "expected a number from 1, got '1'"),
    "version true": (changed(schema_version=True), "envelope", "expected a number from 1, got True"),
    "newer version": (changed(schema_version=SCHEMA_VERSION + 1), "version", "pip install -U esper-telemetry"),
    "newer version, other fields": ('{"schema_version": 99, "kind": 1}', "version", "schema version 99"),
    "nothing but a version": ('{"schema_version": 1}', "missing", "missing event_id, event_type, timestamp, data"),
    "payload field missing": (changed(data={"env_id": 0}), "missing", "missing val_accuracy, val_loss, inner_epoch"),
    "unknown field in the envelope": (changed(level=1), "unknown", "TelemetryEvent: unknown level"),
    "unknown field in the payload": (changed_data(loss=1), "unknown", "EpochCompletedPayload: unknown loss"),
    "event type unknown": (changed(event_type="EPOCH_DONE"), "type", "one of TRAINING_STARTED, EPOCH_COMPLETED, "),
    "event type of another payload": (changed(event_type="SEED_PRUNED"), "missing", "missing slot_id"),
    "event type of another kind": (changed(event_type=["a"]), "type", "event_type"),
    "severity unknown": (changed(severity="loud"), "type", "expected one of debug, info, warning, error, critical"),
    "severity of another kind": (changed(severity=None), "type", "severity"),
    "no time": (changed(timestamp="yesterday"), "type", "timestamp: expected a time in ISO 8601 with its zone"),
    "time without zone": (changed(timestamp="2026-01-01T00:00:00"), "type", "with its zone"),
    "time out of range": (changed(timestamp="0001-01-01T00:00:00+14:00"), "type", "timestamp"),
    "time as a number": (changed(timestamp=1767225600), "type", "timestamp"),
    "seed id false": (changed(seed_id=False), "type", "seed_id: expected str | None, got bool False"),
    "slot id zero": (changed(slot_id=0), "type", "slot_id: expected str | None, got int 0"),
    "event id null": (changed(event_id=None), "type", "event_id"),
    "epoch true": (changed(epoch=True), "type", "epoch: expected int | None, got bool True"),
    "epoch a float": (changed(epoch=3.0), "type", "epoch"),
    "message a list": (changed(message=[]), "type", "message"),
    "payload a list": (changed(data=[]), "type", "expected a mapping from field names to values"),
    "payload null": (changed(data=None), "type", "expected a mapping from field names to values"),
    "float for int": (changed_data(env_id=3.0), "type", "env_id: expected int, got float 3.0"),
    "exponent for int": (LINE.replace('"env_id":0', '"env_id":1e3'), "type", "env_id: expected int, got float 1000.0"),
    "text for float": (changed_data(val_loss="1.0"), "type", "val_loss: expected float, got str '1.0'"),
    "infinity spelt otherwise": (changed_data(val_loss="inf"), "type", "val_loss: expected float, got str 'inf'"),
    "NaN for int": (changed_data(env_id="NaN"), "type", "env_id: expected int, got str 'NaN'"),
    "null for float": (changed_data(val_loss=None), "type", "val_loss: expected float, got NoneType None"),
    "lone surrogate": (changed(message="\ud800"), "type", "message: expected valid Unicode"),
    "lone surrogate in a container": (changed_data(seeds={"a": {"b": "\ud800"}}), "type", "seeds['a']['b']"),
    "lone surrogate in a key": (changed_data(seeds={"\ud800": {}}), "type", "keys of valid Unicode text"),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_EVENT)
def test_a_line_that_is_no_event_is_reported_with_place_kind_reason_and_text_and_reading_goes_on(
    what: str, tmp_path: Path
) -> None:
    line, kind, reason = NO_EVENT[what]
    log = tmp_path / "events.jsonl"
    log.write_text(f"{LINE}\n{line}\n{LINE}\n", encoding="utf-8")
    first, record, last = read_events(log)
    assert isinstance(first, TelemetryEvent)
    assert isinstance(last, TelemetryEvent)
    assert isinstance(record, InvalidRecord)
    assert (record.file, record.line, record.kind, record.text) == (str(log), 2, kind, line)
    assert reason in record.reason


@pytest.mark.parametrize("what", NO_EVENT)
def test_decode_event_raises_for_what_is_no_event(what: str) -> None:
    line, kind, reason = NO_EVENT[what]
    with pytest.raises((WireError, PayloadError)) as caught:
        decode_event(line)
    assert reason in str(caught.value)
    if isinstance(caught.value, WireError):
        assert caught.value.kind == kind


FINE = {
    "blanks around": f"  {LINE}\t",
    "blanks within": changed(),
    "keys in another order": json.dumps(dict(reversed(json.loads(LINE).items()))),
    "text beyond ASCII as it is": json.dumps(json.loads(LINE) | {"message": "é🌱"}, ensure_ascii=False),
    "optional parts of the envelope left out": json.dumps(
        {k: json.loads(LINE)[k] for k in ("schema_version", "event_id", "event_type", "timestamp", "data")}
    ),
    "time of another zone": changed(timestamp="2026-01-01T05:30:00+05:30"),
    "time in Zulu": changed(timestamp="2026-01-01T00:00:00Z"),
    "an escaped colon": LINE.replace("+00:00", "+00\\u003a00"),
}


@pytest.mark.parametrize("what", FINE)
def test_a_line_written_otherwise_is_an_event_all_the_same(what: str) -> None:
    event = decode_event(FINE[what])
    assert event.data == made().data
    assert event.timestamp == START
    assert event.timestamp.tzinfo is UTC


def test_a_number_beyond_every_float_reads_as_infinity() -> None:
    assert (
        decode_event(LINE.replace('"val_loss":1.0', '"val_loss":1e999')).data
        == made(data=EpochCompletedPayload(0, 0.5, math.inf, 3, {"r0c1": {"alpha": 0.5, "note": "a:b"}})).data
    )


def test_huge_integers_are_exact() -> None:
    event = made(epoch=-(10**4000))
    assert decode_event(encode_event(event)).epoch == -(10**4000)


@pytest.mark.parametrize("cut", [1, 20, 200, len(LINE) - 1])
def test_a_last_line_cut_off_is_torn(cut: int) -> None:
    first, torn = read(f"{LINE}\n{LINE[:cut]}")
    assert isinstance(first, TelemetryEvent)
    assert isinstance(torn, InvalidRecord)
    assert (torn.line, torn.kind, torn.text) == (2, "torn", LINE[:cut])
    assert torn.reason.startswith("the log ends within this line")


def test_a_last_line_cut_off_within_a_character_is_torn() -> None:
    line = json.dumps(json.loads(LINE) | {"message": "é"}, ensure_ascii=False).encode()
    (torn,) = read(line[: line.index("é".encode()) + 1])
    assert isinstance(torn, InvalidRecord)
    assert torn.kind == "torn"
    assert torn.text.endswith("\\xc3")


def test_a_whole_last_line_without_its_end_is_an_event() -> None:
    assert [type(r) for r in read(f"{LINE}\n{LINE}")] == [TelemetryEvent, TelemetryEvent]


def test_bytes_that_are_not_utf_8_are_reported() -> None:
    bad = LINE.encode().replace(b"a:b", b"a\xffb")
    _, record, _ = read(b"\n".join([LINE.encode(), bad, LINE.encode(), b""]))
    assert isinstance(record, InvalidRecord)
    assert record.kind == "utf-8"
    assert "a\\xffb" in record.text


def test_a_byte_order_mark_and_crlf_are_accepted() -> None:
    records = read(b"\xef\xbb\xbf" + f"{LINE}\r\n{LINE}\r\n".encode())
    assert [type(r) for r in records] == [TelemetryEvent, TelemetryEvent]
    (record,) = read("x\r\n")
    assert isinstance(record, InvalidRecord)
    assert record.text == "x"


def test_a_line_may_be_ten_megabytes_long() -> None:
    event = made(message="x" * 10_000_000)
    long, short = read(f"{encode_event(event)}\n{LINE}\n")
    assert same(long, event)
    assert isinstance(short, TelemetryEvent)


def test_an_empty_log_has_no_records() -> None:
    assert read("") == []


@given(st.lists(st.binary(max_size=20), max_size=4))
def test_no_bytes_stop_the_reader_and_every_line_is_accounted_for(junk: list[bytes]) -> None:
    records = read(b"\n".join([*junk, LINE.encode(), b""]))
    assert isinstance(records[-1], TelemetryEvent)
    assert len(records) == len(b"\n".join([*junk, b"x"]).split(b"\n"))
    for number, record in enumerate(records[:-1], 1):
        assert isinstance(record, InvalidRecord)
        assert record.line == number


@given(events(), st.data())
def test_a_line_with_one_character_changed_is_an_event_or_reported(event: TelemetryEvent, data: st.DataObject) -> None:
    line = encode_event(event)
    place = data.draw(st.integers(0, len(line) - 1))
    spoilt = line[:place] + data.draw(st.sampled_from('0"{}[]:,\\-.etn ')) + line[place + 1 :]
    (record,) = read(f"{spoilt}\n")
    assert isinstance(record, TelemetryEvent | InvalidRecord)


# ---- where it is read from


def test_a_text_stream_is_read_as_a_binary_one_is() -> None:
    text = f"\ufeff{LINE}\r\n\n\ud800\n{LINE[:9]}"
    kinds = [r.kind for r in read_events(io.StringIO(text)) if isinstance(r, InvalidRecord)]
    assert kinds == ["empty", "utf-8", "torn"]


def test_bytes_that_are_not_utf_8_do_not_end_a_text_stream(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"\xff\n" + LINE.encode() + b"\n")
    with (tmp_path / "x.jsonl").open(encoding="utf-8") as stream:
        first, second = read_events(stream)
    assert isinstance(first, InvalidRecord)
    assert (first.kind, first.text) == ("utf-8", "\\xff")
    assert isinstance(second, TelemetryEvent)


@pytest.mark.parametrize(
    "line",
    [LINE.replace('"epoch":null', '"epoch":1,"epoch":1'), LINE + "{}", LINE.replace("1.0", "NaN")],
    ids=["key twice", "two objects", "bare NaN"],
)
def test_a_whole_last_line_that_is_wrong_is_not_torn(line: str) -> None:
    (record,) = read(line)
    assert isinstance(record, InvalidRecord)
    assert record.kind == "json"


def test_a_stream_is_named_in_the_record(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("x\n")
    with (tmp_path / "x.jsonl").open() as stream:
        (named,) = read_events(stream)
    (nameless,) = read_events(io.StringIO("x\n"))
    assert isinstance(named, InvalidRecord)
    assert isinstance(nameless, InvalidRecord)
    assert (named.file, nameless.file) == (str(tmp_path / "x.jsonl"), "<stream>")


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{LINE}\nx\n".encode())))
    event, record = read_events("-")
    assert isinstance(event, TelemetryEvent)
    assert isinstance(record, InvalidRecord)
    assert record.file == "<stdin>"


def test_a_run_directory_is_its_log(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(f"{LINE}\n")
    (tmp_path / "rejected.jsonl").write_text("not for readers\n")
    assert log_files(tmp_path) == [tmp_path / "events.jsonl"]
    assert [type(r) for r in read_events(str(tmp_path))] == [TelemetryEvent]


def test_shards_are_merged_by_time_and_each_keeps_its_own_order(tmp_path: Path) -> None:
    # Rank 0's clock went back once, rank 1 wrote a line that is no event.
    times: dict[int, list[int | None]] = {0: [0, 5, 3, 9], 1: [1, None, 4, 6]}
    for rank, seconds in times.items():
        lines = [
            "x" if s is None else encode_event(made(event_id=f"{rank}:{s}", timestamp=START + timedelta(seconds=s)))
            for s in seconds
        ]
        (tmp_path / f"events-rank{rank}.jsonl").write_text("\n".join(lines) + "\n")
    read = [r.event_id if isinstance(r, TelemetryEvent) else f"line {r.line}" for r in read_events(tmp_path)]
    assert read == ["0:0", "1:1", "line 2", "1:4", "0:5", "0:3", "1:6", "0:9"]


def test_one_shard_can_be_read_alone(tmp_path: Path) -> None:
    for rank in (0, 1):
        (tmp_path / f"events-rank{rank}.jsonl").write_text(f"{LINE}\n" * (rank + 1))
    assert len(list(read_events(tmp_path / "events-rank1.jsonl"))) == 2
    assert len(list(read_events(tmp_path))) == 3


def test_nothing_to_read_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such log"):
        read_events(tmp_path / "none.jsonl")
    with pytest.raises(FileNotFoundError, match=r"no log in .*: expected events\.jsonl or events-rank\*\.jsonl"):
        read_events(tmp_path)


def test_reading_is_lazy(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(f"{LINE}\n")
    with log.open("a") as end:
        records = read_events(log)
        assert isinstance(next(records), TelemetryEvent)
        end.write(f"{LINE}\n")
        end.flush()
        assert isinstance(next(records), TelemetryEvent)
