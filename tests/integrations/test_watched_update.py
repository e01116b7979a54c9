"""What Stable-Baselines3 logs about an update is what is emitted, however the update and the training went.

All combinations: ``EVERY_CASE=1 pytest tests/integrations/test_watched_update.py``; without that, so many that every
pair of circumstances occurs.
"""

from __future__ import annotations

import io
import math
import os
from itertools import combinations, product
from statistics import fmean
from typing import Any

import pytest
import torch
from tests.integrations.trainers import Emitted, Logged, model, untouched, weights

from esper.integrations.stable_baselines3 import TelemetryCallback
from esper.leyline.telemetry import PPOUpdatePayload

ROUNDED = {
    "policy_loss": "policy_gradient_loss",
    "value_loss": "value_loss",
    "entropy_loss": "entropy_loss",
    "clip_fraction": "clip_fraction",
}
CANCELLED = {"kl_divergence": "approx_kl", "explained_variance": "explained_variance"}
KINDS = ("categorical", "gaussian", "sde", "maskable", "recurrent")
N_ENVS = (1, 4)
STOPS: dict[str, float | None] = {"no stop": None, "early stop": 1e-6, "stop at the first minibatch": -1.0}
HISTORIES = ("fresh", "resumed", "interrupted")
Case = tuple[str, int, str, str]


def covering(cases: list[Case]) -> list[Case]:
    """Choose cases until every pair of circumstances is in one, greedily."""
    pairs = {case: set(combinations(enumerate(case), 2)) for case in cases}
    left, chosen = set[Any]().union(*pairs.values()), list[Case]()
    while left:
        chosen.append(max(cases, key=lambda case: len(pairs[case] & left)))
        left -= pairs[chosen[-1]]
    return chosen


CASES: list[Case] = list(product(KINDS, N_ENVS, STOPS, HISTORIES))


class Spy:
    """The norms that the trainer clipped by, an update each; may interrupt an evaluation of actions."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.norms: list[float] = []
        self.by_update: list[list[float]] = []
        self.interrupts_in = 0
        clip = torch.nn.utils.clip_grad_norm_

        def clipping(*args: Any, **kwargs: Any) -> torch.Tensor:
            self.norms.append(float(norm := clip(*args, **kwargs)))
            return norm

        patch.setattr(torch.nn.utils, "clip_grad_norm_", clipping)

    def watch(self, trained: Any, patch: pytest.MonkeyPatch) -> None:
        cls, policy = type(trained), type(trained.policy)
        train, evaluate = cls.train, policy.evaluate_actions

        def training(*args: Any) -> None:
            self.norms = []
            train(*args)
            self.by_update.append(self.norms)

        def evaluating(*args: Any, **kwargs: Any) -> Any:
            self.interrupts_in -= 1
            if self.interrupts_in == 0:
                raise KeyboardInterrupt
            return evaluate(*args, **kwargs)

        patch.setattr(cls, "train", training)
        patch.setattr(policy, "evaluate_actions", evaluating)


def trained_as(case: Case, callbacks: list[Any]) -> tuple[Any, list[list[float]]]:
    """Train a model; return it and the norms of the updates that were completed while callbacks watched."""
    kind, n_envs, stop, history = case
    with pytest.MonkeyPatch.context() as patch:
        spy = Spy(patch)
        torch.manual_seed(7)
        trained = model(kind, n_envs, target_kl=STOPS[stop], learning_rate=3e-3)
        steps = trained.n_steps * n_envs
        if history == "resumed":
            trained.learn(steps)
            saved, envs = io.BytesIO(), trained.get_env()
            trained.save(saved)
            saved.seek(0)
            trained = type(trained).load(saved, env=envs, device="cpu")
        spy.watch(trained, patch)
        if history == "interrupted":
            spy.interrupts_in = 1 if STOPS[stop] == -1.0 else 2
            with pytest.raises(KeyboardInterrupt):
                trained.learn(steps, callback=callbacks)
            assert untouched(trained)
        trained.learn(2 * steps, callback=callbacks, reset_num_timesteps=history == "fresh")
        return trained, spy.by_update


TRIED = CASES if "EVERY_CASE" in os.environ else covering(CASES)


@pytest.mark.parametrize("case", TRIED, ids=lambda case: "-".join(map(str, case)))
def test_every_update_made_is_in_the_log_and_emitted_with_the_same_numbers(case: Case) -> None:
    emitted, logged = Emitted(), Logged()
    trained, norms = trained_as(case, [logged, TelemetryCallback(emitted)])
    updates: list[PPOUpdatePayload] = emitted.of(PPOUpdatePayload)
    assert len(updates) == len(logged.updates) == len(norms) == 2
    for update, log, clipped_by in zip(updates, logged.updates, norms, strict=True):
        for ours, theirs in ROUNDED.items():
            assert getattr(update, ours) == pytest.approx(log[theirs], rel=1e-6, abs=1e-8), ours
        for ours, theirs in CANCELLED.items():
            assert getattr(update, ours) == pytest.approx(log[theirs], rel=0, abs=1e-6), ours
        expected = fmean(clipped_by) if clipped_by else math.nan
        assert update.grad_norm == pytest.approx(expected, rel=1e-6, nan_ok=True)
        assert update.nan_grad_count == update.inf_grad_count == 0
        a_pass = trained.n_steps * trained.n_envs // trained.batch_size
        assert update.early_stop_epoch == (None if len(clipped_by) == 3 * a_pass else len(clipped_by) // a_pass)
        assert case[2] != "no stop" or update.early_stop_epoch is None
        assert bool(clipped_by) == (case[2] != "stop at the first minibatch") == ("dead_layers" in update.supplied)
    assert untouched(trained)
    assert torch.equal(weights(trained), weights(trained_as(case, [])[0])), "the callback changed what is learnt"


@pytest.mark.filterwarnings("ignore:.*truncated mini-batch:UserWarning")
def test_a_last_minibatch_that_is_smaller_counts_by_its_samples_in_the_clip_fraction_alone() -> None:
    emitted, logged = Emitted(), Logged()
    trained = model("categorical", 1, batch_size=20, learning_rate=0.02)
    trained.learn(2 * 32, callback=[logged, TelemetryCallback(emitted)])
    for update, log in zip(emitted.of(PPOUpdatePayload), logged.updates, strict=True):
        for ours in ("policy_loss", "value_loss", "entropy_loss"):
            assert getattr(update, ours) == pytest.approx(log[ROUNDED[ours]], rel=1e-6, abs=1e-8)
        assert update.clip_fraction * 3 * 32 == pytest.approx(round(update.clip_fraction * 3 * 32))


def test_gradients_that_are_not_finite_are_counted() -> None:
    emitted, trained = Emitted(), model(n_epochs=1, batch_size=32)

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(gradient.numel()).view_as(gradient) < 3, math.nan, gradient)

    trained.policy.value_net.weight.register_hook(spoil)
    trained.learn(32, callback=TelemetryCallback(emitted))
    (update,) = emitted.of(PPOUpdatePayload)
    assert update.nan_grad_count == 3
    assert math.isnan(update.grad_norm)
