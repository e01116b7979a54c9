"""The subcommands that look at a run that was made: evaluate, replay."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.summary import evaluation_text, snapshot_json, summary
from esper.leyline.run_directory import RunDirectory
from esper.leyline.wire import InvalidRecord, read_shards

__all__ = ["evaluate_command", "replay_command"]


def evaluate_command(run_dir: str, *, episodes: int, seed: int | None) -> int:
    """Play the policy of a run against chance and doing nothing, and print how they did.

    Args:
        run_dir: the run.
        episodes: for each policy, 2 or more.
        seed: other fresh episodes than those of the run's own seed; None for those.

    Raises:
        ValueError: there is no such run, it left no policy, or there are too few episodes.
    """
    run = RunDirectory.open(run_dir)
    if not run.policy.exists():
        raise ValueError(f"{run.path} holds no policy.pt: the run was interrupted, or still runs")
    from esper.simic.evaluation import evaluate  # noqa: PLC0415 - torch is slow to import
    from esper.simic.training.trained import TrainedPolicy  # noqa: PLC0415 - as above

    trained = TrainedPolicy.load(run.policy)
    if seed is not None:
        trained = replace(trained, config=replace(trained.config, seed=seed))
    sys.stdout.write(evaluation_text(evaluate(trained, episodes=episodes)) + "\n")
    return 0


def replay_command(source: str, *, as_json: bool) -> int:
    """Fold a log and print what it came to.

    Args:
        source: a run directory, a log, or ``-``.
        as_json: the whole snapshot as JSON instead of the summary.

    Raises:
        ValueError: run.json is not what it should be.
        OSError: there is no such log, or it cannot be read.
    """
    where = Path(source)
    info = RunDirectory.open(where).read_info() if where.is_dir() else None
    aggregator = TelemetryAggregator()
    invalid = 0
    for shard, record in read_shards(source):
        if isinstance(record, InvalidRecord):
            invalid += 1
        else:
            aggregator.process(record, shard)
    snapshot = aggregator.snapshot()
    sys.stdout.write(snapshot_json(snapshot) + "\n" if as_json else summary(snapshot, info, where))
    if invalid:
        sys.stderr.write(f"{invalid} lines are no events: esper validate {source}\n")
    return 0
