"""Finalizers, signal handlers and sinks that call the hub while it is at work: the accounts balance, nothing hangs."""

from __future__ import annotations

import gc
import math
import signal
import threading
from collections import Counter
from types import FrameType
from typing import Any

import numpy as np
import pytest
from tests.builders import event, numbered, reported

from esper.leyline.telemetry import AnalyticsSnapshotPayload, BatchEpochCompletedPayload, TelemetryEvent
from esper.nissa import sink_queue
from esper.nissa.output import Durable, EventsLostError, FunctionSink, Live, SinkStats, TelemetryHub


def assert_balanced(stats: SinkStats) -> None:
    assert stats.emitted == stats.delivered + stats.rejected + stats.dropped + stats.queued


class TestFinalizers:
    @pytest.mark.parametrize("cyclic", [False, True])
    @pytest.mark.parametrize("policy", [Live(capacity=300), Durable(max_wait=0.0, high_water=300), Durable()])
    def test_an_event_whose_finalizer_emits_is_counted_once(self, policy: Durable | Live, cyclic: bool) -> None:
        made = 0

        class Loud:
            def __init__(self) -> None:
                self.myself = self if cyclic else None

            def __del__(self) -> None:
                nonlocal made
                made += 1
                hub.emit(event(BatchEpochCompletedPayload, event_id=f"f{made}", message=""))

        got: Counter[str] = Counter()
        hub = TelemetryHub([FunctionSink("count", lambda each: got.update([each.event_id]), policy)])
        with reported(None):
            for number in range(6_000):
                message: Any = Loud() if number % 50 == 0 else ""
                hub.emit(event(AnalyticsSnapshotPayload, event_id=str(number), message=message))
            hub.flush()
            gc.collect()
            hub.close()
        (stats,) = hub.stats()
        assert_balanced(stats)
        assert stats.emitted == 6_000 + made
        assert stats.delivered == got.total() == len(got)


class TestSignalHandlers:
    def test_a_handler_that_waits_without_end_does_not_hang(self) -> None:
        hub = TelemetryHub([FunctionSink("count", id, Durable(max_wait=math.inf, high_water=5))])
        answers: list[bool] = []

        def handle(_number: int, _frame: FrameType | None) -> None:
            hub.emit(numbered(1))
            answers.append(hub.flush(math.inf))

        previous = signal.signal(signal.SIGALRM, handle)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            for _ in range(1_000_000):
                hub.emit(numbered(0))
                if len(answers) > 200:
                    break
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        assert hub.close(math.inf)
        (stats,) = hub.stats()
        assert stats.emitted == stats.delivered

    def test_a_close_that_interrupted_an_emit_is_finished_by_the_next(self) -> None:
        seen: list[TelemetryEvent] = []
        hub = TelemetryHub([FunctionSink("list", seen.append)])
        hub.emit(numbered(1))
        with hub._lock:
            assert not hub.close()
        assert hub.close()
        assert len(seen) == 1


class TestSinks:
    def test_a_sink_that_flushes_or_closes_its_own_hub_does_not_wait_for_itself(self) -> None:
        answers: list[bool] = []

        def call_back(_event: TelemetryEvent) -> None:
            answers.extend((hub.flush(None), hub.close(None)))

        hub = TelemetryHub([FunctionSink("own", call_back)])
        hub.emit(numbered(1))
        assert hub.close()
        assert answers == [False, False]

    def test_a_sink_that_emits_more_than_it_takes_loses_the_oldest_and_does_not_wait_for_itself(self) -> None:
        def echo(_event: TelemetryEvent) -> None:
            for _ in range(3):
                if hub.stats()[0].emitted < 5_000:
                    hub.emit(numbered(1))

        hub = TelemetryHub([FunctionSink("echo", echo, Durable(max_wait=math.inf, high_water=10))])
        with reported("is losing events"):
            hub.emit(numbered(1))
            for _ in range(500):
                if hub.stats()[0].emitted >= 5_000:
                    break
                hub.flush(timeout=1)
            hub.close()
        assert_balanced(hub.stats()[0])

    def test_events_that_turn_out_to_be_lost_are_counted_as_dropped(self) -> None:
        class Leaky(FunctionSink):
            lost = 0

            def flush(self, *, barrier: bool) -> None:
                if barrier and not self.lost:
                    self.lost = 3
                    raise EventsLostError(3, "the tank leaks")

            def close(self) -> None:
                raise EventsLostError(2, "it leaks on")

        hub = TelemetryHub([Leaky("leaky", id, Durable())])
        with reported("'leaky' lost 3 events that it had delivered: the tank leaks"):
            for number in range(10):
                hub.emit(numbered(number))
            assert not hub.flush()
            assert (hub.stats()[0].delivered, hub.stats()[0].dropped) == (7, 3)
            assert not hub.close()
        assert (hub.stats()[0].delivered, hub.stats()[0].dropped) == (5, 5)

    def test_a_sink_that_claims_more_than_it_got_leaves_the_accounts_balanced(self) -> None:
        class Liar(FunctionSink):
            def close(self) -> None:
                raise EventsLostError(1_000, "all")

        hub = TelemetryHub([Liar("liar", id)])
        with reported("liar"):
            hub.emit(numbered(1))
            hub.close()
        assert (hub.stats()[0].delivered, hub.stats()[0].dropped) == (0, 1)


