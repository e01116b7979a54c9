"""``esper train``: one run, from an empty directory to the closing summary."""

from __future__ import annotations

import io
import platform
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.console import Console
from esper.karn.summary import summary
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent, TrainingStartedPayload
from esper.nissa.output import Durable, FunctionSink, TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from esper.leyline.run_info import RunStatus
    from esper.nissa.output import Sink
    from esper.simic.training.config import TrainingConfig

__all__ = ["LOST", "Stopped", "TrainOptions", "stoppable", "train_command"]

LOST = 3
"""Exit status when a durable sink lost an event."""
_FAILED = 1


class Stopped(BaseException):
    """SIGINT or SIGTERM asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into `Stopped`; while the run is then wound up, more of them are ignored."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What the user can say about a run beside its configuration."""

    run_dir: str
    evaluate_episodes: int
    """0 for no evaluation."""
    quiet: bool
    tensorboard: bool
    wandb: bool
    dashboard: bool


def train_command(config: TrainingConfig, options: TrainOptions) -> int:
    """Train, evaluate, keep everything, print the summary.

    Returns:
        The exit status: 0, `LOST`, `_FAILED`, or 128 and the number of the signal that ended the run.

    Raises:
        ValueError: the user asked for what is not there; nothing was written. The message is one sentence.
        OSError: the run directory cannot be used.
    """
    if options.evaluate_episodes < 0 or options.evaluate_episodes == 1:
        raise ValueError(f"evaluate-episodes must be 0 or at least 2, got {options.evaluate_episodes}")
    if options.dashboard and find_spec("textual") is None:
        raise ValueError("the dashboard needs Textual: pip install 'esper-telemetry[dashboard]'")
    if options.dashboard and not sys.stdout.isatty():
        raise ValueError("the dashboard needs a terminal")
    from esper.simic.tasks import load_task  # noqa: PLC0415 - torch is slow to import, and `esper --help` is not

    load_task(config.task)
    return _Training(config, options, RunDirectory.create(options.run_dir)).run()


class _Training:
    """One run of the command: what is open, and what run.json says about it."""

    def __init__(self, config: TrainingConfig, options: TrainOptions, run: RunDirectory) -> None:
        self._config = config
        self._options = options
        self._run = run
        self._aggregator = TelemetryAggregator()
        self._console = None if options.quiet else Console(sys.stderr)
        self._hub = TelemetryHub(self._sinks())
        self._info = RunInfo(
            status="running",
            started=datetime.now(UTC),
            configuration=asdict(config),
            versions=_versions(),
        )

    def run(self) -> int:
        status = 0
        try:
            with stoppable(), self._dashboard():
                self._train_and_evaluate()
        except Stopped as stopped:
            if self._info.status == "running":
                self._end("interrupted")
                status = stopped.exit_status
        except (FloatingPointError, OSError) as error:  # what may end a run that was set up well
            self._end("failed", error)
            sys.stderr.write(f"esper train: error: {error}\n")
            status = _FAILED
        except Exception as error:  # noqa: BLE001 - reported with its traceback, after what was measured is safe
            self._end("failed", error)
            traceback.print_exc()
            status = _FAILED
        sys.stdout.write(summary(self._aggregator.snapshot(), self._info, self._run.path))
        return status or (LOST if self._lost() else 0)

    def _sinks(self) -> list[Sink]:
        sinks: list[Sink] = [FunctionSink("aggregator", self._aggregator.process, Durable())]
        if self._console is not None:
            sinks.append(FunctionSink("console", self._console.show))
        if self._options.tensorboard:
            from esper.nissa.sinks.tensorboard import TensorBoardSink  # noqa: PLC0415 - an extra

            sinks.append(TensorBoardSink(self._run.path / "tensorboard"))
        if self._options.wandb:
            from esper.nissa.sinks.wandb import WandbSink  # noqa: PLC0415 - an extra

            sinks.append(WandbSink(self._run.path))
        return [JsonlSink(self._run.log), *sinks]

    def _train_and_evaluate(self) -> None:
        from esper.simic.evaluation import evaluate  # noqa: PLC0415 - as above
        from esper.simic.training.vectorized import train  # noqa: PLC0415 - as above

        trained = train(self._config, self._emit)
        self._close_telemetry()
        trained.save(self._run.policy)
        episodes = self._options.evaluate_episodes
        if episodes:
            if self._console is not None and not self._console.hidden:
                sys.stderr.write(f"evaluating on {episodes} fresh episodes …\n")
            self._info = replace(self._info, evaluation=evaluate(trained, episodes=episodes))
        self._end("completed")

    def _emit(self, event: TelemetryEvent) -> None:
        self._hub.emit(event)
        if isinstance(event.data, TrainingStartedPayload | BatchEpochCompletedPayload):
            self._keep()

    def _close_telemetry(self) -> None:
        """Deliver everything that was emitted. Doing it again completes what a signal interrupted."""
        self._hub.close()
        if self._console is not None:
            self._console.close()

    @contextmanager
    def _dashboard(self) -> Iterator[None]:
        """Show the run in the dashboard, if asked to, until the run is over and its user leaves it."""
        if not self._options.dashboard:
            yield
            return
        dashboard = _Dashboard(self._run, self._console)
        try:
            yield
            dashboard.wait()
        finally:
            dashboard.end()

    def _end(self, status: RunStatus, error: BaseException | None = None) -> None:
        self._close_telemetry()
        reason = None if error is None else f"{type(error).__name__}: {error}"
        self._info = replace(self._info, status=status, ended=datetime.now(UTC), error=reason)
        self._keep()

    def _keep(self) -> None:
        """Rewrite run.json. That it cannot be written must not end the training."""
        self._info = replace(self._info, sinks=self._hub.stats())
        try:
            self._run.write_info(self._info)
        except OSError as error:
            warnings.warn(f"{self._run.info} cannot be written: {error.strerror}", RuntimeWarning, stacklevel=2)

    def _lost(self) -> bool:
        return any(sink.durable and sink.dropped + sink.queued for sink in self._info.sinks)


class _Dashboard:
    """The dashboard in a process of its own, which has the terminal until its user leaves it.

    Until then nothing else may be written there: progress is not shown, warnings are held back.
    """

    def __init__(self, run: RunDirectory, console: Console | None) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "esper", "watch", str(run.path)])  # noqa: S603 - ourselves
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
        self._stderr.write(self._held.getvalue())
        if not self._over:
            self._stderr.write("dashboard closed; training goes on (Ctrl-C ends it)\n")
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


def _versions() -> dict[str, str]:
    installed = {"python": platform.python_version()}
    for name in ("esper-telemetry", "torch", "numpy", "gymnasium", "scikit-learn"):
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed
