"""The cache is never wrong: whatever happens to the runs, a listing says what it would say without one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import tries
from tests.karn.written_runs import log_of, write_run

from esper.karn.listing import cache as cache_module
from esper.karn.listing import list_runs
from esper.karn.listing.cache import Listing, cache_file
from esper.leyline.wire import encode_event

NAMES = ("a", "b", "deep/c")


def later() -> float:
    """Return a time at which changes of just now have settled."""
    return time.time() + 60


def cached(root: Path, cache: Path) -> Listing:
    return list_runs(root, cache=cache, clock=later)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for at, name in enumerate(NAMES):
        write_run(tmp_path / "runs" / name, log_of([1.0, 2.0 + at], seed=at))
    return tmp_path / "runs"


def test_the_second_listing_reads_nothing_and_says_the_same(root: Path, tmp_path: Path) -> None:
    first, second = (cached(root, tmp_path / "cache") for _ in range(2))
    assert (first.n_read, second.n_read) == (3, 0)
    assert first.rows == second.rows == list_runs(root).rows


def test_only_what_changed_is_read_again(root: Path, tmp_path: Path) -> None:
    cached(root, tmp_path / "cache")
    write_run(root / "a", log_of([1.0, 2.0, 3.0]))
    write_run(root / "new", log_of([4.0]))
    listing = cached(root, tmp_path / "cache")
    assert (listing.n_read, listing.rows) == (2, list_runs(root).rows)


def test_what_changed_a_moment_ago_is_read_again_as_a_second_change_might_not_show(root: Path, tmp_path: Path) -> None:
    assert [list_runs(root, cache=tmp_path / "cache").n_read for _ in range(2)] == [3, 3]


def test_a_run_that_goes_on_is_read_again_and_one_that_was_killed_is_not(tmp_path: Path) -> None:
    live, killed = log_of([1.0, 2.0]), log_of([1.0, 2.0])
    now = time.time()
    moved = [replace(each, timestamp=each.timestamp.fromtimestamp(now, each.timestamp.tzinfo)) for each in live]
    write_run(tmp_path / "runs" / "live", moved, status="running")
    write_run(tmp_path / "runs" / "killed", killed, status="running")
    for n_read in (2, 1):
        listing = cached(tmp_path / "runs", tmp_path / "cache")
        assert listing.n_read == n_read
        assert [row.verdict for row in listing.rows] == ["WATCH", "UNKNOWN"]


def test_a_run_that_grows_while_it_is_read_is_not_remembered(root: Path, tmp_path: Path) -> None:
    def growing(runs: object, _: int) -> Iterator[object]:
        for run in runs:  # type: ignore[attr-defined]
            yield run
            with (root / "a" / "events.jsonl").open("a") as log:
                log.write(encode_event(log_of([7.0])[-1]) + "\n")

    list_runs(root, cache=tmp_path / "cache", clock=later, progress=growing)  # type: ignore[arg-type]
    listing = cached(root, tmp_path / "cache")
    assert listing.rows == list_runs(root).rows


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1, 2]\n{}", b"\xff", b"[" * 100_000])
def test_a_damaged_cache_is_none(root: Path, tmp_path: Path, damage: bytes) -> None:
    rows = cached(root, tmp_path / "cache").rows
    (tmp_path / "cache").write_bytes(damage)
    listing = cached(root, tmp_path / "cache")
    assert (listing.n_read, listing.rows, listing.notes) == (3, rows, ())


def test_a_cache_with_a_flipped_bit_is_none(root: Path, tmp_path: Path) -> None:
    rows = cached(root, tmp_path / "cache").rows
    whole = (tmp_path / "cache").read_bytes()
    for at in range(0, len(whole), 61):
        (tmp_path / "cache").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert cached(root, tmp_path / "cache").rows == rows


def test_another_esper_has_no_use_for_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(root, tmp_path / "cache")
    monkeypatch.setattr(cache_module, "_code", lambda: "another")
    assert cached(root, tmp_path / "cache").n_read == 3


def test_where_nobody_can_tell_which_esper_it_is_nothing_is_remembered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "__file__", str(tmp_path / "a.zip" / "esper" / "karn" / "listing" / "cache.py"))
    assert [cached(root, tmp_path / "cache").n_read for _ in range(2)] == [3, 3]


def test_a_cache_that_cannot_be_written_refuses_nothing_and_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    listing = cached(root, tmp_path / "file" / "cache")
    assert len(listing.rows) == 3
    assert "cannot be written" in listing.notes[-1]


def test_two_listings_at_once_are_both_right(root: Path, tmp_path: Path) -> None:
    expected, wrong = list_runs(root).rows, list[object]()

    def look() -> None:
        for _ in range(10):
            if cached(root, tmp_path / "cache").rows != expected:
                wrong.append(None)

    threads = [Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_was_read_before_an_interrupt_is_not_read_again(root: Path, tmp_path: Path) -> None:
    def interrupted(runs: object, _: int) -> Iterator[object]:
        for at, run in enumerate(runs):  # type: ignore[arg-type, var-annotated]
            if at == 2:
                raise KeyboardInterrupt
            yield run

    with pytest.raises(KeyboardInterrupt):
        list_runs(root, cache=tmp_path / "cache", clock=later, progress=interrupted)  # type: ignore[arg-type]
    assert cached(root, tmp_path / "cache").n_read == 1


def test_it_lives_in_the_user_s_cache_and_never_among_the_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    file = cache_file(root)
    assert file is not None
    assert file.parent == Path("/var/cache/me/esper")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(cache_file(root)).startswith("/home/me/.cache/esper/runs-")


# ── whatever happens ───────────────────────────────────────────────────────────────────────────────────────────────


def _append(run: Path, value: float) -> None:
    with (run / "events.jsonl").open("a") as log:
        log.write(encode_event(log_of([value])[-1]) + "\n")


def _truncate(run: Path, _: float) -> None:
    file = run / "events.jsonl"
    os.truncate(file, file.stat().st_size // 2)


def _same_size(run: Path, value: float) -> None:
    """Write other digits over the returns, in place, and set the time back to what it was."""
    file = run / "events.jsonl"
    before, text = file.stat(), file.read_text()
    digit = str(int(value) % 10)
    time.sleep(0.02)  # a tick of the file system's clock
    with file.open("r+") as log:
        log.write(
            "".join(
                digit if c in "123456789" and '"avg_reward":' in text[i - 14 : i] else c for i, c in enumerate(text)
            )
        )
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(run: Path, value: float) -> None:
    """Put another file of the same size and time in its place."""
    file, copy = run / "events.jsonl", run / "copy"
    before = file.stat()
    copy.write_text(file.read_text().replace("info", "INFO"[: int(value) % 5].ljust(4, "x")))
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.replace(file)


def _touch(run: Path, value: float) -> None:
    os.utime(run / "events.jsonl", (value, value))


def _end(run: Path, value: float) -> None:
    write_run(run, log_of([value]), status="interrupted" if value > 5 else "failed", error="x")


def _info(run: Path, _: float) -> None:
    text = (run / "run.json").read_text() if (run / "run.json").exists() else "{"
    (run / "run.json").write_text(text.replace("completed", "running"))


def _no_info(run: Path, _: float) -> None:
    (run / "run.json").unlink(missing_ok=True)


def _reject(run: Path, _: float) -> None:
    with (run / "rejected.jsonl").open("a") as file:
        file.write(json.dumps({"event_id": "1", "event_type": "X", "field": "f", "reason": "r"}) + "\n")


def _shard(run: Path, value: float) -> None:
    (run / "events-rank1.jsonl").write_text(encode_event(log_of([value])[-1]) + "\n")


def _move(run: Path, _: float) -> None:
    target = run.parent.parent / f"moved{len(list(run.parent.parent.iterdir()))}"
    run.rename(target)
    shutil.copytree(target, run)


def _remove(run: Path, value: float) -> None:
    shutil.rmtree(run)
    write_run(run, log_of([value]))


CHANGES = (
    _append, _truncate, _same_size, _replace, _touch, _end, _info, _no_info, _reject, _shard, _move, _remove,
)  # fmt: skip


@settings(max_examples=tries(30))
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(CHANGES), st.integers(1, 9)), max_size=8))
def test_a_listing_says_what_it_would_say_without_a_cache(changes: list[tuple[str, object, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root, cache = Path(directory) / "below" / "runs", Path(directory) / "cache"
        for name in NAMES:
            write_run(root / name, log_of([1.0, 2.0]))
        cached(root, cache)
        for name, change, value in changes:
            change(root / name, float(value))  # type: ignore[operator]
            assert cached(root, cache).rows == list_runs(root, clock=later).rows, change
