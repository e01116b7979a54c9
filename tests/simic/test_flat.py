"""The growing network as anybody's environment: made by name, with exact masks, and nothing of an episode lost."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv

import esper.simic.environment  # noqa: F401 - registers them
from esper.leyline import SeedGerminatedPayload
from esper.simic.flat import FlatGrowthEnv, flat_actions
from esper.simic.outcome import EmittedEvents, StepOutcome

SMALL: dict[str, Any] = {"max_epochs": 3}


def flat(**arguments: Any) -> FlatGrowthEnv:
    made = gymnasium.make("esper/GrowthFlat-v0", **SMALL, **arguments).unwrapped
    assert isinstance(made, FlatGrowthEnv)
    return made


@pytest.mark.parametrize("name", ["esper/Growth-v0", "esper/GrowthFlat-v0"])
def test_it_is_made_by_name_with_defaults_and_passes_gymnasiums_own_check(name: str) -> None:
    check_env(gymnasium.make(name, **SMALL).unwrapped, skip_render_check=True)


def test_an_action_that_the_mask_allows_can_be_carried_out_and_no_other() -> None:
    env = flat()
    rng = np.random.default_rng(1)
    for episode in range(3):
        env.reset(seed=episode)
        for _ in range(SMALL["max_epochs"]):
            mask = env.action_masks()
            forbidden = np.flatnonzero(mask == 0)
            with pytest.raises(ValueError, match=r"."):
                env.step(np.int64(rng.choice(forbidden)))
            assert (env.action_masks() == mask).all(), "a refused action changed something"
            env.step(np.int64(rng.choice(np.flatnonzero(mask))))


def test_every_action_is_a_decision_of_its_own() -> None:
    actions = flat_actions(3)
    assert len({tuple(row) for row in actions.tolist()}) == len(actions)
    assert actions[0].tolist() == [0] * actions.shape[1], "action 0 is WAIT"


def test_an_invalid_action_may_be_a_wait() -> None:
    env = flat(invalid_action="wait")
    env.reset(seed=1)
    forbidden = np.int64(np.flatnonzero(env.action_masks() == 0)[0])
    outcome = env.step(forbidden)[-1]["outcome"]
    assert outcome.op.name == "WAIT"


def test_what_nobody_takes_travels_in_info_once_and_in_order() -> None:
    env = flat()
    _, info = env.reset(seed=2)
    seen = []
    done = False
    while not done:
        allowed = np.flatnonzero(env.action_masks())
        _, _, done, _, info = env.step(np.int64(allowed[1] if len(allowed) > 1 else 0))
        assert isinstance(info["events"], EmittedEvents)
        seen += list(info["events"])
    assert any(isinstance(event.data, SeedGerminatedPayload) for event in seen)
    assert len({event.event_id for event in seen}) == len(seen)
    assert [event.timestamp for event in seen] == sorted(event.timestamp for event in seen)


def test_the_last_step_of_an_episode_can_be_read_after_a_vector_environment_reset_itself() -> None:
    envs = SyncVectorEnv([lambda: gymnasium.make("esper/GrowthFlat-v0", **SMALL) for _ in range(2)])
    envs.reset(seed=3)
    wait = np.zeros(2, dtype=np.int64)
    for _ in range(SMALL["max_epochs"] - 1):
        envs.step(wait)
    _, _, terminated, _, infos = envs.step(wait)
    assert terminated.all()
    outcomes = infos["outcome"]
    assert all(isinstance(outcome, StepOutcome) and outcome.final for outcome in outcomes)
    fields = outcomes[0].fields()
    assert fields["val_acc"] == outcomes[0].val_accuracy
    assert "action_slot" not in fields, "WAIT has no slot"
    envs.close()
