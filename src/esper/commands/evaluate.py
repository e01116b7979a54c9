"""``esper evaluate``: the learnt policy against chance and doing nothing."""

from __future__ import annotations

from dataclasses import replace

from esper.commands.streams import show
from esper.karn.summary import evaluation_text
from esper.leyline.run_directory import RunDirectory

__all__ = ["evaluate_command"]


def evaluate_command(run_dir: str, *, episodes: int, seed: int | None, task: str | None) -> int:
    """Play the policy of a run against chance and doing nothing, and print how they did.

    Args:
        run_dir: the run.
        episodes: for each policy, 2 or more.
        seed: other fresh episodes than those of the run's own seed; None for those.
        task: the task, where it is no built-in one: a policy file names no code.

    Raises:
        ValueError: there is no such run, it left no policy, its task has to be named, or there are too few episodes.
    """
    run = RunDirectory.open(run_dir)
    if not run.policy.exists():
        raise ValueError(f"{run.path} holds no policy.pt: no batch of it was completed")
    from esper.simic.evaluation import evaluate  # noqa: PLC0415 - torch is slow to import
    from esper.simic.training.trained import TrainedPolicy  # noqa: PLC0415 - as above

    trained = TrainedPolicy.load(run.policy)
    named = trained.config.task
    if task is None and ":" in named:
        raise ValueError(
            f"{run.policy} was trained on {named!r}, code outside esper; if you trust it, say --task {named!r}"
        )
    config = replace(trained.config, task=task or named, seed=trained.config.seed if seed is None else seed)
    show(evaluation_text(evaluate(replace(trained, config=config), episodes=episodes)) + "\n")
    return 0
