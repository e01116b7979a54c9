"""``esper export`` and ``esper import``: from run to tables and back, from old logs, and every mistake in one line."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.builders import event, events_in, numbered

from esper.cli import main
from esper.leyline import EpochCompletedPayload, TrainingStartedPayload
from esper.leyline.run_directory import RunDirectory
from esper.leyline.testing import same
from esper.leyline.wire import encode_event

MIGRATING = Path(__file__).parents[2] / "docs" / "migrating.md"


def command(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def a_run(name: str, *numbers: int, rank: int | None = None) -> Path:
    run = Path(name)
    run.mkdir(parents=True, exist_ok=True)
    log = run / ("events.jsonl" if rank is None else f"events-rank{rank}.jsonl")
    emitted = [event(TrainingStartedPayload), *map(numbered, numbers)]
    log.write_text("".join(encode_event(one) + "\n" for one in emitted))
    return run


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("tables.xlsx", "a directory of Parquet tables"),
        ("tables.csv", "a directory of CSV tables"),
        ("tables.duckdb", "a DuckDB file"),
    ],
)
def test_runs_of_several_ranks_come_back_with_their_logs_and_what_was_known_of_them(name: str, made: str) -> None:
    a_run("runs/a", 1, 2)
    a_run("runs/b", 3, rank=0)
    a_run("runs/b", 4, rank=1)
    (Path("runs/a") / "run.json").write_text('{"status": "failed", "started": "2026-01-01T00:00:00+00:00", '
                                             '"configuration": {"lr": 0.1}, "versions": {}}')  # fmt: skip
    assert command("export", "runs/a", "runs/b", "-o", name) == (0, f"{name}: 7 events of 2 runs, {made}\n", "")
    assert command("import", name, "-o", "again")[0] == 0
    for log in ("a/events.jsonl", "b/events-rank0.jsonl", "b/events-rank1.jsonl"):
        assert (Path("again") / log).read_bytes() == (Path("runs") / log).read_bytes()
    info = RunDirectory(Path("again/a")).read_info()
    assert info is not None
    assert (info.status, info.configuration["lr"], info.configuration["imported"]["from"]) == ("failed", 0.1, name)
    assert command("validate", "again/a", "again/b")[0] == 0


def test_lines_that_were_no_events_are_said_and_come_back_beside_the_log() -> None:
    run = a_run("run", 1)
    with (run / "events.jsonl").open("a") as log:
        log.write("nonsense\n")
    (run / "rejected.jsonl").write_text('{"event_id": "e", "event_type": "T", "field": "f", "reason": "r"}\n')
    status, _, err = command("export", "run", "-o", "x")
    assert status == 0
    assert "run: 1 line is no event, and in the table invalid_lines: 1 line of kind json, first in line 3" in err
    assert "run: 1 event was rejected when the run was made: esper validate run" in err
    status, _, err = command("import", "x", "-o", "again")
    assert (status, Path("again/set-aside.jsonl").read_text()) == (1, "nonsense\n")
    assert "1 line was no event when this was exported" in err


def test_a_run_without_events_leaves_its_lines_and_costs_the_others_nothing() -> None:
    a_run("a", 1)
    Path("b").mkdir()
    Path("b/events.jsonl").write_text("nonsense\n")
    status, out, err = command("export", "a", "b", "-o", "x")
    assert (status, out) == (1, "x: 2 events of 2 runs, a directory of Parquet tables\n")
    assert err == "no events in b: 1 line of kind json, first in line 1 (not JSON: Expecting value at column 1)\n"
    assert command("import", "x", "-o", "again")[0] == 1
    assert sorted(str(path) for path in Path("again").rglob("*.json*")) == [
        "again/a/events.jsonl", "again/a/run.json", "again/b/set-aside.jsonl",
    ]  # fmt: skip


def test_an_export_may_come_from_standard_input() -> None:
    a_run("run", 1)
    with Path("run/events.jsonl").open("rb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "esper", "export", "-", "-o", "x"],
            stdin=log,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "x: 2 events of 1 run, a directory of Parquet tables\n"
    assert pq.read_table("x/runs.parquet")["run_name"].to_pylist() == ["standard input"]


@pytest.mark.parametrize("place", ["..", "/tmp/x", "a/../../b", "", "./a"])
def test_the_name_of_a_run_leads_nowhere_else(place: str) -> None:
    a_run("a", 1)
    a_run("b", 2)
    assert command("export", "a", "b", "-o", "x.duckdb")[0] == 0
    with duckdb.connect("x.duckdb") as database:
        for table in ("runs", "epoch_completed", "training_started"):
            database.execute(f"UPDATE log.{table} SET run_name = ? WHERE run_name = 'b'", [place])
    status, _, err = command("import", "x.duckdb", "-o", "again")
    says = (
        "two of its runs would be one directory: a, ./a"
        if place == "./a"
        else (f"{place!r} cannot be the name of a directory")
    )
    assert (status, err) == (2, f"esper import: error: x.duckdb: {says}\n")
    assert not Path("again").exists()


def put(file: str, column: str, value: object) -> None:
    """Write a value into every row of a table of an export."""
    rows = pq.read_table(file)
    at = rows.schema.get_field_index(column)
    pq.write_table(rows.set_column(at, column, pa.array([value] * rows.num_rows, rows.schema.field(at).type)), file)


def test_a_table_that_somebody_changed_is_refused_with_its_place() -> None:
    a_run("run", 1)
    command("export", "run", "-o", "x")
    file = "x/epoch_completed.parquet"
    put(file, "val_loss", None)
    status, _, err = command("import", "x", "-o", "again")
    assert status == 2
    assert (
        "x: epoch_completed: run, events.jsonl line 2: no event: EpochCompletedPayload: val_loss: expected float" in err
    )
    Path(file).write_bytes(b"PAR1 nonsense")
    assert command("import", "x", "-o", "again")[2].startswith(
        "esper import: error: x is no export that this esper reads:"
    )
    Path(file).unlink()
    assert command("import", "x", "-o", "again")[0] == 2
    assert sorted(path.name for path in Path().iterdir()) == ["run", "x"]


def test_any_damage_to_an_export_is_one_line_and_writes_nothing() -> None:
    a_run("run", 1)
    for name in ("x.csv", "x.duckdb"):
        command("export", "run", "-o", name)
        file = Path(name) / "epoch_completed.csv" if name == "x.csv" else Path(name)
        whole = file.read_bytes()
        for at in range(0, len(whole), max(len(whole) // 12, 1)):
            file.write_bytes(whole[:at] + b"\x00\xff'\"," + whole[at + 9 :])
            status, out, err = command("import", name, "-o", "again")
            if status == 2:
                assert err.startswith("esper import: error: ")
                assert err.count("\n") == 1
                assert (out, Path("again").exists()) == ("", False)
            else:
                assert status == 0, err
                shutil.rmtree("again")


def test_a_database_that_would_read_another_file_is_refused() -> None:
    a_run("run", 1)
    command("export", "run", "-o", "x.duckdb")
    Path("secret").write_text("password")
    with duckdb.connect("x.duckdb") as database:
        database.execute("DROP VIEW invalid_lines; DROP TABLE log.invalid_lines")
        secret = Path("secret").absolute()
        database.execute(
            "CREATE VIEW log.invalid_lines AS SELECT 'run' AS run_name, '' AS file, 9 AS line, content AS text "
            f"FROM read_text('{secret}')"
        )
    status, _, err = command("import", "x.duckdb", "-o", "again")
    assert (status, Path("again").exists()) == (2, False)
    assert "Permission Error" in err


# --- mistakes, and what surrounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "run", "-o", "run"], "run exists: name another one, or remove it first"),
        (["export", "nowhere", "-o", "x"], "no such log: nowhere"),
        (["export", "run", "-o", "run/events.jsonl/x"], "run/events.jsonl is no directory"),
        (["import", "nowhere"], "nowhere: No such file or directory"),
        (["import", "run"], "run is a directory and no export of esper's: name the log in it"),
        (["import", "old.jsonl", "--map", "nowhere.toml", "-o", "x"], "nowhere.toml: No such file or directory"),
        (["import", "old.jsonl", "--map", "map.toml"], "-o RUN is missing: the run directory to make"),
        (["import", "old.jsonl", "--map", "map.toml", "-o", "run"], "run exists: name another one"),
        (["import", "old.jsonl", "--map", "map.toml", "-o", "s3://x"], "s3://x is no local path"),
        (["import", "run/events.jsonl"], "holds nothing to import: 2 lines of esper's own, which need no map"),
    ],
)
def test_a_mistake_is_said_in_one_line(arguments: list[str], says: str) -> None:
    a_run("run", 1)
    Path("old.jsonl").write_text("{}\n")
    Path("map.toml").write_text("")
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_log_of_which_nothing_is_an_event_leaves_nothing() -> None:
    Path("old.jsonl").write_text('{"event_type": "A", "data": {}}\n')
    Path("map.toml").write_text("")
    status, _, err = command("import", "old.jsonl", "--map", "map.toml", "-o", "x")
    assert (status, sorted(path.name for path in Path().iterdir())) == (1, ["map.toml", "old.jsonl"])
    assert "1 A, first in line 1: the map does not name this kind" in err
    assert "nothing of old.jsonl is an event by map.toml, and nothing was written" in err


@pytest.mark.parametrize(("table", "column"), [("runs", "events"), ("training_started", "run_name"),
                                               ("training_started", "line"), ("invalid_lines", "file")])  # fmt: skip
def test_a_row_that_does_not_say_where_it_belongs_is_named(table: str, column: str) -> None:
    with (a_run("run", *range(5)) / "events.jsonl").open("a") as log:
        log.write("no event\n" * 2)
    command("export", "run", "-o", "x")
    put(f"x/{table}.parquet", column, None)
    status, _, err = command("import", "x", "-o", "again")
    assert (status, err) == (2, f"esper import: error: x: {table}: a row without {column}\n")
    assert not Path("again").exists()


def test_a_time_that_no_log_can_hold_is_named() -> None:
    a_run("run", 1)
    command("export", "run", "-o", "x")
    put("x/epoch_completed.parquet", "timestamp", 1 << 62)
    status, _, err = command("import", "x", "-o", "again")
    assert status == 2
    assert "x: epoch_completed: run, events.jsonl line 2: no event: " in err


def test_a_log_of_dicts_is_imported_without_the_libraries_of_exports() -> None:
    Path("old.jsonl").write_text('{"event_type": "SEED_PRUNED", "ts": 1}\n')
    code = (
        "import sys; sys.modules['pyarrow'] = sys.modules['duckdb'] = None; from esper.cli import main; "
        "sys.exit(main(['import', 'old.jsonl']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "[kinds.SEED_PRUNED]" in done.stdout


def test_a_map_that_comes_through_a_pipe_is_kept_with_the_run() -> None:
    text = "[kinds.A]\nskip = true\n"
    Path("old.jsonl").write_text('{"event_type": "A"}\n' + encode_event(numbered(1)) + "\n")
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    assert command("import", "old.jsonl", "--map", f"/dev/fd/{read}", "-o", "run")[0] == 0
    os.close(read)
    info = RunDirectory(Path("run")).read_info()
    assert info is not None
    imported = info.configuration["imported"]
    assert isinstance(imported, dict)
    assert imported["map"] == text


def test_without_its_library_an_export_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None; from esper.cli import main; "
        "sys.exit(main(['export', 'run', '-o', 'x']))"
    )
    a_run("run", 1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "esper export: error: exports need pyarrow and DuckDB: pip install 'esper-telemetry[export]'\n"
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing_half_written(number: signal.Signals, status: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "esper", "export", "-", "-o", "x"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not list(Path().glob(".x.*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(child.pid, number)
    _, err = child.communicate()
    assert child.returncode in {status, 128 + number}
    assert (err, list(Path().iterdir())) == (b"", [])


def test_a_signal_leaves_no_page_half_written() -> None:
    a_run("run", 1)
    code = (
        "import os, sys, time; os.fsync = lambda _: time.sleep(60); from esper.cli import main; "
        "sys.exit(main(['report', 'run', '-o', 'x.html']))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(Path().glob(".x.html.*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.terminate()
    _, err = child.communicate()
    assert (child.returncode, err, [path.name for path in Path().iterdir()]) == (143, b"", ["run"])


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esper.commands.progress_bar._PATIENCE", 0.0)
    a_run("run", *range(2_000))
    terminal = _Terminal()
    with redirect_stderr(terminal), redirect_stdout(io.StringIO()):
        assert main(["export", "run", "-o", "x"]) == 0
        assert main(["import", "x", "-o", "again"]) == 0
    shown = terminal.getvalue().split("\r\x1b[K")
    assert re.fullmatch(r"█+ *\S* *1,\d\d\d of 2,001 lines, .* left", shown[2])
    assert any("of 2,001 events" in text for text in shown)
    assert shown[-1] == ""
    assert same(events_in(Path("again/events.jsonl")), events_in(Path("run/events.jsonl")))


# --- the page --------------------------------------------------------------------------------------------------------


def page() -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the examples of the page's second half, and its command lines with what they print."""
    text = MIGRATING.read_text(encoding="utf-8")
    text = text[text.index("## The logs you have") :]
    (console,) = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [part.split("\n") for part in ("\n" + console).split("\n$ ")[1:]]
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE), [
        (line[0], [one for one in line[1:] if one]) for line in lines
    ]


