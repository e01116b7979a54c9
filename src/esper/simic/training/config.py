"""What can be set about a training run. Importing this loads no torch, so that a command line can show the defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["TrainingConfig"]

_AT_LEAST = {
    "episodes": 1,
    "envs": 1,
    "slots": 1,
    "max_epochs": 1,
    "ppo_epochs": 1,
    "minibatches": 1,
    "seed": 0,
    "param_budget": 0,
    "entropy_coef": 0.0,
    "entropy_coef_end": 0.0,
    "value_coef": 0.0,
}
_ABOVE_0 = ("lr", "clip_ratio", "max_grad_norm", "target_kl")
_FRACTIONS = ("gamma", "gae_lambda")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Everything that decides what a run does. The defaults learn on the digits in about ninety seconds of CPU.

    Raises:
        ValueError: an option is out of its range; one sentence that names it.
    """

    task: str = "digits"
    """What the hosts learn: a built-in name or ``module:attribute``."""
    episodes: int = 160
    """Episodes over all environments. Where `envs` does not divide it, the last batch is smaller. 1 or more."""
    envs: int = 4
    """Environments stepped side by side, each finishing one episode a batch. 1 or more."""
    slots: int = 3
    """Slots of every host. 1 or more."""
    max_epochs: int = 24
    """Host epochs, hence decisions, in an episode. 1 or more."""
    param_budget: int = 1000
    """Parameters that the seeds of one environment may hold together. 0 or more."""
    seed: int = 0
    """Initialisation, shuffling and sampling derive their own generators from it. 0 or more."""
    device: str = "cpu"
    """Where policy and hosts live, in torch's notation."""

    lr: float = 3e-3
    """Learning rate of the policy's Adam at first; falls linearly towards a tenth. Above 0."""
    gamma: float = 0.97
    """Discount of later rewards. 0 to 1."""
    gae_lambda: float = 0.95
    """Weight of longer returns in the advantages. 0 to 1. Source: Schulman et al. 2016, equation 16."""
    clip_ratio: float = 0.2
    """The probability ratio is clipped to 1 - clip_ratio .. 1 + clip_ratio. Above 0."""
    ppo_epochs: int = 8
    """Passes over a batch in one update, at most. 1 or more."""
    minibatches: int = 3
    """Parts a batch is split into, an optimizer step each; no more than it has samples. 1 or more."""
    target_kl: float = 0.075
    """An update ends after the epoch whose mean KL divergence exceeds it. Nats; above 0."""
    entropy_coef: float = 0.05
    """Weight of the entropy bonus at first. 0 or more."""
    entropy_coef_end: float = 0.01
    """Weight that the entropy bonus falls towards, linearly over the episodes. 0 or more."""
    value_coef: float = 0.5
    """Weight of the value loss. 0 or more."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this L2 norm. Above 0."""

    amp_dtype: Literal["float16", "bfloat16"] | None = None
    """Precision of the policy under automatic mixed precision, with a gradient scaler for float16; None for
    float32."""
    compile_backend: str | None = None
    """Backend that ``torch.compile`` runs the policy with; None for no compilation."""
    compile_mode: str | None = None
    """Mode of ``torch.compile``, which only the backend ``inductor`` knows; None for its default."""

    group_id: str = "default"
    """Arm of an A/B comparison, the group_id of every event."""
    episode_id: str = ""
    """Identifier of the run, shared with nothing else; empty for none."""

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if not least <= value < math.inf:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name in _ABOVE_0:
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0, got {value}")
        for name in _FRACTIONS:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {value}")
        if self.amp_dtype not in (None, "float16", "bfloat16"):
            raise ValueError(f"amp_dtype must be float16 or bfloat16, got {self.amp_dtype!r}")
        if self.compile_mode is not None and self.compile_backend != "inductor":
            raise ValueError(f"compile_mode needs compile_backend inductor, got {self.compile_backend!r}")
        self._check_torch()

    def _check_torch(self) -> None:
        if self.device == "cpu" and self.compile_backend is None:
            return
        import torch  # noqa: PLC0415 - asked only about what is not always there

        try:
            torch.zeros(1, device=self.device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(f"device must be one that torch can use here, got {self.device!r}") from error
        if self.compile_backend is not None and self.compile_backend not in torch.compiler.list_backends(()):
            known = ", ".join(torch.compiler.list_backends())
            raise ValueError(f"compile_backend must be one that torch knows ({known}), got {self.compile_backend!r}")
