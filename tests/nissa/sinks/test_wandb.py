from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.builders import payload

from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    SeedGerminatedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)
from esper.nissa.output import TelemetryHub
from esper.nissa.sinks.wandb import WandbSink

wandb = pytest.importorskip("wandb")
MESSAGES: Any = pytest.importorskip("wandb.proto.wandb_internal_pb2")

BLOCK, HEADER = 32_768, 7


def records(directory: Path) -> list[Any]:
    """Read wandb's own file, once its process has written it: that may be after the run was finished."""
    deadline = time.monotonic() + 60
    while not (found := list(_records(directory))) or not found[-1].HasField("exit"):
        assert time.monotonic() < deadline, "wandb never wrote the end of the run"
        time.sleep(0.01)
    return found


def _records(directory: Path) -> Iterator[Any]:
    """Read a short header, then protobuf messages in the framing of LevelDB's log, as far as there are any."""
    (path,) = directory.glob("wandb/offline-run-*/run-*.wandb")
    data, at, message = path.read_bytes(), HEADER, b""
    assert data.startswith(b":W&B") or not data
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if at + HEADER + length > len(data):
            return
        message += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in {1, 4}:  # whole, or the last part
            record = MESSAGES.Record()
            record.ParseFromString(message)
            yield record
            message = b""


def rows(directory: Path) -> list[dict[str, Any]]:
    """Return what was logged, but for wandb's own columns."""
    found = []
    for record in records(directory):
        if record.HasField("history"):
            row = {"/".join([item.key, *item.nested_key]).strip("/"): item.value_json for item in record.history.item}
            found.append({key: json.loads(value) for key, value in row.items() if not key.startswith("_")})
    return found


def merged(directory: Path, axis: str) -> dict[int, dict[str, Any]]:
    """Return the rows by their place on an axis; one step may have come in several."""
    steps: dict[int, dict[str, Any]] = {}
    for row in rows(directory):
        if axis in row:
            steps.setdefault(row[axis], {}).update(row)
    return steps


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def emit_all(directory: Path, *payloads: TelemetryPayload, group_id: str = "default") -> TelemetryHub:
    with TelemetryHub([WandbSink(directory)]) as hub:
        for payload in payloads:
            hub.emit(TelemetryEvent(data=payload, slot_id="r0", group_id=group_id, message="a message"))
    return hub


def update(batch: int, **more: float) -> PPOUpdatePayload:
    numbers = {
        "policy_loss": -0.01,
        "value_loss": 0.5,
        "entropy": 1.5,
        "grad_norm": 0.5,
        "kl_divergence": 0.25 * batch,
        "clip_fraction": 0.1,
        "nan_grad_count": 0,
        "batch": batch,
    }
    return PPOUpdatePayload.from_dict(numbers | more)


def test_a_run_is_read_back_from_its_own_file(tmp_path: Path) -> None:
    started = TrainingStartedPayload(2, 3, "digits", 706, ("r0",), 7, 8, 1e-3, 0.2, 0.01, 1000, "cpu", ("cpu", "cpu"))
    hub = emit_all(
        tmp_path,
        started,
        SeedGerminatedPayload(slot_id="r0", env_id=0, blueprint_id="mixer", params=144),
        EpochCompletedPayload(0, 0.25, 1.0, 1),
        EpochCompletedPayload(1, 0.5, 1.0, 1),
        update(0, explained_variance=math.nan),
        BatchEpochCompletedPayload(2, 0, 0.5, 1.0, 8, 2),
        EpochCompletedPayload(0, 0.75, 1.0, 1),
        update(1, grad_norm=math.inf),
    )
    assert hub.stats()[0].delivered == 8

    epochs, batches = merged(tmp_path, "env_epoch"), merged(tmp_path, "batch")
    assert epochs[0]["SeedGerminated/r0/env0"] == "a message"
    assert epochs[1]["EpochCompleted/val_accuracy/env0"] == 0.25
    assert epochs[1]["EpochCompleted/val_accuracy/env1"] == 0.5
    assert epochs[4]["EpochCompleted/val_accuracy/env0"] == 0.75
    assert [batches[batch]["PPOUpdate/kl_divergence"] for batch in (0, 1)] == [0.0, 0.25]
    assert batches[0]["BatchEpochCompleted/avg_reward"] == 1.0

    # Not finite is kept, in wandb's own notation; not supplied is not there.
    assert math.isnan(float(batches[0]["PPOUpdate/explained_variance"]))
    assert float(batches[1]["PPOUpdate/grad_norm"]) == math.inf
    assert "PPOUpdate/explained_variance" not in batches[1]

    config = {item.key: json.loads(item.value_json) for r in records(tmp_path) for item in r.config.update}
    assert (config["task"], config["lr"], config["slot_ids"]) == ("digits", 1e-3, ["r0"])
    axes = {r.metric.glob_name: r.metric.step_metric for r in records(tmp_path) if r.HasField("metric")}
    assert axes["PPOUpdate/*"] == "batch"
    assert axes["EpochCompleted/*"] == "env_epoch"


def test_a_group_stands_apart_and_text_that_is_no_unicode_is_rejected(tmp_path: Path) -> None:
    bad = EpochCompletedPayload(0, 0.5, 1.0, 1, seeds={"\ud800": {"alpha": 0.5}})
    hub = emit_all(tmp_path, bad, update(0), group_id="B")
    assert (hub.stats()[0].rejected, hub.stats()[0].delivered) == (1, 1)
    assert merged(tmp_path, "batch")[0]["B/PPOUpdate/entropy"] == 1.5


def test_it_logs_to_a_run_of_yours(tmp_path: Path) -> None:
    run = wandb.init(dir=str(tmp_path), project="mine", config={"own": 1})
    with TelemetryHub([WandbSink(run=run)]) as hub:
        hub.emit(TelemetryEvent(data=update(0)))
    assert merged(tmp_path, "batch")[0]["PPOUpdate/entropy"] == 1.5


def test_without_the_library_the_message_says_what_to_install() -> None:
    script = """
import sys
sys.modules["wandb"] = None
from esper.nissa.sinks.wandb import WandbSink
try:
    WandbSink()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "WandbSink needs Weights & Biases: pip install 'esper-telemetry[wandb]'\n"


def test_what_is_drawn_after_a_resume_is_marked_since_wandb_takes_nothing_back(tmp_path: Path) -> None:
    started = payload(TrainingStartedPayload, n_envs=1, max_epochs=2, start_episode=1)
    emit_all(tmp_path, update(0), update(1), started, update(1))
    rows = merged(tmp_path, "batch")
    assert "drawn_anew" not in rows[0]
    assert rows[1]["drawn_anew"] == 1
