"""What a training run leaves behind: the policy, and the configuration it was trained with."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from esper.leyline.atomic import atomic_write
from esper.simic.config import TrainingConfig
from esper.tamiyo.policy import Policy, PolicyShape

if TYPE_CHECKING:
    import os

    from torch import Tensor

__all__ = ["TrainedPolicy"]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedPolicy:
    """The learnt weights with everything that is needed to play them."""

    config: TrainingConfig
    """Configuration of the run."""
    shape: PolicyShape
    """Sizes of the policy."""
    state: dict[str, Tensor]
    """Weights by name, on the CPU."""

    @classmethod
    def of(cls, policy: Policy, config: TrainingConfig, shape: PolicyShape) -> TrainedPolicy:
        """Copy the weights out of a policy that may go on learning."""
        state = {name: weight.detach().to("cpu", copy=True) for name, weight in policy.state_dict().items()}
        return cls(config, shape, state)

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
        content = {"config": dataclasses.asdict(self.config), "shape": tuple(self.shape), "state": self.state}
        with atomic_write(path) as file:
            torch.save(content, file)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainedPolicy:
        """Read what `save` wrote. No code in the file is executed.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds no policy, or its configuration cannot be used here, as when the device is missing.
        """
        with open(path, "rb") as file:  # noqa: PTH123 - as in save
            try:
                content = torch.load(file, map_location="cpu", weights_only=True)
                config, shape, state = content["config"], PolicyShape(*content["shape"]), content["state"]
            except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
                raise ValueError(f"{path} is no policy saved by esper") from error
        try:
            return cls(TrainingConfig(**config), shape, state)
        except TypeError as error:
            raise ValueError(f"{path} was saved by another version of esper") from error