class TestOwners:
    def test_a_sink_has_one_place_in_one_hub(self) -> None:
        sink = FunctionSink("one", id)
        with pytest.raises(ValueError, match="'one' is given twice"):
            TelemetryHub([sink, sink])
        hub = TelemetryHub([sink])
        with pytest.raises(ValueError, match="'one' has a hub already"):
            TelemetryHub([sink])
        hub.close()
        del hub
        with pytest.raises(ValueError, match="'one' has a hub already"):
            TelemetryHub([FunctionSink("two", id), sink])

    def test_a_hub_that_was_refused_takes_no_sink(self) -> None:
        taken, free = FunctionSink("taken", id), FunctionSink("free", id)
        with TelemetryHub([taken]):
            with pytest.raises(ValueError, match="'taken'"):
                TelemetryHub([free, taken])
            TelemetryHub([free]).close()

    def test_a_sink_without_a_policy_is_refused(self) -> None:
        with pytest.raises(TypeError, match="policy of sink 'odd' is Durable"):
            TelemetryHub([FunctionSink("odd", id, "durable")])  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            (FunctionSink, r"FunctionSink\(…\), not the class"),
            (print, r"FunctionSink\(name, function\)"),
            (object(), "object is no sink: it has no name, policy, write, flush, close"),
        ],
    )
    def test_what_is_no_sink_is_refused_with_what_it_lacks(self, given: Any, says: str) -> None:
        with pytest.raises(TypeError, match=says):
            TelemetryHub([given])

    @pytest.mark.parametrize("given", [{"kl": 0.01}, None, numbered(1).data])
    def test_what_is_no_event_is_refused_where_it_is_emitted_and_counted_nowhere(self, given: Any) -> None:
        with TelemetryHub([FunctionSink("any", id)]) as hub:
            with pytest.raises(TypeError, match=f"emit takes a TelemetryEvent.*not a {type(given).__name__}"):
                hub.emit(given)
            (stats,) = hub.stats()
            assert stats.emitted == 0


class TestLimits:
    @pytest.mark.parametrize("value", [math.nan, -1.0, -math.inf])
    def test_a_duration_that_is_none_is_refused_where_it_is_given(self, value: float) -> None:
        with TelemetryHub([FunctionSink("any", id)]) as hub:
            for call in (hub.flush, hub.close):
                with pytest.raises(ValueError, match="timeout is a number of seconds, 0 or more"):
                    call(value)
        with pytest.raises(ValueError, match="max_wait is a number of seconds"):
            Durable(max_wait=value)

    @pytest.mark.parametrize("value", ["5", True, object()])
    def test_so_is_what_is_no_number(self, value: Any) -> None:
        with TelemetryHub([FunctionSink("any", id)]) as hub, pytest.raises(TypeError, match="seconds, not"):
            hub.flush(value)
        for make in (lambda: Durable(max_wait=value), lambda: Durable(high_water=value), lambda: Live(capacity=value)):
            with pytest.raises(TypeError):
                make()

    @pytest.mark.parametrize("value", [0, -1])
    def test_a_queue_holds_one_event_at_least(self, value: int) -> None:
        for make in (lambda: Durable(high_water=value), lambda: Live(capacity=value)):
            with pytest.raises(ValueError, match="1 or more"):
                make()

    def test_numbers_of_other_libraries_are_numbers(self) -> None:
        policy = Durable(max_wait=np.float32(0.5), high_water=np.int64(7))  # type: ignore[arg-type]
        assert policy == Durable(max_wait=0.5, high_water=7)

    def test_infinite_and_none_wait_without_end(self) -> None:
        hold = threading.Event()
        hub = TelemetryHub([FunctionSink("slow", lambda _: hold.wait(20), Durable(max_wait=math.inf, high_water=1))])
        hub.emit(numbered(1))
        timer = threading.Timer(0.2, hold.set)
        timer.start()
        for number in range(3):
            hub.emit(numbered(number))  # waits for room, and loses nothing
        assert hub.flush(math.inf)
        assert hub.flush(10**9)
        assert hub.close(None)
        timer.join()
        assert hub.stats()[0].delivered == 4

    def test_a_queue_is_bounded_in_bytes_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sink_queue, "QUEUE_BYTES", 1_000_000)
        hold = threading.Event()
        hub = TelemetryHub([FunctionSink("stuck", lambda _: hold.wait(20), Durable(max_wait=0))])
        with reported("is losing events"):
            for number in range(2_000):
                hub.emit(numbered(number, seeds={"r0": {"note": "x" * 5_000, "path": ["y" * 1_000] * 4}}))
            assert hub.stats()[0].queued * 10_000 < 5_000_000
            hold.set()
            hub.close()
        assert_balanced(hub.stats()[0])

    def test_the_bound_follows_what_the_events_hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sink_queue, "QUEUE_BYTES", 4_000_000)
        hold = threading.Event()
        hub = TelemetryHub([FunctionSink("late", lambda _: hold.wait(20), Durable(max_wait=60))])
        for number in range(200):
            hub.emit(numbered(number, message="x" * 5_000))
        assert hub._queues[0].limit < 1_000
        hold.set()
        assert hub.flush()
        for number in range(1_000):
            hub.emit(numbered(number))
        assert hub._queues[0].limit > 1_000
        assert hub.close()
