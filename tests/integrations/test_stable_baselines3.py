"""What the callback tells of a training, and that it leaves no trace on the model, however the training ends."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from tests.integrations.trainers import Emitted, model, untouched, weights

from esper.integrations.stable_baselines3 import TelemetryCallback
from esper.leyline.health import judge_update, severity_of
from esper.leyline.limits import Limits
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEventType,
    TrainingStartedPayload,
)
from esper.leyline.typical import Typical


class Calling(BaseCallback):
    """Calls something at one of a trainer's moments."""

    def __init__(self, moment: str, call: Any) -> None:
        super().__init__()
        self._moment, self._call = moment, call

    def _at(self, moment: str) -> Any:
        return self._call(self.model) if moment == self._moment else None

    def _on_step(self) -> bool:
        return self._at("step") is not False

    def _on_rollout_end(self) -> None:
        self._at("rollout end")


# ── how a training ends ────────────────────────────────────────────────────────────────────────────────────────────

TRAINER = ("on_policy_algorithm.py", "ppo.py", "buffers.py")


class InterruptedAt:
    """Ctrl-C at the n-th line that the trainer runs after a rollout; ``lines`` counts them."""

    def __init__(self, line: int) -> None:
        self._line = line
        self.lines = 0

    def begin(self, _model: object) -> None:
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.endswith(TRAINER):
                frame.f_trace = self.trace
            frame = frame.f_back
        sys.settrace(self.trace)

    def trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.endswith(TRAINER):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._line:
                raise KeyboardInterrupt
        return self.trace


def test_an_interrupt_at_any_line_of_the_trainer_leaves_nothing_behind_and_is_no_update() -> None:
    emitted, trained = Emitted(), model(n_steps=4, batch_size=4, n_epochs=2)
    callback, before, steps = TelemetryCallback(emitted), sys.gettrace(), list[None]()
    trained.policy.optimizer.register_step_post_hook(lambda *_: steps.append(None))
    for line in range(1, 2_000):
        interrupt = InterruptedAt(line)
        emitted.clear()
        steps.clear()
        try:
            trained.learn(4, callback=[callback, Calling("rollout end", interrupt.begin)], reset_num_timesteps=False)
        except KeyboardInterrupt:
            assert untouched(trained), line
            assert sys.getprofile() is None
        else:
            break
        finally:
            sys.settrace(before)
            torch.set_grad_enabled(True)  # an interrupt on the way into no_grad() leaves it set
        assert len(emitted.of(PPOUpdatePayload)) <= (len(steps) == 2), line
    assert 100 < line < 1_999, "the interrupts did not strike, or never ended"
    assert untouched(trained)


def _raise(_model: object) -> None:
    raise RuntimeError


def test_neither_an_error_nor_a_callback_that_returns_false_leaves_anything_behind() -> None:
    emitted, trained = Emitted(), model()
    with pytest.raises(RuntimeError):
        trained.learn(32, callback=[TelemetryCallback(emitted), Calling("rollout end", _raise)])
    assert untouched(trained)
    trained.learn(32, callback=[TelemetryCallback(emitted), Calling("step", lambda _: False)])
    assert untouched(trained)
    assert emitted.of(PPOUpdatePayload) == []
    assert sys.getprofile() is None


def test_a_profiler_of_somebody_else_is_left_alone() -> None:
    def profiler(*_: object) -> None:
        pass

    emitted, trained, before = Emitted(), model(), sys.getprofile()
    sys.setprofile(profiler)
    try:
        trained.learn(64, callback=TelemetryCallback(emitted))
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(before)
    assert len(emitted.of(PPOUpdatePayload)) == 2


# ── beside other callbacks ─────────────────────────────────────────────────────────────────────────────────────────


def _saved(trained: Any, into: dict[str, bytes]) -> None:
    file = io.BytesIO()
    trained.save(file)
    with zipfile.ZipFile(file) as archive:
        into.update({name: archive.read(name) for name in archive.namelist() if name != "system_info.txt"})


def test_a_model_that_is_saved_in_between_holds_nothing_of_the_callback() -> None:
    files: list[dict[str, bytes]] = [{}, {}]
    for watched, file in enumerate(files):
        trained = model()
        saving = Calling("rollout end", lambda model, file=file: _saved(model, file))
        trained.learn(64, callback=[TelemetryCallback(Emitted()), saving] if watched else [saving])
    assert files[0].keys() == files[1].keys()
    without, with_callback = (file["data"].decode() for file in files)
    assert "esper" not in with_callback
    assert without.count("\n") == with_callback.count("\n")
    assert files[0]["policy.pth"] == files[1]["policy.pth"]


def test_checkpoints_evaluations_and_normalised_rewards_go_beside_it(tmp_path: Path) -> None:
    ended: list[float] = []

    class Returns(gymnasium.Wrapper[Any, Any, Any, Any]):
        total = 0.0

        def reset(self, **kwargs: Any) -> Any:
            self.total = 0.0
            return super().reset(**kwargs)

        def step(self, action: Any) -> Any:
            observation, reward, terminated, truncated, info = super().step(action)
            self.total += float(reward)
            if terminated or truncated:
                ended.append(self.total)
            return observation, reward, terminated, truncated, info

    emitted = Emitted()
    envs = VecNormalize(make_vec_env(lambda: Returns(gymnasium.make("CartPole-v1")), 2, seed=1))
    beside = VecNormalize(make_vec_env("CartPole-v1", 1, seed=2), training=False)
    trained = PPO("MlpPolicy", envs, n_steps=32, batch_size=32, n_epochs=2, seed=1, device="cpu")
    checkpoints = CheckpointCallback(40, str(tmp_path), save_vecnormalize=True)
    evaluations = EvalCallback(beside, n_eval_episodes=1, eval_freq=50, verbose=0)
    trained.learn(192, callback=[checkpoints, TelemetryCallback(emitted, steps=True), evaluations])
    batches = emitted.of(BatchEpochCompletedPayload)
    assert sum(batch.n_envs for batch in batches) == batches[-1].episodes_completed == len(ended)
    total = sum(batch.avg_reward * batch.n_envs for batch in batches)
    assert total == pytest.approx(sum(ended))
    assert {reward.total_reward for reward in emitted.of(RewardComputedPayload)} == {1.0}
    assert len(emitted.of(PPOUpdatePayload)) == 3
    (saved,) = sorted(tmp_path.glob("*_80_steps.zip"))
    assert untouched(PPO.load(saved, device="cpu"))


