"""One update of Stable-Baselines3's PPO, measured from inside: its minibatches, their gradients, how it ended.

A minibatch costs little while it is used: what the trainer made of it is kept, and counted up a pass at a time.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import torch
from gymnasium import spaces

from esper.leyline.telemetry import PPOUpdatePayload
from esper.simic import diagnostics
from esper.simic.recorder import batch_fields, linear_layers, mean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["WatchedUpdate"]


class _Stopped(TypedDict, total=False):
    """What only an update has that a KL limit ended."""

    early_stop_epoch: int


class _Minibatch(NamedTuple):
    """What the policy makes of the samples of a minibatch; of a pass, one row a minibatch."""

    log_ratio: Tensor
    advantages: Tensor
    errors: Tensor
    entropy: Tensor

    @property
    def kl_divergence(self) -> Tensor:
        """As the trainer has it, to the last bit: it decides about the end of the update."""
        return ((self.log_ratio.exp() - 1) - self.log_ratio).mean(-1)


class WatchedUpdate:
    """Watches one update of a model.

    ``get`` of the rollout buffer is shadowed on the instance; the policy's methods are while a pass runs only. A pass
    is a generator that nobody but the trainer's loop holds: it is closed when the loop is left, however it is.

    Args:
        model: of PPO, MaskablePPO or RecurrentPPO, at the end of a rollout.
        learning: the frame that trains it; everything is taken away when it is left. None to rely on `end`.
        completed: called once, when the update has come to its end.
    """

    def __init__(self, model: Any, learning: FrameType | None, completed: Callable[[WatchedUpdate], None]) -> None:
        self._model = model
        self._completed = completed
        self._buffer = model.rollout_buffer
        self._before = {name: np.array(getattr(self._buffer, name)) for name in ("values", "returns", "advantages")}
        self._largest_entropy = _largest_entropy(model)
        self._clip_range = float(model.clip_range(model._current_progress_remaining))  # noqa: SLF001 - as train() does
        self._parameters = list(model.policy.parameters())
        self._linear = [each for each in model.policy.named_modules() if isinstance(each[1], torch.nn.Linear)]
        self._started = 0.0
        self._took = 0.0
        self._means: list[tuple[float, float, float]] = []
        self._clipped = self._samples = 0
        self._norms: list[float] = []
        self._nan_count = self._inf_count = 0
        self._layers: dict[str, tuple[Tensor, Tensor]] = {}
        self._pass: list[_Minibatch] = []
        self._last_pass: list[_Minibatch] = []
        self._minibatch: Any = None
        self._pending = False
        self._newest_gradient = self._gradient()
        self._epochs = 0
        self._stopped = False
        self._over = False
        self._left = _WhenLeft(learning, self._abandon)
        self._left.arm()
        self._buffer.get = self._get

    def end(self) -> None:
        """Take everything away again; of a trainer that made fewer passes than planned, the update is complete now."""
        self._leave()
        if self._means:
            self._complete()

    def _complete(self) -> None:
        if not self._over:
            self._over = True
            self._completed(self)

    def _abandon(self) -> None:
        self._over = True
        self._leave()

    def _leave(self) -> None:
        vars(self._buffer).pop("get", None)
        self._left.disarm()
        self._left.frame = None

    # ── what the trainer calls ─────────────────────────────────────────────────────────────────────────────────

    def _get(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield the buffer's minibatches, and watch what becomes of each."""
        policy, exhausted = self._model.policy, False
        try:
            self._left.disarm()
            self._started = self._started or time.perf_counter()
            self._epochs += 1
            policy.evaluate_actions, policy.parameters = self._evaluate_actions, self._ask_parameters
            for minibatch in type(self._buffer).get(self._buffer, *args, **kwargs):
                self._minibatch = minibatch
                yield minibatch
            exhausted = True
        finally:
            self._left.arm()
            for name in ("evaluate_actions", "parameters"):
                vars(policy).pop(name, None)
            self._end_pass(exhausted=exhausted)

    def _end_pass(self, *, exhausted: bool) -> None:
        self._stopped = not exhausted and self._above_limit()
        if not exhausted and not self._stopped:  # by an exception: the update did not complete
            self._abandon()
            return
        self._count_up()
        self._took = time.perf_counter() - self._started
        if self._stopped or self._epochs >= self._model.n_epochs:
            self._leave()
            self._complete()

    def _above_limit(self) -> bool:
        """Whether the trainer stops at the newest minibatch, for which it then makes no step."""
        limit = self._model.target_kl
        if limit is None or not self._pending:
            return False
        return float(self._pass[-1].kl_divergence) > 1.5 * float(limit)

    def _evaluate_actions(self, *args: Any, **kwargs: Any) -> Any:
        policy, data = self._model.policy, self._minibatch
        evaluated = type(policy).evaluate_actions(policy, *args, **kwargs)
        values, log_prob, entropy = evaluated
        log_probs = log_prob.detach()
        minibatch = _Minibatch(
            log_probs - data.old_log_prob,
            data.advantages,
            data.returns - values.detach().flatten(),
            -log_probs if entropy is None else entropy.detach(),
        )
        if hasattr(data, "mask"):  # of the padding of RecurrentPPO
            minibatch = _Minibatch(*(each[data.mask > 1e-8] for each in minibatch))  # noqa: PLR2004 - as train() does
        self._pass.append(minibatch)
        self._pending = True
        return evaluated

    def _ask_parameters(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Measure what the trainer asks for in order to clip it: the gradients are there, and are whole."""
        if self._pending and self._gradient() is not self._newest_gradient:
            self._pending, self._newest_gradient = False, self._gradient()
            self._measure_gradients()
        if not args and not kwargs:
            return iter(self._parameters)  # much faster than to look for them in every module again
        policy = self._model.policy
        parameters: Iterator[Any] = type(policy).parameters(policy, *args, **kwargs)
        return parameters

    def _gradient(self) -> Tensor | None:
        """Return one of the gradients: each way back makes new ones."""
        return next((each.grad for each in self._parameters if each.grad is not None), None)

    # ── what is measured ───────────────────────────────────────────────────────────────────────────────────────

    def _measure_gradients(self) -> None:
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        self._norms.append(norm)
        if not math.isfinite(norm):
            totals = diagnostics.gradient_totals(gradients)
            self._nan_count += totals.nan_count
            self._inf_count += totals.inf_count
        if self._model.target_kl is not None or self._epochs >= self._model.n_epochs:  # it may be the last step
            self._layers = linear_layers(self._linear)

    def _count_up(self) -> None:
        """Take the means of the minibatches of a pass, all of one size at once."""
        if not self._pass:
            return
        for size in {len(each.log_ratio): None for each in self._pass}:
            rows = [each for each in self._pass if len(each.log_ratio) == size]
            stacked = _Minibatch(*map(torch.stack, zip(*rows, strict=True)))
            means = (self._policy_losses(stacked), stacked.errors.square().mean(1), stacked.entropy.mean(1))
            self._means += zip(*(each.tolist() for each in means), strict=True)
            self._clipped += int(((stacked.log_ratio.exp() - 1).abs() > self._clip_range).sum())
            self._samples += stacked.log_ratio.numel()
        self._last_pass, self._pass = self._pass, []

    def _policy_losses(self, minibatches: _Minibatch) -> Tensor:
        advantages, ratio = minibatches.advantages, minibatches.log_ratio.exp()
        if self._model.normalize_advantage and (advantages.shape[1] > 1 or hasattr(self._buffer, "action_masks")):
            mean, std = advantages.mean(1, keepdim=True), advantages.std(1, keepdim=True)
            advantages = (advantages - mean) / (std + 1e-8)
        clipped = ratio.clamp(1 - self._clip_range, 1 + self._clip_range)
        return -torch.min(advantages * ratio, advantages * clipped).mean(1)

    def payload(self, batch: int) -> PPOUpdatePayload:
        """Return what was measured."""
        policy_loss, value_loss, entropy = map(mean, zip(*self._means, strict=True))
        ratios = diagnostics.ratio_statistics(torch.cat([each.log_ratio for each in self._last_pass]))
        before = {name: torch.from_numpy(numbers) for name, numbers in self._before.items()}
        about_batch = batch_fields(
            values=before["values"],
            returns=before["returns"],
            advantages=before["advantages"].double(),
            entropy=entropy,
            largest_entropy=self._largest_entropy,
            layers=self._layers,
        )
        stopped: _Stopped = {"early_stop_epoch": self._epochs - 1} if self._stopped else {}
        return PPOUpdatePayload(
            policy_loss=policy_loss,
            value_loss=value_loss,
            entropy=entropy,
            entropy_loss=-entropy,
            grad_norm=mean(self._norms) if self._norms else math.nan,
            nan_grad_count=self._nan_count,
            inf_grad_count=self._inf_count,
            kl_divergence=mean([diagnostics.approximate_kl(each.log_ratio) for each in self._last_pass]),
            clip_fraction=self._clipped / self._samples,
            ratio_mean=ratios.mean,
            ratio_min=ratios.min,
            ratio_max=ratios.max,
            ratio_std=ratios.std,
            lr=float(self._model.policy.optimizer.param_groups[0]["lr"]),
            entropy_coef=float(self._model.ent_coef),
            inner_epoch=self._epochs,
            update_time_ms=self._took * 1e3,
            batch=batch,
            skipped=False,
            **about_batch,
            **stopped,
        )


class _WhenLeft:
    """Calls a function when a frame is left, whatever leaves it.

    Before the first minibatch, and between two passes, nothing of ours is on the stack that an exception would pass. A
    profile function is called for every frame that is left; it is set for these moments only, and not where somebody
    else profiles.
    """

    def __init__(self, frame: FrameType | None, then: Callable[[], None]) -> None:
        self.frame = frame
        self._then = then

    def arm(self) -> None:
        if self.frame is not None and sys.getprofile() is None:
            sys.setprofile(self._left)

    def disarm(self) -> None:
        if sys.getprofile() == self._left:
            sys.setprofile(None)

    def _left(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "return" and frame is self.frame:
            self._then()


def _largest_entropy(model: Any) -> float | None:
    """Mean over the batch of the largest entropy that the masks allow; None where it has no bound."""
    space = model.action_space
    if isinstance(space, spaces.Discrete):
        sizes = [int(space.n)]
    elif isinstance(space, spaces.MultiDiscrete):
        sizes = [int(size) for size in space.nvec.flatten()]
    elif isinstance(space, spaces.MultiBinary):
        sizes = [2] * int(np.prod(space.shape))
    else:
        return None
    if not hasattr(model.rollout_buffer, "action_masks"):
        return sum(math.log(size) for size in sizes)
    masks = np.asarray(model.rollout_buffer.action_masks).reshape(-1, sum(sizes))
    heads = np.split(masks, np.cumsum(sizes)[:-1], axis=1)
    return float(sum(np.log(np.maximum(head.sum(axis=1), 1)).mean() for head in heads))
