"""The report: a finished run, or several, on one page that can be sent to somebody.

The log is read once from its beginning; nothing of a run is left out for being long ago. The page holds everything it
needs, plotly.js included, and asks the network for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from esper.karn.report.compared import compared
from esper.karn.report.configured import configuration
from esper.karn.report.decisions import actions, components, counterfactuals
from esper.karn.report.findings import findings
from esper.karn.report.growth import lifecycle, timeline
from esper.karn.report.learning import learning
from esper.karn.report.log import RunLog, read_log
from esper.karn.report.markup import check_target
from esper.karn.report.overview import overview
from esper.karn.report.page import render
from esper.karn.report.plot import Arm, Fold, Plot, Section
from esper.karn.report.tables import differences, outcome, telemetry
from esper.karn.report.updates import ppo
from esper.leyline.atomic import atomic_write
from esper.leyline.run_names import run_names

__all__ = ["report"]


def report(sources: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> Path:
    """Write the report on one run, or on several overlaid.

    The page replaces ``output`` only when it is complete.

    Args:
        sources: run directories, log files or ``-``; 1 or more. The first is what the others are compared with.
        output: the HTML file to write.

    Returns:
        Where the report is.

    Raises:
        FileNotFoundError: a source does not exist, or the directory of ``output`` does not.
        ValueError: a source holds no events.
        ModuleNotFoundError: plotly is not installed.
        OSError: ``output`` cannot be written.
    """
    plotly_js = _plotly_js()
    check_target(output, "report.html")
    names = run_names(sources)
    logs = {name: read_log(source) for name, source in names.items()}
    page = _page(logs, plotly_js)
    with atomic_write(output) as file:
        file.write(page.encode())
    return Path(output)


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - an extra, and asked for here only
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the report needs plotly: pip install 'esper-telemetry[report]'") from error
    source: str = get_plotlyjs()
    return source


def _subtitle(logs: dict[str, RunLog]) -> str:
    n_events = sum(log.snapshot.n_events for log in logs.values())
    first, last = min(log.seen.first for log in logs.values()), max(log.seen.last for log in logs.values())
    return f"{n_events:,} events, from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC."


def _page(logs: dict[str, RunLog], plotly_js: str) -> str:
    arms: list[Arm] = []
    for name, log in logs.items():
        for group_id, series in log.arms.items():
            label = name if len(log.arms) == 1 else group_id if len(logs) == 1 else f"{name} · {group_id}"
            arms.append(Arm(label, len(arms), log, group_id, series))
    return render(", ".join(logs), _subtitle(logs), arms, overview(arms), _sections(arms, logs), plotly_js)


def _sections(arms: Sequence[Arm], logs: dict[str, RunLog]) -> list[Section]:
    host = any(arm.has_host for arm in arms)  # nothing grows in another trainer's run
    batches = [batch for arm in arms for batch in arm.series.batches]
    sections = [
        *([compared(logs)] if len(arms) > 1 else []),
        findings(arms),
        outcome(arms),
        *([differences(arms)] if len(arms) > 1 or len(arms[0].starts) > 1 else []),
        learning(arms),
        ppo(arms),
        *([timeline(arms), lifecycle(arms)] if host else []),
        *([actions(arms), components(arms)] if host or any(batch.ops for batch in batches) else []),
        *([counterfactuals(arms)] if host else []),
        telemetry(logs),
        configuration(arms),
    ]
    _share_axis(sections, arms)
    return sections


def _share_axis(sections: Sequence[Section], arms: Sequence[Arm]) -> None:
    """Begin with the whole run in every plot over its progress."""
    start, stop = min(arm.series.span[0] for arm in arms), max(arm.series.span[1] for arm in arms)
    margin = (stop - start or 1.0) * 0.01
    for section in sections:
        parts = chain.from_iterable(part.parts if isinstance(part, Fold) else (part,) for part in section.parts)
        for part in parts:
            if isinstance(part, Plot) and part.linked:
                own = part.layout["xaxis"]
                assert isinstance(own, dict)
                part.layout["xaxis"] = {"range": [start - margin, stop + margin], **own}
