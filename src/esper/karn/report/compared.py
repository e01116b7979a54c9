"""Is the difference real: the comparison of ``esper compare``, as a section of the report on several runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from esper.karn.comparison.compared_run import runs_in
from esper.karn.comparison.comparison import compare
from esper.karn.comparison.results import Comparison
from esper.karn.comparison.statistics import require_scipy
from esper.karn.comparison.tables import CURVES, answers, arms_table, curve_of, heading, tables
from esper.karn.report.log import RunLog
from esper.karn.report.plot import Line, Plot, Section, Table, colour_of, dash_of, panel
from esper.karn.report.trends import course_text, several

__all__ = ["compared"]

_TITLE: Final = "Is the difference real?"
_SHORT: Final = "Compared"
_FEWEST: Final = 2
"""Runs that make a band."""


def compared(logs: Mapping[str, RunLog]) -> Section:
    """Return how runs compare, those that differ by the seed alone taken together.

    Args:
        logs: by the names that they have on the page.
    """
    try:
        require_scipy()
    except ModuleNotFoundError as error:
        return Section(_TITLE, _SHORT, "Runs that differ by the seed alone are one arm.", missing=f"{error}.")
    runs = [run for name, log in logs.items() for run in runs_in(name, log.snapshot, log.info, log.verdict)]
    comparison = compare(runs)
    said = [text for pair in answers(comparison) for text in pair if text]
    curves = [_curves(comparison, name) for name in CURVES if any(curve_of(arm, name).mean for arm in comparison.arms)]
    banded = any(len(arm.seeds) >= _FEWEST for arm in comparison.arms)  # otherwise every curve stands further below
    made = [arms_table(comparison), *tables(comparison)]
    parts = [Table(table.head, table.rows, table.title, text=1 in table.words) for table in made]
    says = f"{heading(comparison)}. {' '.join(said)}"
    return Section(_TITLE, _SHORT, says, [parts[0], *(curves if banded else []), *parts[1:]])


def _curves(comparison: Comparison, name: str) -> Plot:
    lines = [
        Line(
            f"{arm.key} {arm.label}",
            curve.episodes,
            curve.mean,
            colour_of(at),
            dash_of(at),
            band=(curve.low, curve.high) if len(arm.seeds) >= _FEWEST else None,
        )
        for at, arm in enumerate(comparison.arms)
        if (curve := curve_of(arm, name)).mean
    ]
    quantity = CURVES[name].name
    courses = {line.name: course_text(line.y, "point of the mean") for line in lines}
    title = f"{quantity[0].upper()}{quantity[1:]}, mean over runs and its 95 % interval"
    return panel(title, lines, trend=several(courses))
