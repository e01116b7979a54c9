"""How runs were configured: every field of their starts, every option and version that run.json knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from esper.karn.absence import supplied
from esper.karn.formatting import ABSENT
from esper.karn.report.plot import Arm, Fold, Section, Table, as_text
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import TrainingStartedPayload

__all__ = ["changed_settings", "configuration"]

_START, _OPTIONS, _VERSIONS = "TRAINING_STARTED", "options in run.json", "versions in run.json"


class _Column(NamedTuple):
    """What is known about how something was configured."""

    label: str
    start: TrainingStartedPayload | None
    info: RunInfo | None


class _Row(NamedTuple):
    """One setting."""

    source: str
    name: str
    values: list[object]
    """As they are, a column each: texts may be shortened to the same."""
    texts: list[str]


def configuration(arms: Sequence[Arm]) -> Section:
    """Return every field of TRAINING_STARTED, and what run.json knows besides."""
    says = (
        "Every field of TRAINING_STARTED under its own name, as the lowest rank emitted it, then options and versions "
        "from run.json; — was not supplied."
    )
    columns = [
        _Column(arm.label, None if arm.group.started is None else arm.group.started.data, arm.log.info) for arm in arms
    ]
    missing_in = [column.label for column in columns if column.start is None]
    missing = f"No TRAINING_STARTED in: {', '.join(missing_in)}." if missing_in else ""
    rows = [*(_of_starts(columns) if len(missing_in) < len(arms) else []), *_of_infos(columns)]
    marked = frozenset(at for at, row in enumerate(rows) if _differs(row))
    table = Table(
        ["", *(column.label for column in columns)], [[row.name, *row.texts] for row in rows], text=True, marked=marked
    )
    return Section(
        "How was it configured?",
        "Configuration",
        says,
        [Fold(f"All {len(rows)} settings", [table])] if rows else [],
        missing,
    )


def changed_settings(arms: Sequence[Arm]) -> tuple[Table | None, str]:
    """Return what was configured differently, of several arms or of a run and its resumes, and what was compared.

    That nothing differs is said only of what both sides of a comparison know.
    """
    columns = [
        _Column(arm.label, None if arm.group.started is None else arm.group.started.data, arm.log.info) for arm in arms
    ]
    if len(arms) == 1:
        names = ["as it began", *(f"resume {n}" for n in range(1, len(arms[0].starts)))]
        columns = [_Column(name, start, None) for name, start in zip(names, arms[0].starts, strict=True)]
    known = {
        _START: [column for column in columns if column.start is not None],
        f"{_OPTIONS}, {_VERSIONS}": [column for column in columns if column.info is not None],
    }
    compared = [name for name, having in known.items() if len(having) == len(columns)]
    unknown = [
        f"{name} of {', '.join(column.label for column in columns if column not in having)}"
        for name, having in known.items()
        if len(having) < len(columns)
    ]
    rows = [
        row
        for row in (*_of_starts(columns), *_of_infos(columns))
        if _differs(row) and any(row.source in name for name in compared)
    ]
    not_compared = "" if len(arms) == 1 else "".join(f" Not compared, since it is not there: {one}." for one in unknown)
    if len(arms) == 1:
        not_compared = " Options and versions in run.json are those of the newest session only."
    if not rows:
        said = f"No difference in {' and '.join(compared)}." if compared else ""
        return None, f"{said}{not_compared}".strip()
    cells = [[row.name, *row.texts] for row in rows]
    return Table(
        ["", *(column.label for column in columns)], cells, "Configured differently", text=True
    ), not_compared.strip()


def _differs(row: _Row) -> bool:
    return any(value != row.values[0] for value in row.values[1:])


def _of_starts(columns: Sequence[_Column]) -> list[_Row]:
    names = [field.name for field in dataclasses.fields(TrainingStartedPayload)]
    return [
        _Row(
            _START,
            name,
            [None if column.start is None else supplied(column.start, name) for column in columns],
            [_setting(column.start, name) for column in columns],
        )
        for name in names
    ]


def _of_infos(columns: Sequence[_Column]) -> list[_Row]:
    """Return options and versions, from run.json."""
    rows = []
    for source, prefix, settings in (
        (_OPTIONS, "option", [{} if column.info is None else column.info.configuration for column in columns]),
        (_VERSIONS, "version of", [{} if column.info is None else column.info.versions for column in columns]),
    ):
        for name in dict.fromkeys(name for one in settings for name in one):
            values = [one[name] if name in one else _NOT_THERE for one in settings]
            texts = [ABSENT if value is _NOT_THERE else as_text(str(value)) for value in values]
            rows.append(_Row(source, as_text(f"{prefix} {name}"), values, texts))
    return rows


_NOT_THERE = object()


def _setting(started: TrainingStartedPayload | None, name: str) -> str:
    value = None if started is None else supplied(started, name)
    if value is None:
        said = started is not None and name in started.supplied
        return "none" if said else ABSENT
    if isinstance(value, Mapping):
        return as_text(", ".join(f"{key} {item}" for key, item in value.items()))
    if isinstance(value, tuple):
        items = list(map(str, value))
        same = len(items) > 1 and len(set(items)) == 1
        return as_text(f"{items[0]} ({len(items)} times)" if same else ", ".join(items)) or "(empty)"
    return as_text(str(value)) or "(empty)"