# ── what is told ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_model_learns_the_same_with_and_without_every_step_told() -> None:
    learnt = []
    for callback in (None, TelemetryCallback(Emitted(), steps=True)):
        trained = model("categorical", 2)
        trained.learn(192, callback=callback)
        learnt.append(weights(trained))
    assert torch.equal(*learnt)


def test_a_run_without_plan_or_accuracy_says_so_and_a_second_learn_goes_on() -> None:
    emitted, trained = Emitted(), model("categorical", 4, seed=None, n_steps=64)
    callback = TelemetryCallback(emitted, task="balance", group_id="mine")
    trained.learn(256, callback=callback)
    trained.learn(256, callback=callback, reset_num_timesteps=False)
    first, second = emitted.of(TrainingStartedPayload)
    batches = emitted.of(BatchEpochCompletedPayload)
    assert (first.task, first.n_episodes, first.max_epochs, first.host_params) == ("balance", 0, 0, 0)
    assert first.env_devices == ()
    assert f"seed {first.seed} (that of torch: PPO was given none)" in emitted[0].message
    assert second.start_episode == batches[0].episodes_completed == batches[0].n_envs > 0
    assert [batch.batch_idx for batch in batches] == [0, 1]
    assert all(batch.avg_accuracy != batch.avg_accuracy for batch in batches)
    assert "rolling_accuracy" not in batches[0].supplied
    assert {event.group_id for event in emitted} == {"mine"}


def test_a_rollout_in_which_no_episode_ends_is_an_update_without_a_batch() -> None:
    emitted, trained = Emitted(), model("gaussian")
    trained.learn(32 * 7, callback=TelemetryCallback(emitted))  # an episode of Pendulum has 200 steps
    kinds = [event.event_type for event in emitted]
    assert kinds.count(TelemetryEventType.PPO_UPDATE_COMPLETED) == 7
    assert kinds.count(TelemetryEventType.BATCH_EPOCH_COMPLETED) == 1
    assert [update.batch for update in emitted.of(PPOUpdatePayload)] == [*range(7)]
    assert emitted.of(BatchEpochCompletedPayload)[0].batch_idx == 6


def test_a_density_is_no_confidence_and_parts_of_a_reward_are_not_made_up() -> None:
    for kind, continuous in (("categorical", False), ("gaussian", True)):
        emitted, trained = Emitted(), model(kind)
        trained.learn(32, callback=TelemetryCallback(emitted, steps=True))
        rewards = emitted.of(RewardComputedPayload)
        assert len(rewards) == 32
        assert all(np.isnan(reward.action_confidence) == continuous for reward in rewards)
        assert all(reward.action_name == "continuous" for reward in rewards) is continuous
        assert not any("base_acc_delta" in reward.supplied for reward in rewards)


def test_a_growing_network_tells_its_own_events_and_parts_of_the_reward() -> None:
    emitted, trained = Emitted(), model("growth", 2)
    trained.learn(16, callback=TelemetryCallback(emitted))
    rewards = emitted.of(RewardComputedPayload)
    assert len(rewards) == 16
    assert [reward.env_id for reward in rewards] == [0, 1] * 8
    assert all("base_acc_delta" in reward.supplied for reward in rewards)
    assert emitted.of(TrainingStartedPayload)[0].slot_ids == ("r0", "r1", "r2")
    assert 0 < emitted.of(BatchEpochCompletedPayload)[0].avg_accuracy < 1


def test_a_trainer_that_is_no_ppo_is_refused() -> None:
    with pytest.raises(TypeError, match="got A2C"):
        A2C("MlpPolicy", "CartPole-v1", device="cpu").learn(10, callback=TelemetryCallback(Emitted()))


def test_the_severity_of_an_update_is_what_the_rules_of_health_say_of_it() -> None:
    emitted = Emitted()
    ruinous = PPO("MlpPolicy", make_vec_env("CartPole-v1", 2), n_steps=32, batch_size=32, learning_rate=1.0, seed=1)
    ruinous.learn(192, callback=TelemetryCallback(emitted))
    updates = [event for event in emitted if isinstance(event.data, PPOUpdatePayload)]
    assert "error" in {event.severity for event in updates}
    typical = Typical()
    for event in updates:
        assert isinstance(event.data, PPOUpdatePayload)
        assert event.severity == severity_of(judge_update(event.data, Limits(clip_ratio=0.2), typical))
        typical = typical.after(event.data)


def test_returns_of_both_infinities_have_no_mean_and_end_no_training() -> None:
    callback = TelemetryCallback(emitted := Emitted())
    callback._returns = [np.inf, -np.inf]  # a policy that learnt from such would not last until the next rollout
    callback._emit_batch()
    assert np.isnan(emitted.of(BatchEpochCompletedPayload)[0].avg_reward)
