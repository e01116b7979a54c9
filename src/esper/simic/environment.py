"""The environment: one growing network, one decision a host epoch.

A step carries out one op, trains host and seeds for one epoch, validates, ablates the seeds that have joined and pays
the reward. An episode has a fixed number of steps; at its end, before the last validation, what is not fossilized is
pruned. Everything that a reset leads to derives from its seed through generators of the environment's own.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from numpy.typing import NDArray
from typing_extensions import override

from esper.kasmina.blueprints import BLUEPRINTS, parameter_count
from esper.kasmina.host import GrowingNetwork, Host
from esper.kasmina.slot import SeedSlot
from esper.leyline.actions import HEADS, Action, ActionMasks, Op
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import Emit, TelemetryEvent
from esper.nissa.output import emit_epoch_completed
from esper.simic.action_space import ActionVector, ValidActions, decode
from esper.simic.counterfactual import Ablation, ablate, emit_counterfactual_matrix
from esper.simic.determinism import one_thread
from esper.simic.observation import BOUND, Observation, encode, observation_size
from esper.simic.outcome import EmittedEvents, StepOutcome
from esper.simic.reward import StepMeasurements, compute_reward
from esper.simic.tasks import DIGITS, Task, load_task
from esper.simic.training.config import RewardMode

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EPISODE_END", "GrowthEnv", "GrowthFields", "StepOutcome", "do_nothing_control"]

EPISODE_END = "episode_end"
"""Reason of the prunes that close an episode."""
_CONTROL_HOSTS = 4
"""Do-nothing hosts whose mean is the control curve."""

_OPS = tuple(Op)
_BLUEPRINT_IDS = tuple(BLUEPRINTS)


class GrowthFields(TypedDict):
    """The fields of a `TrainingStartedPayload` that the environment knows; the rest is the trainer's."""

    task: str
    max_epochs: int
    host_params: int
    slot_ids: tuple[str, ...]
    param_budget: int


