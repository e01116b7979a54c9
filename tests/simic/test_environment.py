from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from sklearn.datasets import load_wine

from esper.leyline.actions import HEADS, Op
from esper.leyline.stages import NEXT_STAGES, SeedStage
from esper.leyline.telemetry import (
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
)
from esper.leyline.wire import decode_event, encode_event
from esper.simic.control import do_nothing_control
from esper.simic.environment import GrowthEnv
from esper.simic.episode import EPISODE_END
from esper.simic.tasks import Task, load_task

MIXER, MLP = 2, 1
WAIT = (0,) * len(HEADS)
KEEP_FIRST_SLOT = (
    (1, 0, MIXER, 0, 0, 2, 1, 0),  # germinate, add, tempo 1
    (2, 0, 0, 0, 0, 2, 1, 0),  # advance to alpha 1, linear
    (3, 0, 0, 0, 0, 0, 0, 0),  # fossilize
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits() -> Task:
    return load_task("digits")


def wine() -> Task:
    inputs, labels = load_wine(return_X_y=True)
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    return Task.from_arrays("wine", inputs, labels, train=96, validation=48, width=6, batch_size=40)


def make(task: Task, emitted: list[TelemetryEvent] | None = None, **changes: Any) -> GrowthEnv:
    arguments: dict[str, Any] = {"env_id": 4, "n_slots": 3, "max_epochs": 6, "param_budget": 2000} | changes
    arguments = {"control": (0.0,) * arguments["max_epochs"]} | arguments
    return GrowthEnv(task, emit=(emitted if emitted is not None else []).append, **arguments)


def act(env: GrowthEnv, action: tuple[int, ...]) -> float:
    return env.step(np.array(action))[1]


def play_randomly(env: GrowthEnv, seed: int) -> list[tuple[np.ndarray, float]]:
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    trace, over = [(observation, 0.0)], False
    while not over:
        observation, reward, over, _, _ = env.step(env.action_space.sample())
        trace.append((observation, reward))
    return trace


@pytest.mark.parametrize("seed", range(4))
def test_gymnasium_finds_nothing_to_object_to(digits: Task, seed: int) -> None:
    env = make(digits)
    play_randomly(env, seed)
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("seed", range(20))
def test_an_action_of_a_space_just_seeded_is_valid_where_one_stands_and_after_a_reset(digits: Task, seed: int) -> None:
    env = make(digits, max_epochs=24, param_budget=900)
    env.reset(seed=seed)
    for _ in range(4):
        env.step(env.action_space.sample())
    env.action_space.seed(seed)
    action = env.action_space.sample()
    env.step(action)
    env.reset()
    env.step(action)


def test_a_seeded_episode_is_bit_identical(digits: Task) -> None:
    first, second = make(digits), make(digits)
    second.reset(seed=99)
    for seed in (1, 2):
        one, two = play_randomly(first, seed), play_randomly(second, seed)
        assert [reward for _, reward in one] == [reward for _, reward in two]
        assert all(np.array_equal(left, right) for (left, _), (right, _) in zip(one, two, strict=True))
        assert first.test_accuracy() == second.test_accuracy()


def test_episodes_of_different_seeds_differ_and_so_do_unseeded_ones(digits: Task) -> None:
    env = make(digits)
    starts = [env.reset(seed=1)[0], env.reset(seed=2)[0], env.reset()[0], env.reset()[0]]
    assert not any(np.array_equal(left, right) for left, right in itertools.combinations(starts, 2))


def test_global_generators_are_neither_read_nor_moved(digits: Task) -> None:
    traces = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002 - it is the global one that must not matter
        before, np_before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002
        traces.append([reward for _, reward in play_randomly(make(digits), 5)])
        assert torch.equal(before, torch.get_rng_state())
        assert np_before == np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002
    assert traces[0] == traces[1]


@pytest.mark.parametrize("seed", range(3))
def test_the_events_of_random_episodes_are_complete_and_unbroken(digits: Task, seed: int) -> None:
    emitted: list[TelemetryEvent] = []
    env = make(digits, emitted, max_epochs=12, group_id="B")
    ops, ablations = Counter[Op](), 0
    env.action_space.seed(seed)
    env.reset(seed=seed)
    for _ in range(12):
        env.step(env.action_space.sample())
        ops[env.outcome.op] += 1
        ablations += any(state["alpha"] > 0 for state in env.outcome.seeds.values())

    kinds = Counter(type(event.data) for event in emitted)
    assert kinds[EpochCompletedPayload] == 12
    assert kinds[CounterfactualMatrixPayload] == ablations
    assert kinds[SeedGerminatedPayload] == ops[Op.GERMINATE]
    assert kinds[SeedFossilizedPayload] == ops[Op.FOSSILIZE]
    prunes = [event.data for event in emitted if isinstance(event.data, SeedPrunedPayload)]
    assert sum(not prune.auto_pruned for prune in prunes) == ops[Op.PRUNE]
    assert {prune.reason for prune in prunes if prune.auto_pruned} <= {EPISODE_END}
    # every seed came to an end, and to one only
    assert len(prunes) + ops[Op.FOSSILIZE] == ops[Op.GERMINATE]
    for slot_id in env.slot_ids:
        changes = [
            event.data
            for event in emitted
            if isinstance(event.data, SeedStageChangedPayload) and event.data.slot_id == slot_id
        ]
        stages = ["DORMANT", *(change.to_stage for change in changes)]
        assert [change.from_stage for change in changes] == stages[:-1]
        assert all(SeedStage[to] in NEXT_STAGES[SeedStage[left]] for left, to in itertools.pairwise(stages))
    for event in emitted:
        assert event.group_id == "B"
        assert event.data.to_dict()["env_id"] == 4
        assert event.epoch is not None
        assert 1 <= event.epoch <= 12
    assert [event.epoch for event in emitted] == sorted(event.epoch or 0 for event in emitted)


def test_everything_emitted_survives_the_wire(digits: Task) -> None:
    emitted: list[TelemetryEvent] = []
    play_randomly(make(digits, emitted, max_epochs=12), 1)
    assert len({type(event.data) for event in emitted}) >= 5
    for event in emitted:
        line = encode_event(event)
        json.loads(line)
        again = decode_event(line)
        assert again == event
        assert again.data.supplied == event.data.supplied


def test_the_outcome_agrees_with_what_was_emitted(digits: Task) -> None:
    emitted: list[TelemetryEvent] = []
    env = make(digits, emitted)
    env.reset(seed=3)
    for number, action in enumerate((*KEEP_FIRST_SLOT, WAIT, WAIT, WAIT), start=1):
        emitted.clear()
        reward = act(env, action)
        outcome = env.outcome
        assert outcome.epoch == number
        assert outcome.final == (number == 6)
        assert outcome.reward.total_reward == reward
        (epoch,) = (event.data for event in emitted if isinstance(event.data, EpochCompletedPayload))
        assert (epoch.val_accuracy, epoch.val_loss, epoch.inner_epoch) == (
            outcome.val_accuracy,
            outcome.val_loss,
            number,
        )
        assert epoch.seeds == outcome.seeds
        for matrix in (event.data for event in emitted if isinstance(event.data, CounterfactualMatrixPayload)):
            by_mask = {tuple(config["seed_mask"]): config["accuracy"] for config in matrix.configs}
            assert matrix.slot_ids == ("r0",)
            assert by_mask == {(True,): outcome.val_accuracy, (False,): outcome.host_accuracy}


def test_a_seed_is_seen_before_and_after_every_decision(digits: Task) -> None:
    env = make(digits)
    env.reset(seed=3)
    before, after = [], []
    for action in KEEP_FIRST_SLOT:
        act(env, action)
        before.append(env.outcome.slot_states["r0"]["stage"])
        after.append(env.outcome.seeds["r0"]["stage"])
        assert env.outcome.action_slot == "r0"
        assert env.outcome.slot_states["r1"] == {"stage": "DORMANT"}
        assert set(env.outcome.seeds) == {"r0"}
    assert before == ["DORMANT", "TRAINING", "HOLDING"]
    assert after == ["TRAINING", "HOLDING", "FOSSILIZED"]
    assert env.outcome.seeds["r0"] | {"grad_ratio": 0} == {
        "stage": "FOSSILIZED",
        "blueprint_id": "mixer",
        "alpha": 1.0,
        "epochs_in_stage": 1,
        "params": 144,
        "grad_ratio": 0,
    }


def test_a_contribution_is_known_only_where_an_ablation_was_run(digits: Task) -> None:
    env = make(digits)
    env.reset(seed=3)
    outcomes = []
    for action in (*KEEP_FIRST_SLOT[:2], WAIT):
        act(env, action)
        outcomes.append(env.outcome)
    germinated, advanced, waited = outcomes
    assert germinated.seed_contribution is None
    assert germinated.host_accuracy == germinated.val_accuracy
    assert advanced.seed_contribution == advanced.val_accuracy - advanced.host_accuracy
    assert (waited.seed_contribution, waited.action_slot) == (None, None)


def test_what_is_not_kept_is_pruned_before_the_last_validation(digits: Task) -> None:
    emitted: list[TelemetryEvent] = []
    env = make(digits, emitted, max_epochs=3)
    env.reset(seed=3)
    act(env, KEEP_FIRST_SLOT[0])
    act(env, KEEP_FIRST_SLOT[1])
    act(env, (1, 1, MLP, 0, 0, 0, 0, 0))
    prunes = [event.data for event in emitted if isinstance(event.data, SeedPrunedPayload)]
    assert [(prune.slot_id, prune.reason, prune.auto_pruned) for prune in prunes] == [
        ("r0", EPISODE_END, True),
        ("r1", EPISODE_END, True),
    ]
    assert "improvement" in prunes[0].supplied
    assert "improvement" not in prunes[1].supplied
    assert env.outcome.seeds == {}
    assert env.outcome.host_accuracy == env.outcome.val_accuracy
    assert env.outcome.reward.ratio_penalty == pytest.approx(-0.02 - 2 * 0.5)
    assert env.outcome.final


def test_what_is_kept_survives_the_end_of_the_episode(digits: Task) -> None:
    emitted: list[TelemetryEvent] = []
    env = make(digits, emitted, max_epochs=3)
    env.reset(seed=3)
    for action in KEEP_FIRST_SLOT:
        act(env, action)
    assert not [event for event in emitted if isinstance(event.data, SeedPrunedPayload)]
    assert env.outcome.seeds["r0"]["stage"] == "FOSSILIZED"
    assert env.outcome.reward.ratio_penalty == 0


def test_masks_follow_the_stages_and_the_budget(digits: Task) -> None:
    env = make(digits, n_slots=2, param_budget=812 + 100)
    env.reset(seed=3)
    assert env.masks.op == (True, True, False, False, False)
    assert env.masks.slot == ((False, False), (True, True), (False, False), (False, False), (False, False))
    assert env.masks.blueprint == (True, True, True, True)
    act(env, (1, 1, MLP, 0, 0, 0, 0, 0))
    assert env.masks.op == (True, True, True, False, True)
    assert env.masks.slot == ((False, False), (True, False), (False, True), (False, False), (False, True))
    assert env.masks.blueprint == (True, False, False, False)
    act(env, (1, 0, 0, 0, 0, 0, 0, 0))
    act(env, (4, 1, 0, 0, 0, 0, 0, 0))
    assert env.masks.slot[1] == (False, False)
    assert env.masks.blueprint[MLP]
    act(env, WAIT)
    assert env.masks.slot[1] == (False, True)


def test_a_budget_too_small_for_any_blueprint_masks_germination(digits: Task) -> None:
    env = make(digits, param_budget=23)
    assert env.masks.blueprint == (False,) * 4
    assert env.masks.op == (True, False, False, False, False)
    assert play_randomly(env, 0)[0][0].shape == env.observation_space.shape


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ((2, 0, 0, 0, 0, 0, 0, 0), "ADVANCE is masked for slot r0, which is DORMANT"),
        ((3, 1, 0, 0, 0, 0, 0, 0), "FOSSILIZE is masked for slot r1"),
        ((4, 2, 0, 0, 0, 0, 0, 0), "PRUNE is masked for slot r2"),
        ((1, 0, MLP, 0, 0, 0, 0, 0), "GERMINATE with mlp is masked for slot r0"),
        ((5, 0, 0, 0, 0, 0, 0, 0), "an action is one of"),
        ((0, 0), "an action is one of"),
        ((-1, 0, 0, 0, 0, 0, 0, 0), "an action is one of"),
    ],
)
def test_a_masked_action_is_refused_and_nothing_happens(digits: Task, action: tuple[int, ...], says: str) -> None:
    emitted: list[TelemetryEvent] = []
    env = make(digits, emitted, param_budget=700)
    env.reset(seed=1)
    with pytest.raises(ValueError, match=says):
        act(env, action)
    assert emitted == []
    refused = [act(env, WAIT) for _ in range(2)]
    env.reset(seed=1)
    assert [act(env, WAIT) for _ in range(2)] == refused


