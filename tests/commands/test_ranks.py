"""Several processes that share a run, as torchrun starts them: the run is that of one process."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.killed_runs import PATIENCE, QUIET, differences, end, start, start_ranks

from esper.cli import main
from esper.karn.aggregator import TelemetryAggregator
from esper.karn.dashboard.feed import LogTail
from esper.karn.summary import snapshot_json
from esper.leyline.telemetry import PPOUpdatePayload, TelemetryEvent, TrainingStartedPayload
from esper.leyline.wire import read_events
from esper.simic.environment import GrowthEnv
from esper.simic.ppo import Learner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNEVEN = ["--envs", "4", "--episodes", "6", "--max-epochs", "3", "--seed", "5", *QUIET]
"""Three ranks have two environments, one and one; in the second batch one of them has none."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    assert end(start(["train", *UNEVEN, "--run-dir", str(run)])) == 0
    return run


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def starts(shard: Path) -> list[tuple[int, int, int]]:
    return [
        (each.data.world_size, each.data.rank, each.data.local_rank)
        for each in read_events(shard)
        if isinstance(each, TelemetryEvent) and isinstance(each.data, TrainingStartedPayload)
    ]


@pytest.mark.parametrize("count", [2, 4])
def test_a_run_of_several_processes_is_that_of_one(count: int, alone: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    assert [end(child) for child in start_ranks(count, ["train", *UNEVEN, "--run-dir", str(run)], out=out)] == (
        [0] * count
    ), out.read_text()
    assert differences(run, alone, ordered=False) == ""
    shards = [f"events-rank{rank}.jsonl" for rank in range(count)]
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint.pt", *shards, "policy.pt", "run.json"]
    for rank, shard in enumerate(shards):
        assert starts(run / shard) == [(count, rank, rank)]
        envs = {each.data.env_id for each in read_events(run / shard) if getattr(each.data, "env_id", None) is not None}  # type: ignore[union-attr]
        assert envs == set(range(rank, 4, count)), "each rank emits what its environments did"
    info = json.loads((run / "run.json").read_text())
    accounts = {sink["name"]: sink["delivered"] for sink in info["sinks"] if sink["name"].startswith("jsonl")}
    assert accounts == {
        f"jsonl of rank {rank}" if rank else "jsonl": len((run / shard).read_text().splitlines())
        for rank, shard in enumerate(shards)
    }
    assert f"{count} of {count} processes have started" in out.read_text()
    assert "6 of 6 episodes were played" in out.read_text()


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three processes that went on with two, and then more of it alone."""
    run = tmp_path_factory.mktemp("resumed") / "run"
    for count in (3, 2):
        arguments = ["train", *UNEVEN, "--run-dir", str(run)] if count == 3 else ["train", "--resume", str(run), *QUIET]
        children = start_ranks(count, arguments)
        wait_until((run / "policy.pt").exists)
        wait_until(lambda began=f'"world_size":{count}': began in (run / "events-rank1.jsonl").read_text())  # type: ignore[misc]
        for child in children:
            os.kill(child, signal.SIGTERM)
        assert {end(child) for child in children} <= {0, 143}
    assert end(start(["train", "--resume", str(run), *QUIET])) == 0
    return run


def test_a_run_of_three_goes_on_with_two_and_then_alone(resumed: Path, alone: Path) -> None:
    assert differences(resumed, alone, ordered=False) == ""
    assert starts(resumed / "events-rank1.jsonl") == [(3, 1, 1), (2, 1, 1)]
    assert starts(resumed / "events.jsonl") == [(1, 0, 0)]


def test_its_readers_see_what_they_see_of_a_run_that_was_left_alone(
    resumed: Path, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    duckdb = pytest.importorskip("duckdb")

    def told(*command: str) -> str:
        assert main(command) == 0
        return capsys.readouterr().out

    assert told("evaluate", str(resumed), "--episodes", "2") == told("evaluate", str(alone), "--episodes", "2")
    seen = [snapshot_of(json.loads(told("replay", "--json", str(run)))) for run in (resumed, alone)]
    assert seen[0] == seen[1]
    told("report", str(resumed), "-o", str(tmp_path / "report.html"))
    counts = []
    for run in (resumed, alone):
        database = duckdb.connect()
        database.execute(told("schema", "--duckdb", str(run)))
        views = ("epoch_completed", "reward_computed", "ppo_update_completed", "batch_epoch_completed")
        counts.append([database.execute(f"SELECT count(*) FROM {view}").fetchall() for view in views])
    assert counts[0] == counts[1]
    watched = TelemetryAggregator()
    for record, shard in LogTail(resumed).take().with_shards():
        assert isinstance(record, TelemetryEvent)
        watched.process(record, shard)
    assert snapshot_of(json.loads(snapshot_json(watched.snapshot()))) == seen[0]


def snapshot_of(snapshot: dict[str, Any]) -> dict[str, Any]:
    """Return what does not depend on who emitted it, and when."""
    group = snapshot["groups"]["default"]
    newest = {
        env_id: [env[kind][-1]["event"]["data"] for kind in ("epochs", "rewards")]
        for env_id, env in group["envs"].items()
    }
    batches = [entry["event"]["data"] for entry in group["batches"]]
    return {"actions": group["actions"], "lifecycle": group["lifecycle"], "newest": newest, "batches": batches}


def _rank_1_fails() -> None:
    if os.environ["RANK"] == "1":
        step, steps = GrowthEnv.step, 0

        def fail(self: GrowthEnv, action: object) -> object:
            nonlocal steps
            steps += 1
            if steps > 4:
                raise ArithmeticError("no more")
            return step(self, action)  # type: ignore[arg-type]

        GrowthEnv.step = fail  # type: ignore[assignment, method-assign]


def test_a_rank_that_fails_ends_the_run_with_its_reason(alone: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    children = start_ranks(3, ["train", *UNEVEN, "--run-dir", str(run)], out=out, first=_rank_1_fails)
    assert [end(child) for child in children] == [1, 1, 1]
    said = out.read_text()
    assert said.count("esper train: error: rank 1 failed: ArithmeticError: no more\n") == 1
    assert said.count("Traceback") == 1, "that of rank 1"
    info = json.loads((run / "run.json").read_text())
    assert (info["status"], info["error"]) == ("failed", "RankLostError: rank 1 failed: ArithmeticError: no more")
    assert main(["validate", str(run)]) == 0
    assert end(start(["train", "--resume", str(run), *QUIET])) == 0
    assert differences(run, alone, ordered=False) == ""


def test_a_rank_that_is_killed_ends_the_run_with_one_message(alone: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    children = start_ranks(3, ["train", *UNEVEN, "--run-dir", str(run)], out=out)
    wait_until((run / "policy.pt").exists)
    os.kill(children[2], signal.SIGKILL)
    assert [end(child) for child in children] == [1, 1, -signal.SIGKILL]
    assert out.read_text().count("esper train: error: another process of the run has ended without a word\n") == 1
    assert "Traceback" not in out.read_text()
    assert main(["validate", str(run)]) == 0
    assert end(start(["train", "--resume", str(run), *QUIET])) == 0
    assert differences(run, alone, ordered=False) == ""


def _rank_1_computes_otherwise() -> None:
    if os.environ["RANK"] == "1":
        update = Learner.update

        def differ(self: Learner, *args: Any, **kwargs: Any) -> PPOUpdatePayload:
            emitted = update(self, *args, **kwargs)
            with torch.no_grad():
                self.policy.value.bias.add_(1e-6)
            return emitted

        Learner.update = differ  # type: ignore[method-assign]


def test_ranks_whose_weights_differ_end_the_run(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    children = start_ranks(2, ["train", *UNEVEN, "--run-dir", str(run)], out=out, first=_rank_1_computes_otherwise)
    assert [end(child) for child in children] == [1, 1]
    assert out.read_text().count("esper train: error: the weights of rank 1 differ from those of rank 0 after update 0")
    assert out.read_text().count("esper train: error") == 1
    assert json.loads((run / "run.json").read_text())["status"] == "failed"


def test_a_mistake_of_the_user_is_named_once_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    children = start_ranks(3, ["train", "--envs", "2", "--run-dir", str(tmp_path / "run")], out=out)
    assert [end(child) for child in children] == [2, 2, 2]
    assert out.read_text() == (
        "esper train: error: 3 processes need at least as many environments, got envs 2: "
        "ask for more of these, or start fewer of those\n"
    )
    assert not (tmp_path / "run").exists()
