"""What a training run leaves behind: the policy, and the configuration it was trained with."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from esper.kasmina.blueprints import BLUEPRINTS
from esper.leyline.atomic import atomic_write
from esper.simic.config import TrainingConfig
from esper.simic.observation import observation_size
from esper.simic.training.saved import load_saved, named, saved_config
from esper.tamiyo.policy import Policy, PolicyShape

if TYPE_CHECKING:
    import os

    from torch import Tensor

__all__ = ["TrainedPolicy", "policy_shape"]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedPolicy:
    """The learnt weights with everything that is needed to play them."""

    config: TrainingConfig
    """Configuration of the run."""
    shape: PolicyShape
    """Sizes of the policy."""
    state: dict[str, Tensor]
    """Weights by name, on the CPU."""
    return_scale: float = 1.0
    """What the critic's estimates are multiplied by to be in units of reward. Unit: reward; above 0."""

    def policy(self) -> Policy:
        """Build the network on the configuration's device."""
        policy = Policy(self.shape, torch.Generator())
        policy.load_state_dict(self.state)
        return policy.to(self.config.device)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that `load` and ``torch.load(..., weights_only=True)`` read.

        Raises:
            OSError: it cannot be written.
        """
        content = {
            "config": dataclasses.asdict(self.config),
            "shape": tuple(self.shape),
            "state": self.state,
            "return_scale": self.return_scale,
        }
        with atomic_write(path) as file:
            torch.save(content, file)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainedPolicy:
        """Read what `save` wrote. No code in the file is executed.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds no policy, or its configuration cannot be used here, as when the device is missing.
        """
        content = load_saved(path, _WHAT)
        with named(path, _WHAT):
            config, shape = saved_config(content), PolicyShape(*content["shape"])
            if shape != policy_shape(config):
                raise ValueError("the policy is not one for the observations and actions of this version of esper")
            state, scale = {**content["state"]}, float(content["return_scale"])
            if not (0 < scale < math.inf and all(bool(weight.isfinite().all()) for weight in state.values())):
                raise ValueError("a weight, or the scale of returns, is not a finite number")
            Policy(shape, torch.Generator()).load_state_dict(state)
            return cls(config, shape, state, scale)


_WHAT = "policy saved by esper"


def policy_shape(config: TrainingConfig) -> PolicyShape:
    """Return the sizes of a run's policy."""
    return PolicyShape(observation_size(config.slots), config.slots, len(BLUEPRINTS))
