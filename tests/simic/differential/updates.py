"""The PPO update, told a second time: losses, gradients and statistics in float64, from samples and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from tests.simic.differential.network import Array
from tests.simic.differential.policy import OPS, JointPolicy, Masks, backward, forward
from tests.simic.differential.witness import Batch, Forward

from esper.kasmina.blueprints import BLUEPRINTS
from esper.leyline.actions import HEADS, HEADS_USED
from esper.simic.config import TrainingConfig

PLANTED = {
    "nan-grad": ("value.weight", math.nan),
    "inf-grad": ("value.weight", math.inf),
    "dead-layer": ("critic.0.weight", 0.0),
    "exploding-layer": ("heads.op.weight", 1e6),
}
"""What an injected fault multiplies a gradient by."""


class Samples(NamedTuple):
    """A batch, ordered by step and then environment."""

    observations: Array
    logits: dict[str, Array]
    masks: Masks
    actions: Array
    values: Array
    """(steps, envs), in reward."""
    rewards: Array
    """(steps, envs)."""


class Minibatch(NamedTuple):
    """What one optimizer step should measure."""

    policy_loss: float
    value_loss: float
    entropy: float
    log_ratio: Array
    gradients: dict[str, Array]
    """Worked out by hand, with what was planted; in float32's range."""


@dataclass
class Scaler:
    """A gradient scaler that begins at 2^24, halves for an inf and doubles after a hundred good steps."""

    factor: float = 2.0**24
    good: int = 0

    def after(self, gradients: Mapping[str, Array]) -> bool:
        """Follow one step; return whether it overflowed."""
        inf, nan = (any(test(each).any() for each in gradients.values()) for test in (np.isinf, np.isnan))
        if inf and self.factor > 1:
            self.factor, self.good = self.factor / 2, 0
            return True
        if not (inf or nan):
            self.good += 1
            if self.good == 100:
                self.factor, self.good = self.factor * 2, 0
        return False


@dataclass
class Update:
    """One update as it should be."""

    fields: dict[str, Any]
    minibatches: list[Minibatch] = field(default_factory=list)
    forwards: list[Forward] = field(default_factory=list)
    gradients: list[dict[str, Array]] = field(default_factory=list)
    """As they really were, unscaled."""
    taken: list[bool] = field(default_factory=list)
    overflowed: list[bool] = field(default_factory=list)


