"""``esper train``: one run, from an empty directory, or from its newest checkpoint, to the closing summary."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from esper.commands.folding import fold_log
from esper.commands.judging import Judge, RunGoneBadError
from esper.commands.notify import Notifier
from esper.commands.streams import say, show
from esper.commands.train_dashboard import dashboard_beside
from esper.karn.aggregator import TelemetryAggregator
from esper.karn.console import Console
from esper.karn.health import assess
from esper.karn.summary import summary
from esper.karn.verdict_json import recorded
from esper.leyline.invalid_lines import NoEventsError
from esper.leyline.limits import Limits
from esper.leyline.run_directory import RunDirectory
from esper.leyline.validate import rejected_events
from esper.nissa.optional import SinkUnavailableError
from esper.nissa.output import Durable, FunctionSink
from esper.nissa.reporting import Reporter
from esper.nissa.run import FAILED, LOST, Run, open_run
from esper.nissa.signals import Stopped, stoppable
from esper.simic.config import TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from esper.nissa.output import Sink
    from esper.simic.training.checkpoint import Checkpoint
    from esper.simic.training.ranks import Ranks
    from esper.simic.training.trained import TrainedPolicy

__all__ = ["TrainOptions", "train_command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What the user can say about a run beside its configuration."""

    run_dir: str | None
    """None for a new one under ``runs``, named after the time and the task."""
    resume: str | None
    """The run directory to go on in; None for a new run."""
    evaluate_episodes: int
    """0 for no evaluation."""
    quiet: bool
    tensorboard: bool
    wandb: bool
    dashboard: bool
    stop_on_bad: bool = False
    notify: str | None = None
    """A command for the shell."""


def train_command(given: Mapping[str, object], options: TrainOptions) -> int:
    """Train, evaluate, keep everything, print the summary; under ``torchrun`` together with other processes.

    Args:
        given: the options of the configuration that the user named.
        options: the others.

    Returns:
        The exit status: 128 and the number of the signal that ended the run, else `FAILED`, else `LOST`, else 0.

    Raises:
        ValueError: the user asked for what is not there; nothing was written. The message is one sentence.
        OSError: the run directory cannot be used.
    """
    # torch is slow to import, and `esper --help` is not
    from esper.simic.training.ranks import RankLostError, torchrun  # noqa: PLC0415

    with stoppable(), torchrun() as ranks, stoppable(ranks.hear_one_signal):  # until the summary is shown
        if not ranks.leads:
            options = replace(
                options, quiet=True, tensorboard=False, wandb=False, dashboard=False, stop_on_bad=False, notify=None
            )
        try:
            status = _train(given, options, ranks)
        except RankLostError as error:  # before anything began
            _explain(error, ranks)
            return FAILED
        if status == LOST:  # which rank 0 knows of
            ranks.outlast_the_first()
        return status


@dataclass(frozen=True, slots=True)
class _Plan:
    """What rank 0 has decided for all."""

    config: TrainingConfig
    resume: Checkpoint | None


def _plan(given: Mapping[str, object], options: TrainOptions) -> _Plan:
    if options.resume is None:
        return _Plan(TrainingConfig(**cast("dict[str, Any]", given), episode_id=uuid4().hex), None)
    from esper.commands.resume import checkpoint_to_resume  # noqa: PLC0415 - torch, as above

    checkpoint = checkpoint_to_resume(RunDirectory.open(options.resume), given)
    return _Plan(checkpoint.config, checkpoint)


