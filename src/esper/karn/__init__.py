"""Readers: the aggregator, and the views over its snapshot.

>>> from esper.karn import TelemetryAggregator
>>> aggregator = TelemetryAggregator()
>>> aggregator.process(event)
>>> aggregator.snapshot().groups["default"].update
>>> assess(aggregator.snapshot()).headline
>>> fold("runs/demo").snapshot.groups["default"].update
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esper.karn.absence import supplied, supplied_number
from esper.karn.aggregator import TelemetryAggregator
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
from esper.leyline._lazy import lazy
from esper.leyline.limits import Limits, Status

if TYPE_CHECKING:
    from esper.karn.folding import FoldedLog, fold
else:
    __getattr__, __dir__ = lazy(__name__, FoldedLog="esper.karn.folding", fold="esper.karn.folding")

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
