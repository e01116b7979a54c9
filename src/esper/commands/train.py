"""``esper train``: one run, from an empty directory to the closing summary."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from esper.commands.notify import Notifier
from esper.commands.streams import say, show
from esper.karn.aggregator import TelemetryAggregator
from esper.karn.console import Console
from esper.karn.health import assess
from esper.karn.summary import summary
from esper.karn.verdict_json import recorded
from esper.leyline.limits import Limits, Status
from esper.leyline.run_directory import RunDirectory
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent
from esper.nissa.optional import SinkUnavailableError
from esper.nissa.output import Durable, FunctionSink
from esper.nissa.run import FAILED, LOST, Run, open_run
from esper.nissa.signals import Stopped, stoppable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from esper.leyline.telemetry import Emit
    from esper.nissa.output import Sink
    from esper.simic.config import TrainingConfig

__all__ = ["FAILED", "LOST", "RunGoneBadError", "TrainOptions", "train_command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What the user can say about a run beside its configuration."""

    run_dir: str | None
    """None for a new one under ``runs``."""
    default_dir: str
    """Its name then, with a number behind it when it is taken."""
    evaluate_episodes: int
    """0 for no evaluation."""
    quiet: bool
    tensorboard: bool
    wandb: bool
    dashboard: bool
    stop_on_bad: bool = False
    notify: str | None = None
    """A command for the shell."""


class RunGoneBadError(Exception):
    """A run was ended because it could not recover; the message is its verdict."""


def train_command(config: TrainingConfig, options: TrainOptions) -> int:
    """Train, evaluate, keep everything, print the summary.

    Returns:
        The exit status: 128 and the number of the signal that ended the run, else `FAILED`, else `LOST`, else 0.

    Raises:
        ValueError: the user asked for what is not there; nothing was written. The message is one sentence.
        OSError: the run directory cannot be used.
    """
    with stoppable():  # until the summary is shown
        return _train(config, options)


def _train(config: TrainingConfig, options: TrainOptions) -> int:
    _check(config, options)
    if options.run_dir is None:
        directory = RunDirectory.create_numbered(options.default_dir)
    else:
        directory = RunDirectory.create(options.run_dir)
    limits = Limits.of_run(asdict(config))
    judge = _Judge(TelemetryAggregator(limits=limits), _notifier(options, directory.path))
    console = None if options.quiet or sys.stderr is None else Console(sys.stderr, limits)
    sinks: list[Sink] = [FunctionSink("aggregator", judge.take, Durable())]
    if console is not None:
        sinks.append(FunctionSink("console", console.show))
    try:
        sinks += _optional_sinks(directory.path, options)
    except BaseException:
        with suppress(OSError):
            directory.path.rmdir()  # only if nothing is in it
        raise
    run, compared = None, list[str]()
    try:
        with (
            _dashboard(directory.path, console, shown=options.dashboard),
            open_run(directory.path, config=asdict(config), sinks=sinks) as run,
        ):
            compared = _train_and_evaluate(run, config, options, console, judge)
    except (Stopped, Exception) as error:
        if run is None:
            raise
        _explain(error)
    finally:
        if console is not None:
            console.close()
    verdict = assess(judge.aggregator.snapshot(), run.info)
    run.record(verdict=recorded(verdict))
    if judge.notifier is not None:
        judge.notifier.end(verdict, crashed=run.info.status == "failed")
    try:
        show(summary(judge.aggregator.snapshot(), run.info, run.path))
        if compared:
            show(
                "\n".join(["", f"Comparison of the arms on {options.evaluate_episodes} fresh episodes", *compared, ""])
            )
    except OSError as error:
        say(f"esper train: the summary cannot be shown: {error.strerror}; esper replay {run.path} repeats it\n")
    return run.exit_status


_BATCHES_TO_RECOVER = 5
"""Batches in a row that must be BAD by the same rule before a run cannot recover."""


class _Judge:
    """Folds events, judges the run at the end of each batch, and knows when it cannot recover."""

    def __init__(self, aggregator: TelemetryAggregator, notifier: Notifier | None) -> None:
        self.aggregator = aggregator
        self.notifier = notifier
        self.lost: str | None = None
        """The verdict over a run that cannot recover."""
        self._bad: dict[tuple[str | None, str], int] = {}

    def take(self, event: TelemetryEvent) -> None:
        self.aggregator.process(event)
        if isinstance(event.data, BatchEpochCompletedPayload):
            verdict = assess(self.aggregator.snapshot())
            if self.notifier is not None:
                self.notifier.look(verdict)
            bad = {(one.group, one.rule) for one in verdict.findings if one.status is Status.BAD}
            self._bad = {rule: self._bad[rule] + 1 if rule in self._bad else 1 for rule in bad}
            if max(self._bad.values(), default=0) >= _BATCHES_TO_RECOVER:
                self.lost = verdict.headline

    def emit_until_lost(self, emit: Emit) -> Emit:
        """Return an emitter that ends the run after a batch when it cannot recover."""
        ended = False

        def emit_or_end(event: TelemetryEvent) -> None:
            nonlocal ended
            emit(event)
            if self.lost is not None and not ended and isinstance(event.data, BatchEpochCompletedPayload):
                ended = True
                raise RunGoneBadError(f"stopped after {_BATCHES_TO_RECOVER} batches in a row: {self.lost}")

        return emit_or_end


def _notifier(options: TrainOptions, path: Path) -> Notifier | None:
    return None if options.notify is None else Notifier(options.notify, str(path), sys.stderr)


def _check(config: TrainingConfig, options: TrainOptions) -> None:
    """Refuse what is not there before anything is written."""
    if options.evaluate_episodes < 0 or options.evaluate_episodes == 1:
        raise ValueError(f"evaluate-episodes must be 0 or at least 2, got {options.evaluate_episodes}")
    if options.dashboard and find_spec("textual") is None:
        raise ValueError("the dashboard needs Textual: pip install 'esper-telemetry[dashboard]'")
    if options.dashboard and not (sys.stdout and sys.stdout.isatty()):
        raise ValueError("the dashboard needs a terminal")
    from esper.simic.tasks import load_task  # noqa: PLC0415 - torch is slow to import, and `esper --help` is not

    load_task(config.task)


def _explain(error: BaseException) -> None:
    """Say why a run ended before its time, after what was measured is safe."""
    if isinstance(error, FloatingPointError | OSError | RunGoneBadError):  # what may end a run that was set up well
        say(f"esper train: error: {error}\n")
    elif not isinstance(error, Stopped):
        say("".join(traceback.format_exception(error)))


def _optional_sinks(path: Path, options: TrainOptions) -> Iterator[Sink]:
    """Yield the sinks that stand on other people's packages, which may raise anything when they begin."""
    try:
        if options.tensorboard:
            from esper.nissa.sinks.tensorboard import TensorBoardSink  # noqa: PLC0415 - an extra

            yield TensorBoardSink(path / "tensorboard")
        if options.wandb:
            from esper.nissa.sinks.wandb import WandbSink  # noqa: PLC0415 - an extra

            yield WandbSink(path)
    except (ImportError, SinkUnavailableError) as error:
        raise ValueError(f"{error}; nothing was trained") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"a sink cannot begin, so nothing was trained: {type(error).__name__}: {error}") from error


def _train_and_evaluate(
    run: Run, config: TrainingConfig, options: TrainOptions, console: Console | None, judge: _Judge
) -> list[str]:
    """Train, save and evaluate; return what a comparison of arms came to, a line a quantity."""
    from esper.simic.evaluation import compare_arms, evaluate  # noqa: PLC0415 - as above
    from esper.simic.training.vectorized import train_arms  # noqa: PLC0415 - as above

    arms = train_arms(config, judge.emit_until_lost(run.emit) if options.stop_on_bad else run.emit)
    run.flush()
    directory = RunDirectory(run.path)
    first, *others = arms
    first.save(directory.policy)
    for arm in arms if others else ():
        arm.save(directory.policy_of(arm.config.group))
    episodes = options.evaluate_episodes
    if not episodes:
        return []
    if console is not None and not console.hidden:
        say(f"evaluating on {episodes} fresh episodes …\n")
    run.record(evaluation=evaluate(first, episodes=episodes))
    return [f"  {each.text()}" for each in compare_arms(arms, episodes=episodes)] if others else []


@contextmanager
def _dashboard(path: Path, console: Console | None, *, shown: bool) -> Iterator[None]:
    """Show the run in the dashboard, if asked to, until the run is over and its user leaves it."""
    if not shown:
        yield
        return
    dashboard = _Dashboard(path, console)
    try:
        yield
        dashboard.wait()
    finally:
        dashboard.end()


class _Dashboard:
    """The dashboard in a process of its own, which has the terminal until its user leaves it.

    Until then nothing else may be written there: progress is not shown, warnings are held back.
    """

    def __init__(self, path: Path, console: Console | None) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "esper", "watch", str(path)])  # noqa: S603 - ourselves
        self._over = False
        self._console = console
        if console is not None:
            console.hidden = True
        self._stderr, self._held = sys.stderr, io.StringIO()
        sys.stderr = self._held
        self._waiting = threading.Thread(target=self._give_back, name="esper-dashboard", daemon=True)
        self._waiting.start()

    def _give_back(self) -> None:
        self._process.wait()
        sys.stderr = self._stderr
        say(self._held.getvalue())
        if not self._over:
            say("dashboard closed; training goes on (Ctrl-C ends it)\n")
            if self._console is not None:
                self._console.hidden = False

    def wait(self) -> None:
        """Wait until the user leaves it: the run is over."""
        self._over = True
        self._waiting.join()

    def end(self) -> None:
        """End it, and wait until it has left the terminal as it was."""
        self._over = True
        self._process.terminate()
        self._waiting.join()