def _train(given: Mapping[str, object], options: TrainOptions, ranks: Ranks) -> int:
    plan = ranks.first(lambda: _plan(given, options))
    ranks.all_can(lambda: _check(plan.config, options, ranks))
    directory = _directory(plan, options, ranks)
    limits = Limits.of_run(asdict(plan.config))
    judge = Judge(TelemetryAggregator(limits=limits), _notifier(options, directory.path), stops=options.stop_on_bad)
    console = None if options.quiet or sys.stderr is None or sys.stderr.closed else Console(sys.stderr, limits)
    sinks: list[Sink] = [FunctionSink("aggregator", judge.take, Durable())]
    if console is not None:
        sinks.append(FunctionSink("console", console.show))
    try:
        ranks.all_can(lambda: sinks.extend(_ready(directory, plan, options, ranks)))
    except BaseException:
        with suppress(OSError):
            directory.path.rmdir()  # only if nothing is in it
        raise
    run, compared = None, list[str]()
    rank = None if ranks.world_size == 1 else ranks.rank
    try:
        with (
            dashboard_beside(directory.path, console, shown=options.dashboard),
            open_run(
                directory.path, config=asdict(plan.config), sinks=sinks, rank=rank, resume=plan.resume is not None
            ) as run,
            ranks.telling(),
        ):
            compared = _train_and_evaluate(run, plan, options, console, ranks, judge)
    except (Stopped, Exception) as error:
        if run is None:
            raise
        _explain(error, ranks)
    finally:
        if console is not None:
            console.close()
    if ranks.leads:
        _conclude(run, judge, compared, is_whole=ranks.world_size == 1 and plan.resume is None)
    return run.exit_status


def _notifier(options: TrainOptions, path: Path) -> Notifier | None:
    return None if options.notify is None else Notifier(options.notify, str(path), sys.stderr)


def _check(config: TrainingConfig, options: TrainOptions, ranks: Ranks) -> None:
    """Refuse what is not there before anything is written."""
    if options.evaluate_episodes < 0 or options.evaluate_episodes == 1:
        raise ValueError(f"evaluate-episodes must be 0 or at least 2, got {options.evaluate_episodes}")
    if options.dashboard and find_spec("textual") is None:
        raise ValueError("the dashboard needs Textual: pip install 'esper-telemetry[dashboard]'")
    if options.dashboard and not (sys.stdout and sys.stdout.isatty()):
        raise ValueError("the dashboard needs a terminal")
    ranks.check(config.envs)
    from esper.simic.tasks import load_task  # noqa: PLC0415 - torch, as above

    load_task(config.task)


def _directory(plan: _Plan, options: TrainOptions, ranks: Ranks) -> RunDirectory:
    """Return the run's directory, which rank 0 makes where it is a new one."""

    def make() -> RunDirectory:
        if options.resume is not None:
            return RunDirectory.open(options.resume)
        if options.run_dir is not None:
            return RunDirectory.create(options.run_dir)
        time, task = datetime.now().astimezone(), plan.config.task.replace(":", "-").replace("/", "-")
        return RunDirectory.create_numbered(f"runs/{time:%Y%m%d-%H%M%S}-{task}")

    made = ranks.first(make)
    return made if ranks.leads else RunDirectory(made.path.absolute())


def _ready(directory: RunDirectory, plan: _Plan, options: TrainOptions, ranks: Ranks) -> list[Sink]:
    """Make sure that the directory can be gone on in, and return the sinks that may be missing here."""
    from esper.simic.training.ranks import wait_for_directory  # noqa: PLC0415 - torch, as above

    wait_for_directory(directory.path)
    if plan.resume is not None and ranks.leads:
        from esper.commands.resume import complete_logs  # noqa: PLC0415 - as above

        complete_logs(directory, plan.resume)
    return list(_optional_sinks(directory.path, options))


def _explain(error: BaseException, ranks: Ranks) -> None:
    """Say why a run ended before its time, after what was measured is safe: once, where it strikes all ranks."""
    from esper.simic.training.ranks import RankLostError  # noqa: PLC0415 - as above

    where = f"rank {ranks.rank}: " if ranks.world_size > 1 else ""
    if isinstance(error, RankLostError | FloatingPointError | RunGoneBadError):
        if ranks.leads:
            say(f"esper train: error: {error}\n")
    elif isinstance(error, Stopped):
        if ranks.leads and where:
            say("esper train: ended by a signal, which torchrun sends when another process has ended\n")
    elif isinstance(error, OSError):  # what may end a run that was set up well
        say(f"esper train: error: {where}{error}\n")
    else:
        say(where + "".join(traceback.format_exception(error)))