class GrowthEnv(gymnasium.Env[Observation, ActionVector]):
    """A growing network as a Gymnasium environment, ``esper/Growth-v0``.

    ``info`` has ``action_mask`` after `reset` and `step`, ``outcome`` (a `StepOutcome`) after `step`, and, where nobody
    takes the events, ``events`` (an `EmittedEvents`): so they come out of a worker process, and what the last step
    brought can still be read when a vector environment has reset itself.

    Attributes:
        env_id: global index of the environment.
        slot_ids: every slot, from input to output.
        masks: what may be chosen in the present state.
        host_params: trainable parameters of the bare host.
        learning_rate: of the host and the seeds from the next reset on; at first the task's.
    """

    @one_thread()
    def __init__(
        self,
        task: Task | str = DIGITS,
        *,
        env_id: int = 0,
        n_slots: int = 3,
        max_epochs: int = 24,
        param_budget: int = 1000,
        device: str | torch.device = "cpu",
        emit: Emit | None = None,
        group_id: str = "default",
        control: tuple[float, ...] | None = None,
        reward_mode: RewardMode = "shaped",
        invalid_action: Literal["error", "wait"] = "error",
    ) -> None:
        """Make the environment and its first network.

        Args:
            task: what the host learns, or its name.
            env_id: global index of the environment, named in every event.
            n_slots: slots of the host, 1 or more.
            max_epochs: host epochs, hence steps, of an episode; 1 or more.
            param_budget: parameters that the seeds may hold together.
            device: where the network lives.
            emit: takes the events; None leaves them in ``info["events"]``.
            group_id: arm of an A/B comparison.
            control: what `do_nothing_control` returned for this task, or any curve of ``max_epochs`` accuracies. None
                has it made, once a task and process.
            reward_mode: how a step is paid.
            invalid_action: what becomes of an action that is masked: a ValueError, or the op WAIT.

        Raises:
            ValueError: ``control`` has another length, a number is out of its range, or a mode is not known.
        """
        if min(n_slots, max_epochs) < 1 or param_budget < 0:
            raise ValueError("n_slots and max_epochs must be at least 1, param_budget at least 0")
        if invalid_action not in ("error", "wait") or reward_mode not in get_args(RewardMode):
            modes = ", ".join(get_args(RewardMode))
            raise ValueError(f"invalid_action must be error or wait, reward_mode one of {modes}")
        if isinstance(task, str):
            task = load_task(task)
        if control is None:
            control = _default_control(task, n_slots, max_epochs, torch.device(device))
        if len(control) != max_epochs:
            raise ValueError(f"control must have one accuracy an epoch: {max_epochs}, not {len(control)}")
        self.env_id = env_id
        self.slot_ids = tuple(f"r{index}" for index in range(n_slots))
        self._task = task
        self._max_epochs = max_epochs
        self._param_budget = param_budget
        self._device = torch.device(device)
        self._untaken: list[TelemetryEvent] | None = None
        if emit is None:
            self._untaken = []
            emit = self._untaken.append
        self._emit = emit
        self._invalid_action = invalid_action
        self._group_id = group_id
        self._control = control
        self._reward_mode: RewardMode = reward_mode
        self.learning_rate = task.learning_rate
        self._train, self._validation, self._test = (
            (split.inputs.to(self._device), split.labels.to(self._device))
            for split in (task.train, task.validation, task.test)
        )
        self._serials = itertools.count(1)
        self._blueprint_params = tuple(parameter_count(name, task.tokens, task.width) for name in _BLUEPRINT_IDS)
        self.action_space = self._valid_actions = ValidActions(n_slots)
        self.observation_space = Box(-BOUND, BOUND, (observation_size(n_slots),), np.float32)
        self._outcome: StepOutcome | None = None
        self.reset()

    # ── Gymnasium ──────────────────────────────────────────────────────────────────────────────────────────────

    @override
    @one_thread()  # the pool of a process that was forked is not there
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with a new host.

        Args:
            seed: initialisation and shuffling derive from it; without one they go on from the last.
            options: none are known.

        Returns:
            The observation, and an ``info`` with the ``action_mask``.
        """
        super().reset(seed=seed)
        initialisation, self._shuffling = (
            torch.Generator().manual_seed(int(self.np_random.integers(2**63))) for _ in range(2)
        )
        self._slots = tuple(
            SeedSlot(
                slot_id,
                env_id=self.env_id,
                tokens=self._task.tokens,
                width=self._task.width,
                generator=initialisation,
                device=self._device,
                serials=self._serials,
                emit=self._emit,
                group_id=self._group_id,
            )
            for slot_id in self.slot_ids
        )
        self._network = GrowingNetwork(
            self._make_host,
            self._slots,
            learning_rate=self.learning_rate,
            generator=initialisation,
            device=self._device,
        )
        self.host_params = self._network.host_params
        self._epoch = 0
        self._accuracy, self._loss = self._network.evaluate(*self._validation)
        self._accuracy_at_start = self._accuracy
        self._accuracy_change = 0.0
        self._outcome = None
        self._derive_masks()
        return self._observe(), {"action_mask": self.action_masks()}

    @override
    @one_thread()
    def step(self, action: ActionVector) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out one decision and one host epoch.

        Args:
            action: one integer a head, in the order of `esper.leyline.actions.HEADS`.

        Returns:
            Observation, reward, whether the episode is over, False (nothing is truncated), and an ``info`` with
            ``outcome``, ``action_mask`` and perhaps ``events``.

        Raises:
            ValueError: the action is not an element of the action space, or is masked where that is an error; nothing
                was changed.
            ResetNeeded: the episode is over.
        """
        if self._epoch == self._max_epochs:
            raise ResetNeeded("the episode is over: call reset()")
        decision = self._valid(action)
        acted = self._slots[decision.slot] if decision.op is not Op.WAIT else None
        states_before = {slot.slot_id: _slot_state(slot) for slot in self._slots}
        stages_before, alphas_before = self._stages(), self._alphas()
        fossilized = acted.seed.contribution if decision.op is Op.FOSSILIZE and acted and acted.seed else None

        self._carry_out(decision)
        lost = self._train_epoch()
        accuracy_before = self._accuracy
        self._accuracy, self._loss = self._network.evaluate(*self._validation)
        self._accuracy_change = self._accuracy - accuracy_before
        ablation = self._ablate()
        contributions = {slot_id: ablation.contribution(slot_id) for slot_id in ablation.slot_ids} if ablation else {}
        blending = {slot.slot_id for slot in self._slots if slot.stage is SeedStage.BLENDING}
        for slot in self._slots:
            slot.end_epoch(self._accuracy, contributions.get(slot.slot_id))
        seeds = self._emit_epoch()

        reward = compute_reward(
            StepMeasurements(
                op=decision.op,
                accuracy_at_start=self._accuracy_at_start,
                accuracy_before=accuracy_before,
                accuracy=self._accuracy,
                control=self._control[self._epoch - 1],
                blending=tuple(value for slot_id, value in contributions.items() if slot_id in blending),
                settled=tuple(value for slot_id, value in contributions.items() if slot_id not in blending),
                fossilized=fossilized,
                lost_seeds=lost,
                host_params=self.host_params,
                seed_params=self._seed_params(),
                alphas_before=alphas_before,
                alphas=self._alphas(),
                stages_before=stages_before,
                stages=self._stages(),
                holding_epochs=tuple(slot.epochs_in_stage for slot in self._slots if slot.stage is SeedStage.HOLDING),
                final=self._epoch == self._max_epochs,
            ),
            self._reward_mode,
        )
        self._outcome = StepOutcome(
            op=decision.op,
            action_slot=acted.slot_id if acted else None,
            slot_states=states_before,
            seeds=seeds,
            reward=reward,
            epoch=self._epoch,
            val_accuracy=self._accuracy,
            val_loss=self._loss,
            host_accuracy=ablation.host_accuracy if ablation else self._accuracy,
            seed_contribution=contributions.get(acted.slot_id) if acted else None,
            final=self._epoch == self._max_epochs,
        )
        self._derive_masks()
        info: dict[str, Any] = {"outcome": self._outcome, "action_mask": self.action_masks()}
        if self._untaken is not None:
            info["events"] = EmittedEvents(self._untaken)
            self._untaken.clear()
        return self._observe(), reward.total_reward, self._outcome.final, False, info

    # ── for the typed caller ───────────────────────────────────────────────────────────────────────────────────

    @property
    def outcome(self) -> StepOutcome:
        """What the last step of this episode brought; `ResetNeeded` before there was one."""
        if self._outcome is None:
            raise ResetNeeded("there was no step yet in this episode")
        return self._outcome

    def action_masks(self) -> NDArray[np.int8]:
        """Return what may be chosen now, head after head, 1 for what is allowed.

        That an op is allowed and a slot is allowed does not make the two allowed together: these masks are marginal,
        since heads are chosen one by one. `FlatGrowthEnv`'s are exact.
        """
        slots = np.any(self.masks.slot, axis=0)
        free = [True] * int(self._valid_actions.nvec[3:].sum())
        if not slots.any():
            slots = np.ones_like(slots)  # only WAIT is left, which has no slot
        blueprints = self.masks.blueprint if any(self.masks.blueprint) else [True] * len(self.masks.blueprint)
        return np.concatenate([self.masks.op, slots, blueprints, free]).astype(np.int8)

    def renumber(self, env_id: int) -> None:
        """Give the environment its global index, where whoever made it could not: events carry it from now on."""
        self.env_id = env_id
        for slot in self._slots:
            slot.env_id = env_id

    def growth_fields(self) -> GrowthFields:
        """Return what TRAINING_STARTED says about the environment."""
        return {
            "task": self._task.name,
            "max_epochs": self._max_epochs,
            "host_params": self.host_params,
            "slot_ids": self.slot_ids,
            "param_budget": self._param_budget,
        }

    @one_thread()
    def test_accuracy(self) -> float:
        """Return the accuracy on held-out data with the seeds as they are, a fraction; NaN once the host diverged."""
        return self._network.evaluate(*self._test)[0]

    # ── a step's parts ─────────────────────────────────────────────────────────────────────────────────────────

    def _make_host(self) -> Host:
        task = self._task
        return Host(features=task.features, width=task.width, classes=task.n_classes, n_slots=len(self.slot_ids))

    def _valid(self, vector: ActionVector) -> Action:
        heads = np.asarray(vector)
        if heads not in self.action_space:
            raise ValueError(f"an action is one of {self.action_space}, not {vector!r}")
        action = decode(heads)
        fits = self.masks.blueprint[action.blueprint] or action.op is not Op.GERMINATE
        if action.op is Op.WAIT or (self.masks.slot[_OPS.index(action.op)][action.slot] and fits):
            return action
        if self._invalid_action == "wait":
            return Action(Op.WAIT)
        slot = self._slots[action.slot]
        blueprint = f" with {_BLUEPRINT_IDS[action.blueprint]}" if action.op is Op.GERMINATE else ""
        raise ValueError(
            f"env {self.env_id}: {action.op.name}{blueprint} is masked for slot {slot.slot_id}, "
            f"which is {slot.stage.name}; see GrowthEnv.masks"
        )

    def _carry_out(self, action: Action) -> None:
        slot = self._slots[action.slot]
        match action.op:
            case Op.GERMINATE:
                slot.germinate(
                    _BLUEPRINT_IDS[action.blueprint],
                    style=action.style,
                    tempo=action.tempo,
                    val_accuracy=self._accuracy,
                )
            case Op.ADVANCE:
                slot.advance(target=action.alpha_target, speed=action.alpha_speed, curve=action.alpha_curve)
            case Op.FOSSILIZE:
                slot.fossilize()
            case Op.PRUNE:
                slot.prune()
            case Op.WAIT:
                pass

    def _train_epoch(self) -> int:
        """Train one epoch; at the episode's end prune what is not kept, and return how many seeds were lost."""
        self._epoch += 1
        for slot in self._slots:
            slot.begin_epoch()
        self._network.train_epoch(self._batches())
        if self._epoch < self._max_epochs:
            return 0
        lost = [slot for slot in self._slots if slot.seed and slot.stage is not SeedStage.FOSSILIZED]
        for slot in lost:
            slot.prune(EPISODE_END)
        return len(lost)

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        inputs, labels = self._train
        order = torch.randperm(len(labels), generator=self._shuffling).to(self._device)
        return ((inputs[indices], labels[indices]) for indices in torch.split(order, self._task.batch_size))

    def _ablate(self) -> Ablation | None:
        joined = [slot.slot_id for slot in self._slots if slot.alpha > 0]
        if not joined:
            return None
        ablation = ablate(joined, self._accuracy, lambda out: self._network.evaluate(*self._validation, out)[0])
        emit_counterfactual_matrix(self._emit, ablation, env_id=self.env_id, epoch=self._epoch, group_id=self._group_id)
        return ablation

    def _emit_epoch(self) -> dict[str, dict[str, Any]]:
        seeds = {slot.slot_id: _seed_state(slot) for slot in self._slots if slot.seed}
        emit_epoch_completed(
            self._emit,
            env_id=self.env_id,
            inner_epoch=self._epoch,
            val_accuracy=self._accuracy,
            val_loss=self._loss,
            seeds=seeds,
            group_id=self._group_id,
        )
        return seeds

    # ── what the policy sees ───────────────────────────────────────────────────────────────────────────────────

    def _stages(self) -> tuple[SeedStage, ...]:
        return tuple(slot.stage for slot in self._slots)

    def _alphas(self) -> tuple[float, ...]:
        return tuple(slot.alpha for slot in self._slots)

    def _seed_params(self) -> int:
        return sum(slot.params for slot in self._slots)

    def _derive_masks(self) -> None:
        """Derive from the state what may be chosen in it."""
        left = self._param_budget - self._seed_params()
        blueprint = tuple(params <= left for params in self._blueprint_params)
        prunable = {SeedStage.TRAINING, SeedStage.BLENDING, SeedStage.HOLDING}
        possible: dict[Op, set[SeedStage]] = {
            Op.WAIT: set(),
            Op.GERMINATE: {SeedStage.DORMANT} if any(blueprint) else set(),
            Op.ADVANCE: {SeedStage.TRAINING},
            Op.FOSSILIZE: {SeedStage.HOLDING},
            Op.PRUNE: prunable,
        }
        slot = tuple(tuple(stage in possible[op] for stage in self._stages()) for op in _OPS)
        op_mask = tuple(op is Op.WAIT or any(slots) for op, slots in zip(_OPS, slot, strict=True))
        self.masks = ActionMasks(op_mask, slot, blueprint)
        self._valid_actions.follow(self.masks, start=self._epoch == 0)

    def _observe(self) -> Observation:
        seed_params = self._seed_params()
        return encode(
            self._slots,
            progress=self._epoch / self._max_epochs,
            accuracy=self._accuracy,
            accuracy_change=self._accuracy_change,
            gain=self._accuracy - self._control[self._epoch - 1] if self._epoch else 0.0,
            loss=self._loss,
            host_gradient=self._network.host_gradient_norm(),
            growth=seed_params / self.host_params,
            budget_used=seed_params / self._param_budget if self._param_budget else 1.0,
        )


