"""Where a rule of health trips: limits that follow the run, each with its source or its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

__all__ = ["Limits", "Status", "gravest", "real", "text"]


class Status(Enum):
    """What a rule says. The value is what stands before it, so that no colour alone carries the meaning."""

    OK = "✓"
    UNKNOWN = "?"
    WATCH = "!"
    BAD = "✗"

    def __str__(self) -> str:
        return self.name


_GRAVITY: Final = {status: at for at, status in enumerate(Status)}


def gravest(*statuses: Status) -> Status:
    """Return the gravest; without any, UNKNOWN."""
    return max(statuses, key=_GRAVITY.__getitem__, default=Status.UNKNOWN)


_LARGEST_KL: Final = 0.25
"""A target above it limits nothing: twice that is a policy that has forgotten the old one. Unit: nats."""


_LARGEST_EXPONENT: Final = 700.0
"""Of which the exponential still is a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a rule trips. They follow the run: see `of_run`."""

    target_kl: float | None = None
    """The run's own limit on the KL divergence of an update; None without one. Unit: nats; above 0."""
    clip_ratio: float = 0.2
    """PPO's epsilon. Unit: 1; above 0. Source: Schulman et al. 2017, table 3."""
    kl_watch: float = 0.05
    """KL divergence above it is WATCH, where the run has no target. Unit: nats.
    Source: five times the 0.01 of Spinning Up's PPO, well above a healthy update."""
    kl_bad: float = 0.15
    """KL divergence above it is BAD, where the run has no target. Unit: nats. Source: thrice the WATCH limit."""
    target_watch: float = 2.0
    """Times the run's own target: an epoch may well overshoot it.
    Source: Spinning Up and Stable-Baselines3 stop above 1.5 of it."""
    target_bad: float = 4.0
    """Times the run's own target: an update that stopping did not stop."""
    kl_least: float = 2e-5
    """KL divergence below it moves no probability by more than about 0.6 %. Unit: nats.
    Source: Pinsker's inequality: the total variation is at most the root of half the KL."""
    entropy_watch: float = 0.05
    """Share of its beginning below which an entropy without a flag is WATCH.
    Source: relative entropy should fall and flatten (Jones, Debugging RL, 2021); no healthy run here fell so far."""
    entropy_bad: float = 0.01
    """Share of its beginning below which it is BAD: the share of the largest at which ``entropy_collapsed`` is set."""
    spread_watch: float = 0.05
    """Standard deviation an action, by the entropy, as a share of its beginning: below it WATCH.
    Source: the same share as of an entropy."""
    spread_bad: float = 0.01
    """The same before BAD."""
    explained_watch: float = 0.0
    """Explained variance below it is WATCH: the critic is worse than a constant. Source: the definition."""
    explained_bad: float = -1.0
    """Below it BAD: its errors vary twice as much as the returns. Source: the definition."""
    grad_norm_watch: float = 10.0
    """Times its own typical value: unscaled returns make 200 normal, so no absolute limit holds."""
    grad_norm_bad: float = 100.0
    """The same for BAD. Source: as far above as an exploding layer's gradient is above its weights."""
    value_loss_watch: float = 100.0
    """Times its own typical value: a loss of squares grows with the square of the returns."""
    value_loss_bad: float = 1000.0
    """The same for BAD."""
    fell_watch: float = 0.25
    """Share of all that lies between the lowest and the highest level; lost more of it is WATCH."""
    fell_bad: float = 0.5
    """Lost more of it is BAD: nearer to the worst than to the best."""
    fell_errors: float = 4.0
    """Standard errors that a fall must have: of sixty levels of noise the highest and the lowest are 3.3 apart."""
    trend_errors: float = 4.0
    """Standard errors of Kendall's trend test that make a rise: one in 30,000 by chance, if values do not wander."""
    learnt_errors: float = 3.0
    """Standard errors that make a rise: one in 740 by chance."""
    enough_batches: float = 20.0
    """Batches before which nothing is called never learnt, nor before a quarter of the plan."""
    plateau: float = 0.75
    """Share of the run without improvement that is WATCH, unless there is little noise left, or accuracy to gain."""
    seeds: float = 20.0
    """Seeds that must have ended, or germinated, before all dying, or a slot unused, is no chance."""
    silence: float = 20.0
    """Times the typical batch, and ten minutes, without a batch that are WATCH."""

    @classmethod
    def of_run(cls, configuration: Mapping[str, object]) -> Limits:
        """Return the limits of a run by its configuration, as run.json has it; what is missing is as it is here."""
        known = {
            name: real(value)
            for name in ("target_kl", "clip_ratio")
            if isinstance(value := configuration.get(name), int | float)
            and not isinstance(value, bool)
            and 0 < real(value) < math.inf
        }
        return cls(**known)

    def with_clip_ratio(self, clip_ratio: float) -> Limits:
        """Return the limits for a run whose start says how it clips."""
        return replace(self, clip_ratio=clip_ratio) if 0 < clip_ratio < math.inf else self

    def kl(self, status: Status) -> float:
        """Return the limit of the KL divergence. Unit: nats."""
        if self.target_kl is None or self.target_kl > _LARGEST_KL:
            return self.kl_bad if status is Status.BAD else self.kl_watch
        return self.target_kl * (self.target_bad if status is Status.BAD else self.target_watch)

    def clip_fraction(self, status: Status) -> float:
        """Return the share of samples outside the clip that a KL at its limit means, log-ratios being normal.

        Their variance is then twice the KL. Source: http://joschu.net/blog/kl-approx.html
        """
        return math.erfc(min(self.clip_ratio, 1.0) / (2 * math.sqrt(self.kl(status))))

    def ratio(self, status: Status) -> float:
        """Return the ratio five (BAD: six) standard deviations of the log-ratio away, at the limit of the KL."""
        return math.exp(min((6 if status is Status.BAD else 5) * math.sqrt(2 * self.kl(status)), _LARGEST_EXPONENT))


def real(value: float) -> float:
    """Return an integer of any size, or a float, as a float; infinity for what is beyond floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def text(value: float) -> str:
    """Return a number as evidence has it: four significant digits."""
    return "NaN" if math.isnan(value) else f"{value:.4g}"
