"""Progress of a run on the console: a bar with the time left in a terminal, a row a batch everywhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.derived import accuracy_of, known, planned_episodes, return_of
from esper.karn.formatting import ABSENT, age, is_finite, number, tidy
from esper.karn.health import assess
from esper.karn.progress import elapsed_seconds, eta_seconds, measures_accuracy
from esper.karn.quantities import QUANTITIES
from esper.leyline.limits import Limits, Status
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TrainingStartedPayload,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rich.progress import Progress, TaskID

    from esper.karn.snapshot import GroupSnapshot
    from esper.leyline.telemetry import TelemetryEvent

__all__ = ["Cell", "Console", "progress_cells"]

_HEAD_EVERY = 20
"""Rows after which the names of the columns are repeated."""
_TIMES = ("elapsed", "left")
_LONGEST_GROUP = 10
_LONGEST_TIME = 11
"""Of ``59 min 59 s``."""
_WIDEST = {"avg_reward": 10, "kl_divergence": 9}
"""Columns that the numbers of a quantity need, where that is more than its name."""


class Console:
    """A live view fed with events; ``show`` is what a sink calls.

    Args:
        stream: where to write. A terminal gets a bar when rich is installed.
        limits: of the run; None for the convention's.
    """

    def __init__(self, stream: TextIO, limits: Limits | None = None) -> None:
        self.hidden = False
        """Whether to write nothing for now, because another has the terminal; what comes meanwhile still counts."""
        self._stream = stream
        self._aggregator = TelemetryAggregator(limits=limits)
        self._said: tuple[Status, str | None] = (Status.UNKNOWN, None)
        """Status and gravest rule that were said last."""
        self._not_finite: set[tuple[str | None, str]] = set()
        """Group and rule of what was said not to be finite since the newest batch."""
        self._rows = 0
        self._names: list[str] = []
        self._bar = _bar(stream)

    def show(self, event: TelemetryEvent) -> None:
        """Take one event and show what it changes."""
        self._aggregator.process(event)
        if self.hidden:
            return
        data = event.data
        if _is_broken(event):
            self._say_what_broke(event)
        if isinstance(data, TrainingStartedPayload | BatchEpochCompletedPayload):
            groups = self._aggregator.snapshot().groups
            cells = progress_cells(groups[event.group_id], event.timestamp, named=len(groups) > 1)
            if self._bar is not None:
                self._bar.begin_or_update(groups[event.group_id], cells)
            elif isinstance(data, BatchEpochCompletedPayload):
                self._row(cells)
            if isinstance(data, BatchEpochCompletedPayload):
                self._say_what_changed()
                self._not_finite.clear()
        elif self._bar is not None and isinstance(data, RewardComputedPayload):
            self._bar.step()

    def _row(self, cells: list[Cell]) -> None:
        names = [cell.name for cell in cells]
        if self._rows % _HEAD_EVERY == 0 or names != self._names:
            self._rows, self._names = 0, names
            self._say(" ".join(cell.name.rjust(cell.width) for cell in cells))
        self._rows += 1
        self._say(" ".join(cell.text.rjust(cell.width) for cell in cells))

    def _say_what_changed(self) -> None:
        """Say the verdict when its status changes, or what is gravest about it."""
        verdict = assess(self._aggregator.snapshot())
        alarms = verdict.alarms
        said = verdict.status, alarms[0].rule if alarms else None
        if said != self._said and (alarms or self._said[1] is not None):
            self._say(f"{verdict.status.value} {verdict.headline}")
        self._said = said

    def _say_what_broke(self, event: TelemetryEvent) -> None:
        """Say at once that a number is not finite, in the words of the verdict: once a batch, however many are."""
        for finding in assess(self._aggregator.snapshot()).alarms:
            rule = finding.group, finding.rule
            if finding.newest is event and rule not in self._not_finite:
                self._not_finite.add(rule)
                self._say(f"{finding.status.value} {finding.status.name} {finding.evidence}")

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.say(text)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self._bar is not None:
            self._bar.close()


def _is_broken(event: TelemetryEvent) -> bool:
    """Whether an event brings a number that is not finite; the verdict says whether that is trouble."""
    data = event.data
    if isinstance(data, RewardComputedPayload):
        return not is_finite(data.total_reward)
    if isinstance(data, EpochCompletedPayload):
        return not is_finite(data.val_loss)
    if isinstance(data, PPOUpdatePayload):
        numbers = (data.policy_loss, data.value_loss, data.entropy, data.grad_norm, data.kl_divergence)
        return data.nan_grad_count > 0 or not all(map(is_finite, numbers))
    return False


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of a row of progress."""

    name: str
    text: str
    width: int
    """Columns of the terminal that it takes, the same in every row of a run."""


