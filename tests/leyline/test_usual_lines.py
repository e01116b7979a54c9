"""Lines that are known by their form: whatever is recognised without being parsed would have been an event."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esper.leyline import PayloadError, RewardComputedPayload, TelemetryEvent, WireError, usual_lines
from esper.leyline.doubtful import doubtful
from esper.leyline.testing import events, same
from esper.leyline.usual_lines import UsualLines
from esper.leyline.validate import validate
from esper.leyline.wire import decode_event, encode_event

ODD = [
    *'"\\{}[],:\0\x7f0-.eé\ud800', "null", "true", '"', "", '\\"', "\\u003a", "\\ud800", "1", "-1", "1.5", "0.5",
    "-0.0", "[]",
    "1e5", "1e-5", "9e-00", "1e999", "00", "1.", "9" * 19, "9" * 5000, '"NaN"', "NaN", '{"a":1}', '{"a":1,"a":1}',
]  # fmt: skip
"""What is put into a line."""


def reward(**values: Any) -> RewardComputedPayload:
    given: dict[str, Any] = {"env_id": 0, "total_reward": 1.0, "value_estimate": 0.0, "action_confidence": 0.5}
    return RewardComputedPayload(action_name="WAIT", **given | values)


def outcome(read: Any, line: bytes) -> Any:
    try:
        return read(line)
    except (PayloadError, WireError) as error:
        return type(error).__name__, str(error)


def assert_recognised_rightly(usual: UsualLines, line: bytes) -> None:
    """What is recognised is an event without anything doubtful; of all else the same is said as by the decoder."""
    found, decoded = outcome(usual.decode, line), outcome(decode_event, line)
    if found is None:
        assert isinstance(decoded, TelemetryEvent)
        assert doubtful(decoded) == []
    else:
        assert found == decoded or same(found, decoded)


def taught(line: str, monkeypatch: pytest.MonkeyPatch) -> UsualLines:
    monkeypatch.setattr(usual_lines, "_OFTEN", 1)
    usual = UsualLines()
    usual.decode(line.encode())
    return usual


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])  # most drawn values are doubtful
@given(events().filter(lambda event: not doubtful(event)).map(encode_event), st.data())
def test_a_line_that_is_recognised_is_an_event_with_nothing_doubtful_and_any_other_is_decoded(
    line: str, data: Any
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        usual = taught(line, monkeypatch)
        monkeypatch.setattr(usual_lines, "_OFTEN", 1 << 40)
        for _ in range(8):
            at = data.draw(st.integers(0, len(line) - 1))
            odd, taken = data.draw(st.sampled_from([*ODD, line[:at]])), data.draw(st.integers(0, 3))
            changed = (line[:at] + odd + line[at + taken :]).encode(errors="surrogatepass")
            assert_recognised_rightly(usual, changed)


NUMBERS = st.floats().map(repr) | st.integers().map(repr) | st.sampled_from(ODD)


@given(NUMBERS, st.sampled_from(["total_reward", "action_confidence", "host_accuracy", "env_id"]))
def test_a_number_is_recognised_only_where_it_may_stand_and_within_its_limits(number: str, field: str) -> None:
    values: dict[str, Any] = {"env_id": 3, "total_reward": 0.25, "action_confidence": 0.5, "host_accuracy": 0.75}
    payload = reward(**values)
    line = encode_event(TelemetryEvent(data=payload, epoch=1))
    with pytest.MonkeyPatch.context() as monkeypatch:
        usual = taught(line, monkeypatch)
    old = f'"{field}":{values[field]}'
    assert old in line
    changed = line.replace(old, f'"{field}":{number}').encode(errors="surrogatepass")
    assert_recognised_rightly(usual, changed)


@pytest.mark.parametrize(
    "time", ["2026-13-01T00:00:00+00:00", "2026-02-29T00:00:00+00:00", "2026-01-01T25:00:00+00:00"]
)
def test_a_time_that_is_none_is_refused_in_a_known_form(time: str, monkeypatch: pytest.MonkeyPatch) -> None:
    event = TelemetryEvent(data=reward())
    line = encode_event(event)
    usual = taught(line, monkeypatch)
    assert usual.decode(line.encode()) is None
    with pytest.raises(PayloadError, match="timestamp"):
        usual.decode(line.replace(event.timestamp.isoformat(), time).encode())


def test_of_many_lines_alike_few_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def decode(line: bytes) -> TelemetryEvent:
        decoded.append(line)
        return decode_event(line)

    monkeypatch.setattr(usual_lines, "decode_event", decode)
    usual = UsualLines()
    for number in range(2_000):
        payload = reward(env_id=number % 7, total_reward=number / 9)
        usual.decode(encode_event(TelemetryEvent(data=payload, epoch=number)).encode())
    assert len(decoded) <= 250


@given(st.lists(events(), min_size=1, max_size=6), st.data())
def test_validate_says_the_same_of_a_log_with_and_without_known_forms(of: list[TelemetryEvent], data: Any) -> None:
    lines = [encode_event(event) for event in of] * 3
    for index in data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=4)):
        at = data.draw(st.integers(0, len(lines[index]) - 1))
        lines[index] = lines[index][:at] + data.draw(st.sampled_from(ODD)) + lines[index][at + 1 :]
    said = []
    with pytest.MonkeyPatch.context() as monkeypatch, TemporaryDirectory() as directory:
        path = Path(directory, "events.jsonl")
        path.write_text("\n".join(lines), "utf-8", "surrogatepass")
        for often in (1, 1 << 40):
            monkeypatch.setattr(usual_lines, "_OFTEN", often)
            out = io.StringIO()
            said.append((validate([str(path)], as_json=False, out=out), out.getvalue()))
    assert said[0] == said[1]