def test_what_an_op_does_not_use_is_ignored(digits: Task) -> None:
    env = make(digits, param_budget=30)
    env.reset(seed=1)
    plain = act(env, WAIT)
    env.reset(seed=1)
    assert act(env, (0, 2, MLP, 1, 2, 1, 2, 2)) == plain


def test_an_episode_that_is_over_wants_a_reset(digits: Task) -> None:
    env = make(digits, max_epochs=1)
    with pytest.raises(ResetNeeded):
        _ = env.outcome
    act(env, WAIT)
    with pytest.raises(ResetNeeded):
        act(env, WAIT)
    env.reset()
    act(env, WAIT)


def test_seeds_are_named_apart_over_episodes(digits: Task) -> None:
    emitted: list[TelemetryEvent] = []
    env = make(digits, emitted, max_epochs=1)
    for _ in range(2):
        env.reset()
        act(env, KEEP_FIRST_SLOT[0])
    names = [event.seed_id for event in emitted if isinstance(event.data, SeedGerminatedPayload)]
    assert names == ["env4-r0-s1", "env4-r0-s2"]


def test_a_host_that_diverges_is_reported_as_it_is_and_rewarded_with_no_number(digits: Task) -> None:
    emitted: list[TelemetryEvent] = []
    env = make(dataclasses.replace(digits, learning_rate=1e30), emitted)
    env.reset(seed=1)
    for action in (*KEEP_FIRST_SLOT, (1, 1, 3, 1, 0, 0, 0, 0), (2, 1, 0, 0, 0, 0, 0, 0), WAIT):
        observation, reward, *_ = env.step(np.array(action))
        assert math.isnan(reward)
        assert observation in env.observation_space
        assert np.isfinite(observation).all()
    assert not math.isfinite(env.outcome.val_loss)
    assert math.isnan(env.outcome.val_accuracy)
    assert math.isnan(env.test_accuracy())
    for event in emitted:
        if isinstance(event.data, EpochCompletedPayload):
            assert math.isnan(event.data.val_accuracy) is not math.isfinite(event.data.val_loss)
        assert decode_event(encode_event(event)).data.to_dict().keys() == event.data.to_dict().keys()
    exploded = [
        event for event in emitted if isinstance(event.data, SeedStageChangedPayload) and event.data.has_exploding
    ]
    assert exploded
    assert all(event.severity == "warning" for event in exploded)