def do_nothing_control(
    task: Task, *, n_slots: int = 3, max_epochs: int = 24, device: str | torch.device = "cpu", seed: int
) -> tuple[float, ...]:
    """Return the mean validation accuracy, a fraction, of four do-nothing hosts after each epoch.

    NaN from the epoch on in which one of them diverged: then nobody knows what doing nothing brings.

    Args:
        task: what the hosts learn.
        n_slots: slots of the hosts, all left empty.
        max_epochs: epochs to train.
        device: where the hosts live.
        seed: the hosts' seeds derive from it.
    """
    env = GrowthEnv(
        task,
        env_id=0,
        n_slots=n_slots,
        max_epochs=max_epochs,
        param_budget=0,
        device=device,
        emit=lambda _event: None,
        control=(0.0,) * max_epochs,
    )
    env.reset(seed=seed)
    wait = np.zeros(len(HEADS), dtype=np.int64)
    curves = np.empty((_CONTROL_HOSTS, max_epochs))
    for curve in curves:
        env.reset()
        for epoch in range(max_epochs):
            env.step(wait)
            curve[epoch] = env.outcome.val_accuracy
    return tuple(curves.mean(axis=0).tolist())


@lru_cache(maxsize=8)
def _default_control(task: Task, n_slots: int, max_epochs: int, device: torch.device) -> tuple[float, ...]:
    return do_nothing_control(task, n_slots=n_slots, max_epochs=max_epochs, device=device, seed=0)


def _slot_state(slot: SeedSlot) -> dict[str, Any]:
    """Return a slot as the telemetry describes it."""
    if not slot.seed:
        return {"stage": slot.stage.name}
    return {
        "stage": slot.stage.name,
        "blueprint_id": slot.seed.blueprint_id,
        "alpha": slot.seed.alpha,
        "epochs_in_stage": slot.epochs_in_stage,
    }


def _seed_state(slot: SeedSlot) -> dict[str, Any]:
    """Return an occupied slot as the telemetry describes it after an epoch."""
    gradient = slot.seed.gradient if slot.seed else None
    ratio = gradient.ratio if gradient else None
    return _slot_state(slot) | {"params": slot.params} | ({} if ratio is None else {"grad_ratio": ratio})


gymnasium.register("esper/Growth-v0", entry_point="esper.simic.environment:GrowthEnv")
gymnasium.register("esper/GrowthFlat-v0", entry_point="esper.simic.flat:FlatGrowthEnv")
