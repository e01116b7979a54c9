"""A run directory while it is written: the log, ``run.json``, signals and the exit status are looked after.

::

    with open_run("runs/mine", config={"lr": 3e-4}) as run:
        train(emit=run.emit)
"""

from __future__ import annotations

import numbers
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from esper.leyline._payload.wording import brief
from esper.leyline.run_directory import RunDirectory, RunDirectoryError
from esper.leyline.run_info import Evaluation, RecordedVerdict, RunInfo, RunInfoError, RunStatus, SinkStats
from esper.leyline.strict_json import JsonValue, to_json
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent, TrainingStartedPayload
from esper.nissa.append_only import LogInUseError
from esper.nissa.output import TelemetryHub
from esper.nissa.protocol import Sink
from esper.nissa.reporting import Reporter
from esper.nissa.signals import Stopped, stoppable
from esper.nissa.sinks.jsonl import JsonlSink

__all__ = ["FAILED", "LOST", "Run", "installed_versions", "open_run"]

FAILED = 1
"""Exit status of a run that an error ended."""
LOST = 3
"""Exit status of a run whose log lacks an event that was emitted."""

_LIBRARIES = ("esper-telemetry", "torch", "numpy", "gymnasium", "scikit-learn", "stable-baselines3", "sb3-contrib")
_DEEPEST = 16
_EARLIER = ", earlier"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]*")
_open: dict[Path, Run] = {}


class Run:
    """A run that is being written; `open_run` makes it."""

    def __init__(self, directory: RunDirectory, hub: TelemetryHub, info: RunInfo, *, writes_info: bool) -> None:
        self._directory = directory
        self._hub = hub
        self._info = info
        self._writes_info = writes_info
        self._earlier = info.sinks
        self._others: tuple[SinkStats, ...] = ()
        self._reporter = Reporter()
        self._stopped: Stopped | None = None

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._directory.path

    @property
    def hub(self) -> TelemetryHub:
        """The hub that delivers this run's events."""
        return self._hub

    @property
    def info(self) -> RunInfo:
        """What run.json says."""
        return self._info

    @property
    def exit_status(self) -> int:
        """What a program that made this run should end with, once it is closed.

        128 and the number of the signal that ended it, else 1 when it failed, else 3 when an event did not get into
        the log, else 0.
        """
        if self._stopped is not None:
            return self._stopped.exit_status
        return FAILED if self._info.status == "failed" else LOST if self._info.lost else 0

    def emit(self, event: TelemetryEvent) -> None:
        """Give an event to every sink, as `TelemetryHub.emit` does; at a barrier run.json is rewritten."""
        self._hub.emit(event)
        if isinstance(event.data, TrainingStartedPayload | BatchEpochCompletedPayload):
            self._write()

    def flush(self, timeout: float | None = 30.0, *, durable: bool = False) -> bool:
        """Wait until every sink has what was emitted so far, as `TelemetryHub.flush` does.

        Args:
            timeout: longest wait; None for one without end. Unit: seconds.
            durable: wait for the `Durable` sinks alone.
        """
        return self._hub.flush(timeout, durable=durable)

    def include(self, ranks: Mapping[int, Iterable[SinkStats]]) -> None:
        """Let run.json, and the exit status, know the accounts of the other processes' sinks, by their rank."""
        self._others = tuple(
            replace(sink, name=f"{sink.name} of rank {rank}") for rank, sinks in ranks.items() for sink in sinks
        )

    def configure(self, options: Mapping[str, object]) -> None:
        """Add options, or change them, in what run.json says about the run."""
        self._info = replace(self._info, configuration={**self._info.configuration, **_configuration(options)})
        self._write()

    def record(self, *, evaluation: Evaluation | None = None, verdict: RecordedVerdict | None = None) -> None:
        """Put results into run.json, also after the end; what is None is left as it is."""
        self._info = replace(
            self._info, evaluation=evaluation or self._info.evaluation, verdict=verdict or self._info.verdict
        )
        self._write()

    def _end(self, error: BaseException | None) -> None:
        """Deliver everything, and say in run.json how the run ended. A signal that comes meanwhile changes the end."""
        if isinstance(error, Stopped):
            self._stopped = error
        while True:
            try:
                # A signal leaves ten seconds for everything.
                self._hub.close(5.0 if self._stopped else 30.0)
                status, reason = _ending(error, stopped=self._stopped is not None)
                self._info = replace(self._info, status=status, ended=datetime.now(UTC), error=reason)
                self._write()
            except Stopped as stopped:  # only the first signal raises
                self._stopped = stopped
            else:
                break
        if self._info.lost:
            self._reporter.report(f"{self._directory.info}: telemetry was lost: {_losses(self._info)}")

    def _interrupt(self) -> None:
        self._info = replace(self._info, status="interrupted", ended=datetime.now(UTC), error=None)
        self._write()

    def _write(self) -> None:
        """Rewrite run.json. That it cannot be written must not end the training."""
        self._info = replace(self._info, sinks=(*self._hub.stats(), *self._others, *self._earlier))
        if not self._writes_info:
            return
        try:
            self._directory.write_info(self._info)
        except OSError as error:
            self._reporter.report(f"{self._directory.info} cannot be written: {error.strerror}", "run.json")


