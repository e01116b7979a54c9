"""Going on with a run: what may change, and what a run that was killed could not write any more."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from esper.leyline.errors import PayloadError, WireError
from esper.leyline.run_directory import RunDirectory, info_beside
from esper.leyline.telemetry import TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import decode_event
from esper.nissa.sinks.jsonl import JsonlSink
from esper.simic.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["checkpoint_to_resume", "complete_logs"]


def checkpoint_to_resume(directory: RunDirectory, given: Mapping[str, object]) -> Checkpoint:
    """Return what a run goes on from, with the options that may change as they are asked for.

    Args:
        directory: the run's.
        given: the options of the configuration that the user named.

    Raises:
        ValueError: there is nothing to go on from, or nothing to do, or what may not change was to; one sentence.
    """
    if not directory.checkpoint.exists():
        raise ValueError(f"{directory.path} holds no checkpoint.pt to go on from: train anew, in another directory")
    moved = {name: given[name] for name in ("device", "env_device") if name in given}
    checkpoint = Checkpoint.load(directory.checkpoint, **moved)
    config = checkpoint.config
    episodes = cast("int", given["episodes"]) if "episodes" in given else config.episodes
    if episodes < config.episodes:
        raise ValueError(f"episodes may only become more: the run plans {config.episodes}, got {episodes}")
    for name, value in given.items():
        if name != "episodes" and value != getattr(config, name):
            raise ValueError(
                f"{name} may not change when a run is resumed: it is {getattr(config, name)!r}, got {value!r}"
            )
    if ":" in config.task and "task" not in given:
        raise ValueError(
            f"{directory.path} trains on {config.task!r}, code outside esper; if you trust it, say --task {config.task}"
        )
    info, _ = info_beside(directory.path)
    if checkpoint.completed >= episodes and info is not None and info.status == "completed":
        raise ValueError(
            f"{directory.path} is complete, its {episodes} episodes have been played: ask for more with --episodes"
        )
    return replace(checkpoint, config=replace(config, episodes=episodes))


def complete_logs(directory: RunDirectory, checkpoint: Checkpoint) -> None:
    """Append what a run that was killed could not write any more, and repair the lines that it tore.

    That is the end of the checkpoint's batch, and, where several processes began together, the starts of those that
    were killed before theirs was safe: without it nobody could tell which start of one rank goes with which of another.

    Raises:
        LogInUseError: the run still runs.
        OSError: a log cannot be written.
    """
    with ExitStack() as opened:
        logs = {directory.log, *directory.path.glob("events-rank*.jsonl")}
        sinks = {log: opened.enter_context(closing(JsonlSink(log))) for log in sorted(logs) if log.exists()}
        missing = [*_pending(directory, checkpoint, list(sinks)), *_starts(directory, list(sinks))]
        for log, event in missing:
            if log not in sinks:
                sinks[log] = opened.enter_context(closing(JsonlSink(log)))
            sinks[log].write(event)
            sinks[log].flush()


def _pending(
    directory: RunDirectory, checkpoint: Checkpoint, logs: list[Path]
) -> Iterator[tuple[Path, TelemetryEvent]]:
    """Yield the end of the checkpoint's batch, unless a log has it."""
    pending = checkpoint.pending
    if pending is not None and not any(True for log in logs for _ in _lines_with(log, pending.event_id)):
        yield directory.log if checkpoint.world_size == 1 else directory.shard(0), pending


def _starts(directory: RunDirectory, logs: list[Path]) -> Iterator[tuple[Path, TelemetryEvent]]:
    """Yield the starts that some ranks lack of those that others have."""
    found: dict[tuple[str, int], dict[int, list[TrainingStartedPayload]]] = defaultdict(lambda: defaultdict(list))
    for log in logs:
        for line in _lines_with(log, '"TRAINING_STARTED"'):
            try:
                event = decode_event(line)
            except (PayloadError, WireError):
                continue
            data = event.data
            if isinstance(data, TrainingStartedPayload) and data.world_size > 1:
                found[event.group_id, data.world_size][data.rank].append(data)
    for (group_id, world_size), by_rank in found.items():
        most = max(by_rank.values(), key=len)
        for rank in range(world_size):
            for start in most[len(by_rank[rank]) :]:
                fields = {name: value for name, value in start.to_dict().items() if name != "local_rank"}
                data = TrainingStartedPayload.from_dict(fields | {"rank": rank})
                message = f"rank {rank} was killed before it could say that it began"
                yield directory.shard(rank), TelemetryEvent(data=data, group_id=group_id, message=message)


def _lines_with(log: Path, text: str) -> Iterator[bytes]:
    wanted = text.encode()
    with log.open("rb") as file:
        yield from (line for line in file if wanted in line)
