"""A log of dicts becomes events by its map alone: nothing is guessed, nothing is lost."""

from __future__ import annotations

import gzip
import json
import math
import random
import re
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import tries

from esper.karn.importing.convert import NotConverted, Skipped, convert
from esper.karn.importing.lines import NotJsonError, numbered_lines, parsed
from esper.karn.importing.log import convert_log
from esper.karn.importing.mapping import LogMap, MapError, read_map
from esper.karn.importing.survey import map_to_start_from
from esper.karn.importing.writer import SET_ASIDE, RunWriter
from esper.leyline import (
    EpochCompletedPayload,
    PPOUpdatePayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    read_events,
)
from esper.leyline.testing import JSON, TEXT

MAP = """
kind = "event_type"
[kinds.TAMIYO_INITIATED]
skip = true
[kinds.SEED_CULLED]
to = "SEED_PRUNED"
drop = ["seed_id", "blending_delta"]
[kinds.SEED_CULLED.fields]
slot_id = "/slot_id"
improvement = { from = "improvement", scale = 0.01 }
[kinds.SEED_STAGE_CHANGED]
to = "SEED_STAGE_CHANGED"
[kinds.SEED_STAGE_CHANGED.fields]
slot_id = "/slot_id"
from_stage = "from"
to_stage = { from = "to", values = { CULLED = "PRUNED" } }
[kinds.UPDATE]
to = "PPO_UPDATE_COMPLETED"
[kinds.UPDATE.fields]
kl_divergence = "approx_kl"
nan_grad_count = { assume = 0 }
grad_norm = { from = "grad", assume = nan }
"""
UPDATE = {"policy_loss": 0.1, "value_loss": 62, "entropy": 0.3, "approx_kl": 0.001, "clip_fraction": 0.0}
CULLED = {"reason": "", "improvement": 6.1, "blending_delta": 4.0, "seed_id": "s", "env_id": 1}


def record(kind: str, data: object, **fields: object) -> dict[str, Any]:
    envelope = {"event_id": "e", "event_type": kind, "timestamp": "2025-12-06T00:42:14.055612+00:00", "message": "m"}
    return {**envelope, "seed_id": "s", "slot_id": "block2", "epoch": None, "severity": "info", "data": data, **fields}


def the_map(directory: Path, text: str = MAP) -> LogMap:
    file = directory / "map.toml"
    file.write_text(text, encoding="utf-8")
    return read_map(file)


@pytest.fixture
def log_map(tmp_path: Path) -> LogMap:
    return the_map(tmp_path)


def event_of(made: object) -> TelemetryEvent:
    assert isinstance(made, TelemetryEvent), made
    return made


def problem_of(made: object) -> str:
    assert isinstance(made, NotConverted), made
    return made.what


# --- one record ------------------------------------------------------------------------------------------------------


def test_names_are_renamed_and_percent_scaled_and_texts_replaced(log_map: LogMap) -> None:
    made = event_of(convert(record("SEED_CULLED", CULLED), log_map, 1))
    assert made.data == SeedPrunedPayload(slot_id="block2", env_id=1, reason="", improvement=0.061)
    assert (made.event_id, made.slot_id, made.message) == ("e", "block2", "m")
    assert made.timestamp == datetime(2025, 12, 6, 0, 42, 14, 55612, tzinfo=UTC)
    made = event_of(convert(record("SEED_STAGE_CHANGED", {"from": "A", "to": "CULLED", "env_id": 1}), log_map, 1))
    assert made.data == SeedStageChangedPayload(slot_id="block2", env_id=1, from_stage="A", to_stage="PRUNED")


def test_scaling_gives_the_float_that_the_decimal_is(log_map: LogMap) -> None:
    for percent in (57, 7, 0.07, 29, 1e-300, -13.7):
        made = event_of(convert(record("SEED_CULLED", CULLED | {"improvement": percent}), log_map, 1))
        assert isinstance(made.data, SeedPrunedPayload)
        assert made.data.improvement == float(Decimal(repr(percent)) / 100)


@pytest.mark.parametrize(("value", "scaled"), [(10**400, math.inf), (-(10**400), -math.inf), (-math.inf, -math.inf)])
def test_what_no_float_holds_is_infinite(value: float, scaled: float, log_map: LogMap, tmp_path: Path) -> None:
    given_ = record("SEED_CULLED", CULLED | {"improvement": value})
    made = event_of(convert(given_, log_map, 1))
    assert isinstance(made.data, SeedPrunedPayload)
    assert made.data.improvement == scaled
    assert "[kinds.SEED_CULLED]  # 1 record" in started_from([given_], tmp_path)[0]