def _conclude(run: Run, judge: Judge, compared: list[str], *, is_whole: bool) -> None:
    """Give the verdict and print what the run came to.

    Args:
        run: has ended.
        judge: has seen what this process emitted since it began.
        compared: lines about the arms.
        is_whole: whether that is all of the run; if not, its log is asked.
    """
    snapshot, invalid = judge.aggregator.snapshot(), 0
    if not is_whole:
        with suppress(OSError, NoEventsError):  # then what this process knows has to do
            log = fold_log(str(run.path))
            snapshot, invalid = log.snapshot, log.invalid
    verdict = assess(snapshot, run.info, invalid=invalid, rejected=sum(1 for _ in rejected_events(run.path)))
    run.record(verdict=recorded(verdict))
    if judge.notifier is not None:
        judge.notifier.end(verdict, crashed=run.info.status == "failed")
    try:
        show(summary(snapshot, run.info, run.path, verdict))
        if compared:
            show("\n".join(["", *compared, ""]))
    except OSError as error:
        say(f"esper train: the summary cannot be shown: {error.strerror}; esper replay {run.path} repeats it\n")


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
    except Stopped:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"a sink cannot begin, so nothing was trained: {type(error).__name__}: {error}") from error


def _train_and_evaluate(
    run: Run, plan: _Plan, options: TrainOptions, console: Console | None, ranks: Ranks, judge: Judge
) -> list[str]:
    """Train, save and evaluate; return what a comparison of arms came to, a line a quantity."""
    from esper.simic.evaluation import compare_arms, evaluate  # noqa: PLC0415 - as above
    from esper.simic.training.checkpoint import Checkpoint  # noqa: PLC0415 - as above
    from esper.simic.training.vectorized import train_arms  # noqa: PLC0415 - as above

    directory = RunDirectory(run.path)
    reporter = Reporter()

    def save(checkpoint: Checkpoint) -> None:
        """Write it, and the policies that can be evaluated; that it cannot be written must not end the training."""
        try:
            checkpoint.save(directory.checkpoint)
            _save_policies(checkpoint.policies(), directory)
        except OSError as error:
            reporter.report(f"{directory.path} gets no new checkpoint: {error.strerror}", "checkpoint")

    def keep(checkpoint: Checkpoint) -> None:
        """Save a checkpoint once every rank's log has all that was emitted before it."""
        run.flush(durable=True)
        accounts = ranks.gather(run.hub.stats())
        if ranks.leads:
            run.include({rank: sinks for rank, sinks in enumerate(accounts) if rank})
            save(checkpoint)

    if ranks.leads:
        save(plan.resume or Checkpoint(plan.config))
    emit = judge.emit_until_lost(run.emit) if options.stop_on_bad else run.emit
    arms = train_arms(
        plan.config, emit, ranks=ranks, keep=keep, resume=plan.resume, resume_path=str(directory.checkpoint)
    )
    run.flush()
    if ranks.leads:
        _save_policies(arms, directory)  # once more: that it cannot be written is an error now
    if not (ranks.leads and options.evaluate_episodes):
        return []
    episodes = options.evaluate_episodes
    if console is not None and not console.hidden:
        say(f"evaluating on {episodes} fresh episodes …\n")
    run.record(evaluation=evaluate(arms[0], episodes=episodes))
    if len(arms) == 1:
        return []
    compared = compare_arms(arms, episodes=episodes)
    return [f"Comparison of the arms on {episodes} fresh episodes", *(f"  {each.text()}" for each in compared)]


def _save_policies(arms: tuple[TrainedPolicy, ...], directory: RunDirectory) -> None:
    """Write each arm's policy where `esper evaluate` looks for it; the first is the run's."""
    for arm in arms[:1]:
        arm.save(directory.policy)
    for arm in arms if len(arms) > 1 else ():
        arm.save(directory.policy_of(arm.config.group))
