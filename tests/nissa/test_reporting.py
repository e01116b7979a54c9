"""No loss goes unreported, and reporting costs nobody anything."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from tests.builders import numbered, reported

from esper.leyline.telemetry import TelemetryEvent
from esper.nissa import reporting
from esper.nissa.output import Durable, FunctionSink, Live, Sink, TelemetryHub
from esper.nissa.reporting import Reporter, describe
from esper.nissa.sinks.jsonl import JsonlSink


def refuse(event: TelemetryEvent) -> None:
    raise ValueError(event.message)


class TestEachKindOnce:
    def test_the_first_refusal_of_a_field_and_type_is_reported_by_name(self, tmp_path: Path) -> None:
        hub = TelemetryHub([JsonlSink(tmp_path / "events.jsonl")])
        with reported() as reports:
            for number in range(50):
                hub.emit(numbered(number, seeds={f"r{number}": {"alpha": b""}}))
                hub.emit(numbered(number, val_loss=b"1"))
            hub.close()
        assert len(reports) == 2
        assert "EpochCompleted" in reports[0]
        assert "seeds['r0']['alpha']" in reports[0]
        assert "val_loss" in reports[1]
        assert "rejected.jsonl" in reports[1]
        assert (hub.stats()[0].lost, hub.stats()[0].rejected) == (True, 100)

    def test_two_hubs_report_the_same_loss_twice(self) -> None:
        with reported() as reports:
            for _ in range(2):
                with TelemetryHub([FunctionSink("picky", refuse)]) as hub:
                    hub.emit(numbered(1))
        assert len(reports) == 2

    def test_kinds_without_end_are_reported_to_a_limit(self) -> None:
        reporter = Reporter()
        with reported() as reports:
            for number in range(1_000):
                reporter.report(f"kind {number}", number)
        assert len(reports) == 100

    def test_a_live_sink_that_skips_says_so_and_loses_nothing_it_should_have(self) -> None:
        hold = threading.Event()
        hub = TelemetryHub([FunctionSink("view", lambda _: hold.wait(20), Live(capacity=4))])
        with reported("'view' cannot keep up and skips events") as reports:
            for number in range(100):
                hub.emit(numbered(number))
        hold.set()
        hub.close()
        assert len(reports) == 1
        assert hub.stats()[0].dropped > 0
        assert not hub.stats()[0].lost

    def test_what_is_reported_cannot_move_the_cursor_of_a_terminal(self) -> None:
        with reported() as reports:
            Reporter().report("a\x1b[2Jb\nc")
        assert reports == [r"a\x1b[2Jb\nc"]


class Broken:
    """A stream that refuses everything."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise ValueError("I/O operation on closed file")


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit(record.getMessage())


class Blocking(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.hold = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.hold.wait(20)


def lose_in_every_way(tmp_path: Path) -> None:
    (tmp_path / "rejected.jsonl").mkdir()
    hold = threading.Event()
    sinks: list[Sink] = [
        JsonlSink(tmp_path / "events.jsonl"),
        FunctionSink("picky", refuse, Durable()),
        FunctionSink("slow", lambda _: hold.wait(20), Durable(max_wait=0, high_water=1)),
    ]
    hub = TelemetryHub(sinks)
    for number in range(20):
        hub.emit(numbered(number, val_loss=b"" if number % 2 else 1.0))
    hub.flush(timeout=0.1)
    hold.set()
    assert not hub.close()
    hub.emit(numbered(1))
    for stats in hub.stats():
        assert stats.emitted == 21 == stats.delivered + stats.rejected + stats.dropped + stats.queued
    assert hub.stats()[0].delivered == 10


class TestNothingIsRaised:
    @pytest.mark.parametrize("stream", ["none", "closed", "refuses", "full"])
    @pytest.mark.parametrize("raise_exceptions", [True, False])
    def test_by_a_broken_stderr(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str, raise_exceptions: bool
    ) -> None:
        closed = (tmp_path / "closed").open("w")
        closed.close()
        full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - closing it fails, too
        streams = {"none": None, "closed": closed, "refuses": Broken(), "full": full}
        monkeypatch.setattr(logging, "raiseExceptions", raise_exceptions)
        monkeypatch.setattr(logging.getLogger("esper"), "propagate", False)
        monkeypatch.setattr(sys, "stderr", streams[stream])  # the handler of last resort writes there
        monkeypatch.setattr(logging.getLogger("esper"), "handlers", [])
        lose_in_every_way(tmp_path)
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()

    def test_by_a_handler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logging.getLogger("esper"), "handlers", [Raising()])
        monkeypatch.setattr(logging.getLogger("esper"), "propagate", False)
        lose_in_every_way(tmp_path)

    def test_by_a_filter_of_warnings(self, tmp_path: Path) -> None:
        with warnings.catch_warnings(), reported("picky"):
            warnings.simplefilter("error")
            lose_in_every_way(tmp_path)

    def test_and_a_handler_that_blocks_delays_a_report_only_so_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        blocking = Blocking()
        monkeypatch.setattr(reporting, "_LONGEST_WAIT", 0.05)
        monkeypatch.setattr(logging.getLogger("esper"), "handlers", [blocking])
        monkeypatch.setattr(logging.getLogger("esper"), "propagate", False)
        try:
            with TelemetryHub([FunctionSink("picky", refuse)]) as hub:
                hub.emit(numbered(1))
                assert hub.flush()
        finally:
            blocking.hold.set()
            time.sleep(0.01)

    def test_by_an_exception_that_cannot_be_shown(self) -> None:
        class MuteError(ValueError):
            def __repr__(self) -> str:
                raise RuntimeError("no")

            __str__ = __repr__

        def fail(_event: TelemetryEvent) -> None:
            raise MuteError

        assert describe(MuteError()) == "MuteError"
        with reported("rejects an event of EpochCompleted: MuteError"):
            with TelemetryHub([FunctionSink("mute", fail)]) as hub:
                hub.emit(numbered(1))
                hub.flush()
            assert hub.stats()[0].rejected == 1

    def test_by_a_handler_that_emits_what_it_reports(self) -> None:
        hubs: list[TelemetryHub] = []

        class Echo(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                hubs[0].emit(numbered(2, message=record.getMessage()))

        logger = logging.getLogger("esper")
        with reported(None):
            logger.handlers.append(Echo())
            hubs.append(TelemetryHub([FunctionSink("picky", refuse)]))
            hubs[0].emit(numbered(1))
            assert hubs[0].flush()
            hubs[0].close()
            hubs[0].emit(numbered(3))
        stats = hubs[0].stats()[0]
        assert stats.emitted == stats.rejected + stats.dropped


def test_without_logging_configured_the_report_is_on_stderr(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        logging.getLogger().handlers.clear()
        with TelemetryHub([FunctionSink("picky", refuse)]) as hub:
            hub.emit(numbered(1, message="unlucky"))
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert "telemetry sink 'picky' rejects an event of EpochCompleted: ValueError('unlucky')" in said
