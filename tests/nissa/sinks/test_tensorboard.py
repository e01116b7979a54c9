from __future__ import annotations

import math
import subprocess
import sys
from itertools import chain
from pathlib import Path

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
from esper.nissa.sinks.tensorboard import TensorBoardSink

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]  # it has none
    EventAccumulator,
)


def read(directory: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def curve(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in read(directory).Scalars(tag)]


def emit_all(directory: Path, *payloads: TelemetryPayload, group_id: str = "default") -> TelemetryHub:
    with TelemetryHub([TensorBoardSink(directory)]) as hub:
        for payload in payloads:
            hub.emit(TelemetryEvent(data=payload, slot_id="r0", group_id=group_id, message="a message"))
    return hub


def update(batch: int, **more: float) -> PPOUpdatePayload:
    numbers = {
        "policy_loss": -0.01,
        "value_loss": 0.5,
        "entropy": 1.5 - batch,
        "grad_norm": 0.5,
        "kl_divergence": 0.25 * batch,
        "clip_fraction": 0.1,
        "nan_grad_count": 0,
        "batch": batch,
    }
    return PPOUpdatePayload.from_dict(numbers | more)


def test_a_number_is_a_curve_under_the_fields_own_name(tmp_path: Path) -> None:
    emit_all(tmp_path, *(update(batch) for batch in range(5)))
    assert curve(tmp_path, "PPOUpdate/kl_divergence") == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]


def test_what_was_not_supplied_is_not_there(tmp_path: Path) -> None:
    emit_all(tmp_path, update(0), update(1, explained_variance=0.0))
    assert curve(tmp_path, "PPOUpdate/explained_variance") == [(1, 0.0)]
    assert "PPOUpdate/loss_scale" not in read(tmp_path).Tags()["scalars"]


def test_what_is_not_finite_is_written_as_it_is(tmp_path: Path) -> None:
    emit_all(tmp_path, update(0, explained_variance=math.nan), update(1, explained_variance=math.inf))
    (_, nan), (_, infinite) = curve(tmp_path, "PPOUpdate/explained_variance")
    assert math.isnan(nan)
    assert infinite == math.inf


def test_every_environment_is_a_run_and_all_share_one_tag(tmp_path: Path) -> None:
    epochs = [EpochCompletedPayload(env_id, 0.25 * env_id, 1.0, epoch) for epoch in (1, 2) for env_id in (0, 1)]
    emit_all(tmp_path, *epochs, BatchEpochCompletedPayload(2, 0, 0.5, 1.0, 8, 2), EpochCompletedPayload(1, 0.5, 1.0, 1))
    assert curve(tmp_path / "env0", "EpochCompleted/val_accuracy") == [(1, 0.0), (2, 0.0)]
    assert curve(tmp_path / "env1", "EpochCompleted/val_accuracy") == [(1, 0.25), (2, 0.25), (3, 0.5)]
    assert curve(tmp_path, "BatchEpochCompleted/avg_accuracy") == [(0, 0.5)]


def test_the_life_of_a_seed_is_text(tmp_path: Path) -> None:
    emit_all(tmp_path, SeedGerminatedPayload(slot_id="r0", env_id=0, blueprint_id="mixer", params=144))
    found = read(tmp_path / "env0")
    assert found.Tags()["scalars"] == []
    (text,) = found.Tensors("SeedGerminated/r0")
    words = text.tensor_proto.string_val[0].decode()
    assert words.startswith("**a message**")
    assert "| blueprint_id | mixer |" in words
    assert "| params | 144 |" in words
    assert "alpha" not in words  # it was not supplied