def test_the_page_shows_what_the_commands_print() -> None:
    examples, (start, run) = page()
    exec(compile(examples[0], str(MIGRATING), "exec"), {})
    status, out, _ = command(*start[0].removesuffix(" > map.toml").split()[1:])
    assert status == 0
    Path("map.toml").write_text(out)
    status, out, err = command(*run[0].split()[1:])
    assert status == 1
    assert (out + err).splitlines() == run[1]


@pytest.mark.parametrize("packed", [False, True])
def test_a_log_may_come_through_a_pipe(packed: bool) -> None:
    examples, _ = page()
    exec(compile(examples[0], str(MIGRATING), "exec"), {})
    Path("map.toml").write_text('[kinds.SEED_GERMINATED]\nto = "SEED_GERMINATED"\ndrop = ["seed_id"]\n'
                                '[kinds.SEED_GERMINATED.fields]\nslot_id = "/slot_id"')  # fmt: skip
    log = Path("old.jsonl").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "esper", "import", "-", "--map", "map.toml", "-o", "x"],
        input=gzip.compress(log) if packed else log, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == b"x: 1 SEED_GERMINATED\n"
    info = json.loads(Path("x/run.json").read_text())
    assert info["status"] == "completed"
    assert info["configuration"]["imported"] == {
        "from": "-", "map": Path("map.toml").read_text(), "events": 1, "skipped": {}, "set_aside": 5,
    }  # fmt: skip
    for look in (["validate"], ["replay"], ["health"]):
        assert command(*look, "x")[0] == 0


def test_events_of_esper_pass_as_they_are_and_set_aside_lines_are_a_log_for_the_next_try() -> None:
    own = numbered(3)
    Path("old.jsonl").write_text(encode_event(own) + '\n{"event_type": "A", "data": {}}\n')
    Path("map.toml").write_text("")
    assert command("import", "old.jsonl", "--map", "map.toml", "-o", "x")[0] == 1
    (event_,) = events_in(Path("x/events.jsonl"))
    assert same(event_, own)
    assert isinstance(event_.data, EpochCompletedPayload)
    assert command("import", "x/set-aside.jsonl")[1].count("[kinds.A]") == 1


@pytest.mark.parametrize("name", ["x", "x.csv", "x.duckdb"])
def test_a_full_disk_is_said_and_leaves_nothing(name: str) -> None:
    a_run("run", *range(3_000))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        f"from esper.cli import main; sys.exit(main(['export', 'run', '-o', '{name}']))"
    )
    uncovered = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # which has no room
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=uncovered)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "File too large" in done.stderr
    assert [path.name for path in Path().iterdir()] == ["run"]
