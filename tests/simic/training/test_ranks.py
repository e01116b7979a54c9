"""Who plays what, and what is waited for."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from esper.simic.config import TrainingConfig
from esper.simic.training.ranks import ALONE, Ranks, torchrun, wait_for_directory
from esper.simic.training.vectorized import train_arms

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("n_envs", [4, 5, 9])
def test_every_environment_is_played_by_one_rank_and_shares_differ_by_one_at_most(world_size: int, n_envs: int) -> None:
    shares = [Ranks(rank, world_size).share(n_envs) for rank in range(world_size)]
    assert sorted(env_id for share in shares for env_id in share) == list(range(n_envs))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_on_its_own_meets_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with torchrun() as ranks:
        assert ranks is ALONE
        assert ranks.gather("alone") == ["alone"]
        assert ranks.first(lambda: 7) == 7
        with pytest.raises(ValueError, match="no"), ranks.telling():
            ranks.all_can(lambda: int("no"))


def test_processes_that_cannot_be_reached_are_an_error_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "nonsense"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="rank 1 cannot reach the other processes: "), torchrun():
        pass


def test_there_are_at_least_as_many_environments_as_processes() -> None:
    with pytest.raises(ValueError, match="3 processes need at least as many environments, got envs 2"):
        train_arms(TrainingConfig(envs=2), lambda _event: None, ranks=Ranks(0, 3))


def test_a_directory_that_is_seen_late_is_waited_for(tmp_path: Path) -> None:
    late = tmp_path / "runs" / "late"
    timer = threading.Timer(0.3, lambda: late.mkdir(parents=True))
    timer.start()
    wait_for_directory(late, seconds=10.0)
    assert late.is_dir()
    timer.join()


def test_a_directory_that_is_never_seen_is_named(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="which rank 0 has made, is not seen here: all machines must share it"):
        wait_for_directory(tmp_path / "never", seconds=0.2)
    assert time.monotonic() - began < 5.0