def test_nothing_is_wired_to_digits() -> None:
    task = wine()
    emitted: list[TelemetryEvent] = []
    control = do_nothing_control(task, n_slots=2, max_epochs=8, seed=1)
    env = make(task, emitted, n_slots=2, max_epochs=8, control=control, param_budget=5000)
    trace = play_randomly(env, 2)
    assert len(trace) == 9
    assert env.observation_space.shape == trace[0][0].shape
    assert any(isinstance(event.data, SeedGerminatedPayload) for event in emitted)
    assert control[-1] > control[0]
    assert 0 <= env.test_accuracy() <= 1


def test_the_control_is_a_repeatable_mean_of_do_nothing_hosts(digits: Task) -> None:
    control = do_nothing_control(digits, n_slots=1, max_epochs=4, seed=1)
    assert len(control) == 4
    assert control == do_nothing_control(digits, n_slots=1, max_epochs=4, seed=1)
    assert control != do_nothing_control(digits, n_slots=1, max_epochs=4, seed=2)
    # a mean of four accuracies over 512 examples
    assert all((4 * 512 * accuracy).is_integer() for accuracy in control)


def test_gain_over_the_control_bounds_the_reward_of_the_same_play(digits: Task) -> None:
    rewards = []
    for control in (0.0, 1.0):
        env = make(digits, control=(control,) * 6)
        env.reset(seed=3)
        rewards.append([act(env, action) for action in KEEP_FIRST_SLOT][1])
        assert env.outcome.reward.bounded_attribution <= 0.3
    assert rewards[0] >= rewards[1]


@pytest.mark.parametrize("changes", [{"n_slots": 0}, {"max_epochs": 0}, {"param_budget": -1}, {"control": (0.5,)}])
def test_numbers_out_of_range_are_refused(digits: Task, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        make(digits, **changes)


def test_random_play_reaches_every_op_and_every_component_of_the_reward(digits: Task) -> None:
    env = make(digits, max_epochs=24)
    ops, moved = set(), set()
    for seed in range(6):
        env.action_space.seed(seed)
        env.reset(seed=seed)
        for _ in range(24):
            env.step(env.action_space.sample())
            ops.add(env.outcome.op)
            moved |= {name for name, value in env.outcome.reward.contributions().items() if value}
    assert ops == set(Op)
    assert moved == set(env.outcome.reward.contributions())
