"""Readers: the aggregator, and the views over its snapshot.

>>> from esper.karn import TelemetryAggregator
>>> aggregator = TelemetryAggregator()
>>> aggregator.process(event)
>>> aggregator.snapshot().groups["default"].update
>>> assess(aggregator.snapshot()).headline
"""

from __future__ import annotations

from esper.karn.absence import supplied, supplied_number
from esper.karn.aggregator import TelemetryAggregator
from esper.karn.folding import FoldedLog, fold
from esper.karn.health import assess
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
from esper.karn.verdict import Finding, Verdict
from esper.leyline.limits import Limits, Status

__all__ = [
    "Counterfactual",
    "Entry",
    "EntryHistory",
    "EnvSnapshot",
    "Epochs",
    "EventHistory",
    "Finding",
    "FoldedLog",
    "GroupSnapshot",
    "History",
    "LastAction",
    "LifecycleTotals",
    "Limits",
    "Rewards",
    "RunSnapshot",
    "SeedOutcome",
    "SeedRecord",
    "SlotSnapshot",
    "Slots",
    "Status",
    "TelemetryAggregator",
    "Verdict",
    "assess",
    "fold",
    "supplied",
    "supplied_number",
]