def test_what_is_assumed_is_so_by_the_map_alone_and_stands_in_the_message(log_map: LogMap) -> None:
    made = event_of(convert(record("UPDATE", UPDATE), log_map, 1))
    assert isinstance(made.data, PPOUpdatePayload)
    assert math.isnan(made.data.grad_norm)
    assert made.message == "m (assumed: grad_norm = nan, nan_grad_count = 0)"
    measured = event_of(convert(record("UPDATE", UPDATE | {"grad": 0.5}), log_map, 1))
    assert measured.message == "m (assumed: nan_grad_count = 0)"


def test_a_constant_never_takes_the_place_of_what_the_record_says(log_map: LogMap) -> None:
    what = problem_of(convert(record("UPDATE", UPDATE | {"nan_grad_count": 3}), log_map, 1))
    assert what == "unknown '/data/nan_grad_count'"


def test_what_was_never_measured_stays_unconvertible(tmp_path: Path) -> None:
    bare = the_map(tmp_path, '[kinds.UPDATE]\nto = "PPO_UPDATE_COMPLETED"')
    what = problem_of(convert(record("UPDATE", UPDATE), bare, 1))
    assert what == "missing grad_norm, kl_divergence, nan_grad_count; unknown approx_kl"


def test_a_null_says_that_there_is_nothing(log_map: LogMap) -> None:
    made = event_of(convert(record("UPDATE", UPDATE | {"explained_variance": None, "foreign": None}), log_map, 1))
    assert "explained_variance" not in made.data.supplied


def test_bare_tokens_of_json_dumps_are_floats(log_map: LogMap) -> None:
    line = json.dumps(record("UPDATE", UPDATE | {"explained_variance": math.nan, "value_loss": math.inf}))
    assert "NaN" in line
    made = event_of(convert(parsed(line.encode()), log_map, 1))
    assert isinstance(made.data, PPOUpdatePayload)
    assert made.data.value_loss == math.inf


def test_every_key_has_to_be_accounted_for(log_map: LogMap) -> None:
    assert problem_of(convert(record("SEED_CULLED", CULLED | {"new": 1}), log_map, 1)) == "unknown new"
    assert problem_of(convert(record("SEED_CULLED", CULLED, host="gpu7"), log_map, 1)) == "unknown host"


@pytest.mark.parametrize(
    ("given_", "what"),
    [
        ([], "not an object but list"),
        ({}, "no text at /event_type that says what it is about"),
        (record("NEW_KIND", {}), "the map does not name this kind"),
        (record("UPDATE", "text"), "no object at /data"),
        (record("UPDATE", UPDATE | {"entropy": "0.3"}), "entropy: expected float"),
        (record("UPDATE", UPDATE, timestamp="yesterday"), "timestamp: expected a time in ISO 8601 with its zone"),
        (
            record("UPDATE", UPDATE, timestamp="2025-12-06T00:42:14"),
            "timestamp: expected a time in ISO 8601 with its zone",
        ),
        (record("UPDATE", UPDATE, message="\ud800"), "message: expected valid Unicode"),
    ],
)
def test_what_is_wrong_is_said_without_the_record_s_own_values(given_: Any, what: str, log_map: LogMap) -> None:
    assert problem_of(convert(given_, log_map, 1)) == what


def test_a_time_without_a_zone_is_taken_by_the_one_of_the_map_and_marked(tmp_path: Path) -> None:
    zoned = the_map(tmp_path, MAP + '[envelope]\ntimestamp = { from = "timestamp", zone = "Europe/Berlin" }')
    made = event_of(convert(record("UPDATE", UPDATE, timestamp="2025-07-06 02:00:00,5"), zoned, 1))
    assert made.timestamp == datetime(2025, 7, 6, 0, 0, 0, 500_000, tzinfo=UTC)
    assert "time zone Europe/Berlin" in made.message
    own = event_of(convert(record("UPDATE", UPDATE, timestamp="2025-07-06T02:00:00Z"), zoned, 1))
    assert (own.timestamp.hour, "zone" in own.message) == (2, False)


@pytest.mark.parametrize(
    ("unix", "value"), [("s", 1764981734.055612), ("ms", 1764981734055.612), ("us", 1764981734055612), ("s", 10**30)]
)
def test_a_time_may_be_a_number(unix: str, value: float, tmp_path: Path) -> None:
    counted = the_map(tmp_path, MAP + f'[envelope]\ntimestamp = {{ from = "ts", unix = "{unix}" }}')
    given_ = record("UPDATE", UPDATE, ts=value)
    del given_["timestamp"]
    made = convert(given_, counted, 1)
    if value == 10**30:
        assert "timestamp" in problem_of(made)
    else:
        assert event_of(made).timestamp == datetime(2025, 12, 6, 0, 42, 14, 55612, tzinfo=UTC)


