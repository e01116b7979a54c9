"""The environments of a run, as training and evaluation play in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esper.simic.control import do_nothing_control
from esper.simic.determinism import Stream, derive_seed
from esper.simic.environment import GrowthEnv
from esper.simic.tasks import load_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from esper.leyline.telemetry import Emit
    from esper.simic.config import TrainingConfig

__all__ = ["environments_of"]


def environments_of(config: TrainingConfig, env_ids: Iterable[int], emit: Emit) -> list[GrowthEnv]:
    """Make environments of one task, with one control for all.

    Args:
        config: of the run.
        env_ids: global indices of those to make.
        emit: takes their events.

    Raises:
        ValueError: the task cannot be loaded.
    """
    task = load_task(config.task)
    seed = derive_seed(config.seed, Stream.CONTROL)
    control = do_nothing_control(
        task, n_slots=config.slots, max_epochs=config.max_epochs, device=config.hosts_device, seed=seed
    )
    return [
        GrowthEnv(
            task,
            env_id=env_id,
            n_slots=config.slots,
            max_epochs=config.max_epochs,
            param_budget=config.param_budget,
            device=config.hosts_device,
            emit=emit,
            group_id=config.group,
            control=control,
            reward_mode=config.reward_mode,
        )
        for env_id in env_ids
    ]
