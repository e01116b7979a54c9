"""Judging a run while it goes on: at each batch's end, to notify its user, or to end what cannot recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esper.karn.health import assess
from esper.leyline.limits import Status
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent

if TYPE_CHECKING:
    from esper.commands.notify import Notifier
    from esper.karn.aggregator import TelemetryAggregator
    from esper.leyline.telemetry import Emit

__all__ = ["Judge", "RunGoneBadError"]

_BATCHES_TO_RECOVER = 5
"""Batches in a row that must be BAD by the same rule before a run cannot recover."""


class RunGoneBadError(Exception):
    """A run was ended because it could not recover; the message is its verdict."""


class Judge:
    """Folds events and, where somebody wants to know, judges the run at the end of each batch.

    Args:
        aggregator: folds them.
        notifier: is given the verdicts; None for nobody.
        stops: whether it is to know when the run cannot recover.
    """

    def __init__(self, aggregator: TelemetryAggregator, notifier: Notifier | None, *, stops: bool) -> None:
        self.aggregator = aggregator
        self.notifier = notifier
        self._asked = stops or notifier is not None
        self.lost: str | None = None
        """The verdict over a run that cannot recover."""
        self._bad: dict[tuple[str | None, str], int] = {}

    def take(self, event: TelemetryEvent) -> None:
        """Take one event in."""
        self.aggregator.process(event)
        if self._asked and isinstance(event.data, BatchEpochCompletedPayload):
            verdict = assess(self.aggregator.snapshot())
            if self.notifier is not None:
                self.notifier.look(verdict)
            bad = {(one.group, one.rule) for one in verdict.findings if one.status is Status.BAD}
            self._bad = {rule: self._bad[rule] + 1 if rule in self._bad else 1 for rule in bad}
            if max(self._bad.values(), default=0) >= _BATCHES_TO_RECOVER:
                self.lost = verdict.headline

    def emit_until_lost(self, emit: Emit) -> Emit:
        """Return an emitter that ends the run after a batch when it cannot recover."""
        ended = False

        def emit_or_end(event: TelemetryEvent) -> None:
            nonlocal ended
            emit(event)
            if self.lost is not None and not ended and isinstance(event.data, BatchEpochCompletedPayload):
                ended = True
                raise RunGoneBadError(f"stopped after {_BATCHES_TO_RECOVER} batches in a row: {self.lost}")

        return emit_or_end
