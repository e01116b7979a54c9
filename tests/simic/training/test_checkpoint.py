"""A run that goes on from a checkpoint is the run that was never interrupted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.builders import event
from tests.killed_runs import comparable

from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent, TrainingStartedPayload
from esper.simic.config import TrainingConfig
from esper.simic.training.checkpoint import Checkpoint
from esper.simic.training.vectorized import train_arms

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, Any] = {"episodes": 5, "envs": 2, "max_epochs": 3, "seed": 3}
MODES: list[dict[str, Any]] = [
    {},
    {"amp_dtype": "float16", "episodes": 3},
    {"amp_dtype": "bfloat16", "episodes": 3},
    {"ab": ("shaped", "sparse"), "episodes": 2, "envs": 1},
]


def but_for_starts(events: list[TelemetryEvent]) -> list[tuple[object, ...]]:
    return [comparable(each) for each in events if not isinstance(each.data, TrainingStartedPayload)]


@pytest.mark.parametrize("options", MODES, ids=lambda options: "-".join(map(str, options.values())) or "float32")
def test_from_each_checkpoint_on_weights_and_events_are_those_of_the_whole_run(
    options: dict[str, Any], tmp_path: Path
) -> None:
    config = TrainingConfig(**SMALL | options)
    emitted: list[TelemetryEvent] = []
    marks: list[int] = []

    def keep(checkpoint: Checkpoint) -> None:
        checkpoint.save(tmp_path / f"{len(marks)}.pt")
        marks.append(len(emitted))

    whole = train_arms(config, emitted.append, keep=keep)
    for number, mark in enumerate(marks):
        checkpoint = Checkpoint.load(tmp_path / f"{number}.pt")
        assert checkpoint.pending is not None
        resumed = [checkpoint.pending]
        policies = train_arms(config, resumed.append, resume=checkpoint, resume_path="there")
        assert but_for_starts(resumed) == but_for_starts(emitted[mark:])
        for policy, expected in zip(policies, whole, strict=True):
            assert policy.return_scale == expected.return_scale
            assert all(torch.equal(policy.state[name], weight) for name, weight in expected.state.items())


def test_a_resumed_run_says_where_it_goes_on_and_may_play_more_episodes() -> None:
    kept: list[Checkpoint] = []
    config = TrainingConfig(**SMALL | {"episodes": 3, "max_epochs": 2})
    train_arms(config, lambda _event: None, keep=kept.append)
    more = replace(config, episodes=6)
    emitted: list[TelemetryEvent] = []
    train_arms(more, emitted.append, resume=replace(kept[-1], config=more), resume_path="run/checkpoint.pt")
    start = emitted[0].data
    assert isinstance(start, TrainingStartedPayload)
    assert (start.resume_path, start.start_episode, start.n_episodes) == ("run/checkpoint.pt", 3, 6)
    assert not start.supplied & {"world_size", "rank", "local_rank"}
    batches = [each.data for each in emitted if isinstance(each.data, BatchEpochCompletedPayload)]
    assert [(batch.batch_idx, batch.episodes_completed, batch.n_envs) for batch in batches] == [(2, 5, 2), (3, 6, 1)]


def test_what_is_kept_does_not_change_when_training_goes_on() -> None:
    kept: list[Checkpoint] = []
    train_arms(TrainingConfig(**SMALL | {"max_epochs": 2}), lambda _event: None, keep=kept.append)
    (first,), (last,) = kept[0].policies(), kept[-1].policies()
    assert any(not torch.equal(first.state[name], weight) for name, weight in last.state.items())
    assert first.return_scale != last.return_scale


def test_the_file_needs_no_pickled_code_and_comes_back_as_it_was(tmp_path: Path) -> None:
    pending = event(BatchEpochCompletedPayload, avg_accuracy=float("nan"))
    checkpoint = Checkpoint(TrainingConfig(ab=("shaped", "sparse"), lr=0.1), 3, (), pending)
    checkpoint.save(tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["world_size"] == 3
    loaded = Checkpoint.load(tmp_path / "checkpoint.pt")
    assert loaded.config == checkpoint.config
    assert (loaded.world_size, loaded.arms, loaded.completed) == (3, (), 0)
    assert repr(loaded.pending) == repr(pending)
    assert loaded.policies() == ()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is no checkpoint written by esper"):
        Checkpoint.load(path)


@pytest.mark.parametrize("wrong", [{"format": 2}, {"config": {"knots": 3}}, {"arms": None}])
def test_a_checkpoint_of_another_version_is_refused_by_name(wrong: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    Checkpoint(TrainingConfig()).save(path)
    torch.save(torch.load(path, weights_only=True) | wrong, path)
    with pytest.raises(ValueError, match="another version of esper"):
        Checkpoint.load(path)


def test_options_that_change_are_checked_instead_of_the_kept_ones(tmp_path: Path) -> None:
    Checkpoint(TrainingConfig()).save(tmp_path / "checkpoint.pt")
    assert Checkpoint.load(tmp_path / "checkpoint.pt", episodes=7).config.episodes == 7
    with pytest.raises(ValueError, match="device must be one that torch can use here"):
        Checkpoint.load(tmp_path / "checkpoint.pt", device="cuda:77")