@contextmanager
def open_run(
    path: str | os.PathLike[str],
    *,
    config: Mapping[str, object] | None = None,
    sinks: Iterable[Sink] = (),
    rank: int | None = None,
    resume: bool = False,
) -> Iterator[Run]:
    """Open a run directory: ``events.jsonl``, ``run.json`` and whatever else is put there.

    SIGINT, SIGTERM and SIGHUP end the run with everything delivered: the first raises `Stopped` (for SIGINT it is a
    KeyboardInterrupt too), the third, or ten seconds, ends the process at once. ``run.json`` is whole at any time.

    Args:
        path: the directory; it is made. ``~`` is the home directory.
        config: options by name, for run.json; more can be added by `Run.configure`.
        sinks: where events go besides the log; the run's to close from here on.
        rank: number of this process where several train together: the log is ``events-rank0.jsonl`` and so on, and
            rank 0 alone writes run.json. None for a process on its own.
        resume: go on in a directory that holds a run, with its log and its configuration, but without the evaluation
            of the policy as it was then; what the log lacked before stays in the accounts.

    Yields:
        The run. Afterwards its `Run.exit_status` says how it went.

    Raises:
        RunDirectoryError: the directory holds a run already (or none, to resume), or cannot be used.
        LogInUseError: another process is writing this run.
        TypeError: the configuration is no mapping, or something is no sink.
    """
    # before anything is made: a mistake in it leaves nothing behind
    options = _configuration({} if config is None else config)
    directory, made = _take(path, rank, resume=resume)
    before = _info_before(directory) if resume else None
    log = directory.log if rank is None else directory.shard(rank)
    try:
        hub = TelemetryHub([JsonlSink(log), *sinks])
    except LogInUseError:  # which may be empty still, and is its writer's
        raise
    except BaseException:
        _discard(directory, log, made=made)
        raise
    info = RunInfo(
        status="running",
        started=datetime.now(UTC) if before is None else before.started,
        configuration={**(before.configuration if before else {}), **options},
        versions=installed_versions(),
        sinks=_losses_before(before.sinks) if before else (),
    )
    run = Run(directory, hub, info, writes_info=rank in {None, 0})
    _open[log] = run
    ended: BaseException | None = None
    with stoppable(run._interrupt, run._write):  # noqa: SLF001 - this module's own
        try:
            run._write()  # noqa: SLF001 - as above
            yield run
        except BaseException as error:
            ended = error
            raise
        finally:
            run._end(ended)  # noqa: SLF001 - as above
            _open.pop(log, None)
            if run._stopped is not None and ended is not run._stopped:  # noqa: SLF001 - as above
                raise run._stopped  # noqa: SLF001 - the signal came while the run was closed


def _take(path: str | os.PathLike[str], rank: int | None, *, resume: bool) -> tuple[RunDirectory, bool]:
    """Return the directory, and whether it was made for this run."""
    if rank is not None and rank < 0:
        raise ValueError(f"rank must be 0 or more, got {rank}")
    there = RunDirectory.local(path)
    log = there.log if rank is None else there.shard(rank)
    if log in _open:
        raise RunDirectoryError(f"{path} is still open in this process: leave its `with open_run(...)` block first")
    made = not there.path.exists()
    return (RunDirectory.open(path) if resume else RunDirectory.create(path, rank=rank)), made


def _discard(directory: RunDirectory, log: Path, *, made: bool) -> None:
    """Leave nothing of a start that failed, so that the next one is not refused."""
    with suppress(OSError):
        if not log.stat().st_size:
            log.unlink()
        if made:
            directory.path.rmdir()


def _info_before(directory: RunDirectory) -> RunInfo | None:
    try:
        return directory.read_info()
    except (RunInfoError, OSError) as error:
        Reporter().report(f"the run's configuration is not known: {error}")
        return None


def _ending(error: BaseException | None, *, stopped: bool) -> tuple[RunStatus, str | None]:
    if stopped or isinstance(error, KeyboardInterrupt):
        return "interrupted", None
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "completed", None
    if isinstance(error, GeneratorExit):
        return "failed", "the block of open_run was never left"
    return "failed", f"{type(error).__name__}: {error}"


def _losses(info: RunInfo) -> str:
    return "; ".join(
        f"{sink.name}: {sink.rejected} rejected, {sink.dropped} dropped, {sink.queued} not delivered"
        for sink in info.sinks
        if sink.lost
    )


def _losses_before(sinks: Iterable[SinkStats]) -> tuple[SinkStats, ...]:
    """Return the accounts of those sinks that had lost something when a run was resumed: the log still lacks it."""
    return tuple(
        replace(
            sink, name=f"{sink.name.removesuffix(_EARLIER)}{_EARLIER}", emitted=sink.emitted - sink.queued, queued=0
        )
        for sink in sinks
        if sink.durable and sink.rejected + sink.dropped
    )


def _configuration(options: object) -> dict[str, JsonValue]:
    if not isinstance(options, Mapping):
        hint = "; vars(…) makes one of it" if hasattr(options, "__dict__") else ""
        raise TypeError(f"a configuration is a mapping of names to values, not a {type(options).__name__}{hint}")
    return {str(name): _described(value) for name, value in options.items()}


def _described(value: object, depth: int = 0) -> JsonValue:
    """Return an option as JSON; what has no form there by its repr, so that no option is missing.

    The same options come to the same in every process: sets are sorted, and a repr says no address.
    """
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {str(key): _described(item, depth + 1) for key, item in value.items()}
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return [_described(item, depth + 1) for item in value]
    if depth < _DEEPEST and isinstance(value, set | frozenset):
        return sorted((_described(item, depth + 1) for item in value), key=repr)
    try:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, numbers.Real):
            return int(value) if isinstance(value, numbers.Integral) else to_json(float(value))
        return str(value) if isinstance(value, str | os.PathLike) else to_json(value)
    except Exception:  # noqa: BLE001 - somebody else's object may do anything
        return _ADDRESS.sub("", brief(value))


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a run may depend on, as far as they are there."""
    installed = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed
