from __future__ import annotations

import errno
import itertools
import math
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType

import pytest
from tests.builders import event, numbered, payload, reported

from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    TelemetryEvent,
    TelemetryEventType,
    TrainingStartedPayload,
)
from esper.nissa import output, retry
from esper.nissa.output import (
    DeliveryPolicy,
    Durable,
    FunctionSink,
    Live,
    Rejected,
    SinkStats,
    TelemetryHub,
    emit_epoch_completed,
    emit_training_started,
)


class Recorder:
    """A sink that keeps what it gets, and misbehaves on demand."""

    def __init__(self, policy: DeliveryPolicy | None = None, name: str = "recorder") -> None:
        self.name = name
        self.policy = policy or Durable()
        self.written: list[int] = []
        self.flushed: list[int] = []
        self.barriers = 0
        self.closed = 0
        self.on_write: Callable[[int], None] = lambda number: None
        self.on_flush: Callable[[], None] = lambda: None
        self.on_close: Callable[[], None] = lambda: None
        self.open = threading.Event()
        self.open.set()

    def write(self, event: TelemetryEvent) -> None:
        self.open.wait()
        number = event.data.inner_epoch if isinstance(event.data, EpochCompletedPayload) else -1
        self.on_write(number)
        self.written.append(number)

    def flush(self, *, barrier: bool) -> None:
        self.on_flush()
        self.flushed += self.written
        self.written.clear()
        self.barriers += barrier

    def close(self) -> None:
        self.on_close()
        self.closed += 1


def emit_numbers(hub: TelemetryHub, count: int) -> None:
    for number in range(count):
        hub.emit(numbered(number))


