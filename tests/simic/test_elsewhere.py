"""The growing network in other people's vector environments: nothing of an episode is lost, wherever it was played."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from esper.leyline import EpochCompletedPayload, TelemetryEvent
from esper.simic.environment import GrowthEnv
from esper.simic.flat import FlatGrowthEnv
from esper.simic.outcome import EmittedEvents, StepOutcome

EPOCHS = 3
PLAYED = [np.array(actions) for actions in ((1, 9), (0, 0), (0, 0), (2, 0), (0, 1), (0, 0), (0, 0))]
"""Germinate here and there, over two episodes; an episode's end is followed by one more step where that is a reset."""


def make(env_id: int = 0, **options: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("esper/GrowthFlat-v0", env_id=env_id, max_epochs=EPOCHS, control=(0.5,) * EPOCHS, **options)


def alone(env_id: int, actions: list[int]) -> list[TelemetryEvent]:
    """Play one environment in this process and return its events."""
    env = make(env_id)
    env.reset(seed=7 + env_id)
    events: list[TelemetryEvent] = []
    for action in actions:
        *_, done, _, info = env.step(np.int64(action))
        events += info["events"]
        if done:
            env.reset()
    return events


def rows(infos: dict[str, Any], key: str) -> Iterator[tuple[int, Any]]:
    """Yield what a Gymnasium vector environment's ``infos`` has of a key, by environment."""
    for index in np.flatnonzero(infos.get(f"_{key}", ())):
        yield int(index), infos[key][index]


@pytest.fixture
def _computed_before() -> Iterator[None]:
    """Whoever forks has computed on several threads: the pool of which no child has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.randn(300, 300) @ torch.randn(300, 300)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["esper/Growth-v0", "esper/GrowthFlat-v0"])
def test_stable_baselines_own_check_finds_nothing(name: str) -> None:
    check_env(gymnasium.make(name, max_epochs=EPOCHS), skip_render_check=True)


def test_every_argument_has_a_default() -> None:
    for env in (GrowthEnv(), FlatGrowthEnv()):
        observation, info = env.reset(seed=1)
        assert observation in env.observation_space
        assert (info["action_mask"] == env.action_masks()).all()


@pytest.mark.usefixtures("_computed_before")
@pytest.mark.parametrize("how", ["fork", "spawn", "here"])
def test_events_come_out_of_stable_baselines_workers_once_each_and_in_order(how: str) -> None:
    makers: list[Callable[[], gymnasium.Env[Any, Any]]] = [partial(make, env_id) for env_id in range(2)]
    envs = DummyVecEnv(makers) if how == "here" else SubprocVecEnv(makers, start_method=how)
    envs.seed(7)
    envs.reset()
    events: list[list[TelemetryEvent]] = [[], []]
    finals: list[StepOutcome] = []
    for actions in PLAYED[: 2 * EPOCHS]:
        _, _, dones, infos = envs.step(actions)
        for index, info in enumerate(infos):
            events[index] += info["events"]
            assert info["outcome"].final == dones[index]
            finals += [info["outcome"]] * bool(dones[index])
    masks = envs.env_method("action_masks")
    envs.close()
    assert [mask.sum() > 0 for mask in masks] == [True, True]
    assert [outcome.epoch for outcome in finals] == [EPOCHS] * 4
    for env_id, mine in enumerate(events):
        expected = alone(env_id, [int(actions[env_id]) for actions in PLAYED[: 2 * EPOCHS]])
        assert EmittedEvents(mine) == EmittedEvents(expected)
    assert len({event.event_id for mine in events for event in mine}) == sum(map(len, events))


@pytest.mark.usefixtures("_computed_before")
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("kind", [AsyncVectorEnv, SyncVectorEnv])
def test_nothing_is_lost_in_gymnasium_s_vector_environments(
    kind: type[AsyncVectorEnv | SyncVectorEnv], mode: AutoresetMode
) -> None:
    envs = kind([partial(make, env_id) for env_id in range(2)], autoreset_mode=mode)
    _, infos = envs.reset(seed=7)
    events: list[list[TelemetryEvent]] = [[], []]
    outcomes: list[list[StepOutcome]] = [[], []]
    for number, actions in enumerate(PLAYED):
        _, rewards, terminated, _, infos = envs.step(actions)
        ended = infos.get("final_info", {})
        for index in range(2):
            before = len(events[index])
            for source in (infos, ended):
                events[index] += [event for at, found in rows(source, "events") if at == index for event in found]
                outcomes[index] += [outcome for at, outcome in rows(source, "outcome") if at == index]
            reset_instead = mode is AutoresetMode.NEXT_STEP and number == EPOCHS
            assert (len(events[index]) == before) == reset_instead, "the step that does nothing emits nothing"
            assert outcomes[index][-1].final == (bool(terminated[index]) or reset_instead)
            if not reset_instead:
                assert outcomes[index][-1].reward.total_reward == pytest.approx(rewards[index])
            assert infos["action_mask"][index].any(), "what may be chosen next is always there"
    envs.close()
    played = [index for index in range(len(PLAYED)) if mode is AutoresetMode.SAME_STEP or index != EPOCHS]
    for env_id in range(2):
        expected = alone(env_id, [int(PLAYED[index][env_id]) for index in played])
        assert EmittedEvents(events[env_id]) == EmittedEvents(expected)
        epochs = [event.data.inner_epoch for event in events[env_id] if isinstance(event.data, EpochCompletedPayload)]
        assert epochs == [(number % EPOCHS) + 1 for number in range(len(played))]
