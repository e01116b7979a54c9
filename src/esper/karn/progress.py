"""How far the run is, how well it goes and how old what we know is: all that needs a clock, which snapshots lack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from esper.karn.derived import accuracy_of, has_host, planned_episodes
from esper.karn.formatting import age, is_finite, number

if TYPE_CHECKING:
    from esper.karn.snapshot import GroupSnapshot
    from esper.leyline.run_info import RunInfo
    from esper.leyline.telemetry import BatchEpochCompletedPayload

__all__ = [
    "Best",
    "best_of",
    "best_value",
    "elapsed_seconds",
    "ends_of",
    "eta_seconds",
    "measures_accuracy",
    "played_text",
    "stale_after",
    "status_text",
    "times_text",
    "unsupplied_text",
]

_NEWEST = 10
"""Batches that a rate is taken over."""
_PATIENCE = 10.0
"""Seconds without an event that are never called stale."""


@dataclass(frozen=True, slots=True)
class Best:
    """The highest finite value."""

    value: float
    index: int
    """Its place in the series."""


def best_of(values: Iterable[float]) -> Best | None:
    """Return the highest finite value, the first of equals; None when there is none."""
    finite = [(value, -index) for index, value in enumerate(values) if is_finite(value)]
    if not finite:
        return None
    value, index = max(finite)
    return Best(value, -index)


def best_value(values: Iterable[float]) -> float | None:
    """Return the highest finite value; None when there is none."""
    best = best_of(values)
    return None if best is None else best.value


def ends_of(*series: Sequence[object]) -> int:
    """Return how many values are averaged at either end, so that the ends of all series are about the same batches.

    Ten, or half of the shortest; 0 when one has less than two: both ends are never the same.
    """
    return min(_NEWEST, *(len(values) // 2 for values in series))


def played_text(batch: BatchEpochCompletedPayload) -> str:
    """Return how many episodes have been played, and of how many where that is known: ``8 of 40 episodes``."""
    planned = planned_episodes(batch)
    of = "" if planned is None else f" of {number(planned)}"
    return f"{number(batch.episodes_completed)}{of} episodes"


def times_text(count: int) -> str:
    """Return how often something happened: ``once``, ``2 times``."""
    return "once" if count == 1 else f"{number(count)} times"


def status_text(info: RunInfo) -> str:
    """Return how a run stands, or ended, and after how long: ``completed after 2 min 11 s``."""
    return (
        info.status if info.ended is None else f"{info.status} after {age((info.ended - info.started).total_seconds())}"
    )


def unsupplied_text(group: GroupSnapshot) -> str:
    """Return one sentence about what a trainer of another kind does not supply; empty where all of it is there."""
    started = None if group.started is None else group.started.data
    if started is None:
        return ""
    missing = [] if started.n_episodes else ["no number of episodes planned"]
    if not has_host(group):
        missing.append("no host")
    if group.batches and not measures_accuracy(group):
        missing.append("no accuracy")
    if not missing:
        return ""
    *others, last = missing
    return f"This run supplies {', '.join(others) + ' and ' if others else ''}{last}."


def measures_accuracy(group: GroupSnapshot) -> bool:
    """Whether a batch has measured an accuracy; True before there is one, for a host that grows."""
    if not group.batches:
        return has_host(group)
    return any(accuracy_of(entry.data) is not None for entry in reversed(group.batches))


def _pace(group: GroupSnapshot) -> tuple[float, int] | None:
    """Return the seconds and episodes that the newest batches took, since a resume; None before that is known."""
    start, batches = group.started, group.batches[-_NEWEST - 1 :]
    if start is not None:  # the pause before a resume is nobody's pace
        batches = tuple(entry for entry in batches if entry.data.episodes_completed > start.data.start_episode)
    if not batches:
        return None
    newest, oldest = batches[-1], batches[0]
    since, before = oldest.event.timestamp, oldest.data.episodes_completed
    if len(batches) <= _NEWEST and start is not None:
        since, before = start.event.timestamp, start.data.start_episode
    seconds = (newest.event.timestamp - since).total_seconds()
    episodes = newest.data.episodes_completed - before
    return (seconds, episodes) if seconds > 0 and episodes > 0 and is_finite(episodes) else None


def eta_seconds(group: GroupSnapshot, now: datetime) -> float | None:
    """Return the seconds until the planned episodes are done, at the pace of the newest batches; None if unknown."""
    batch, pace = group.batch, _pace(group)
    if batch is None or pace is None:
        return None
    seconds, episodes = pace
    planned = planned_episodes(batch.data)
    if planned is None or not is_finite(planned):
        return None
    left = planned - batch.data.episodes_completed
    since_batch = max((now - batch.event.timestamp).total_seconds(), 0.0)
    return max(left * seconds / episodes - since_batch, 0.0)


def elapsed_seconds(group: GroupSnapshot, now: datetime) -> float | None:
    """Return the seconds since the run began, or was resumed; None when its start is missing."""
    return None if group.started is None else max((now - group.started.event.timestamp).total_seconds(), 0.0)


def stale_after(group: GroupSnapshot | None) -> float:
    """Return the seconds without an event that make a run stale: thrice the time a batch takes, and ten at least."""
    pace = _pace(group) if group is not None else None
    if group is None or pace is None or group.batch is None:
        return _PATIENCE
    seconds, episodes = pace
    n_envs = group.batch.data.n_envs
    return max(3 * seconds * n_envs / episodes, _PATIENCE) if is_finite(n_envs) else _PATIENCE
