"""`validate` lists bad lines like a compiler, counts them, and says so by its status."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tests.builders import event, numbered

from esper.leyline import EpochCompletedPayload, SeedStageChangedPayload, TelemetryEvent
from esper.leyline.validate import validate
from esper.leyline.wire import encode_event

LINE = encode_event(TelemetryEvent(data=EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=3)))
UNKNOWN_FIELD = LINE.replace('"env_id"', '"env"')


def validated(*sources: Path | str, as_json: bool = False) -> tuple[int, list[str]]:
    out = io.StringIO()
    status = validate([str(source) for source in sources], as_json=as_json, out=out)
    return status, out.getvalue().splitlines()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.jsonl"
    path.write_text(f"{LINE}\n" * 3)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{LINE}\n{UNKNOWN_FIELD}\n\n{UNKNOWN_FIELD}\n{LINE}\n{LINE[:50]}")
    return path


def test_a_log_of_events_only_is_valid(good: Path) -> None:
    assert validated(good) == (0, ["3 events, 0 invalid lines"])


def test_each_bad_line_is_reported_by_file_and_line_and_counted_by_kind(good: Path, bad: Path) -> None:
    status, lines = validated(good, bad)
    assert status == 1
    assert lines[0] == f"{bad}:2: missing: EpochCompletedPayload: missing env_id; unknown env"
    assert lines[1] == f"{bad}:3: empty: an empty line"
    assert lines[2].startswith(f"{bad}:4: missing: ")
    assert lines[3].startswith(f"{bad}:6: torn: the log ends within this line (")
    assert lines[4:] == ["5 events, 4 invalid lines: 2 missing, 1 empty, 1 torn"]


def test_json_reports_the_same_to_machines_with_the_raw_text(bad: Path) -> None:
    status, lines = validated(bad, as_json=True)
    *records, summary = map(json.loads, lines)
    assert status == 1
    assert [(r["file"], r["line"], r["kind"]) for r in records] == [
        (str(bad), 2, "missing"), (str(bad), 3, "empty"), (str(bad), 4, "missing"), (str(bad), 6, "torn"),
    ]  # fmt: skip
    assert records[0]["text"] == UNKNOWN_FIELD
    assert summary == {
        "events": 2,
        "invalid": {"missing": 2, "empty": 1, "torn": 1},
        "unreadable": {},
        "rejected": 0,
        "doubtful": 0,
    }


def test_what_cannot_be_read_is_reported_and_the_rest_is_read_all_the_same(
    tmp_path: Path, good: Path, bad: Path
) -> None:
    nowhere = tmp_path / "none.jsonl"
    status, lines = validated(nowhere, bad, good)
    assert status == 2
    assert lines[0] == f"{nowhere}: cannot be read: no such log: {nowhere}"
    assert lines[-1].startswith("5 events, 4 invalid lines")
    status, lines = validated(nowhere, as_json=True)
    assert (status, [*json.loads(lines[-1])["unreadable"]]) == (2, [str(nowhere)])


def test_a_run_directory_is_validated_shard_by_shard(tmp_path: Path) -> None:
    for rank, text in enumerate((LINE, "x")):
        (tmp_path / f"events-rank{rank}.jsonl").write_text(f"{text}\n")
    status, lines = validated(tmp_path)
    assert status == 1
    assert f"{tmp_path}/events-rank1.jsonl:1: json: " in lines[0]
    assert lines[-1] == "1 events, 1 invalid lines: 1 json"


def test_whoever_stops_listening_does_not_change_the_verdict(bad: Path) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert validate([str(bad)], as_json=False, out=Closed()) == 1


def test_that_the_verdict_cannot_be_printed_is_not_the_log_s_fault(good: Path, bad: Path) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        validate([str(bad), str(good)], as_json=False, out=Full())


def test_a_doubtful_value_is_a_note_a_field_and_an_error_when_asked(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    percent = [encode_event(event(EpochCompletedPayload, val_accuracy=76.1 + n, inner_epoch=1)) for n in range(3)]
    back = encode_event(event(SeedStageChangedPayload, from_stage="FOSSILIZED", to_stage="FOSSILIZED"))
    log.write_text("\n".join([encode_event(numbered(1)), *percent, back]) + "\n")
    status, lines = validated(log)
    assert status == 0
    assert lines[0].startswith(f"{log}:2: note: val_accuracy: expected 0 to 1")
    assert lines[0].endswith("(2 more of this field)")
    assert lines[1].startswith(f"{log}:5: note: ")
    assert lines[-1] == "5 events, 0 invalid lines, 4 doubtful values"
    out = io.StringIO()
    assert validate([str(log)], as_json=False, strict=True, out=out) == 1
    assert f"{log}:2: doubtful: val_accuracy" in out.getvalue()
