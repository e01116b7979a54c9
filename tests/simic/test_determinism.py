"""Seeds that never meet, threads that are given back, and runs that depend on nothing but their configuration."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from tests.simic.differential.witness import TASK, tiny

from esper.leyline.telemetry import TelemetryEvent
from esper.simic.config import TrainingConfig
from esper.simic.determinism import Stream, derive_seed, one_thread
from esper.simic.environment import GrowthEnv
from esper.simic.training.vectorized import train

CLOCKS = {"update_time_ms", "compute_time_ms"}


def test_no_episode_of_one_stream_has_the_seed_of_another_stream() -> None:
    trained, evaluated = (
        {derive_seed(seed, stream, index) for seed in range(5) for index in range(200)}
        for stream in (Stream.TRAINING_EPISODE, Stream.EVALUATION_EPISODE)
    )
    assert not trained & evaluated
    assert {seed % len(Stream) for seed in trained} == {Stream.TRAINING_EPISODE}


def test_a_seed_depends_on_run_stream_and_index_and_on_nothing_else() -> None:
    seeds = [derive_seed(*choice) for choice in itertools.product((0, 1), Stream, (0, 1))]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [derive_seed(*choice) for choice in itertools.product((0, 1), Stream, (0, 1))]
    assert all(0 <= seed < 2**35 for seed in seeds)


def test_the_number_of_threads_is_given_back_after_an_interrupt() -> None:
    def interrupted() -> None:
        with one_thread():
            assert torch.get_num_threads() == 1
            raise KeyboardInterrupt

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def said(events: list[TelemetryEvent]) -> list[str]:
    """Everything but identity and time, with every bit of every number."""
    return [
        repr((event.data.to_dict() | dict.fromkeys(CLOCKS), event.epoch, event.slot_id, event.seed_id, event.message))
        for event in events
    ]


def test_a_run_depends_on_neither_threads_nor_global_generators_and_leaves_both_alone() -> None:
    runs = []
    threads = torch.get_num_threads()
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            torch.manual_seed(n_threads)
            np.random.seed(n_threads)  # noqa: NPY002 - it is the global one that must not matter
            random.seed(n_threads)
            before = (torch.get_rng_state().tolist(), np.random.get_state(legacy=False), random.getstate())  # noqa: NPY002
            emitted: list[TelemetryEvent] = []
            computed_on: set[int] = set()

            def emit(event: TelemetryEvent, into: list[TelemetryEvent] = emitted, on: set[int] = computed_on) -> None:
                into.append(event)
                on.add(torch.get_num_threads())

            train(TrainingConfig(task=TASK, episodes=3, envs=2, max_epochs=8, seed=5), emit)
            assert computed_on == {1}
            after = (torch.get_rng_state().tolist(), np.random.get_state(legacy=False), random.getstate())  # noqa: NPY002
            assert repr(after) == repr(before)
            assert torch.get_num_threads() == n_threads
            runs.append(said(emitted))
    finally:
        torch.set_num_threads(threads)
    assert runs[0] == runs[1]


def test_environments_do_not_depend_on_the_order_they_are_made_and_stepped_in() -> None:
    found = []
    for order in ((0, 1, 2), (2, 0, 1)):
        emitted: dict[int, list[TelemetryEvent]] = {env_id: [] for env_id in order}
        envs = {
            env_id: GrowthEnv(tiny(), env_id=env_id, max_epochs=8, control=(0.5,) * 8, emit=emitted[env_id].append)
            for env_id in order
        }
        for env_id in order:
            envs[env_id].reset(seed=env_id)
            envs[env_id].action_space.seed(env_id)
        for _ in range(8):
            for env_id in order:
                envs[env_id].step(envs[env_id].action_space.sample())
        found.append([said(emitted[env_id]) for env_id in range(3)])
    assert found[0] == found[1]
