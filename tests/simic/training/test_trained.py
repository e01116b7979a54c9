"""A policy comes back from disk as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from esper.simic.config import TrainingConfig
from esper.simic.training.trained import TrainedPolicy, policy_shape
from esper.tamiyo.policy import Policy

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = TrainingConfig(seed=9, lr=0.5, amp_dtype="bfloat16")
SHAPE = policy_shape(CONFIG)


def make() -> tuple[Policy, TrainedPolicy]:
    policy = Policy(SHAPE, torch.Generator().manual_seed(0))
    return policy, TrainedPolicy(CONFIG, SHAPE, policy.state_dict(), return_scale=7.5)


def test_save_and_load_give_back_configuration_shape_and_weights(tmp_path: Path) -> None:
    _, trained = make()
    trained.save(tmp_path / "policy.pt")
    loaded = TrainedPolicy.load(tmp_path / "policy.pt")
    assert loaded.config == trained.config
    assert loaded.shape == SHAPE
    assert loaded.return_scale == 7.5
    observations = torch.ones(1, SHAPE.n_features)
    assert torch.equal(loaded.policy()(observations)[1], trained.policy()(observations)[1])


def test_the_file_needs_no_pickled_code(tmp_path: Path) -> None:
    make()[1].save(tmp_path / "policy.pt")
    assert set(torch.load(tmp_path / "policy.pt", weights_only=True)) == {"config", "shape", "state", "return_scale"}


@pytest.mark.parametrize("content", [b"", b"not a policy", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_policy_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"policy\.pt is no policy saved by esper"):
        TrainedPolicy.load(path)


def test_another_torch_file_and_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.pt"
    torch.save({"weights": 1}, path)
    with pytest.raises(ValueError, match="is no policy saved by esper"):
        TrainedPolicy.load(path)
    torch.save({"config": {"flux": 1}, "shape": (4, 2, 3), "state": {}}, path)
    with pytest.raises(ValueError, match="another version of esper"):
        TrainedPolicy.load(path)


def test_a_file_that_is_not_there_or_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TrainedPolicy.load(tmp_path / "policy.pt")
    with pytest.raises(FileNotFoundError):
        make()[1].save(tmp_path / "nowhere" / "policy.pt")