def raise_(error: BaseException) -> None:
    raise error


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def assert_balanced(stats: SinkStats) -> None:
    assert stats.emitted == stats.delivered + stats.rejected + stats.dropped + stats.queued
    assert min(stats.delivered, stats.rejected, stats.dropped, stats.queued, stats.lag) >= 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting, so that what is given up is given up at once."""
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(output, "GRACE", 0.2)


class TestDelivery:
    def test_every_sink_gets_every_event_in_the_order_of_emission(self) -> None:
        sinks = [Recorder(), Recorder(Live(capacity=10_000)), Recorder()]
        with TelemetryHub(sinks) as hub:
            emit_numbers(hub, 3_000)
        assert [sink.flushed for sink in sinks] == [[*range(3_000)]] * 3
        assert [sink.closed for sink in sinks] == [1, 1, 1]

    def test_the_accounts_say_what_happened_and_go_into_a_json_file(self) -> None:
        sink = Recorder()
        sink.on_write = lambda number: raise_(Rejected("odd")) if number % 2 else None
        hub = TelemetryHub([sink])
        emit_numbers(hub, 10)
        assert hub.close()
        assert [asdict(stats) for stats in hub.stats()] == [
            {
                "name": "recorder",
                "durable": True,
                "emitted": 10,
                "delivered": 5,
                "rejected": 5,
                "dropped": 0,
                "queued": 0,
                "lag": 0.0,
                "set_aside": False,
                "last_error": "odd",
            }
        ]

    def test_two_sinks_of_one_name_are_numbered(self) -> None:
        with TelemetryHub([Recorder(), Recorder(name="other"), Recorder()]) as hub:
            assert [stats.name for stats in hub.stats()] == ["recorder", "other", "recorder #2"]

    def test_events_arrive_without_a_flush(self) -> None:
        sink = Recorder()
        with TelemetryHub([sink]) as hub:
            hub.emit(numbered(1))
            eventually(lambda: sink.flushed == [1])

    @pytest.mark.parametrize("barrier", [event(BatchEpochCompletedPayload), event(TrainingStartedPayload)])
    def test_a_barrier_event_is_committed_with_what_came_before_it(self, barrier: TelemetryEvent) -> None:
        sink = Recorder()
        with TelemetryHub([sink]) as hub:
            hub.emit(numbered(1))
            hub.emit(barrier)
            eventually(lambda: sink.barriers == 1)
            assert sink.flushed == [1, -1]

    def test_ordinary_events_are_not_committed_one_by_one(self) -> None:
        sink = Recorder()
        with TelemetryHub([sink]) as hub:
            hub.emit(numbered(1))
            eventually(lambda: sink.flushed == [1])
            assert sink.barriers == 0

    def test_a_clock_that_goes_backwards_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sink = Recorder()
        past = iter(range(10**9, 0, -1))
        monkeypatch.setattr(time, "time", lambda: next(past))
        start = datetime(2026, 1, 1, tzinfo=UTC)
        with TelemetryHub([sink]) as hub:
            for number in range(100):
                payload = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=number)
                hub.emit(TelemetryEvent(data=payload, timestamp=start - timedelta(hours=number)))
            assert hub.flush()
            assert hub.stats()[0].lag == 0
        assert sink.flushed == [*range(100)]

    def test_a_hub_without_sinks_keeps_nothing(self) -> None:
        with TelemetryHub([]) as hub:
            emit_numbers(hub, 5)
            assert hub.flush()
            assert hub.stats() == ()
        hub.emit(numbered(6))

    def test_a_function_is_a_sink(self) -> None:
        seen: list[TelemetryEvent] = []
        emitted = [numbered(1), numbered(2)]
        with TelemetryHub([FunctionSink("list", seen.append)]) as hub:
            for each in emitted:
                hub.emit(each)
        assert seen == emitted

    def test_a_sink_may_emit(self) -> None:
        echo = Recorder()
        hubs: list[TelemetryHub] = []
        echo.on_write = lambda number: hubs[0].emit(numbered(number + 1)) if number < 3 else None
        hubs.append(TelemetryHub([echo]))
        hubs[0].emit(numbered(0))
        eventually(lambda: echo.flushed == [0, 1, 2, 3])
        hubs[0].close()

    def test_a_hub_cannot_be_taken_into_another_process(self) -> None:
        with TelemetryHub([Recorder()]) as hub, pytest.raises(TypeError, match="open another one"):
            pickle.dumps(hub)


class TestFlush:
    def test_flush_returns_once_everything_is_delivered_and_committed(self) -> None:
        sink = Recorder()
        sink.on_flush = lambda: time.sleep(0.02)
        with TelemetryHub([sink]) as hub:
            emit_numbers(hub, 2_500)
            assert hub.flush()
            assert (sink.flushed, sink.barriers) == ([*range(2_500)], 1)

    def test_flush_says_no_while_a_sink_hangs(self) -> None:
        healthy, hanging = Recorder(), Recorder()
        hanging.open.clear()
        with TelemetryHub([healthy, hanging]) as hub:
            hub.emit(numbered(1))
            assert not hub.flush(timeout=0.2)
            assert healthy.flushed == [1]
            hanging.open.set()
            assert hub.flush()

    def test_a_live_sink_that_hangs_keeps_nobody_who_asks_for_durable_ones(self) -> None:
        log, live = Recorder(), Recorder(Live(capacity=100))
        live.open.clear()
        with TelemetryHub([log, live]) as hub:
            hub.emit(numbered(1))
            assert hub.flush(durable=True)
            assert log.flushed == [1]
            assert not hub.flush(timeout=0.1)
            live.open.set()

    def test_flush_says_no_when_the_sink_failed_to_flush(self, quick: None) -> None:
        sink = Recorder()
        sink.on_flush = lambda: raise_(RuntimeError("no"))
        hub = TelemetryHub([sink])
        hub.emit(numbered(1))
        with reported("'recorder' is set aside"):
            assert not hub.flush()
        assert hub.stats()[0].delivered == 0
        hub.close()

    def test_flush_says_no_ever_after_a_durable_sink_lost_an_event(self) -> None:
        sink = Recorder(Durable(max_wait=0, high_water=3))
        sink.open.clear()
        hub = TelemetryHub([sink])
        with reported("losing events"):
            emit_numbers(hub, 2_000)
        sink.open.set()
        assert not hub.flush()
        assert not hub.close()

    def test_flush_does_not_wait_for_what_is_emitted_meanwhile(self) -> None:
        sink = Recorder(Live(capacity=50_000))
        stop = threading.Event()
        hub = TelemetryHub([sink])

        def flood() -> None:
            while not stop.is_set() and hub.stats()[0].emitted < 10_000_000:
                hub.emit(numbered(1))

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            assert hub.flush()
        finally:
            stop.set()
            thread.join()
            hub.close()


class TestPolicies:
    def test_a_live_sink_keeps_the_newest_and_counts_the_rest(self) -> None:
        sink = Recorder(Live(capacity=5))
        sink.open.clear()
        hub = TelemetryHub([sink])
        hub.emit(numbered(0))
        eventually(lambda: hub._queues[0].in_hand == 1)
        for number in range(1, 101):
            hub.emit(numbered(number))
        assert (hub.stats()[0].dropped, hub.stats()[0].queued) == (95, 6)
        sink.open.set()
        assert hub.close()
        assert sink.flushed == [0, 96, 97, 98, 99, 100]

    def test_a_long_queue_loses_an_eighth_at_a_time(self) -> None:
        sink = Recorder(Live(capacity=80))
        sink.open.clear()
        hub = TelemetryHub([sink])
        hub.emit(numbered(0))
        eventually(lambda: hub._queues[0].in_hand == 1)
        emit_numbers(hub, 81)
        assert (hub.stats()[0].dropped, hub.stats()[0].queued) == (11, 71)
        sink.open.set()
        hub.close()

    def test_a_durable_sink_loses_nothing_when_it_is_only_slow(self) -> None:
        sink = Recorder(Durable(max_wait=20, high_water=10))
        sink.on_flush = lambda: time.sleep(0.001)
        with TelemetryHub([sink]) as hub:
            emit_numbers(hub, 500)
            assert hub.flush()
        assert sink.flushed == [*range(500)]

    def test_a_stall_is_waited_for_once_and_not_for_every_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sink = Recorder(Durable(max_wait=0.3, high_water=3))
        sink.open.clear()
        hub = TelemetryHub([sink])
        waits = 0
        waiter = hub._changes.waiter

        def count_wait() -> threading.Lock:
            nonlocal waits
            waits += 1
            return waiter()

        monkeypatch.setattr(hub._changes, "waiter", count_wait)
        with reported("'recorder' cannot keep up and is losing events") as reports:
            emit_numbers(hub, 50)
        assert len(reports) == 1
        assert waits < 5
        stats = hub.stats()[0]
        assert stats.dropped == 50 - stats.queued
        assert stats.queued >= 3
        sink.open.set()
        hub.close()

    def test_a_stalled_durable_sink_delays_no_other_sink(self) -> None:
        stalled, healthy = Recorder(Durable(max_wait=0.01, high_water=5)), Recorder()
        stalled.open.clear()
        hub = TelemetryHub([stalled, healthy])
        with reported():
            emit_numbers(hub, 5_000)
        eventually(lambda: len(healthy.flushed) == 5_000)
        stalled.open.set()
        hub.close()

    def test_memory_is_bounded_by_the_limit_of_a_sink_that_hangs(self) -> None:
        hanging = Recorder(Live(capacity=100))
        hanging.open.clear()
        hub = TelemetryHub([hanging])
        emit_numbers(hub, 20_000)
        assert len(hub._events) < 100 + 2 * output.BATCH
        hanging.open.set()
        hub.close()

    def test_the_accounts_say_how_far_a_sink_is_behind(self) -> None:
        sink = Recorder()
        sink.open.clear()
        hub = TelemetryHub([sink])
        hub.emit(numbered(1))
        time.sleep(0.05)
        assert 0.04 < hub.stats()[0].lag < 20
        sink.open.set()
        assert hub.flush()
        assert hub.stats()[0].lag == 0
        hub.close()


class TestFailures:
    def test_a_sink_that_fails_now_and_then_still_gets_everything_once(self) -> None:
        sink = Recorder()
        failures = iter(range(10**6))

        def fail_two_times_in_three(_: object = None) -> None:
            if next(failures) % 3:
                raise RuntimeError("not now")

        sink.on_write = fail_two_times_in_three
        sink.on_flush = fail_two_times_in_three
        with TelemetryHub([sink]) as hub:
            emit_numbers(hub, 300)
            assert hub.flush()
        assert sink.flushed == [*range(300)]
        assert hub.stats()[0].last_error == "RuntimeError('not now')"

    def test_an_event_that_a_sink_fails_on_is_rejected_and_the_next_one_is_taken(self) -> None:
        sink = Recorder()
        sink.on_write = lambda number: raise_(ValueError("unlucky")) if number == 13 else None
        with TelemetryHub([sink]) as hub:
            emit_numbers(hub, 20)
            assert hub.flush()
        assert sink.flushed == [number for number in range(20) if number != 13]
        assert (hub.stats()[0].rejected, hub.stats()[0].delivered) == (1, 19)

    @pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(1), KeyboardInterrupt(), OSError("gone")])
    def test_a_sink_that_always_raises_is_set_aside_with_a_warning(self, quick: None, error: BaseException) -> None:
        broken, healthy = Recorder(name="broken"), Recorder(name="healthy")
        broken.on_write = lambda number: raise_(error)
        hub = TelemetryHub([broken, healthy])
        emit_numbers(hub, 100)
        with reported("'broken' is set aside"):
            assert not hub.close()
        stats = hub.stats()[0]
        assert stats.set_aside
        assert stats.last_error == repr(error)
        assert (stats.emitted, stats.delivered, stats.queued) == (100, 0, 0)
        assert healthy.flushed == [*range(100)]

    def test_a_sink_that_fails_on_most_events_is_not_set_aside(self) -> None:
        sink = Recorder()
        sink.on_write = lambda number: raise_(ValueError("picky")) if number % 8 else None
        hub = TelemetryHub([sink])
        emit_numbers(hub, 80)
        assert hub.close()
        assert sink.flushed == [*range(0, 80, 8)]
        assert (hub.stats()[0].rejected, hub.stats()[0].set_aside) == (70, False)

    def test_the_system_is_given_time_once_and_not_for_every_event(self, quick: None) -> None:
        sink = Recorder()
        offered: set[int] = set()

        def refuse(number: int) -> None:
            offered.add(number)
            raise ConnectionError("gone")

        sink.on_write = refuse
        hub = TelemetryHub([sink])
        emit_numbers(hub, 20)
        with reported("'recorder' is set aside.*gone"):
            hub.close()
        assert offered == {0}
        assert (hub.stats()[0].rejected, hub.stats()[0].dropped) == (0, 20)

    def test_what_is_emitted_after_a_sink_was_set_aside_counts_as_dropped(self, quick: None) -> None:
        sink = Recorder()
        sink.on_flush = lambda: raise_(RuntimeError("boom"))
        hub = TelemetryHub([sink])
        hub.emit(numbered(0))
        with reported("set aside"):
            hub.flush()
        emit_numbers(hub, 20_000)
        assert hub.stats()[0].dropped == 20_001
        assert len(hub._events) <= output.BATCH
        hub.close()

    def test_a_durable_sink_on_a_full_disk_is_waited_for(self, quick: None) -> None:
        sink = Recorder()
        full = threading.Event()
        full.set()
        sink.on_flush = lambda: raise_(OSError(errno.ENOSPC, "No space left")) if full.is_set() else None
        hub = TelemetryHub([sink])
        emit_numbers(hub, 10)
        assert not hub.flush(timeout=0.3)  # longer than any other failure is retried
        stats = hub.stats()[0]
        assert (stats.queued, stats.dropped, stats.set_aside) == (10, 0, False)
        assert "No space left" in str(stats.last_error)
        full.clear()
        assert hub.flush()
        assert hub.close()
        assert sink.flushed == [*range(10)]

    def test_closing_on_a_full_disk_ends_and_counts_the_loss(self, quick: None) -> None:
        sink = Recorder()
        sink.on_flush = lambda: raise_(OSError(errno.ENOSPC, "No space left"))
        hub = TelemetryHub([sink])
        hub.emit(numbered(1))
        with reported("No space left"):
            assert not hub.close(timeout=0.05)
        assert (hub.stats()[0].dropped, hub.stats()[0].queued) == (1, 0)


class TestClose:
    def test_everything_emitted_before_close_is_delivered(self) -> None:
        sink = Recorder()
        hub = TelemetryHub([sink])
        emit_numbers(hub, 5_000)
        assert hub.close()
        assert sink.flushed == [*range(5_000)]
        assert hub.stats()[0].delivered == 5_000

    def test_closing_twice_changes_nothing(self) -> None:
        sink = Recorder()
        hub = TelemetryHub([sink])
        hub.emit(numbered(1))
        assert hub.close()
        before = hub.stats()
        assert hub.close()
        assert hub.flush()
        assert (hub.stats(), sink.closed) == (before, 1)

    def test_a_closed_hub_is_forgotten(self) -> None:
        hub = TelemetryHub([Recorder()])
        hub.close()
        alive = weakref.ref(hub)
        del hub
        eventually(lambda: alive() is None)

    def test_what_is_emitted_after_close_is_counted_and_warned_about_once(self) -> None:
        sink = Recorder()
        hub = TelemetryHub([sink])
        hub.close()
        with reported("after the hub was closed") as reports:
            emit_numbers(hub, 3)
        assert len(reports) == 1
        stats = hub.stats()[0]
        assert (stats.emitted, stats.dropped, sink.flushed) == (3, 3, [])
        assert_balanced(stats)
        assert not hub.flush()

    def test_close_returns_although_a_sink_hangs(self, quick: None) -> None:
        hanging, healthy = Recorder(name="hanging"), Recorder()
        hanging.open.clear()
        hub = TelemetryHub([hanging, healthy])
        emit_numbers(hub, 10)
        with reported("'hanging' does not finish"):
            assert not hub.close(timeout=0.1)
        assert healthy.flushed == [*range(10)]
        assert hub.stats()[0].queued == 10
        assert_balanced(hub.stats()[0])
        assert not hub.close(timeout=1_000)  # at once: it was waited for long enough
        hanging.open.set()
        eventually(lambda: hanging.closed == 1)
        assert hanging.flushed == [*range(10)]

    def test_a_sink_that_cannot_close_is_named(self) -> None:
        sink = Recorder()
        sink.on_close = lambda: raise_(RuntimeError("stuck"))
        hub = TelemetryHub([sink])
        hub.emit(numbered(1))
        with reported("'recorder' failed to close: RuntimeError"):
            assert not hub.close()
        assert hub.stats()[0].delivered == 1

    def test_an_emitter_that_waits_does_not_block_close(self, quick: None) -> None:
        sink = Recorder(Durable(max_wait=0.5, high_water=1))
        sink.open.clear()
        hub = TelemetryHub([sink])

        def emit_some() -> None:
            emit_numbers(hub, 3_000)

        emitter = threading.Thread(target=emit_some)
        emitter.start()
        with reported():
            hub.close(timeout=0.05)
            emitter.join()
            sink.open.set()
            eventually(lambda: sink.closed == 1)
        assert_balanced(hub.stats()[0])
        assert hub.stats()[0].emitted == 3_000


class Interrupt(BaseException):
    """As a KeyboardInterrupt, but for ending the session of tests."""


class TestSignals:
    @pytest.fixture
    def alarms(self) -> Iterator[Callable[[Callable[[], None]], None]]:
        """Something is done in the main thread, again and again, at arbitrary instructions."""
        previous = signal.getsignal(signal.SIGALRM)
        pauses = itertools.cycle([0.0003, 0.00037, 0.00041, 0.0005])

        def begin(action: Callable[[], None]) -> None:
            def handle(_number: int, _frame: FrameType | None) -> None:
                try:
                    action()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, next(pauses))

            signal.signal(signal.SIGALRM, handle)
            signal.setitimer(signal.ITIMER_REAL, next(pauses))

        yield begin
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)

    def test_an_interrupt_within_emit_leaves_the_accounts_right(
        self, alarms: Callable[[Callable[[], None]], None]
    ) -> None:
        durable, live = Recorder(Durable(max_wait=0.01, high_water=50)), Recorder(Live(capacity=20))
        hub = TelemetryHub([durable, live])
        one = numbered(1)
        armed = False

        def interrupt() -> None:
            nonlocal armed
            if armed:
                armed = False
                raise Interrupt

        alarms(interrupt)
        with reported(None):  # that it may lose events is not what is tested
            for _ in range(300):
                try:
                    armed = True
                    for _ in range(1_000_000):
                        hub.emit(one)
                except Interrupt:
                    pass
            hub.close()
        for stats, sink in zip(hub.stats(), (durable, live), strict=True):
            assert_balanced(stats)
            assert stats.delivered == len(sink.flushed)
            assert stats.queued == 0

    @pytest.mark.parametrize("arrives", [False, True])
    def test_an_event_is_emitted_when_it_is_in_the_sequence(self, arrives: bool) -> None:
        class Interrupted(list[TelemetryEvent]):
            def append(self, each: TelemetryEvent) -> None:
                if arrives:
                    super().append(each)
                raise KeyboardInterrupt

        sink = Recorder()
        hub = TelemetryHub([sink])
        hub._events = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            hub.emit(numbered(1))
        assert hub.close()
        assert hub.stats()[0].emitted == arrives
        assert sink.flushed == [1] * arrives

    def test_a_signal_handler_may_emit_and_flush(self, alarms: Callable[[Callable[[], None]], None]) -> None:
        sink = Recorder()
        hub = TelemetryHub([sink])
        flushed: list[bool] = []
        handled = 0

        def handler() -> None:
            nonlocal handled
            hub.emit(numbered(2))
            handled += 1
            if len(flushed) < 20:
                flushed.append(hub.flush(timeout=0.2))  # says no when it interrupted an emit: nothing can move then

        alarms(handler)
        emitted = 0
        while handled < 200:
            hub.emit(numbered(1))
            emitted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert hub.close()
        assert flushed.count(True) > 5
        assert sink.flushed.count(1) == emitted
        assert sink.flushed.count(2) == handled


class TestThreads:
    def test_eight_threads_emitting_fifty_thousand_events_each_lose_none(self) -> None:
        counted = [0] * 8

        def count(each: TelemetryEvent) -> None:
            assert isinstance(each.data, EpochCompletedPayload)
            counted[each.data.env_id] += 1

        events = [
            TelemetryEvent(data=EpochCompletedPayload(env_id=thread, val_accuracy=0.5, val_loss=1.0, inner_epoch=1))
            for thread in range(8)
        ]
        hub = TelemetryHub([FunctionSink("count", count, Durable(max_wait=60)), FunctionSink("live", id)])
        stop = threading.Event()
        unbalanced: list[SinkStats] = []

        def audit() -> None:
            while not stop.is_set():
                unbalanced.extend(
                    stats
                    for stats in hub.stats()
                    if stats.emitted != stats.delivered + stats.rejected + stats.dropped + stats.queued
                )
                time.sleep(0.0005)

        def emit_many(each: TelemetryEvent) -> None:
            for _ in range(50_000):
                hub.emit(each)

        threads = [threading.Thread(target=emit_many, args=(each,)) for each in events]
        auditor = threading.Thread(target=audit)
        for thread in [auditor, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        assert hub.close()
        stop.set()
        auditor.join()
        assert counted == [50_000] * 8
        assert unbalanced == []
        assert [stats.emitted for stats in hub.stats()] == [400_000] * 2


class TestEmitters:
    def test_training_started_has_a_sentence_for_its_message(self) -> None:
        emitted: list[TelemetryEvent] = []
        started = payload(TrainingStartedPayload, task="digits", n_episodes=8, n_envs=2, seed=7)
        emit_training_started(emitted.append, started, group_id="B")
        assert emitted[0].event_type is TelemetryEventType.TRAINING_STARTED
        assert emitted[0].data == started
        assert emitted[0].group_id == "B"
        assert "8 episodes in 2 environments, seed 7" in emitted[0].message

    def test_a_number_of_episodes_that_is_unknown_is_not_called_0(self) -> None:
        emitted: list[TelemetryEvent] = []
        emit_training_started(emitted.append, payload(TrainingStartedPayload, task="t", n_episodes=0, n_envs=2, seed=7))
        assert emitted[0].message == "training on t begins: 2 environments, seed 7"

    def test_an_epoch_is_emitted_with_its_context(self) -> None:
        emitted: list[TelemetryEvent] = []
        emit_epoch_completed(emitted.append, env_id=3, inner_epoch=2, val_accuracy=0.5, val_loss=1.25, group_id="B")
        assert emitted[0].data == EpochCompletedPayload(env_id=3, val_accuracy=0.5, val_loss=1.25, inner_epoch=2)
        assert (emitted[0].epoch, emitted[0].group_id, emitted[0].severity) == (2, "B", "info")
        assert emitted[0].message == "env 3, epoch 2: validation accuracy 0.500, loss 1.25"

    @pytest.mark.parametrize(
        ("accuracy", "loss", "says", "severity"),
        [
            (math.nan, math.nan, "the host has diverged, its loss is nan", "warning"),
            (math.nan, math.inf, "the host has diverged, its loss is inf", "warning"),
            (math.nan, 0.5, "accuracy not measured, loss 0.5", "info"),
        ],
    )
    def test_an_epoch_without_an_accuracy_says_why(
        self, accuracy: float, loss: float, says: str, severity: str
    ) -> None:
        emitted: list[TelemetryEvent] = []
        emit_epoch_completed(emitted.append, env_id=3, inner_epoch=2, val_accuracy=accuracy, val_loss=loss)
        assert (emitted[0].message, emitted[0].severity) == (f"env 3, epoch 2: {says}", severity)

    def test_seeds_are_supplied_only_when_they_were_given(self) -> None:
        emitted: list[TelemetryEvent] = []
        emit = partial(emit_epoch_completed, emitted.append, env_id=0, inner_epoch=1, val_accuracy=0.5, val_loss=1.0)
        emit()
        emit(seeds={"r0": {"alpha": 0.5}})
        assert [event.data.supplied for event in emitted] == [frozenset(), {"seeds"}]
        assert emitted[1].data.to_dict()["seeds"] == {"r0": {"alpha": 0.5}}

    @pytest.mark.parametrize("loss", [float("nan"), float("inf")])
    def test_a_loss_that_is_not_finite_is_a_warning(self, loss: float) -> None:
        emitted: list[TelemetryEvent] = []
        emit_epoch_completed(emitted.append, env_id=0, inner_epoch=1, val_accuracy=0.1, val_loss=loss)
        assert emitted[0].severity == "warning"