@dataclass
class Updates:
    """All updates of one arm."""

    config: TrainingConfig
    squares: float = 0.0
    count: int = 0
    scaler: Scaler | None = None

    def __post_init__(self) -> None:
        if self.config.amp_dtype == "float16":
            self.scaler = Scaler()

    @property
    def return_scale(self) -> float:
        """Root mean square of the returns so far."""
        return math.sqrt(self.squares / self.count) if self.count else 1.0

    def update(self, batch: Batch, samples: Samples, index: int, completed: int) -> Update:
        """Follow one update."""
        config = self.config
        progress = completed / config.episodes
        common = {
            "lr": config.lr * (1 - 0.9 * progress),
            "entropy_coef": config.entropy_coef + progress * (config.entropy_coef_end - config.entropy_coef),
            "batch": index,
        }
        if not all(np.isfinite(each).all() for each in (samples.observations, samples.values, samples.rewards)):
            assert not batch.forwards, "nothing is learnt from a batch that is not finite"
            unknown = ("policy_loss", "value_loss", "entropy", "grad_norm", "kl_divergence", "clip_fraction")
            nothing = {"nan_grad_count": 0, "inner_epoch": 0, "skipped": True}
            return Update(common | nothing | dict.fromkeys(unknown, math.nan))
        advantages = gae(samples.rewards, samples.values, config.gamma, config.gae_lambda)
        returns = advantages + samples.values
        self.squares, self.count = self.squares + float((returns**2).sum()), self.count + returns.size
        update = self._steps(batch, samples, advantages, returns, common["entropy_coef"])
        measured = common | self._losses(update) | self._gradients(update) | self._heads(samples)
        measured |= {
            "skipped": False,
            "advantage_mean": advantages.mean(),
            "advantage_std": math.sqrt(((advantages - advantages.mean()) ** 2).mean()),
            "explained_variance": explained(samples.values, returns),
        }
        largest = JointPolicy(samples.logits, samples.masks).largest_entropy().mean()
        measured["entropy_collapsed"] = bool(measured["entropy"] < 0.01 * largest)
        update.fields = measured
        return update

    def _steps(self, batch: Batch, samples: Samples, advantages: Array, returns: Array, entropy_coef: float) -> Update:
        """Go over the minibatches in the order that the generator's state gives."""
        config = self.config
        assert batch.shuffling is not None
        generator = torch.Generator()
        generator.set_state(torch.from_numpy(batch.shuffling))
        normal = ((advantages - advantages.mean()) / (advantages.std() + 1e-8)).ravel()
        targets = (returns / self.return_scale).ravel()
        old = JointPolicy(samples.logits, samples.masks).log_prob(samples.actions)
        update = Update({}, forwards=batch.forwards)
        waiting = list(batch.forwards)
        while waiting:
            order = torch.randperm(len(old), generator=generator).numpy()
            for part in np.array_split(order, config.minibatches):
                seen = waiting.pop(0)
                assert np.array_equal(seen.observations, samples.observations[part])
                masks = Masks(*(each[part] for each in samples.masks))
                learnt = (samples.actions[part], old[part], normal[part], targets[part])
                update.minibatches.append(self._minibatch(seen, masks, learnt, entropy_coef))
                factor = self.scaler.factor if self.scaler else 1.0
                update.gradients.append({name: each / factor for name, each in seen.gradients.items()})
                update.taken.append(all(np.isfinite(each).all() for each in update.gradients[-1].values()))
                update.overflowed.append(self.scaler is not None and self.scaler.after(update.gradients[-1]))
        return update

    def _minibatch(
        self, seen: Forward, masks: Masks, learnt: tuple[Array, Array, Array, Array], entropy_coef: float
    ) -> Minibatch:
        """Losses of one minibatch, and their gradient worked out by hand."""
        actions, old, advantages, targets = learnt
        config, n = self.config, len(actions)
        policy = JointPolicy(seen.logits, masks)
        log_ratio = policy.log_prob(actions) - old
        ratio = np.exp(log_ratio)
        clipped = np.clip(ratio, 1 - config.clip_ratio, 1 + config.clip_ratio)
        surrogate = np.minimum(ratio * advantages, clipped * advantages)
        values = seen.values.astype(np.float64)
        free = ratio * advantages <= clipped * advantages
        by_logits = policy.gradients(actions, np.where(free, -ratio * advantages, 0.0) / n, -entropy_coef / n)
        by_values = config.value_coef * 2 * (values - targets) / n
        _, _, hidden = forward(seen.weights, seen.observations)
        return Minibatch(
            -surrogate.mean(),
            ((values - targets) ** 2).mean(),
            policy.entropy().mean(),
            log_ratio,
            backward(seen.weights, hidden, by_logits, by_values),
        )

    def _losses(self, update: Update) -> dict[str, Any]:
        config = self.config
        parts, n = update.minibatches, config.minibatches
        epochs = [parts[start : start + n] for start in range(0, len(parts), n)]
        kls = [fmean(float((np.exp(x) - 1 - x).mean()) for x in (m.log_ratio for m in epoch)) for epoch in epochs]
        ran_over = [kl > config.target_kl for kl in kls]
        assert not any(ran_over[:-1]), "an update ends with the epoch that exceeds the limit"
        assert ran_over[-1] or len(epochs) == config.ppo_epochs, "nothing else ends it"
        last = np.exp(np.concatenate([m.log_ratio for m in epochs[-1]]))
        everything = np.exp(np.concatenate([m.log_ratio for m in parts]))
        entropy = fmean(float(m.entropy) for m in parts)
        fields = {
            "policy_loss": fmean(float(m.policy_loss) for m in parts),
            "value_loss": fmean(float(m.value_loss) for m in parts),
            "entropy": entropy,
            "entropy_loss": -entropy,
            "kl_divergence": kls[-1],
            "clip_fraction": (np.abs(everything - 1) > config.clip_ratio).mean(),
            "ratio_mean": last.mean(),
            "ratio_min": last.min(),
            "ratio_max": last.max(),
            "ratio_std": math.sqrt(((last - last.mean()) ** 2).mean()),
            "inner_epoch": len(epochs),
        }
        if len(epochs) < config.ppo_epochs:
            fields["early_stop_epoch"] = len(epochs) - 1
        return fields

    def _gradients(self, update: Update) -> dict[str, Any]:
        overflows = update.overflowed
        flat = [
            np.concatenate([each.ravel() for each in step.values()]).astype(np.float64) for step in update.gradients
        ]
        norms = [math.inf if over else math.sqrt((g**2).sum()) for g, over in zip(flat, overflows, strict=True)]
        last, weights = update.gradients[-1], update.forwards[-1].weights
        layers = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
        health = {name: norm(last[f"{name}.weight"]) / norm(weights[f"{name}.weight"]) for name in layers}
        fields: dict[str, Any] = {
            "grad_norm": sum(norms) / len(norms),
            "nan_grad_count": sum(int(np.isnan(g).sum()) for g in flat),
            "inf_grad_count": sum(int(np.isinf(g).sum()) for g in flat),
            "layer_gradient_health": health,
            "dead_layers": sum((last[f"{name}.weight"] == 0).mean() >= 0.9 for name in layers),
            "exploding_layers": sum(not ratio <= 100 for ratio in health.values()),
            "head_slot_grad_norm": _rows(last["heads.slot.weight"], [f"r{i}" for i in range(self.config.slots)]),
            "head_blueprint_grad_norm": _rows(last["heads.blueprint.weight"], tuple(BLUEPRINTS)),
        }
        if self.scaler:
            fields |= {
                "loss_scale": self.scaler.factor,
                "amp_overflow_detected": any(overflows),
                "update_skipped": any(overflows),
            }
        return fields

    def _heads(self, samples: Samples) -> dict[str, dict[str, float]]:
        policy = JointPolicy(samples.logits, samples.masks)
        ops, slots = samples.actions[:, 0], samples.actions[:, 1]
        fields = {}
        for head in HEADS:
            used = np.array([head in HEADS_USED[OPS[op]] for op in ops])
            entropy = policy.head_entropy(head, ops)
            by_slot = {} if head in ("op", "slot") else {f"r{i}": slots == i for i in range(self.config.slots)}
            groups = {"all": used} | {slot_id: used & where for slot_id, where in by_slot.items()}
            fields[f"head_{head}_entropy"] = {key: entropy[on].mean() for key, on in groups.items() if on.any()}
        return fields


