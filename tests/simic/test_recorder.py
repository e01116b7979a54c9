"""What an UpdateRecorder says of an update is what NumPy makes of the same numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from esper.leyline import PPOUpdatePayload
from esper.simic.assessment import Steps
from esper.simic.diagnostics import UpdateRecorder
from esper.simic.recorder import mean

LOG_RATIOS = [[np.array([0.1, -0.2, 0.0]), np.array([0.3, 0.05])], [np.array([0.5, -0.4, 0.02]), np.array([0.0, 0.15])]]


def recorded(**options: Any) -> Any:
    recorder = UpdateRecorder(clip_ratio=0.2)
    for epoch, minibatches in enumerate(LOG_RATIOS):
        for index, log_ratio in enumerate(minibatches):
            recorder.step(
                policy_loss=-0.1 * (epoch + 1), value_loss=np.float32(0.5 + index), entropy=1.25, log_ratio=log_ratio
            )
        recorder.end_epoch()
    return recorder.fields(**options)


def test_means_are_over_the_minibatches_and_ratios_over_the_last_epoch() -> None:
    fields = recorded()
    last = np.exp(np.concatenate(LOG_RATIOS[1]))
    every = np.exp(np.concatenate([part for epoch in LOG_RATIOS for part in epoch]))
    assert fields["policy_loss"] == pytest.approx(-0.15)
    assert fields["value_loss"] == pytest.approx(1.0)
    assert (fields["entropy"], fields["entropy_loss"]) == (1.25, -1.25)
    assert fields["clip_fraction"] == pytest.approx(np.mean(np.abs(every - 1) > 0.2))
    assert fields["kl_divergence"] == pytest.approx(
        np.mean([np.mean(np.exp(part) - 1 - part) for part in LOG_RATIOS[1]]), rel=1e-5
    )
    for name, value in (("mean", last.mean()), ("min", last.min()), ("max", last.max()), ("std", last.std())):
        assert fields[f"ratio_{name}"] == pytest.approx(value, rel=1e-5)
    assert fields["inner_epoch"] == 2


def test_what_was_not_given_is_not_there_and_the_rest_makes_a_payload() -> None:
    payload = PPOUpdatePayload(**recorded(), batch=3)
    assert "explained_variance" not in payload.supplied
    assert math.isnan(payload.grad_norm), "no parameters were given"
    values, returns = np.array([1.0, 2.0, 2.5]), np.array([1.0, 2.0, 3.0])
    payload = PPOUpdatePayload(**recorded(values=values, returns=returns, advantages=returns - values))
    assert payload.explained_variance == pytest.approx(1 - np.var(returns - values) / np.var(returns))
    assert payload.advantage_mean == pytest.approx(0.5 / 3)


def test_gradients_are_measured_as_they_are_before_clipping() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    network(torch.ones(4, 3)).sum().backward()
    recorder = UpdateRecorder(clip_ratio=0.2)
    recorder.step(policy_loss=0.0, value_loss=0.0, entropy=0.0, log_ratio=[0.0], parameters=network)
    gradients = np.concatenate([each.grad.numpy().ravel() for each in network.parameters() if each.grad is not None])
    nn.utils.clip_grad_norm_(network.parameters(), 1e-3)
    fields = recorder.fields()
    assert fields["grad_norm"] == pytest.approx(np.linalg.norm(gradients), rel=1e-5)
    assert set(fields["layer_gradient_health"]) == {"0", "2"}
    assert (fields["nan_grad_count"], fields["inf_grad_count"]) == (0, 0)


def test_gradients_that_are_not_finite_are_counted() -> None:
    weight = nn.Parameter(torch.zeros(3))
    weight.grad = torch.tensor([math.nan, math.inf, 1.0])
    recorder = UpdateRecorder(clip_ratio=0.2)
    recorder.step(policy_loss=0.0, value_loss=0.0, entropy=0.0, log_ratio=[0.0], parameters=[weight])
    fields = recorder.fields()
    assert (fields["nan_grad_count"], fields["inf_grad_count"]) == (1, 1)


def test_nothing_recorded_and_half_of_what_a_variance_needs_are_refused() -> None:
    recorder = UpdateRecorder(clip_ratio=0.2)
    with pytest.raises(ValueError, match="no minibatch was recorded"):
        recorder.fields()
    with pytest.raises(ValueError, match="at least one sample"):
        recorder.step(policy_loss=0.0, value_loss=0.0, entropy=0.0, log_ratio=[])
    with pytest.raises(ValueError, match="needs both"):
        recorded(values=[1.0])


def test_a_loss_of_both_infinities_has_no_mean_and_is_no_error() -> None:
    recorder = UpdateRecorder(clip_ratio=0.2)
    for loss in (math.inf, -math.inf):
        recorder.step(policy_loss=loss, value_loss=math.inf, entropy=1.0, log_ratio=[0.0])
    fields = recorder.fields()
    assert math.isnan(fields["policy_loss"])
    assert fields["value_loss"] == math.inf


def test_a_mean_of_numbers_whose_sum_is_beyond_floats_is_theirs() -> None:
    assert mean([1e308, 1e308]) == 1e308
    assert math.isnan(mean([math.inf, -math.inf, 1.0]))


@pytest.mark.parametrize("buffer", [np.zeros(2), torch.zeros(2)], ids=["array", "tensor"])
def test_a_buffer_that_is_used_again_for_the_next_minibatch_is_remembered_as_it_was(buffer: Any) -> None:
    recorder = UpdateRecorder(clip_ratio=0.2)
    for log_ratio in (0.5, 0.0):
        buffer[:] = log_ratio
        recorder.step(policy_loss=0.0, value_loss=0.0, entropy=0.0, log_ratio=buffer)
    fields = recorder.fields()
    assert fields["ratio_max"] == pytest.approx(math.exp(0.5))
    assert fields["clip_fraction"] == 0.5


def test_python_s_and_numpy_s_numbers_keep_their_precision() -> None:
    recorder = UpdateRecorder(clip_ratio=0.2)
    recorder.step(policy_loss=0.1, value_loss=np.array([0.1, 0.3]), entropy=np.float64(1 / 3), log_ratio=[0.0])
    fields = recorder.fields(values=[1e8, 1e8 + 1], returns=[1e8, 1e8 + 1.5])
    assert (fields["policy_loss"], fields["value_loss"], fields["entropy"]) == (0.1, 0.2, 1 / 3)
    assert fields["explained_variance"] == pytest.approx(1 - 0.25**2 / 0.75**2)


def test_a_kl_limit_can_ask_after_each_epoch() -> None:
    recorder = UpdateRecorder(clip_ratio=0.2)
    for log_ratio in (0.1, 0.2):
        recorder.step(policy_loss=0.0, value_loss=0.0, entropy=0.0, log_ratio=[log_ratio])
        recorder.end_epoch()
        assert recorder.kl_divergence() == pytest.approx(math.exp(log_ratio) - 1 - log_ratio, rel=1e-5)
    assert recorder.fields()["kl_divergence"] == recorder.kl_divergence()


def test_a_step_that_a_gradient_scaler_skipped_has_an_infinite_norm_and_is_counted() -> None:
    recorder, weight = UpdateRecorder(clip_ratio=0.2), nn.Parameter(torch.zeros(2))
    for gradient, after in (([math.inf, math.nan], 512.0), ([math.nan, 1.0], 512.0), ([3.0, 4.0], 512.0)):
        weight.grad = torch.tensor(gradient)
        recorder.step(policy_loss=0.0, value_loss=0.0, entropy=0.0, log_ratio=[0.0], parameters=[weight])
        recorder.loss_scale(1024.0 if gradient[0] == math.inf else 512.0, after)
    assert recorder.steps() == Steps(attempted=3, taken=1, overflowed=1)
    assert recorder.gradients().norm == 5.0
    fields = recorder.fields()
    assert (fields["loss_scale"], fields["amp_overflow_detected"], fields["update_skipped"]) == (512.0, True, True)
    assert math.isnan(fields["grad_norm"]), "a NaN is no overflow"
    assert "loss_scale" not in recorded(), "nobody used a scaler"


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts how often a number is asked for, for which an accelerator would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.count = 0

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device_and_the_end_does_not_wait_for_each_parameter() -> None:
    waits = []
    for layers in (1, 30):
        network = nn.Sequential(*(nn.Linear(3, 3) for _ in range(layers)))
        loss = network(torch.ones(4, 3)).square().mean()
        torch.autograd.backward(loss)
        recorder = UpdateRecorder(clip_ratio=0.2)
        with _Waits() as during:
            recorder.step(policy_loss=loss, value_loss=loss, entropy=loss, log_ratio=torch.zeros(4), parameters=network)
        assert during.count == 0
        with _Waits() as after:
            assert len(recorder.fields()["layer_gradient_health"]) == layers
        waits.append(after.count)
    assert waits[0] == waits[1] > 0
