"""The update on synthetic batches: it learns, it measures, and it refuses what is not finite."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from esper.leyline.actions import HEADS, ActionMasks, Op
from esper.leyline.telemetry import PPOUpdatePayload
from esper.simic.determinism import one_thread
from esper.simic.ppo import Learner, judge_update
from esper.simic.rollout import Moment, Rollout
from esper.simic.training.config import TrainingConfig
from esper.tamiyo.distribution import MaskBatch
from esper.tamiyo.policy import Policy, PolicyShape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOT_IDS = ("r0", "r1")
BLUEPRINT_IDS = ("norm", "mlp", "mixer")
N_FEATURES, N_ENVS, N_STEPS = 5, 4, 6
OPEN = ActionMasks(op=(True,) * 5, slot=((False, False), *(((True, True),) * 4)), blueprint=(True,) * 3)
ONLY_WAIT = ActionMasks(op=(True, *((False,) * 4)), slot=((False, False),) * 5, blueprint=(False,) * 3)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def poison(parameter: torch.Tensor, factor: float) -> None:
    """Multiply every gradient of a parameter."""
    parameter.register_hook(lambda gradient: gradient * factor)  # type: ignore[no-untyped-call]


def make(**options: Any) -> Learner:
    config = TrainingConfig(slots=2, **options)
    policy = Policy(PolicyShape(N_FEATURES, 2, 3), torch.Generator().manual_seed(0))
    return Learner(
        policy,
        config,
        slot_ids=SLOT_IDS,
        blueprint_ids=BLUEPRINT_IDS,
        generator=torch.Generator().manual_seed(1),
    )


def play(
    learner: Learner,
    reward: Callable[[list[int]], float],
    *,
    mask: ActionMasks = OPEN,
    seed: int = 2,
) -> Rollout:
    generator = torch.Generator().manual_seed(seed)
    moments, rewards = [], []
    for _ in range(N_STEPS):
        observations = torch.randn(N_ENVS, N_FEATURES, generator=generator)
        masks = MaskBatch.stack([mask] * N_ENVS)
        with torch.no_grad():
            distribution, values = learner.judge(observations, masks)
            actions = distribution.sample(generator)
            moments.append(
                Moment(
                    observations,
                    masks,
                    actions,
                    distribution.log_prob(actions),
                    distribution.entropy(),
                    distribution.head_entropies(actions),
                    distribution.heads_used(actions),
                    distribution.largest_entropy(),
                    values * learner.return_scale.value,
                    distribution.alternatives(actions, 1),
                )
            )
        rewards.append([reward(action) for action in actions.tolist()])
    return Rollout.of(moments, rewards)


def likes_prune_in_r1(action: list[int]) -> float:
    return float(Op.PRUNE is tuple(Op)[action[0]] and action[1] == 1)


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in learner.policy.parameters()])


def test_the_policy_comes_to_prefer_what_is_rewarded() -> None:
    learner = make(lr=1e-2, target_kl=10.0, gamma=0.0, ppo_epochs=4, minibatches=1)
    for batch in range(40):
        learner.update(play(learner, likes_prune_in_r1, seed=batch), batch=batch, progress=0.0)
    assert float(play(learner, likes_prune_in_r1, seed=99).rewards.mean()) > 0.6, "chance is 0.1"


def test_equal_seeds_make_equal_updates() -> None:
    first, second = make(), make()
    told = [
        learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0).to_dict() for learner in (first, second)
    ]
    for figures in told:
        figures["update_time_ms"] = None
    assert told[0] == told[1]
    assert torch.equal(weights(first), weights(second))


def test_every_figure_is_measured_and_agrees_with_its_neighbours() -> None:
    learner = make(target_kl=1e9)
    rollout = play(learner, likes_prune_in_r1)
    told = learner.update(rollout, batch=7, progress=0.5)
    assert told.inner_epoch == 8
    assert told.batch == 7
    assert told.lr == pytest.approx(3e-3 * 0.55)
    assert told.entropy_coef == pytest.approx(0.03)
    assert told.entropy_loss == -told.entropy
    assert 0.0 < told.entropy <= float(rollout.largest_entropy.mean())
    assert told.ratio_min < told.ratio_mean < told.ratio_max
    assert told.ratio_std > 0.0
    assert told.kl_divergence > 0.0
    assert 0.0 <= told.clip_fraction <= 1.0
    assert told.grad_norm > 0.0
    assert told.nan_grad_count == told.inf_grad_count == told.dead_layers == told.exploding_layers == 0
    assert told.update_time_ms > 0.0
    assert told.explained_variance is not None
    assert told.explained_variance <= 1.0
    linear = {name for name, module in learner.policy.named_modules() if isinstance(module, torch.nn.Linear)}
    assert told.layer_gradient_health is not None
    assert set(told.layer_gradient_health) == linear
    assert tuple(told.head_slot_grad_norm or ()) == SLOT_IDS
    assert tuple(told.head_blueprint_grad_norm or ()) == BLUEPRINT_IDS
    assert judge_update(told, 1e9)[0] == "info"


def test_advantages_are_told_in_reward_before_they_are_normalised() -> None:
    learner = make(gamma=1.0, gae_lambda=1.0)
    rollout = play(learner, lambda _action: 100.0)
    told = learner.update(rollout, batch=0, progress=0.0)
    expected = torch.arange(N_STEPS, 0, -1).mul(100.0).unsqueeze(1) - rollout.values
    assert told.advantage_mean == pytest.approx(float(expected.mean()), rel=1e-4)
    assert told.advantage_std == pytest.approx(float(expected.std(correction=0)), rel=1e-4)
    assert told.value_loss < 10.0, "targets are scaled"


def test_head_entropies_are_keyed_by_all_and_by_the_slots_that_were_chosen() -> None:
    learner = make()
    rollout = play(learner, likes_prune_in_r1)
    told = learner.update(rollout, batch=0, progress=0.0)
    assert set(told.head_op_entropy or ()) == {"all"}
    assert set(told.head_slot_entropy or ()) == {"all"}
    assert set(told.head_blueprint_entropy or ()) == {"all", *SLOT_IDS}
    slots = {SLOT_IDS[slot] for op, slot in rollout.actions[:, :2].tolist() if tuple(Op)[op] is Op.ADVANCE}
    assert set(told.head_alpha_curve_entropy or ()) == {"all", *slots}
    assert (told.head_tempo_entropy or {})["all"] == pytest.approx(math.log(3), abs=0.01)
    assert (told.head_op_entropy or {})["all"] == pytest.approx(math.log(5), abs=0.01)


def test_without_any_choice_nothing_collapses_and_unused_heads_tell_nothing() -> None:
    learner = make()
    told = learner.update(play(learner, likes_prune_in_r1, mask=ONLY_WAIT), batch=0, progress=0.0)
    assert told.entropy == 0.0
    assert not told.entropy_collapsed
    assert told.head_slot_entropy == {}
    assert told.head_blueprint_entropy == {}
    assert told.head_op_entropy == {"all": 0.0}
    assert told.dead_layers > 0, "the actor has nothing to learn"


def test_a_policy_that_stopped_exploring_is_told_as_collapsed() -> None:
    learner = make()
    with torch.no_grad():
        op = learner.policy.heads["op"]
        assert isinstance(op, torch.nn.Linear)
        op.bias[0] = 50.0
    told = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert told.entropy_collapsed
    assert judge_update(told, 1.0)[0] == "warning"


def test_the_kl_limit_ends_the_update_early() -> None:
    learner = make(lr=0.05, target_kl=1e-4)
    told = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert told.inner_epoch == 1
    assert told.early_stop_epoch == 0
    assert told.kl_divergence > 1e-4
    severity, message = judge_update(told, 1e-4)
    assert severity == "warning"
    assert "ended it after 1 epochs" in message


def test_an_update_that_ran_to_its_end_has_no_early_stop() -> None:
    told = make(lr=0.05, ppo_epochs=1, target_kl=1e-4)
    payload = told.update(play(told, likes_prune_in_r1), batch=0, progress=0.0)
    assert payload.kl_divergence > 1e-4
    assert "early_stop_epoch" not in payload.supplied


def test_more_minibatches_than_samples_is_one_sample_each() -> None:
    learner = make(minibatches=10_000, ppo_epochs=1)
    told = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert math.isfinite(told.policy_loss)


@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_is_not_learnt_from(reward: float) -> None:
    learner = make()
    before = weights(learner)
    told = learner.update(play(learner, lambda _action: reward), batch=3, progress=0.0)
    assert told.skipped
    assert told.batch == 3
    assert math.isnan(told.policy_loss)
    assert "ratio_mean" not in told.supplied, "nothing was measured"
    assert torch.equal(weights(learner), before)
    assert learner.return_scale.value == 1.0
    assert judge_update(told, 1.0)[0] == "error"


def test_nan_gradients_are_counted_and_their_step_is_not_taken() -> None:
    learner = make(ppo_epochs=1, minibatches=1)
    rollout = play(learner, likes_prune_in_r1)
    before = weights(learner)
    poison(learner.policy.value.weight, math.nan)
    told = learner.update(rollout, batch=0, progress=0.0)
    assert told.nan_grad_count == learner.policy.value.weight.numel()
    assert math.isnan(told.grad_norm)
    assert told.exploding_layers == 1
    assert not told.update_skipped, "that is for overflows"
    assert torch.equal(weights(learner), before)
    severity, message = judge_update(told, 1.0)
    assert severity == "error"
    assert "64 gradient elements not finite" in message


def test_infinite_gradients_are_counted_apart() -> None:
    learner = make(ppo_epochs=1, minibatches=1)
    rollout = play(learner, likes_prune_in_r1)
    poison(learner.policy.value.bias, math.inf)
    told = learner.update(rollout, batch=0, progress=0.0)
    assert (told.nan_grad_count, told.inf_grad_count) == (0, 1)
    assert told.grad_norm == math.inf


def test_without_mixed_precision_no_amp_figure_is_supplied() -> None:
    learner = make()
    told = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert not told.supplied & {"loss_scale", "amp_overflow_detected", "update_skipped"}


def test_bfloat16_learns_without_a_scaler() -> None:
    learner = make(amp_dtype="bfloat16")
    before = weights(learner)
    told = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert "loss_scale" not in told.supplied
    assert math.isfinite(told.grad_norm)
    assert not torch.equal(weights(learner), before)


def test_float16_that_fits_tells_its_scale_and_no_overflow() -> None:
    learner = make(amp_dtype="float16")
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    told = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert told.loss_scale == 16.0
    assert {"amp_overflow_detected", "update_skipped"} <= told.supplied
    assert not told.amp_overflow_detected
    assert not told.update_skipped
    assert math.isfinite(told.grad_norm)


def test_an_overflow_skips_steps_lowers_the_scale_and_is_no_error() -> None:
    learner = make(amp_dtype="float16", ppo_epochs=1, minibatches=1)
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    before = weights(learner)
    told = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert told.grad_norm == math.inf
    assert told.amp_overflow_detected
    assert told.update_skipped
    assert told.loss_scale == 2.0**23
    assert told.inf_grad_count + told.nan_grad_count > 0
    assert torch.equal(weights(learner), before)
    severity, message = judge_update(told, 1.0)
    assert severity == "warning"
    assert "overflowed" in message


def test_a_ratio_that_is_not_finite_ends_the_update_as_an_error() -> None:
    learner = make()
    rollout = play(learner, likes_prune_in_r1)
    rollout = replace(rollout, log_probs=rollout.log_probs - 1000.0)
    told = learner.update(rollout, batch=0, progress=0.0)
    assert told.inner_epoch == 1
    assert told.kl_divergence == math.inf
    assert "early_stop_epoch" not in told.supplied
    assert judge_update(told, 1.0)[0] == "error"


def test_judging_a_healthy_update_says_so_in_one_line() -> None:
    told = PPOUpdatePayload(
        policy_loss=0.0,
        value_loss=0.0,
        entropy=1.5,
        grad_norm=1.0,
        kl_divergence=0.01,
        clip_fraction=0.1,
        nan_grad_count=0,
        batch=4,
    )
    assert judge_update(told, 0.1) == ("info", "update 4: KL 0.0100, entropy 1.500")


def test_the_rollout_keeps_samples_in_one_order() -> None:
    rollout = play(make(), lambda action: float(action[0]))
    ops = rollout.actions[:, HEADS.index("op")].float()
    assert torch.equal(ops, rollout.rewards.flatten())


def test_a_ratio_beyond_the_clip_moves_nothing() -> None:
    learner = make(gamma=0.0, value_coef=0.0, entropy_coef=0.0, ppo_epochs=1, minibatches=1, clip_ratio=0.2)
    rollout = play(learner, likes_prune_in_r1)
    advantages = (rollout.rewards - rollout.values).flatten()
    better = (advantages - advantages.mean()) > 0
    # ratio 2 where the advantage is positive, a half where it is negative: both are past the clip
    beyond = replace(rollout, log_probs=rollout.log_probs + torch.where(better, -math.log(2), math.log(2)))
    told = learner.update(beyond, batch=0, progress=0.0)
    assert told.grad_norm == 0.0
    assert told.clip_fraction == 1.0
    normal = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
    assert told.policy_loss == pytest.approx(-float((torch.where(better, 1.2, 0.8) * normal).mean()), rel=1e-4)

    # the other way round the clip must not save the policy from correcting itself
    wrong = replace(rollout, log_probs=rollout.log_probs + torch.where(better, math.log(2), -math.log(2)))
    assert make(entropy_coef=0.0, value_coef=0.0).update(wrong, batch=0, progress=0.0).grad_norm > 0.0


def test_gradients_are_clipped_after_they_were_measured() -> None:
    learner = make(max_grad_norm=1e-12)
    before = weights(learner)
    told = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert told.grad_norm > 1e-3
    assert float((weights(learner) - before).abs().max()) < 1e-6
