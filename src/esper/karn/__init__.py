"""Readers: the aggregator, and the views over its snapshot.

>>> from esper.karn import TelemetryAggregator
>>> aggregator = TelemetryAggregator()
>>> aggregator.process(event)
>>> aggregator.snapshot().groups["default"].update
"""

from __future__ import annotations

from esper.karn.absence import supplied, supplied_number
from esper.karn.aggregator import TelemetryAggregator
from esper.karn.snapshot import (
    Entry,
    EntryHistory,
    EnvSnapshot,
    EventHistory,
    GroupSnapshot,
    History,
    LifecycleTotals,
    RunSnapshot,
    SeedOutcome,
    SeedRecord,
    SlotSnapshot,
)

__all__ = [
    "Entry",
    "EntryHistory",
    "EnvSnapshot",
    "EventHistory",
    "GroupSnapshot",
    "History",
    "LifecycleTotals",
    "RunSnapshot",
    "SeedOutcome",
    "SeedRecord",
    "SlotSnapshot",
    "TelemetryAggregator",
    "supplied",
    "supplied_number",
]