def test_a_flat_record_is_its_own_data(tmp_path: Path) -> None:
    text = 'kind = "type"\ndata = ""\n[kinds.epoch]\nto = "EPOCH_COMPLETED"\n[kinds.epoch.fields]\n'
    flat = the_map(tmp_path, text + 'val_accuracy = {from = "acc", scale = 0.01}\ninner_epoch = "epoch"')
    given_ = {"type": "epoch", "timestamp": "2025-12-06T00:00Z", "epoch": 3, "acc": 50, "val_loss": 1.0, "env_id": 0}
    made = event_of(convert(given_, flat, 1))
    assert made.data == EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3)
    assert made.epoch == 3
    assert made.event_id == event_of(convert(given_, flat, 1)).event_id != event_of(convert(given_, flat, 2)).event_id


def test_a_kind_is_skipped_by_name(log_map: LogMap) -> None:
    assert convert(record("TAMIYO_INITIATED", {}), log_map, 1) == Skipped("TAMIYO_INITIATED")


# --- a map -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind = ", "is no TOML: Invalid value (at end of document)"),
        ("\ud800x = 1".encode("utf-8", "surrogatepass").decode("latin-1"), "is no TOML: "),
        ("kinds = 3", "kinds: expected a table, got 3"),
        ("knds = {}", "knds: this means nothing here; did you mean kinds? There are kind, data, drop, envelope, kinds"),
        ("kind = 3", "kind: expected the name of a key, got 3"),
        ('kind = ""', "kind: expected the key that says what a record is about"),
        ("[kinds]\nA = 1", "kinds.A: expected a table with to or skip, got 1"),
        ("[kinds.A]", 'kinds.A: expected to = "EVENT_TYPE" or skip = true'),
        ("[kinds.A]\nskip = false", "kinds.A.skip: expected true, got False"),
        ('[kinds.A]\nto = "SEED_PRUNE"', "kinds.A.to: 'SEED_PRUNE' is no type of event; did you mean SEED_PRUNED?"),
        ("[kinds.A]\nto = 3", "kinds.A.to: 3 is no type of event; There are TRAINING_STARTED"),
        ('[kinds."a b"]\nto = "SEED_PRUNED"\n[kinds."a b".fields]\nreson = "x"',
         "kinds.'a b'.fields.reson: there is no such field; did you mean reason?"),
        ('[kinds.A]\nto = "SEED_PRUNED"\n[kinds.A.fields]\nreason = 3', "kinds.A.fields.reason: expected a key, or a"),
        ('[kinds.A]\nto = "SEED_PRUNED"\n[kinds.A.fields]\nreason = {}', "kinds.A.fields.reason: expected from"),
        ('[kinds.A]\nto = "SEED_PRUNED"\n[kinds.A.fields]\nreason = {assume = 3}',
         "kinds.A.fields.reason.assume: expected str, got int 3"),
        ('[kinds.A]\nto = "SEED_PRUNED"\n[kinds.A.fields]\nreason = {from = "r", scale = 0}',
         "kinds.A.fields.reason.scale: expected a number that is not 0, got 0"),
        ('[kinds.A]\nto = "SEED_PRUNED"\n[kinds.A.fields]\nreason = {from = "r", zone = "UTC"}',
         "kinds.A.fields.reason.zone: this means nothing here; There are from, scale, values, assume"),
        ('[envelope]\ntimestamp = {from = "t", zone = "../../etc"}', "envelope.timestamp.zone: '../../etc' is no time"),
        ('[envelope]\ntimestamp = {from = "t", unix = "h"}', "envelope.timestamp.unix: expected one of s, ms, us, ns"),
        ("[envelope]\ndata = 'x'", "envelope.data: there is no such field; "),
        ("drop = 'x'", "drop: expected a list of keys, got 'x'"),
    ],
)  # fmt: skip
def test_a_bad_map_is_refused_with_its_key_and_what_is_known(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(MapError) as caught:
        the_map(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "map.toml"))
    assert says in message


