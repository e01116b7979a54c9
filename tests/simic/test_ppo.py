"""The update on synthetic batches: it learns, it measures, and it refuses what is not finite."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from esper.leyline.actions import HEADS, ActionMasks, Op
from esper.leyline.limits import Limits
from esper.leyline.telemetry import PPOUpdatePayload
from esper.leyline.typical import Typical
from esper.simic.assessment import assess_update
from esper.simic.config import TrainingConfig
from esper.simic.determinism import one_thread
from esper.simic.ppo import Learner
from esper.simic.rollout import Rollout, Transition
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


LIMITS = Limits(target_kl=0.075)


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
            distribution, values = learner.evaluate(observations, masks)
            actions = distribution.sample(generator)
            moments.append(
                Transition(
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
    envs = [Transition.join([_of_env(moment, env) for moment in moments]) for env in range(N_ENVS)]
    return Rollout.of(envs, list(zip(*rewards, strict=True)))


def _of_env(moment: Transition, env: int) -> Transition:
    parts = {name: part[env : env + 1] for name, part in moment._asdict().items() if name != "masks"}
    return Transition(**parts, masks=moment.masks.select(torch.tensor([env])))


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
    measured = [
        learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0).to_dict() for learner in (first, second)
    ]
    for numbers in measured:
        numbers["update_time_ms"] = None
    assert measured[0] == measured[1]
    assert torch.equal(weights(first), weights(second))


def test_every_number_is_measured_and_agrees_with_its_neighbours() -> None:
    learner = make(target_kl=1e9)
    rollout = play(learner, likes_prune_in_r1)
    measured = learner.update(rollout, batch=7, progress=0.5)
    assert measured.inner_epoch == 8
    assert measured.batch == 7
    assert measured.lr == pytest.approx(3e-3 * 0.55)
    assert measured.entropy_coef == pytest.approx(0.03)
    assert measured.entropy_loss == -measured.entropy
    assert 0.0 < measured.entropy <= float(rollout.largest_entropy.mean())
    assert measured.ratio_min < measured.ratio_mean < measured.ratio_max
    assert measured.ratio_std > 0.0
    assert measured.kl_divergence > 0.0
    assert 0.0 <= measured.clip_fraction <= 1.0
    assert measured.grad_norm > 0.0
    assert measured.nan_grad_count == measured.inf_grad_count == measured.dead_layers == measured.exploding_layers == 0
    assert measured.update_time_ms > 0.0
    assert measured.explained_variance is not None
    assert measured.explained_variance <= 1.0
    linear = {name for name, module in learner.policy.named_modules() if isinstance(module, torch.nn.Linear)}
    assert measured.layer_gradient_health is not None
    assert set(measured.layer_gradient_health) == linear
    assert tuple(measured.head_slot_grad_norm or ()) == SLOT_IDS
    assert tuple(measured.head_blueprint_grad_norm or ()) == BLUEPRINT_IDS
    assert assess_update(measured, LIMITS, Typical())[0] == "info"


def test_advantages_are_emitted_in_reward_before_they_are_normalised() -> None:
    learner = make(gamma=1.0, gae_lambda=1.0)
    rollout = play(learner, lambda _action: 100.0)
    measured = learner.update(rollout, batch=0, progress=0.0)
    expected = torch.arange(N_STEPS, 0, -1).mul(100.0).unsqueeze(1) - rollout.values
    assert measured.advantage_mean == pytest.approx(float(expected.mean()), rel=1e-4)
    assert measured.advantage_std == pytest.approx(float(expected.std(correction=0)), rel=1e-4)
    assert measured.value_loss < 10.0, "targets are scaled"


def test_head_entropies_are_keyed_by_all_and_by_the_slots_that_were_chosen() -> None:
    learner = make()
    rollout = play(learner, likes_prune_in_r1)
    measured = learner.update(rollout, batch=0, progress=0.0)
    assert set(measured.head_op_entropy or ()) == {"all"}
    assert set(measured.head_slot_entropy or ()) == {"all"}
    assert set(measured.head_blueprint_entropy or ()) == {"all", *SLOT_IDS}
    slots = {SLOT_IDS[slot] for op, slot in rollout.actions[:, :2].tolist() if tuple(Op)[op] is Op.ADVANCE}
    assert set(measured.head_alpha_curve_entropy or ()) == {"all", *slots}
    assert (measured.head_tempo_entropy or {})["all"] == pytest.approx(math.log(3), abs=0.01)
    assert (measured.head_op_entropy or {})["all"] == pytest.approx(math.log(5), abs=0.01)


def test_without_any_choice_nothing_collapses_and_unused_heads_emit_nothing() -> None:
    learner = make()
    measured = learner.update(play(learner, likes_prune_in_r1, mask=ONLY_WAIT), batch=0, progress=0.0)
    assert measured.entropy == 0.0
    assert not measured.entropy_collapsed
    assert measured.head_slot_entropy == {}
    assert measured.head_blueprint_entropy == {}
    assert measured.head_op_entropy == {"all": 0.0}
    assert measured.dead_layers > 0, "the actor has nothing to learn"


def test_a_policy_that_stopped_exploring_is_emitted_as_collapsed() -> None:
    learner = make()
    with torch.no_grad():
        op = learner.policy.heads["op"]
        assert isinstance(op, torch.nn.Linear)
        op.bias[0] = 50.0
    measured = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert measured.entropy_collapsed
    assert assess_update(measured, LIMITS, Typical())[0] == "error"


def test_the_kl_limit_ends_the_update_early() -> None:
    learner = make(lr=0.05, target_kl=1e-4)
    measured = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert measured.inner_epoch == 1
    assert measured.early_stop_epoch == 0
    assert measured.kl_divergence > 1e-4
    assert "ended it after 1 epoch" in assess_update(measured, LIMITS, Typical())[1]


def test_an_update_that_ran_to_its_end_has_no_early_stop() -> None:
    measured = make(lr=0.05, ppo_epochs=1, target_kl=1e-4)
    payload = measured.update(play(measured, likes_prune_in_r1), batch=0, progress=0.0)
    assert payload.kl_divergence > 1e-4
    assert "early_stop_epoch" not in payload.supplied


def test_more_minibatches_than_samples_is_one_sample_each() -> None:
    learner = make(minibatches=10_000, ppo_epochs=1)
    measured = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert math.isfinite(measured.policy_loss)


@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_is_not_learnt_from(reward: float) -> None:
    learner = make()
    before = weights(learner)
    measured = learner.update(play(learner, lambda _action: reward), batch=3, progress=0.0)
    assert measured.skipped
    assert measured.batch == 3
    assert math.isnan(measured.policy_loss)
    assert "ratio_mean" not in measured.supplied, "nothing was measured"
    assert torch.equal(weights(learner), before)
    assert learner.return_scale.value == 1.0
    assert assess_update(measured, LIMITS, Typical())[0] == "error"


def test_nan_gradients_are_counted_and_their_step_is_not_taken() -> None:
    learner = make(ppo_epochs=1, minibatches=1)
    rollout = play(learner, likes_prune_in_r1)
    before = weights(learner)
    poison(learner.policy.value.weight, math.nan)
    measured = learner.update(rollout, batch=0, progress=0.0)
    assert measured.nan_grad_count == learner.policy.value.weight.numel()
    assert math.isnan(measured.grad_norm)
    assert measured.exploding_layers == 1
    assert not measured.update_skipped, "that is for overflows"
    assert torch.equal(weights(learner), before)
    severity, message = assess_update(measured, LIMITS, Typical())
    assert severity == "error"
    assert "NaN gradients 64 elements" in message


def test_infinite_gradients_are_counted_apart() -> None:
    learner = make(ppo_epochs=1, minibatches=1)
    rollout = play(learner, likes_prune_in_r1)
    poison(learner.policy.value.bias, math.inf)
    measured = learner.update(rollout, batch=0, progress=0.0)
    assert (measured.nan_grad_count, measured.inf_grad_count) == (0, 1)
    assert measured.grad_norm == math.inf


def test_without_mixed_precision_no_amp_number_is_supplied() -> None:
    learner = make()
    measured = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert not measured.supplied & {"loss_scale", "amp_overflow_detected", "update_skipped"}


def test_bfloat16_learns_without_a_scaler() -> None:
    learner = make(amp_dtype="bfloat16")
    before = weights(learner)
    measured = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert "loss_scale" not in measured.supplied
    assert math.isfinite(measured.grad_norm)
    assert not torch.equal(weights(learner), before)


def test_float16_that_fits_emits_its_scale_and_no_overflow() -> None:
    learner = make(amp_dtype="float16")
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    measured = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert measured.loss_scale == 16.0
    assert {"amp_overflow_detected", "update_skipped"} <= measured.supplied
    assert not measured.amp_overflow_detected
    assert not measured.update_skipped
    assert math.isfinite(measured.grad_norm)


def test_an_overflow_skips_steps_lowers_the_scale_and_is_no_error() -> None:
    learner = make(amp_dtype="float16", ppo_epochs=1, minibatches=1)
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    before = weights(learner)
    measured = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert measured.grad_norm == math.inf
    assert measured.amp_overflow_detected
    assert measured.update_skipped
    assert measured.loss_scale == 2.0**23
    assert measured.inf_grad_count + measured.nan_grad_count > 0
    assert torch.equal(weights(learner), before)
    severity, message = assess_update(measured, LIMITS, Typical())
    assert severity == "warning"
    assert "overflowed" in message


def test_a_ratio_that_is_not_finite_ends_the_update_as_an_error() -> None:
    learner = make()
    rollout = play(learner, likes_prune_in_r1)
    rollout = replace(rollout, log_probs=rollout.log_probs - 1000.0)
    measured = learner.update(rollout, batch=0, progress=0.0)
    assert measured.inner_epoch == 1
    assert measured.kl_divergence == math.inf
    assert "early_stop_epoch" not in measured.supplied
    assert assess_update(measured, LIMITS, Typical())[0] == "error"


def test_judging_a_healthy_update_says_so_in_one_line() -> None:
    measured = PPOUpdatePayload(
        policy_loss=0.0,
        value_loss=0.0,
        entropy=1.5,
        grad_norm=1.0,
        kl_divergence=0.01,
        clip_fraction=0.1,
        nan_grad_count=0,
        batch=4,
    )
    assert assess_update(measured, LIMITS, Typical()) == ("info", "update 4: KL 0.01, entropy 1.5")


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
    measured = learner.update(beyond, batch=0, progress=0.0)
    assert measured.grad_norm == 0.0
    assert measured.clip_fraction == 1.0
    normal = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
    assert measured.policy_loss == pytest.approx(-float((torch.where(better, 1.2, 0.8) * normal).mean()), rel=1e-4)

    # the other way round the clip must not save the policy from correcting itself
    wrong = replace(rollout, log_probs=rollout.log_probs + torch.where(better, math.log(2), -math.log(2)))
    assert make(entropy_coef=0.0, value_coef=0.0).update(wrong, batch=0, progress=0.0).grad_norm > 0.0


def test_gradients_are_clipped_after_they_were_measured() -> None:
    learner = make(max_grad_norm=1e-12)
    before = weights(learner)
    measured = learner.update(play(learner, likes_prune_in_r1), batch=0, progress=0.0)
    assert measured.grad_norm > 1e-3
    assert float((weights(learner) - before).abs().max()) < 1e-6
