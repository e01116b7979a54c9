"""Runs side by side: seeds taken together as arms, and whether what differs is more than chance."""

from __future__ import annotations

from esper.karn.comparison.compared_run import ComparedRun, read_run
from esper.karn.comparison.comparison import compare
from esper.karn.comparison.results import ArmResult, Comparison, Conclusion, Curve, RunResult, Score
from esper.karn.comparison.text import comparison_text

__all__ = [
    "ArmResult",
    "ComparedRun",
    "Comparison",
    "Conclusion",
    "Curve",
    "RunResult",
    "Score",
    "compare",
    "comparison_text",
    "read_run",
]