def progress_cells(group: GroupSnapshot, now: datetime, *, named: bool = False) -> list[Cell]:
    """Return episodes, the few numbers that matter, and the times, in 80 columns together; ``—`` where unknown.

    Args:
        group: the run.
        now: to tell times by.
        named: whether to say which of several groups it is; that leaves no room for the time elapsed, which they share.
    """
    batch, update = group.batch, group.update
    shown = {
        "avg_reward": None if batch is None else return_of(batch.data, group.started and group.started.data),
        **({"avg_accuracy": batch and accuracy_of(batch.data)} if measures_accuracy(group) else {}),
        "entropy": None if update is None else update.data.entropy,
        "kl_divergence": None if update is None else update.data.kl_divergence,
    }
    done, planned = _progress(group)
    episodes = number(done) if planned is None else f"{number(done)}/{number(planned)}"
    widest = len("episodes") if planned is None else 2 * len(number(planned)) + 1
    cells = [Cell("group", tidy(group.group_id, _LONGEST_GROUP), _LONGEST_GROUP)] if named else []
    cells.append(Cell("episodes", episodes, max(len("episodes"), widest)))
    for name, value in shown.items():
        quantity = QUANTITIES[name]
        width = max(len(quantity.short), _WIDEST[name] if name in _WIDEST else 0)
        text = quantity.text(value)
        cells.append(Cell(quantity.short, text if len(text) <= width else number(value, width), width))
    times = {"elapsed": elapsed_seconds(group, now), "left": eta_seconds(group, now)}
    for name in _TIMES[named:]:
        seconds = times[name]
        cells.append(Cell(name, ABSENT if seconds is None else age(seconds), _LONGEST_TIME))
    return cells


def _progress(group: GroupSnapshot) -> tuple[int, int | None]:
    """Return the episodes that have been played, and those that are planned; None where nobody knows."""
    start, batch = group.started, group.batch
    if batch is not None:
        return batch.data.episodes_completed, planned_episodes(batch.data)
    return (0, None) if start is None else (start.data.start_episode, known(start.data.n_episodes))


class _Bar:
    """Rich's progress bar over the steps of a run, and its newest numbers below."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._steps_an_episode = 1

    def begin_or_update(self, group: GroupSnapshot, cells: list[Cell]) -> None:
        if self._task is None:
            self._task = self._progress.add_task("", total=None, episodes="", numbers="")
            self._progress.start()
        if group.started is not None:
            self._steps_an_episode = known(group.started.data.max_epochs) or 1
        done, planned = _progress(group)
        texts = {cell.name: f"{cell.name} {cell.text}" for cell in cells if cell.name not in _TIMES}
        self._progress.update(
            self._task,
            total=None if planned is None else planned * self._steps_an_episode,
            completed=done * self._steps_an_episode,
            episodes=texts.pop("episodes"),
            numbers="  ".join(texts.values()),
        )

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def step(self) -> None:
        if self._task is not None:
            self._progress.advance(self._task)

    def close(self) -> None:
        self._progress.stop()


def _bar(stream: TextIO) -> _Bar | None:
    """Return a bar for a terminal; None for anything else, or without rich (it comes with the ``train`` extra)."""
    if not stream.isatty():
        return None
    try:
        from rich import console, progress, text  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        return None

    class TwoLines(progress.Progress):
        def get_renderables(self) -> Iterator[console.RenderableType]:
            yield from super().get_renderables()
            for task in self.tasks:
                yield text.Text(task.fields["numbers"], no_wrap=True, overflow="ellipsis")

    columns = (
        progress.TextColumn("{task.fields[episodes]}", markup=False),
        progress.BarColumn(bar_width=20),
        progress.TaskProgressColumn(),
        progress.TextColumn("elapsed"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    return _Bar(TwoLines(*columns, console=console.Console(file=stream), refresh_per_second=4))
