"""What a run needs to go on as if nothing had been: ``checkpoint.pt``, written at each batch's end.

It holds the state *and the BATCH_EPOCH_COMPLETED that is emitted next*: whatever moment a run is killed at, the newest
checkpoint and the log agree, but for that event, which a resume appends where the log lacks it.
"""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, get_origin, get_type_hints

import torch

from esper.leyline.atomic import atomic_write
from esper.leyline.wire import decode_event, encode_event
from esper.simic.config import TrainingConfig
from esper.simic.rollout import ReturnScale
from esper.simic.training.saved import load_saved, named, saved_config
from esper.simic.training.trained import TrainedPolicy, policy_shape

if TYPE_CHECKING:
    import os

    from esper.leyline.telemetry import TelemetryEvent

__all__ = ["ArmState", "Checkpoint"]

_FORMAT = 1


class ArmState(TypedDict):
    """Everything that the rest of one arm's training depends on."""

    completed: int
    """Episodes that it has played."""
    batches: int
    """Batches that it has learnt from."""
    learner: dict[str, Any]
    """As `Learner.state_dict` returned it."""
    accuracies: list[float]
    """Of the newest batches, as the rolling accuracy is taken over."""
    without_a_step: list[str]
    """What happened in the updates in a row in which nothing was learnt."""
    seeds_made: list[int]
    """By environment."""
    typical: dict[str, Any]
    """The fields of `Typical`, which an update's severity goes by."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A run between two batches."""

    config: TrainingConfig
    """Of the run."""
    world_size: int = 1
    """Processes that trained together when it was made."""
    arms: tuple[ArmState, ...] = ()
    """By arm; empty before training began."""
    pending: TelemetryEvent | None = None
    """The end of the batch, which is emitted once this is safe; None before there was one."""

    @property
    def completed(self) -> int:
        """Episodes that every arm has played."""
        return min((arm["completed"] for arm in self.arms), default=0)

    def policies(self) -> tuple[TrainedPolicy, ...]:
        """Return the policies as they are, in the order of the arms."""
        return tuple(
            _trained(config, arm["learner"])
            for config, arm in zip(self.config.arms(), self.arms, strict=bool(self.arms))
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that `load` and ``torch.load(..., weights_only=True)`` read, whole or not at all.

        Raises:
            OSError: it cannot be written; the one before is still there.
        """
        content = {
            "format": _FORMAT,
            "config": dataclasses.asdict(self.config),
            "world_size": self.world_size,
            "arms": list(self.arms),
            "pending": None if self.pending is None else encode_event(self.pending),
        }
        with atomic_write(path) as file:
            torch.save(content, file)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **changes: Any) -> Checkpoint:
        """Read what `save` wrote. No code in the file is executed.

        Args:
            path: the file.
            **changes: options of the configuration that have other values from here on.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds no checkpoint, or one of another version of esper, or its configuration cannot be used
                here, as when a device is missing.
        """
        content = load_saved(path, _WHAT)
        with named(path, _WHAT):
            if content["format"] != _FORMAT:
                raise KeyError("format")
            config = saved_config(content, **changes)
            pending = None if content["pending"] is None else decode_event(content["pending"])
            arms = tuple(content["arms"])
            if len(arms) not in (0, len(config.arms())) or not all(map(_is_arm, arms)):
                raise KeyError("arms")
            checkpoint = cls(config, operator.index(content["world_size"]), arms, pending)
            checkpoint.policies()
            return checkpoint


_WHAT = "checkpoint written by esper"


def _is_arm(arm: Any) -> bool:
    """Whether something has the fields of an `ArmState`, each of its type."""
    hints = {name: get_origin(hint) or hint for name, hint in get_type_hints(ArmState).items()}
    return arm.keys() == hints.keys() and all(isinstance(arm[name], hint) for name, hint in hints.items())


def _trained(config: TrainingConfig, learner: dict[str, Any]) -> TrainedPolicy:
    scale = ReturnScale()
    scale.load_state_dict(learner["return_scale"])
    weights = {name: weight.detach().to("cpu", copy=True) for name, weight in learner["policy"].items()}
    return TrainedPolicy(config, policy_shape(config), weights, scale.value)