def planted(gradients: Mapping[str, Array], fault: str | None) -> dict[str, Array]:
    """Bend gradients as a fault does."""
    bent, factor = PLANTED.get(fault or "", ("", 1.0))
    return {name: each * factor if name == bent else each for name, each in gradients.items()}


def gae(rewards: Array, values: Array, gamma: float, lam: float) -> Array:
    """Advantages by their definition: discounted sums of temporal differences (Schulman et al. 2016, equation 16)."""
    steps, envs = rewards.shape
    advantages = np.zeros((steps, envs))
    for env in range(envs):
        following = [*values[1:, env], 0.0]
        deltas = [rewards[t, env] + gamma * following[t] - values[t, env] for t in range(steps)]
        for t in range(steps):
            advantages[t, env] = sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:]))
    return advantages


def explained(values: Array, returns: Array) -> float:
    """How much of the returns' variance the values explain."""
    variance = ((returns - returns.mean()) ** 2).mean()
    errors = returns - values
    return math.nan if variance < 1e-8 else float(1 - ((errors - errors.mean()) ** 2).mean() / variance)


def norm(numbers: Array) -> float:
    """L2."""
    return math.sqrt(float((numbers.astype(np.float64) ** 2).sum()))


def _rows(gradient: Array, names: Sequence[str]) -> dict[str, float]:
    return {name: norm(row) for name, row in zip(names, gradient, strict=True)}