@settings(max_examples=tries(300))
@given(seed=st.integers(0, 1 << 32))
def test_whatever_is_done_to_a_map_only_its_error_leaves_the_reader(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    file = tmp_path_factory.getbasetemp() / "mutated.toml"
    mutated = bytearray(MAP.encode())
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(mutated))
        mutated[at : at + rng.randint(0, 9)] = rng.choice([b"", b"=", b"{", b"[[x]]", b"1e999", b"\xff", b'"', b"skip"])
    file.write_bytes(mutated)
    with suppress(MapError):
        read_map(file)


# --- a log -----------------------------------------------------------------------------------------------------------


def run_of(lines: list[bytes], log_map: LogMap, directory: Path) -> tuple[Any, RunWriter]:
    directory.mkdir()
    with RunWriter(directory) as writer:
        done = convert_log(iter(enumerate(lines, 1)), log_map, writer)
    return done, writer


def test_what_cannot_be_converted_is_reported_by_groups_and_kept_as_it_came(log_map: LogMap, tmp_path: Path) -> None:
    change = {"from": "A", "to": "B"}
    odd = b'{"event_type": "UPDATE",   "data" : {}}\r\n'
    lines = [
        *[json.dumps(record("SEED_STAGE_CHANGED", change | {"n": n})).encode() + b"\n" for n in range(828)],
        odd, b"\xff\xfe\n", b'{"a": 1, "a": 2}\n', b"[" * 3_000 + b"\n", b'{"event_type": "SEED',
        json.dumps(record("TAMIYO_INITIATED", {})).encode(),
    ]  # fmt: skip
    done, writer = run_of(lines, log_map, tmp_path / "run")
    assert done.sentences()[0] == "828 SEED_STAGE_CHANGED, first in line 1: missing env_id; unknown n"
    assert "1 line, first in line 830: not UTF-8" in done.sentences()
    assert "1 line, first in line 831: a key that stands twice in one object" in done.sentences()
    assert (writer.set_aside, writer.events.total(), done.skipped.total()) == (833, 0, 1)
    assert (tmp_path / "run" / SET_ASIDE).read_bytes() == b"".join(lines[:-1]) + b"\n"


@settings(max_examples=tries(60))
@given(
    st.lists(
        st.builds(
            record,
            st.sampled_from(["UPDATE", "SEED_CULLED", "SEED_STAGE_CHANGED", "TAMIYO_INITIATED", "NEW"]) | TEXT,
            st.sampled_from([UPDATE, CULLED, {}]) | st.dictionaries(st.sampled_from([*UPDATE, *CULLED]) | TEXT, JSON),
        )
        | JSON,
        max_size=8,
    )
)
def test_every_line_is_an_event_or_skipped_or_aside(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any]
) -> None:
    directory = tmp_path_factory.mktemp("import")
    lines = [json.dumps(each).encode() + b"\n" for each in records]
    done, writer = run_of(lines, the_map(directory), directory / "run")
    assert writer.events.total() + done.skipped.total() + writer.set_aside == len(lines)
    assert sum(count for count, _, _ in done.aside.values()) == writer.set_aside
    log = directory / "run" / "events.jsonl"
    read = list(read_events(log)) if log.exists() else []
    assert all(isinstance(each, TelemetryEvent) for each in read)
    assert len(read) == writer.events.total()


def test_a_log_may_be_compressed(tmp_path: Path) -> None:
    file = tmp_path / "old.jsonl"  # whatever it is called
    file.write_bytes(gzip.compress(b"\xef\xbb\xbf{}\n\n \n[]"))
    with numbered_lines(str(file)) as lines:
        assert list(lines) == [(1, b"{}\n"), (4, b"[]")]
    file.write_bytes(gzip.compress(b"{}\n" * 10_000)[:-20])
    with numbered_lines(str(file)) as lines, pytest.raises(ValueError, match=r"old\.jsonl: damaged after line \d+"):
        list(lines)


@pytest.mark.parametrize("line", [b"", b"nonsense", b"1" * 5_000, b"[" * 100_000, b'"\xff"', b'{"a":1,"a":1}'])
def test_what_is_no_json_has_one_error(line: bytes) -> None:
    with pytest.raises(NotJsonError):
        parsed(line)


# --- a map to start from ---------------------------------------------------------------------------------------------


def started_from(records: list[Any], tmp_path: Path) -> tuple[str, LogMap]:
    lines = [json.dumps(each).encode() for each in records]
    text = map_to_start_from(iter(enumerate(lines, 1)), "old.jsonl")
    return text, the_map(tmp_path, text)


