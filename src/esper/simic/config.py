"""What can be set about a training run. Importing this loads no torch, so that a command line can show the defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

__all__ = ["Fault", "RewardMode", "TrainingConfig"]

RewardMode: TypeAlias = Literal["shaped", "sparse", "simplified"]
"""How a step is paid; `esper.simic.reward` says what each pays for."""
Fault: TypeAlias = Literal[
    "nan-grad",
    "inf-grad",
    "dead-layer",
    "exploding-layer",
    "entropy-collapse",
    "value-blowup",
    "host-divergence",
    "skipped-batch",
]
"""What `esper.simic.training.injection` can let happen."""

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
_AT_MOST = 1e12
"""Of every number: with larger ones float32 overflows inside the update, or there is no such run."""
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
    """Where the policy lives, in torch's notation (``cpu``, ``cuda:0``)."""
    env_device: str | None = None
    """Where the hosts live, in torch's notation; None for beside the policy."""
    reward_mode: RewardMode = "shaped"
    """How a step is paid: ``shaped`` counts every contribution, ``simplified`` accuracy, rent and lifecycle costs,
    ``sparse`` pays at the episode's end only."""
    ab: tuple[RewardMode, RewardMode] | None = None
    """Two reward modes to compare: each is an arm with a policy of its own, played side by side in one run on the same
    episodes; None for no comparison."""
    inject: Fault | None = None
    """A fault that strikes one update, to try dashboards and alerts with; None for none."""
    inject_at: int = 1
    """Index of the update that the fault strikes, the first being 0. 0 or more, below the number of updates."""

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

    group_id: str | None = None
    """Arm of an A/B comparison: the group_id of every event, and the ab_group of every reward; None outside one."""
    episode_id: str = ""
    """Identifier of the run, shared with nothing else; empty for none."""

    def __post_init__(self) -> None:
        self._check_numbers()
        for mode in (self.reward_mode, *(self.ab or ())):
            if mode not in get_args(RewardMode):
                raise ValueError(f"a reward mode is one of {', '.join(get_args(RewardMode))}, got {mode!r}")
        if self.ab and self.group_id is not None:
            raise ValueError(f"ab names its arms itself: leave out group_id, got {self.group_id!r}")
        self._check_injection()
        if self.amp_dtype not in (None, "float16", "bfloat16"):
            raise ValueError(f"amp_dtype must be float16 or bfloat16, got {self.amp_dtype!r}")
        if self.compile_mode is not None and self.compile_backend != "inductor":
            raise ValueError(f"compile_mode needs compile_backend inductor, got {self.compile_backend!r}")
        self._check_torch()

    @property
    def group(self) -> str:
        """The ``group_id`` of the events: ``default`` outside a comparison."""
        return "default" if self.group_id is None else self.group_id

    @property
    def hosts_device(self) -> str:
        """Where the hosts live."""
        return self.device if self.env_device is None else self.env_device

    @property
    def updates(self) -> int:
        """Updates of the run, one a batch."""
        return -(-self.episodes // self.envs)

    def arms(self) -> tuple[TrainingConfig, ...]:
        """Return one configuration an arm: itself where nothing is compared.

        Arms are called like their reward modes, and a comparison of a mode with itself like ``shaped-1``, ``shaped-2``.
        """
        if self.ab is None:
            return (self,)
        names = self.ab if len({*self.ab}) > 1 else tuple(f"{mode}-{number}" for number, mode in enumerate(self.ab, 1))
        return tuple(
            replace(self, ab=None, reward_mode=mode, group_id=name) for mode, name in zip(self.ab, names, strict=True)
        )

    def _check_numbers(self) -> None:
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if not least <= value < math.inf:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name in _ABOVE_0:
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0, got {value}")
        for name in (*_AT_LEAST, *_ABOVE_0):
            value = getattr(self, name)
            if name != "seed" and value > _AT_MOST:
                raise ValueError(f"{name} must be at most {_AT_MOST:g}, got {value:g}")
        for name in _FRACTIONS:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {value}")

    def _check_injection(self) -> None:
        if self.inject is None:
            return
        if self.inject not in get_args(Fault):
            raise ValueError(f"inject must be one of {', '.join(get_args(Fault))}, got {self.inject!r}")
        if not 0 <= self.inject_at < self.updates:
            raise ValueError(
                f"inject_at must name one of the run's {self.updates} updates, 0 to {self.updates - 1}, "
                f"got {self.inject_at}"
            )

    def _check_torch(self) -> None:
        if {self.device, self.hosts_device} == {"cpu"} and self.compile_backend is None:
            return
        import torch  # noqa: PLC0415 - asked only about what is not always there

        for name, device in (("device", self.device), ("env_device", self.hosts_device)):
            try:
                torch.zeros(1, device=device).item()
            except (RuntimeError, AssertionError, NotImplementedError) as error:
                raise ValueError(f"{name} must be one that torch can use here, got {device!r}") from error
        if self.compile_backend is not None and self.compile_backend not in torch.compiler.list_backends(()):
            known = ", ".join(torch.compiler.list_backends())
            raise ValueError(f"compile_backend must be one that torch knows ({known}), got {self.compile_backend!r}")
