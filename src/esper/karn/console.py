"""Progress of a run on the console: a bar with the time left in a terminal, a line a batch everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.derived import accuracy_of, known, planned_episodes, return_of
from esper.karn.formatting import age
from esper.karn.health import assess
from esper.karn.progress import eta_seconds, measures_accuracy, played_text
from esper.karn.quantities import QUANTITIES
from esper.leyline.limits import Limits, Status
from esper.leyline.telemetry import BatchEpochCompletedPayload, RewardComputedPayload, TrainingStartedPayload

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from esper.karn.snapshot import GroupSnapshot
    from esper.leyline.telemetry import TelemetryEvent

__all__ = ["Console", "progress_text"]


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
        self._bar = _bar(stream)

    def show(self, event: TelemetryEvent) -> None:
        """Take one event and show what it changes."""
        self._aggregator.process(event)
        if self.hidden:
            return
        data = event.data
        if isinstance(data, TrainingStartedPayload | BatchEpochCompletedPayload):
            group = self._aggregator.snapshot().groups[event.group_id]
            if self._bar is not None:
                self._bar.begin_or_update(group)
            elif isinstance(data, BatchEpochCompletedPayload):
                left = eta_seconds(group, event.timestamp)
                time_left = "" if left is None else f"  left {age(left)}"
                print(f"{played_text(data)}  {progress_text(group)}{time_left}", file=self._stream, flush=True)
            if isinstance(data, BatchEpochCompletedPayload):
                self._say_what_changed()
        elif self._bar is not None and isinstance(data, RewardComputedPayload):
            self._bar.step()

    def _say_what_changed(self) -> None:
        """Say the verdict when its status changes, or what is gravest about it."""
        verdict = assess(self._aggregator.snapshot())
        alarms = verdict.alarms
        said = verdict.status, alarms[0].rule if alarms else None
        if said != self._said and (alarms or self._said[1] is not None):
            text = f"{verdict.status.value} {verdict.headline}"
            if self._bar is not None:
                self._bar.say(text)
            else:
                print(text, file=self._stream, flush=True)
        self._said = said

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self._bar is not None:
            self._bar.close()


def progress_text(group: GroupSnapshot) -> str:
    """Return the few numbers that matter, on one line; ``—`` before they were measured."""
    batch, update = group.batch, group.update
    shown = {
        **({"avg_accuracy": batch and accuracy_of(batch.data)} if measures_accuracy(group) else {}),
        "avg_reward": None if batch is None else return_of(batch.data, group.started and group.started.data),
        "entropy": None if update is None else update.data.entropy,
        "kl_divergence": None if update is None else update.data.kl_divergence,
    }
    return "  ".join(f"{QUANTITIES[name].short} {QUANTITIES[name].text(value)}" for name, value in shown.items())


class _Bar:
    """Rich's progress bar over the steps of a run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._steps_an_episode = 1

    def begin_or_update(self, group: GroupSnapshot) -> None:
        if self._task is None:
            self._task = self._progress.add_task("", total=None)
            self._progress.start()
        start, batch = group.started, group.batch
        planned, done = None, 0
        if start is not None:
            self._steps_an_episode = known(start.data.max_epochs) or 1
            planned, done = known(start.data.n_episodes), start.data.start_episode
        if batch is not None:
            planned, done = planned_episodes(batch.data), batch.data.episodes_completed
        total = None if planned is None else planned * self._steps_an_episode
        self._progress.update(
            self._task, total=total, completed=done * self._steps_an_episode, description=progress_text(group)
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
        from rich.console import Console as Terminal  # noqa: PLC0415 - optional, and slow to import
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    except ImportError:
        return None
    columns = (
        BarColumn(bar_width=10),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.description}", markup=False),
    )
    return _Bar(Progress(*columns, console=Terminal(file=stream), refresh_per_second=4))