def test_what_a_resume_runs_again_is_drawn_anew_and_not_back(tmp_path: Path) -> None:
    def started(start_episode: int) -> TrainingStartedPayload:
        return payload(TrainingStartedPayload, n_envs=1, max_epochs=2, n_episodes=6, start_episode=start_episode)

    def batch(index: int) -> list[TelemetryPayload]:
        epochs = [payload(EpochCompletedPayload, inner_epoch=epoch, val_loss=float(index)) for epoch in (1, 2)]
        return [*epochs, payload(BatchEpochCompletedPayload, batch_idx=index, episodes_completed=index + 1)]

    first, resumed = (started(at) for at in (0, 2))
    emit_all(tmp_path, first, *chain(*map(batch, range(4))), resumed, *chain(*map(batch, range(2, 6))))
    assert [step for step, _ in curve(tmp_path, "BatchEpochCompleted/batch_idx")] == [0, 1, 2, 3, 4, 5]
    losses = curve(tmp_path / "env0", "EpochCompleted/val_loss")
    assert losses == [(step, float((step - 1) // 2)) for step in range(1, 13)]


def test_a_process_that_resumes_retracts_what_the_one_before_it_wrote(tmp_path: Path) -> None:
    started = payload(TrainingStartedPayload, n_envs=1, max_epochs=2, start_episode=1)
    emit_all(tmp_path, *(payload(BatchEpochCompletedPayload, batch_idx=index) for index in range(3)))
    emit_all(tmp_path, started, payload(BatchEpochCompletedPayload, batch_idx=1, avg_reward=7.0))
    assert curve(tmp_path, "BatchEpochCompleted/avg_reward") == [(0, 0.0), (1, 7.0)]


def test_a_warning_that_comes_first_after_a_resume_is_drawn_too(tmp_path: Path) -> None:
    started = payload(TrainingStartedPayload, n_envs=1, max_epochs=1, start_episode=1)
    lived = payload(EpochCompletedPayload, inner_epoch=1, val_loss=3.0)
    with TelemetryHub([TensorBoardSink(tmp_path)]) as hub:
        hub.emit(TelemetryEvent(data=started))
        hub.emit(TelemetryEvent(data=lived, message="diverged", severity="warning"))
    assert curve(tmp_path / "env0", "EpochCompleted/val_loss") == [(2, 3.0)]
    (text,) = read(tmp_path / "env0").Tensors("messages/warning")
    assert text.tensor_proto.string_val == [b"diverged"]


def test_a_warning_is_shown_as_text(tmp_path: Path) -> None:
    with TelemetryHub([TensorBoardSink(tmp_path)]) as hub:
        hub.emit(TelemetryEvent(data=update(0), message="entropy collapsed", severity="warning"))
    (text,) = read(tmp_path).Tensors("messages/warning")
    assert text.tensor_proto.string_val == [b"entropy collapsed"]


def test_an_ab_group_is_a_run_that_cannot_leave_the_directory(tmp_path: Path) -> None:
    emit_all(tmp_path / "logs", update(0), group_id="../B")
    assert curve(tmp_path / "logs" / "%2E%2E%2FB", "PPOUpdate/entropy") == [(0, 1.5)]
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_groups_of_similar_names_stay_apart(tmp_path: Path) -> None:
    groups = ["a/b", "a_b", "a b", "a%2Fb", "", ".", "..", "env0", "env00", "x" * 300, "x" * 301, "ä"]
    with TelemetryHub([TensorBoardSink(tmp_path / "logs")]) as hub:
        for number, group_id in enumerate(groups):
            hub.emit(TelemetryEvent(data=update(number), group_id=group_id))
        hub.emit(TelemetryEvent(data=EpochCompletedPayload(0, 0.5, 1.0, 1)))  # in env0 of the default group
    assert hub.stats()[0].delivered == len(groups) + 1
    directories = [path for path in (tmp_path / "logs").iterdir() if path.is_dir()]
    assert len(directories) == len(groups) + 1
    assert "PPOUpdate/entropy" not in read(tmp_path / "logs" / "env0").Tags()["scalars"]
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_no_file_stays_open_however_many_environments_there_are(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    hub = TelemetryHub([TensorBoardSink(tmp_path)])
    for env_id in range(300):
        hub.emit(TelemetryEvent(data=EpochCompletedPayload(env_id, 0.5, 1.0, 1)))
    assert hub.flush()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    hub.emit(TelemetryEvent(data=EpochCompletedPayload(7, 0.25, 1.0, 2)))
    assert hub.close()
    assert curve(tmp_path / "env7", "EpochCompleted/val_accuracy") == [(1, 0.5), (2, 0.25)]


def test_what_was_flushed_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    hub = TelemetryHub([TensorBoardSink(tmp_path)])
    hub.emit(TelemetryEvent(data=update(0)))
    assert hub.flush()
    assert curve(tmp_path, "PPOUpdate/entropy") == [(0, 1.5)]
    hub.close()


def test_what_the_format_cannot_hold_is_rejected_and_the_next_one_is_written(tmp_path: Path) -> None:
    bad = BatchEpochCompletedPayload(4, 0, 10**400, 1.0, 8, 4)
    worse = EpochCompletedPayload(0, 0.5, 1.0, 1, seeds={"\ud800": {"alpha": 0.5}})
    hub = emit_all(tmp_path, bad, worse, update(0))
    assert hub.stats()[0].rejected == 2
    assert curve(tmp_path, "PPOUpdate/entropy") == [(0, 1.5)]


def test_an_interpreter_that_exits_without_close_still_writes(tmp_path: Path) -> None:
    script = """
from esper.leyline.telemetry import EpochCompletedPayload, TelemetryEvent
from esper.nissa.output import TelemetryHub
from esper.nissa.sinks.tensorboard import TensorBoardSink
hub = TelemetryHub([TensorBoardSink(".")])
for epoch in (1, 2):
    hub.emit(TelemetryEvent(data=EpochCompletedPayload(0, 0.5, 1.0, epoch)))
    hub.flush() if epoch == 1 else None
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert curve(tmp_path / "env0", "EpochCompleted/val_loss") == [(1, 1.0), (2, 1.0)]


def test_without_the_library_the_message_says_what_to_install() -> None:
    script = """
import sys
sys.modules["tensorboard"] = None
from esper.nissa.sinks.tensorboard import TensorBoardSink
try:
    TensorBoardSink("logs")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "TensorBoardSink needs TensorBoard: pip install 'esper-telemetry[tensorboard]'\n"
