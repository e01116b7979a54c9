"""``esper train --resume``: a run that was killed goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from tests.builders import event
from tests.killed_runs import PATIENCE, QUIET, TINY, Death, differences, end, start

from esper.cli import main
from esper.commands.resume import checkpoint_to_resume, complete_logs
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfo
from esper.leyline.telemetry import BatchEpochCompletedPayload, TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import encode_event, read_events
from esper.nissa.sinks.jsonl import JsonlSink, LogInUseError
from esper.simic.config import TrainingConfig
from esper.simic.rollout import ReturnScale
from esper.simic.training.checkpoint import Checkpoint
from esper.simic.training.trained import policy_shape
from esper.tamiyo.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FLOAT16, BFLOAT16 = ["--amp-dtype", "float16"], ["--amp-dtype", "bfloat16"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], Path]:
    """Runs of some options that are left alone."""
    runs: dict[str, Path] = {}

    def run(options: list[str]) -> Path:
        key = "".join(options)
        if key not in runs:
            runs[key] = tmp_path_factory.mktemp("alone") / "run"
            assert end(start(["train", *TINY, *options, "--run-dir", str(runs[key])])) == 0
        return runs[key]

    return run


def resume(run: Path, *options: str) -> int:
    return end(start(["train", "--resume", str(run), *QUIET, *options], out=run.parent / "out"))


# --- runs that are killed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("death", "options"),
    [
        (Death(1, "before", "replace", "checkpoint.pt"), []),
        (Death(2, "after", "replace", "checkpoint.pt"), FLOAT16),
        (Death(1, "before", "fsync", "events.jsonl"), BFLOAT16),
        (Death(2, "amid", "write", "events.jsonl"), []),
    ],
    ids=["first checkpoint's rename", "second checkpoint", "barrier", "torn line"],
)
def test_a_run_that_was_killed_ends_as_one_that_was_left_alone(
    death: Death, options: list[str], alone: Callable[[list[str]], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert end(start(["train", *TINY, *options, "--run-dir", str(run)], death=death)) == -signal.SIGKILL
    assert resume(run) == 0
    assert differences(run, alone(options)) == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_a_signal_ended_can_be_evaluated_and_goes_on(
    number: signal.Signals, alone: Callable[[list[str]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    child = start(["train", *TINY, "--run-dir", str(run)], out=tmp_path / "out")
    wait_until((run / "policy.pt").exists)
    os.kill(child, number)
    assert end(child) == 128 + number
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    assert f"esper train --resume {run}" in (tmp_path / "out").read_text()
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0
    assert "Test accuracy of the learnt policy" in capsys.readouterr().out
    assert resume(run) == 0
    assert differences(run, alone([])) == ""
    assert main(["replay", str(run)]) == 0
    summary = capsys.readouterr().out
    assert (tmp_path / "out").read_text().endswith(summary), "the closing summary is that of the whole run"
    assert "Resumed once" in summary
    assert "5 of 5 episodes" in summary


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_that_is_killed_before_it_has_learnt_anything_begins_anew(
    alone: Callable[[list[str]], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    death = Death(1, "before", "write", "events.jsonl")
    assert end(start(["train", *TINY, "--run-dir", str(run)], death=death)) == -signal.SIGKILL
    assert resume(run) == 0
    assert differences(run, alone([])) == ""


# --- what may change -------------------------------------------------------------------------------------------------


def begun(path: Path, config: TrainingConfig | None = None, *, status: str = "interrupted") -> RunDirectory:
    """Return a run directory with a checkpoint."""
    run = RunDirectory.create(path)
    Checkpoint(config or TrainingConfig(episodes=8)).save(run.checkpoint)
    info = RunInfo(
        status="completed" if status == "completed" else "interrupted",
        started=event(BatchEpochCompletedPayload).timestamp,
        configuration={},
        versions={},
    )
    run.write_info(info)
    return run


def test_a_run_goes_on_with_its_own_configuration_and_more_episodes(tmp_path: Path) -> None:
    config = TrainingConfig(episodes=8, lr=0.25, ab=("shaped", "sparse"), episode_id="mine")
    run = begun(tmp_path / "run", config)
    assert checkpoint_to_resume(run, {}).config == config
    same = {"episodes": 12, "lr": 0.25, "ab": ("shaped", "sparse")}
    assert checkpoint_to_resume(run, same).config == replace(config, episodes=12)
    assert checkpoint_to_resume(run, {"device": "cpu:0"}).config == replace(config, device="cpu:0")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"episodes": 7}, "episodes may only become more: the run plans 8, got 7"),
        ({"lr": 0.1}, "lr may not change when a run is resumed: it is 0.003, got 0.1"),
        ({"seed": 1}, "seed may not change when a run is resumed: it is 0, got 1"),
        ({"task": "my:task"}, "task may not change when a run is resumed: it is 'digits', got 'my:task'"),
        ({"device": "cuda:77"}, "device must be one that torch can use here, got 'cuda:77'"),
    ],
)
def test_what_may_not_change_is_refused_in_a_sentence(given: dict[str, object], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^(.*checkpoint\\.pt: )?{re.escape(sentence)}$"):
        checkpoint_to_resume(begun(tmp_path / "run"), given)


def test_a_task_of_ones_own_is_named_again_because_data_name_no_code(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", TrainingConfig(task="wine:wine"))
    with pytest.raises(ValueError, match="code outside esper; if you trust it, say --task wine:wine"):
        checkpoint_to_resume(run, {})
    assert checkpoint_to_resume(run, {"task": "wine:wine"}).config.task == "wine:wine"


def test_there_has_to_be_something_to_go_on_from_and_something_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(tmp_path / "run", status="completed")
    config = Checkpoint.load(run.checkpoint).config
    weights = Policy(policy_shape(config), torch.Generator()).state_dict()
    learner = {"policy": weights, "return_scale": ReturnScale().state_dict()}
    state = {"completed": 8, "batches": 2, "learner": learner, "accuracies": [], "without_a_step": []}
    state |= {"seeds_made": [], "typical": {}}
    replace(Checkpoint.load(run.checkpoint), arms=(state,)).save(run.checkpoint)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is complete, its 8 episodes have been played: ask for more with --episodes"):
        checkpoint_to_resume(run, {})
    assert checkpoint_to_resume(run, {"episodes": 9}).completed == 8
    run.checkpoint.unlink()
    assert main(["train", "--resume", str(run.path)]) == 2
    assert "holds no checkpoint.pt to go on from: train anew" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path / "nowhere")]) == 2
    assert "no such run" in capsys.readouterr().err


# --- what a run that was killed could not write ----------------------------------------------------------------------


def write(path: Path, *events: TelemetryEvent) -> None:
    path.write_text("".join(encode_event(each) + "\n" for each in events))


def events_of(path: Path) -> list[object]:
    return [each.data if isinstance(each, TelemetryEvent) else each for each in read_events(path)]


def test_the_end_of_the_batch_is_appended_to_a_log_that_lacks_it_and_to_no_other(tmp_path: Path) -> None:
    run = begun(tmp_path)
    pending = event(BatchEpochCompletedPayload, batch_idx=4)
    checkpoint = replace(Checkpoint.load(run.checkpoint), pending=pending)
    write(run.log, event(BatchEpochCompletedPayload, batch_idx=3))
    torn = encode_event(pending)[:-9]
    run.log.write_text(run.log.read_text() + torn)
    for _ in range(2):
        complete_logs(run, checkpoint)
        assert [data.batch_idx for data in events_of(run.log) if isinstance(data, BatchEpochCompletedPayload)] == [3, 4]
    run.log.unlink()
    complete_logs(run, replace(checkpoint, world_size=2))
    assert not run.log.exists()
    assert events_of(run.shard(0)) == [pending.data]


def started(rank: int, start_episode: int = 0, world_size: int = 2) -> TelemetryEvent:
    return event(TrainingStartedPayload, world_size=world_size, rank=rank, local_rank=rank, start_episode=start_episode)


def test_a_start_that_a_rank_was_killed_before_is_appended_to_its_shard(tmp_path: Path) -> None:
    run = begun(tmp_path)
    write(run.shard(0), started(0), started(0, 4))
    write(run.shard(1), started(1))
    write(run.shard(2), started(2, 8, world_size=3))
    for _ in range(2):
        complete_logs(run, Checkpoint.load(run.checkpoint))
        starts = [
            [(data.world_size, data.rank, data.start_episode) for data in events_of(run.shard(rank))
             if isinstance(data, TrainingStartedPayload)]
            for rank in range(3)
        ]  # fmt: skip
        assert starts == [[(2, 0, 0), (2, 0, 4), (3, 0, 8)], [(2, 1, 0), (2, 1, 4), (3, 1, 8)], [(3, 2, 8)]]


def test_a_run_that_still_runs_is_left_alone(tmp_path: Path) -> None:
    run = begun(tmp_path)
    sink = JsonlSink(run.log)
    with pytest.raises(LogInUseError):
        complete_logs(run, Checkpoint.load(run.checkpoint))
    sink.close()
