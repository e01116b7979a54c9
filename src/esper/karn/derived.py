"""What follows from payloads and is measured by none: each is derived here once, and every view asks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from esper.karn.formatting import is_finite, plural
from esper.leyline.limits import real
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
    TrainingStartedPayload,
)

if TYPE_CHECKING:
    from esper.karn.snapshot import EnvSnapshot, GroupSnapshot, RunSnapshot
    from esper.leyline.position import Position
    from esper.leyline.run_info import Evaluation, RunInfo
    from esper.leyline.telemetry import CounterfactualMatrixPayload

__all__ = [
    "COMPONENTS",
    "MatrixRow",
    "accuracies_of",
    "accuracy_of",
    "age_in",
    "age_text",
    "confidence_of",
    "contributions",
    "evaluation_of",
    "grows",
    "has_host",
    "known",
    "matrix_rows",
    "planned_episodes",
    "return_of",
    "returns_of",
    "reward_components",
]

COMPONENTS: Final = (
    "base_acc_delta",
    "bounded_attribution",
    "compute_rent",
    "alpha_shock",
    "ratio_penalty",
    "stage_bonus",
    "fossilize_terminal_bonus",
    "blending_warning",
    "holding_warning",
)
"""The contributions that add up to ``total_reward``, in the order of the contract and of every view."""


def reward_components(reward: RewardComputedPayload) -> dict[str, float | None]:
    """Return each component of a step's reward; None for one that was not supplied."""
    supplied = reward.supplied  # all of them are optional
    return {name: getattr(reward, name) if name in supplied else None for name in COMPONENTS}


def confidence_of(reward: RewardComputedPayload) -> float | None:
    """Return the probability of what was done; None when it is NaN, as for continuous actions: a density is none."""
    return None if math.isnan(real(reward.action_confidence)) else reward.action_confidence


def known(count: int) -> int | None:
    """Return a count of a run's configuration; None for 0, which by convention is "unknown"."""
    return count or None


def grows(started: TrainingStartedPayload | None) -> bool:
    """Whether a host grows in a run: not in one of another's trainer, which knows neither host nor slots.

    True while nobody knows, because the start is missing.
    """
    return started is None or bool(started.host_params or started.max_epochs or started.slot_ids)


def has_host(group: GroupSnapshot | None) -> bool:
    """Whether something grows in a run, or has grown; True while nobody knows."""
    return group is None or bool(group.lifecycle) or grows(None if group.started is None else group.started.data)


def accuracy_of(data: EpochCompletedPayload | BatchEpochCompletedPayload) -> float | None:
    """Return a validation accuracy; None when it is NaN, which by convention is "not measured".

    Unless the loss of the same event is not finite either: then a host diverged, and NaN is what was measured.
    """
    accuracy = data.val_accuracy if isinstance(data, EpochCompletedPayload) else data.avg_accuracy
    if not math.isnan(real(accuracy)):
        return accuracy
    return accuracy if isinstance(data, EpochCompletedPayload) and not is_finite(data.val_loss) else None


def return_of(batch: BatchEpochCompletedPayload, started: TrainingStartedPayload | None) -> float | None:
    """Return the mean episode return; None when it is NaN where no host grows: a rollout in which no episode ended.

    Where one grows, NaN is what a diverged host brought.
    """
    return None if math.isnan(real(batch.avg_reward)) and not grows(started) else batch.avg_reward


def returns_of(group: GroupSnapshot) -> list[float]:
    """Return the mean episode returns of the batches in which an episode ended."""
    started = None if group.started is None else group.started.data
    return [real(value) for entry in group.batches if (value := return_of(entry.data, started)) is not None]


def accuracies_of(group: GroupSnapshot) -> list[float]:
    """Return the accuracies of the batches that measured one."""
    return [real(value) for entry in group.batches if (value := accuracy_of(entry.data)) is not None]


def evaluation_of(snapshot: RunSnapshot, info: RunInfo | None, group_id: str) -> Evaluation | None:
    """Return what the learnt policy of a group was evaluated to: run.json has that of a run's first group alone."""
    is_first = next(iter(snapshot.groups), None) == group_id
    return info.evaluation if info is not None and is_first else None


def planned_episodes(batch: BatchEpochCompletedPayload) -> int | None:
    """Return the episodes planned for a run; None when unknown, as for a trainer that plans time steps instead.

    A plan that more episodes were played than is none.
    """
    return batch.total_episodes if batch.total_episodes >= max(batch.episodes_completed, 1) else None


class MatrixRow(NamedTuple):
    """One configuration of an ablation."""

    mask: tuple[bool, ...] | None
    """Which slots were left on, in the order of ``slot_ids``; None when that is not of the documented form."""
    accuracy: float | None
    """None when it is no number."""


def matrix_rows(data: CounterfactualMatrixPayload) -> list[MatrixRow]:
    """Return the configurations of an ablation, in the order in which they were emitted."""
    return [MatrixRow(_mask(config, len(data.slot_ids)), _accuracy(config)) for config in data.configs]


def _mask(config: Mapping[str, object], n_slots: int) -> tuple[bool, ...] | None:
    mask = config["seed_mask"] if "seed_mask" in config else None
    return tuple(map(bool, mask)) if isinstance(mask, (list, tuple)) and len(mask) == n_slots else None


def _accuracy(config: Mapping[str, object]) -> float | None:
    accuracy = config["accuracy"] if "accuracy" in config else None
    return accuracy if isinstance(accuracy, (int, float)) and not isinstance(accuracy, bool) else None


def contributions(data: CounterfactualMatrixPayload) -> Iterator[tuple[str, float]]:
    """Yield for each slot the accuracy lost when its seed alone is ablated, where both were measured."""
    by_mask = {_mask(config, len(data.slot_ids)): _accuracy(config) for config in data.configs}
    everything = (True,) * len(data.slot_ids)
    for at, slot_id in enumerate(data.slot_ids):
        without = (*everything[:at], False, *everything[at + 1 :])
        if everything in by_mask and without in by_mask:
            full, less = by_mask[everything], by_mask[without]
            if full is not None and less is not None:
                yield slot_id, real(full) - real(less)


def age_in(env: EnvSnapshot, then: Position) -> str:
    """Return how long before the newest event of its environment something was; nothing within one batch."""
    newest = env.epoch or env.reward
    return "" if newest is None else age_text(then, newest.position)


def age_text(then: Position, now: Position) -> str:
    """Return how long ago something was, seen from a later event: nothing within one batch, else ``5 batches ago``."""
    if then.batch is None or now.batch is None or then.batch >= now.batch:
        return ""
    return f"{plural(now.batch - then.batch, 'batch')} ago"
