"""Seeds that never meet, and threads that are given back."""

from __future__ import annotations

import itertools

import pytest
import torch

from esper.simic.determinism import Stream, derive_seed, one_thread


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
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.get_num_threads() == before
