"""Trains with spies in place, and keeps what went into the numbers: weights, logits, gradients, actions, clocks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tests.simic.differential.network import Array, SeedWeights, Snapshot
from torch.nn.modules.module import register_module_forward_hook

from esper.kasmina.network import GrowingNetwork
from esper.leyline.telemetry import TelemetryEvent
from esper.simic.config import TrainingConfig
from esper.simic.environment import GrowthEnv
from esper.simic.ppo import Learner
from esper.simic.tasks import Task
from esper.simic.training.vectorized import train_arms
from esper.tamiyo.policy import Policy

TASK = f"{__name__}:tiny"


@cache
def tiny() -> Task:
    """Three classes that the order of four tokens tells apart; ninety examples train in no time."""
    rng = np.random.default_rng(7)
    inputs = rng.normal(size=(180, 4, 3))
    labels = (inputs[:, 0, 0] - inputs[:, 1, 0] > 0.4).astype(int) + (inputs[:, 2, 1] > inputs[:, 3, 1])
    return Task.from_arrays("tiny", inputs, labels, train=90, validation=60, width=5, batch_size=32)


@dataclass
class Forward:
    """What the policy was asked, and what it answered."""

    observations: Array
    logits: dict[str, Array]
    values: Array
    weights: dict[str, Array] = field(default_factory=dict)
    """Kept of an update only."""
    gradients: dict[str, Array] = field(default_factory=dict)
    """Of the loss as it was scaled, before anything was done to them; kept of an update only."""


@dataclass
class Gradients:
    """Of a growing network in its last training batch."""

    host: Array
    seeds: dict[str, Array]
    """By slot id."""


@dataclass
class Step:
    """One step of one environment."""

    action: tuple[int, ...]
    decision: Forward
    reward: float
    network: Snapshot
    gradients: Gradients
    seconds: float


@dataclass
class Played:
    """One episode of one environment."""

    control: tuple[float, ...]
    start: Snapshot
    steps: list[Step] = field(default_factory=list)


@dataclass
class Batch:
    """One batch of one arm."""

    episodes: list[Played] = field(default_factory=list)
    shuffling: Array | None = None
    """State of the generator that shuffles the samples, as the update began."""
    forwards: list[Forward] = field(default_factory=list)
    """Of the update, one an optimizer step."""
    seconds: float = 0.0


@dataclass
class Backward:
    """One training batch of a growing network: weights, data and gradients before the step."""

    network: Snapshot
    alphas: dict[str, float]
    training: tuple[str, ...]
    """Slots whose seed learns behind the host."""
    inputs: Array
    labels: Array
    host: dict[str, Array]
    seeds: dict[str, dict[str, Array]]


@dataclass
class Witnessed:
    """Everything about one run."""

    config: TrainingConfig
    events: list[TelemetryEvent] = field(default_factory=list)
    batches: dict[str, list[Batch]] = field(default_factory=dict)
    """By arm."""
    backwards: list[Backward] = field(default_factory=list)


def witness(**options: Any) -> Witnessed:
    """Run a configuration, and return what was seen."""
    defaults: dict[str, Any] = {"task": TASK, "envs": 2, "episodes": 5, "max_epochs": 8, "seed": 5}
    config = TrainingConfig(**(defaults | options))
    seen = Witnessed(config)
    with pytest.MonkeyPatch.context() as patch, _Spies(seen, patch).placed():
        train_arms(config, seen.events.append)
    return seen


class _Spies:
    """Each calls what it stands before, and notes what went in and came out."""

    def __init__(self, seen: Witnessed, patch: pytest.MonkeyPatch) -> None:
        self._seen = seen
        self._patch = patch
        self._decisions: deque[Forward] = deque()
        self._updating: list[Forward] | None = None
        self._playing: dict[int, Played] = {}
        self._newest: dict[int, Gradients] = {}
        self._n_backwards = 0

    def placed(self) -> Any:
        for cls, name in (
            (GrowthEnv, "reset"),
            (GrowthEnv, "step"),
            (GrowingNetwork, "train_epoch"),
            (GrowingNetwork, "backward"),
            (Learner, "update"),
        ):
            self._patch.setattr(cls, name, self._spied(getattr(cls, name), getattr(self, f"_{name}")))
        return register_module_forward_hook(self._forward)

    @staticmethod
    def _spied(original: Any, spy: Any) -> Any:
        return lambda *args, **kwargs: spy(original, *args, **kwargs)

    def _reset(self, original: Any, env: GrowthEnv, **kwargs: Any) -> Any:
        result = original(env, **kwargs)
        played = self._playing[id(env)] = Played(env._control, snapshot(env._episode.network))
        batches = self._seen.batches.setdefault(env._group_id, [])
        if "seed" in kwargs:  # an episode to be learnt from
            if not env.env_id:
                batches.append(Batch())
            batches[-1].episodes.append(played)
        return result

    def _step(self, original: Any, env: GrowthEnv, vector: Array) -> Any:
        started = time.perf_counter()
        result = original(env, vector)
        seconds = time.perf_counter() - started
        network = env._episode.network
        self._playing[id(env)].steps.append(
            Step(
                tuple(vector.tolist()),
                self._decisions.popleft(),
                result[1],
                snapshot(network),
                self._newest[id(network)],
                seconds,
            )
        )
        return result

    def _train_epoch(self, original: Any, network: GrowingNetwork, batches: Iterator[Any]) -> None:
        original(network, batches)
        self._newest[id(network)] = Gradients(
            _flat(network.host), {slot.slot_id: _flat(slot.seed.module) for slot in network.slots if slot.seed}
        )

    def _backward(self, original: Any, network: GrowingNetwork, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self._n_backwards += 1
        before = snapshot(network) if self._n_backwards % 9 == 0 else None
        original(network, inputs, labels)
        if before:
            seeds = {slot.slot_id: slot.seed.module for slot in network.slots if slot.seed}
            self._seen.backwards.append(
                Backward(
                    before,
                    {slot.slot_id: slot.alpha for slot in network.slots},
                    tuple(slot.slot_id for slot in network.slots if slot.stage.name == "TRAINING"),
                    inputs.numpy().copy(),
                    labels.numpy().copy(),
                    _gradients(network.host),
                    {slot_id: _gradients(module) for slot_id, module in seeds.items()},
                )
            )

    def _update(self, original: Any, learner: Learner, *args: Any, **kwargs: Any) -> Any:
        batch = self._seen.batches[learner._config.group][-1]
        batch.shuffling = learner._generator.get_state().numpy().copy()
        self._updating = batch.forwards
        handles = [
            parameter.register_post_accumulate_grad_hook(self._accumulated(name))  # type: ignore[no-untyped-call]
            for name, parameter in learner.policy.named_parameters()
        ]
        started = time.perf_counter()
        result = original(learner, *args, **kwargs)
        batch.seconds = time.perf_counter() - started
        for handle in handles:
            handle.remove()
        self._updating = None
        return result

    def _accumulated(self, name: str) -> Callable[[torch.Tensor], None]:
        def note(parameter: torch.Tensor) -> None:
            assert self._updating is not None
            assert parameter.grad is not None
            self._updating[-1].gradients[name] = parameter.grad.float().numpy().copy()

        return note

    def _forward(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        if not isinstance(module, Policy):
            return
        logits, values = output
        forward = Forward(
            args[0].numpy().copy(),
            {head: scores.detach().float().numpy().copy() for head, scores in logits.items()},
            values.detach().float().numpy().copy(),
        )
        if self._updating is None:
            self._decisions.append(forward)
        else:
            forward.weights = _weights(module)
            self._updating.append(forward)


def snapshot(network: GrowingNetwork) -> Snapshot:
    """Copy a network's weights."""
    return Snapshot(
        _weights(network.host),
        {
            slot.slot_id: SeedWeights(slot.seed.blueprint_id, slot.seed.style.name, _weights(slot.seed.module))
            for slot in network.slots
            if slot.seed
        },
        tuple(slot.slot_id for slot in network.slots),
    )


def _weights(module: torch.nn.Module) -> dict[str, Array]:
    return {name: weight.detach().numpy().copy() for name, weight in module.named_parameters()}


def _gradients(module: torch.nn.Module) -> dict[str, Array]:
    return {name: weight.grad.numpy().copy() for name, weight in module.named_parameters() if weight.grad is not None}


def _flat(module: torch.nn.Module) -> Array:
    return np.concatenate([gradient.ravel() for gradient in _gradients(module).values()] or [np.zeros(0)])
