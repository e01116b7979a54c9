"""``esper health``: headline first, findings, statuses; and limits of one's own."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.verdict_logs import HEALTHY, TROUBLE, Log, info, rises

from esper.cli import main
from esper.leyline.limits import Limits
from esper.leyline.run_directory import RunDirectory
from esper.leyline.wire import encode_event

HEALTH = {
    "OK": HEALTHY["learns at once"],
    "WATCH": TROUBLE["never learnt"],
    "BAD": TROUBLE["collapsed to nothing"],
    "UNKNOWN": Log(rises(), batches=3),
}


def run(path: Path, log: Log) -> str:
    directory = RunDirectory.create(path)
    directory.log.write_text("".join(encode_event(event) + "\n" for event in log.events()))
    if log.info is not None:
        directory.write_info(log.info)
    return str(path)


@pytest.mark.parametrize("name", HEALTH)
@pytest.mark.parametrize(("fail_on", "fails"), [("watch", {"WATCH", "BAD"}), ("bad", {"BAD"}), ("never", set())])
def test_the_headline_is_first_and_the_status_what_was_asked_for(
    name: str, fail_on: str, fails: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["health", run(tmp_path / "run", HEALTH[name]), "--fail-on", fail_on])
    assert status == (1 if name in fails else 0)
    assert capsys.readouterr().out.startswith(f"{name} ")


def test_a_bad_verdict_fails_by_itself_and_says_what_to_try(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run(tmp_path / "run", HEALTH["BAD"])
    assert main(["health", path]) == 1
    out = capsys.readouterr().out
    for part in ("since: ", "usual cause: ", "try first: ", "source: ", "--all lists every rule"):
        assert part in out
    assert main(["health", path, "--all"]) == 1
    assert "✓ OK" in capsys.readouterr().out


def test_as_json_it_has_every_rule_with_its_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(rises(), update=lambda b: {"kl_divergence": math.nan if b == 20 else 0.01})
    path = run(tmp_path / "run", log)
    assert main(["health", path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "WATCH"
    (kl,) = (one for one in told["findings"] if one["rule"] == "kl")
    assert (kl["status"], kl["times"], kl["of"], kl["since_batch"]) == ("WATCH", 1, 60, 20)
    assert kl["first_event"] == kl["newest_event"]
    assert kl["first_event"] in Path(path, "events.jsonl").read_text()
    assert kl["remedy"]


def test_limits_follow_run_json_and_a_file_overrides_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(rises(), update=lambda _b: {"kl_divergence": 0.09}, info=info(configuration={"target_kl": 0.075}))
    path = run(tmp_path / "run", log)
    (tmp_path / "mine.toml").write_text("target_watch = 1.0\n")
    (tmp_path / "mine.json").write_text('{"target_watch": 1, "target_bad": 1.1}')
    assert main(["health", path]) == 0
    assert capsys.readouterr().out.startswith("OK ")
    assert main(["health", path, "--limits", str(tmp_path / "mine.toml")]) == 0
    assert capsys.readouterr().out.startswith("WATCH KL above 0.075")
    assert main(["health", path, "--limits", str(tmp_path / "mine.json")]) == 1
    assert capsys.readouterr().out.startswith("BAD KL above 0.0825")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kl = 1", "kl is no limit; there are target_kl, clip_ratio"),
        ("kl_watch = 'a'", "kl_watch must be a number, got 'a'"),
        ("kl_watch = true", "kl_watch must be a number, got True"),
        ("{", "is neither TOML nor JSON"),
        ("=", "is neither TOML nor JSON"),
    ],
)
def test_a_file_that_holds_no_limits_is_refused_in_a_line(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "limits").write_text(text)
    path = run(tmp_path / "run", HEALTH["UNKNOWN"])
    assert main(["health", path, "--limits", str(tmp_path / "limits")]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
    assert main(["health", path, "--limits", str(tmp_path / "none")]) == 2
    capsys.readouterr()
    assert main(["health", path, "--limits", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"esper health: error: {tmp_path}: Is a directory\n"


def test_lines_that_are_no_events_count_against_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run(tmp_path / "run", HEALTH["OK"])
    log = Path(path, "events.jsonl")
    log.write_text(log.read_text() + "not an event\n")
    assert main(["health", path]) == 0
    assert capsys.readouterr().out.startswith("WATCH 1 line of the log is no event")
    log.write_text("")
    assert main(["health", path]) == 1


def test_events_that_could_not_be_written_are_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run(tmp_path / "run", replace(HEALTH["OK"], info=info(rejected=2, delivered=898)))
    assert main(["health", path]) == 1
    assert capsys.readouterr().out.startswith("BAD jsonl lacks 2 events")


def test_every_limit_and_every_rule_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text()
    assert [name for name in Limits.__dataclass_fields__ if f"`{name}`" not in page] == []
