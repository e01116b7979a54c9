"""The accounts balance at every instant, whatever emitters and sinks do: random histories with real threads."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.builders import numbered, reported
from tests.effort import tries

from esper.leyline.telemetry import EpochCompletedPayload, TelemetryEvent
from esper.nissa import output, retry, sink_queue
from esper.nissa.output import DeliveryPolicy, Durable, Live, Rejected, TelemetryHub

FAILURES: dict[str, Exception] = {
    "refuses": Rejected("not mine"),
    "fails": ValueError("bad event"),
    "disk full": OSError(errno.ENOSPC, "full"),
    "connection lost": ConnectionError("gone"),
}


class Scripted:
    """A sink in one of several behaviours, which counts for itself what reached it."""

    def __init__(self, policy: DeliveryPolicy) -> None:
        self.name = "scripted"
        self.policy = policy
        self.behaviour = "well"
        self.buffer: list[int] = []
        self.flushed: list[int] = []
        self.unhook = threading.Event()

    def write(self, event: TelemetryEvent) -> None:
        if self.behaviour == "hangs":
            self.unhook.wait()
        if self.behaviour in FAILURES:
            raise FAILURES[self.behaviour]
        assert isinstance(event.data, EpochCompletedPayload)
        self.buffer.append(event.data.inner_epoch)

    def flush(self, *, barrier: bool) -> None:
        if self.behaviour == "disk full":
            raise FAILURES["disk full"]
        self.flushed += self.buffer
        self.buffer.clear()

    def close(self) -> None:
        pass

    def behave(self, behaviour: str) -> None:
        self.behaviour = behaviour
        if behaviour == "hangs":
            self.unhook.clear()
        else:
            self.unhook.set()


class Accounts(RuleBasedStateMachine):
    """Emit, stall, fail, recover, flush and close in any order."""

    sinks: tuple[Scripted, ...] = ()

    @initialize(limit=st.integers(1, 40))
    def open(self, limit: int) -> None:
        # A new hub sees a new history; the small numbers below bring every branch within reach of a short one.
        self.sinks = (
            Scripted(Durable(max_wait=0.002, high_water=limit)),
            Scripted(Live(capacity=limit)),
            Scripted(Durable()),
        )
        self.hub = TelemetryHub(self.sinks)
        self.emitted = 0
        self.closed = False

    @rule(count=st.integers(1, 60))
    def emit(self, count: int) -> None:
        for _ in range(count):
            self.hub.emit(numbered(self.emitted))
            self.emitted += 1

    @rule(which=st.integers(0, 2), behaviour=st.sampled_from(["well", "hangs", *FAILURES]))
    def change_behaviour(self, which: int, behaviour: str) -> None:
        self.sinks[which].behave(behaviour)

    @rule()
    def let_time_pass(self) -> None:
        time.sleep(0.003)

    @precondition(lambda self: not self.closed)
    @rule()
    def flush(self) -> None:
        if self.hub.flush(timeout=0.03):
            for stats in self.hub.stats():
                assert stats.queued == 0
                assert stats.delivered + stats.rejected == self.emitted or not stats.durable

    @rule()
    def close(self) -> None:
        self.hub.close(timeout=0.03)
        self.closed = True

    @invariant()
    def balanced(self) -> None:
        if not self.sinks:
            return
        for stats in self.hub.stats():
            assert stats.emitted == self.emitted
            assert stats.emitted == stats.delivered + stats.rejected + stats.dropped + stats.queued
            assert min(stats.delivered, stats.rejected, stats.dropped, stats.queued) >= 0

    @invariant()
    def nothing_arrives_twice_or_out_of_order(self) -> None:
        for sink in self.sinks:
            flushed = list(sink.flushed)
            assert flushed == sorted(set(flushed))

    def teardown(self) -> None:
        for sink in self.sinks:
            sink.behave("well")
        if self.sinks:
            self.hub.close(timeout=10)
            deadline = time.monotonic() + 10
            while not self.hub._all_finished() and time.monotonic() < deadline:
                time.sleep(0.001)
            for stats, sink in zip(self.hub.stats(), self.sinks, strict=True):
                assert stats.queued == 0
                assert stats.delivered == len(sink.flushed)


@contextmanager
def impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, reported(None):  # losses are meant to happen
        patch.setattr(retry, "RETRY_SECONDS", 0.01)
        patch.setattr(retry, "FIRST_PAUSE", 0.001)
        patch.setattr(retry, "LONGEST_PAUSE", 0.005)
        patch.setattr(output, "BATCH", 7)
        patch.setattr(output, "GRACE", 0.02)
        patch.setattr(output, "INTERVAL", 0.005)
        patch.setattr(sink_queue, "WAKE_MARK", 5)
        yield


def test_the_accounts_balance_through_any_history() -> None:
    with impatient():
        run_state_machine_as_test(
            Accounts, settings=settings(max_examples=tries(100), stateful_step_count=25, deadline=None)
        )
