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
    Counterfactual,
    Entry,
    EntryHistory,
    EnvSnapshot,
    Epochs,
    EventHistory,
    GroupSnapshot,
    History,
    LastAction,
    LifecycleTotals,
    Rewards,
    RunSnapshot,
    SeedOutcome,
    SeedRecord,
    Slots,
    SlotSnapshot,
)

__all__ = [
    "Counterfactual",
    "Entry",
    "EntryHistory",
    "EnvSnapshot",
    "Epochs",
    "EventHistory",
    "GroupSnapshot",
    "History",
    "LastAction",
    "LifecycleTotals",
    "Rewards",
    "RunSnapshot",
    "SeedOutcome",
    "SeedRecord",
    "SlotSnapshot",
    "Slots",
    "TelemetryAggregator",
    "supplied",
    "supplied_number",
]
