"""What makes a run repeatable: seeds of its own for every purpose, and one torch thread."""

from __future__ import annotations

import contextlib
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Stream", "derive_seed", "episode_generators", "one_thread"]


class Stream(IntEnum):
    """What randomness is for. No two streams ever share a seed."""

    INITIALISATION = 0
    SAMPLING = 1
    SHUFFLING = 2
    CONTROL = 3
    TRAINING_EPISODE = 4
    EVALUATION_EPISODE = 5
    EVALUATION_POLICY = 6
    RANDOM_POLICY = 7


def derive_seed(seed: int, stream: Stream, index: int = 0) -> int:
    """Derive a seed for one purpose.

    Args:
        seed: of the run, 0 or more.
        stream: what it is for. Seeds of different streams differ, because they differ modulo the number of streams:
            no episode of an evaluation was ever trained on.
        index: which of the stream's seeds, 0 or more.

    Returns:
        0 or more, below 2^35.
    """
    state = np.random.SeedSequence((seed, stream, index)).generate_state(1)
    return int(state[0]) * len(Stream) + stream


def episode_generators(random: np.random.Generator) -> tuple[torch.Generator, torch.Generator]:
    """Return an episode's own generators, for initialisation and shuffling, their seeds drawn from ``random``."""
    initialisation, shuffling = (torch.Generator().manual_seed(int(random.integers(2**63))) for _ in range(2))
    return initialisation, shuffling


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one torch thread: the order of additions, and so the last bits, depend on their number.

    With networks this small more threads would be slower, too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