def test_the_map_to_start_from_says_what_is_there_and_what_it_is_likely_to_be(tmp_path: Path) -> None:
    text, log_map = started_from(
        [
            *[record("SEED_CULLED", CULLED)] * 17,
            *[record("SEED_STAGE_CHANGED", {"from": "A", "to": "B", "env_id": 1})] * 3,
            record("UPDATE_COMPLETED", UPDATE),
            record("HOST_STABLE", {"stable_count": 3}),
        ],
        tmp_path,
    )
    assert "[kinds.SEED_CULLED]  # 17 records" in text
    assert log_map.kinds["SEED_CULLED"].payload is SeedPrunedPayload
    assert 'improvement = { from = "improvement", scale = 0.01 }' in text
    assert 'drop = ["seed_id"]  # the record says the same' in text
    assert "# grad_norm = { assume = … }  # required, float" in text
    assert '# kl_divergence = "approx_kl"' in text
    assert log_map.skipped == {"HOST_STABLE"}
    made = event_of(convert(record("SEED_STAGE_CHANGED", {"from": "A", "to": "B", "env_id": 1}), log_map, 1))
    assert made.data == SeedStageChangedPayload(slot_id="block2", env_id=1, from_stage="A", to_stage="B")
    assert problem_of(convert(record("SEED_CULLED", CULLED), log_map, 1)) == "unknown blending_delta"


def test_it_finds_where_kind_data_and_time_stand(tmp_path: Path) -> None:
    payload = {"env_id": 0, "val_acc": 71.5, "val_loss": 0.5, "inner_epoch": 2}
    text, log_map = started_from(
        [{"what": "epochCompleted", "ts": 1764981734.0, "payload": payload, "host": f"gpu{n}"} for n in range(3)],
        tmp_path,
    )
    assert (log_map.kind, log_map.data) == (("what",), ("payload",))
    assert 'timestamp = { from = "ts", unix = "s" }' in text
    assert '# drop = ["host"]' in text
    assert 'val_accuracy = { from = "val_acc", scale = 0.01 }' in text


def test_a_flat_log_gets_a_map_that_converts_it(tmp_path: Path) -> None:
    given_ = {
        "type": "EPOCH",
        "time": "2025-12-06T00:00Z",
        "epoch": 3,
        "val_accuracy": 50.0,
        "val_loss": 1.0,
        "env_id": 0,
    }
    _, log_map = started_from([given_] * 3, tmp_path)
    made = event_of(convert(given_, log_map, 1))
    assert made.data == EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3)


def test_a_key_behind_a_prefix_is_matched_by_its_own_words(tmp_path: Path) -> None:
    update = {"loss/policy": 0.1, "loss/value": 2.0, "train/clip_fraction": 0.1, "train/entropy": 0.3, "lr": 3e-4}
    text, _ = started_from([{"type": "ppo_update", "time": "2025-12-06T00:00Z", **update}] * 3, tmp_path)
    for line in (
        'policy_loss = "loss/policy"',
        'value_loss = "loss/value"',
        'clip_fraction = "train/clip_fraction"',
        'entropy = "train/entropy"',
    ):
        assert re.search(f"^{re.escape(line)}", text, re.MULTILINE), text


def test_a_time_of_no_zone_is_for_the_user_to_decide(tmp_path: Path) -> None:
    text, _ = started_from([record("SEED_CULLED", CULLED, timestamp="2025-12-06T00:42:14")], tmp_path)
    assert '# timestamp = { from = "timestamp", zone = "UTC" }' in text


@settings(max_examples=tries(60))
@given(
    st.lists(st.dictionaries(TEXT | st.just("event_type"), JSON | TEXT, min_size=1, max_size=4), min_size=1, max_size=6)
)
def test_whatever_is_in_a_log_its_map_can_be_read_and_acts_on_no_terminal(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any]
) -> None:
    records = [{key: value for key, value in each.items() if key != "schema_version"} for each in records]
    text, _ = started_from(records, tmp_path_factory.getbasetemp())
    assert all(line.isprintable() for line in text.split("\n"))


def test_where_there_is_nothing_to_import_it_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"old\.jsonl holds nothing to import: 2 lines that are no JSON, 1 lines that are"
    ):
        map_to_start_from(iter([(1, b"a"), (2, b"b"), (3, b"[]")]), "old.jsonl")
    with pytest.raises(ValueError, match="it is empty"):
        map_to_start_from(iter([]), "old.jsonl")


def test_a_record_that_is_nested_too_deeply_to_be_scaled_is_set_aside(log_map: LogMap) -> None:
    deep: Any = 1.0
    for _ in range(900):
        deep = [deep]
    made = convert(record("SEED_CULLED", CULLED | {"improvement": deep}), log_map, 1)
    assert isinstance(made, NotConverted)
    assert made.what == "nested too deeply"
