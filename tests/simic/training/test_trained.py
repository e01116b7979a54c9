"""A policy comes back from disk as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from esper.simic.config import TrainingConfig
from esper.simic.training.trained import TrainedPolicy
from esper.tamiyo.policy import Policy, PolicyShape

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = PolicyShape(n_features=4, n_slots=2, n_blueprints=3)


def make() -> tuple[Policy, TrainedPolicy]:
    policy = Policy(SHAPE, torch.Generator().manual_seed(0))
    return policy, TrainedPolicy.of(policy, TrainingConfig(seed=9, lr=0.5, amp_dtype="bfloat16"), SHAPE)


def test_save_and_load_give_back_configuration_shape_and_weights(tmp_path: Path) -> None:
    _, trained = make()
    trained.save(tmp_path / "policy.pt")
    loaded = TrainedPolicy.load(tmp_path / "policy.pt")
    assert loaded.config == trained.config
    assert loaded.shape == SHAPE
    observations = torch.ones(1, 4)
    assert torch.equal(loaded.policy()(observations)[1], trained.policy()(observations)[1])


def test_what_is_kept_does_not_change_when_the_policy_goes_on_learning() -> None:
    policy, trained = make()
    before = {name: weight.clone() for name, weight in trained.state.items()}
    with torch.no_grad():
        policy.value.weight.add_(1.0)
    assert all(torch.equal(trained.state[name], weight) for name, weight in before.items())


def test_the_file_needs_no_pickled_code(tmp_path: Path) -> None:
    make()[1].save(tmp_path / "policy.pt")
    assert set(torch.load(tmp_path / "policy.pt", weights_only=True)) == {"config", "shape", "state"}


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
