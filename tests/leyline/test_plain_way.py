"""The fast ways of writing and reading a line, against plain ones that are written to be believed."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from esper.leyline import EpochCompletedPayload, PayloadError, TelemetryEvent, WireError
from esper.leyline._payload.containers import AnyValue
from esper.leyline._payload.late import time_of, time_text
from esper.leyline._payload.shapes import Shapes
from esper.leyline._payload.types import MismatchError
from esper.leyline.testing import JSON, TEXT, events, same
from esper.leyline.wire import SCHEMA_VERSION, _decode_carefully, decode_event, encode_event

DATA = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=math.nan, inner_epoch=3, seeds={"r0": {"a": [1]}})
NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def plain(value: Any, annotation: str) -> Any:
    """What `json.dumps` is to be given for a value of a field: containers of Any begin where the annotation has Any."""
    if isinstance(value, float) and not math.isfinite(value):
        name = NAMES.get(value, "NaN")
        return {"$float": name} if annotation.startswith("Any") else name
    is_any = annotation.startswith("Any")
    item = "Any" if is_any else annotation.partition("[")[2].removeprefix("str, ")
    if isinstance(value, dict):
        made = {key: plain(inner, item) for key, inner in value.items()}
        is_ambiguous = is_any and len(made) == 1 and not made.keys().isdisjoint({"$float", "$dict"})
        return {"$dict": made} if is_ambiguous else made
    return [plain(inner, item) for inner in value] if isinstance(value, list | tuple) else value


def plainly_encoded(event: TelemetryEvent) -> str:
    fields = event.to_dict()
    annotations = {name: str(hint) for name, hint in type(event.data).__annotations__.items()}
    data = {name: plain(value, annotations[name]) for name, value in event.data.to_dict().items()}
    return json.dumps({"schema_version": SCHEMA_VERSION, **fields, "data": data}, separators=(",", ":"))


@settings(max_examples=int(os.environ.get("LINES", "100")), suppress_health_check=[HealthCheck.too_slow])
@given(events())
def test_a_line_is_to_the_byte_what_json_makes_of_the_event(event: TelemetryEvent) -> None:
    assert encode_event(event) == plainly_encoded(event)


@given(st.dictionaries(TEXT, JSON, max_size=40), st.integers(0, 2))
def test_a_dict_is_written_alike_at_its_first_and_at_every_further_time(state: dict[str, Any], times: int) -> None:
    for _ in range(times + 1):
        data = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=0.5, inner_epoch=1, seeds={"r0": state})
        event = TelemetryEvent(data=data)
        assert encode_event(event) == plainly_encoded(event)


def test_the_plans_for_dicts_stay_bounded() -> None:
    shapes = Shapes(AnyValue())
    for key in range(3_000):
        assert shapes[(f"k{key}",)]({f"k{key}": key}, 1) == f'{{"k{key}":{key}}}'
        assert len(shapes) <= 512
    for keys in [("k" * 65,), tuple(f"{key}" for key in range(33)), (), ("{%s}\"\\'é",)]:
        values = dict.fromkeys(keys)
        assert shapes[keys](values, 1) == json.dumps(values, separators=(",", ":"))
    with pytest.raises(MismatchError):
        shapes[1,]({1: None}, 1)


def outcome(read: Any, line: str) -> Any:
    try:
        return read(line)
    except (PayloadError, WireError) as error:
        return type(error).__name__, str(error)


LINE = encode_event(TelemetryEvent(data=DATA, message="an → b", seed_id="s", epoch=3))


@given(events().map(encode_event), st.data())
@example(LINE, None)
def test_a_line_and_any_like_it_are_read_as_the_careful_way_reads_them(line: str, data: Any) -> None:
    lines = [line, f"{line}\r\n", line.replace(",", ", "), line.replace('":', '" :')]
    if data is not None:
        at = data.draw(st.integers(0, len(line) - 1))
        odd = data.draw(st.sampled_from([*'"\\{}[],:\0\x7f0é\ud800', "null", '"', "", '\\"', "\\u003a", line[:at]]))
        lines += [line[:at] + odd + line[at + data.draw(st.integers(0, 2)) :]]
    for text in lines:
        usual, careful = outcome(decode_event, text), outcome(_decode_carefully, text)
        assert usual == careful or same(usual, careful)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seed_id":"s"', '"seed_id":"s","seed_id":"t"'),
        ('"env_id":0', '"env_id":0,"env_id":1'),
        ('{"a":[1]}', '{"a":[1],"a":[2]}'),
        ('"env_id":0', '"env_id":00'),
        ('"epoch":3', '"epoch":03'),
        ('"seed_id":"s"', '"seed_id":"s\\"'),
        ('"seed_id":"s"', '"seed_id":"\t"'),
        ('"seed_id":"s"', '"seed_id":"\ud800"'),
        ('"seed_id":"s"', '"seed_id":"\\ud800"'),
        ('"group_id":"default"', '"group_id":null'),
        ('"message":"an', '"message":"\\ud800'),
        ('"message":"an', '"message":"\0'),
        ('"severity":"info"', '"severity":"infos"'),
        ("}", "}}"),
        ('"val_loss":"NaN"', '"val_loss":NaN'),
        ('"val_loss":"NaN"', '"val_loss":null'),
    ],
)
def test_what_is_wrong_in_a_line_of_the_usual_form_is_refused(old: str, new: str) -> None:
    assert isinstance(decode_event(LINE), TelemetryEvent)
    assert old in LINE
    with pytest.raises((PayloadError, WireError)):
        decode_event(LINE.replace(old, new, 1))


# ---- id and time, which are made late


def test_an_event_is_written_alike_before_and_after_its_id_and_time_were_read() -> None:
    event = TelemetryEvent(data=DATA)
    before = encode_event(event)
    assert (event.event_id, event.timestamp) == (event.event_id, event.timestamp)
    assert encode_event(event) == before == plainly_encoded(event)
    assert same(decode_event(before), event)


def test_an_event_that_nobody_has_read_survives_copies_and_pickles() -> None:
    def pickled(event: TelemetryEvent) -> Any:
        return pickle.loads(pickle.dumps(event))

    copiers: list[Callable[[TelemetryEvent], Any]] = [copy.copy, copy.deepcopy, pickled]
    for copied in copiers:
        event = TelemetryEvent(data=DATA)
        other = copied(event)
        assert encode_event(other) == encode_event(event)
        assert (other.event_id, other.timestamp) == (event.event_id, event.timestamp)
        assert hash(other.event_id) == hash(event.event_id)


@given(st.integers(0, 10**19) | st.integers(0, 10**10).map(lambda seconds: seconds * 10**9))
def test_the_text_of_a_time_is_that_of_isoformat(nanoseconds: int) -> None:
    assert time_text(nanoseconds) == time_of(nanoseconds).isoformat()
    elapsed = time_of(nanoseconds) - datetime(1970, 1, 1, tzinfo=UTC)
    assert elapsed == timedelta(microseconds=nanoseconds // 1000)


@pytest.mark.parametrize("number", [5, 2**122, True])
def test_a_number_given_for_an_id_is_not_taken_for_one_that_is_made_late(number: int) -> None:
    event = TelemetryEvent(data=DATA, event_id=number)  # type: ignore[arg-type]  # what is being tested
    with pytest.raises(PayloadError, match="event_id"):
        encode_event(event)
