"""The environment: one growing network, one decision a host epoch.

What a step does is `esper.simic.episode`'s business; this is what may be decided, and what is seen. Everything that a
reset leads to derives from its seed through generators of the environment's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

try:
    import gymnasium
    import numpy as np
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the environments need {error.name}: pip install 'esper-telemetry[train]'", name=error.name
    ) from error

from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from numpy.typing import NDArray
from typing_extensions import override

from esper.kasmina.blueprints import BLUEPRINTS, parameter_count
from esper.leyline.actions import Action, ActionMasks, Op
from esper.leyline.stages import SeedStage
from esper.leyline.telemetry import Emit, TelemetryEvent
from esper.simic.action_space import ActionVector, ValidActions, decode
from esper.simic.config import RewardMode
from esper.simic.control import default_control
from esper.simic.determinism import episode_generators, one_thread
from esper.simic.episode import Episode
from esper.simic.observation import BOUND, Observation, encode, observation_size
from esper.simic.outcome import EmittedEvents, StepOutcome
from esper.simic.tasks import DIGITS, Task, load_task

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["GrowthEnv", "GrowthFields", "StepOutcome"]

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
        seeds_made: how many seeds have germinated so far, over all episodes; the next one's number follows.
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
            control: what `esper.simic.control.do_nothing_control` returned for this task, or any curve of
                ``max_epochs`` accuracies. None has it made, once a task and process.
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
            control = default_control(task, n_slots, max_epochs, torch.device(device))
        if len(control) != max_epochs:
            raise ValueError(f"control must have one accuracy an epoch: {max_epochs}, not {len(control)}")
        self.env_id = env_id
        self.slot_ids = tuple(f"r{index}" for index in range(n_slots))
        self._max_epochs = max_epochs
        self._param_budget = param_budget
        self._untaken: list[TelemetryEvent] | None = None
        if emit is None:
            self._untaken = []
            emit = self._untaken.append
        self._emit = emit
        self._invalid_action = invalid_action
        self._group_id = group_id
        self._control = control
        self._reward_mode: RewardMode = reward_mode
        self._task = task.to(device)
        self.learning_rate = task.learning_rate
        self.seeds_made = 0
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
        initialisation, shuffling = episode_generators(self.np_random)
        self._episode = Episode(
            self._task,
            env_id=self.env_id,
            slot_ids=self.slot_ids,
            control=self._control,
            reward_mode=self._reward_mode,
            learning_rate=self.learning_rate,
            initialisation=initialisation,
            shuffling=shuffling,
            serials=self._serials(),
            emit=self._emit,
            group_id=self._group_id,
        )
        self.host_params = self._episode.network.host_params
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
        if self._episode.over:
            raise ResetNeeded("the episode is over: call reset()")
        self._outcome = self._episode.step(self._valid(action))
        self._derive_masks()
        info: dict[str, Any] = {"outcome": self._outcome, "action_mask": self.action_masks()}
        if self._untaken is not None:
            info["events"] = EmittedEvents(self._untaken)
            self._untaken.clear()
        return self._observe(), self._outcome.reward.total_reward, self._outcome.final, False, info

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
        self._episode.renumber(env_id)

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
        return self._episode.test_accuracy()

    # ── what may be decided, and what is seen ──────────────────────────────────────────────────────────────────────

    def _serials(self) -> Iterator[int]:
        while True:
            self.seeds_made += 1
            yield self.seeds_made

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
        slot = self._episode.slots[action.slot]
        blueprint = f" with {_BLUEPRINT_IDS[action.blueprint]}" if action.op is Op.GERMINATE else ""
        raise ValueError(
            f"env {self.env_id}: {action.op.name}{blueprint} is masked for slot {slot.slot_id}, "
            f"which is {slot.stage.name}; see GrowthEnv.masks"
        )

    def _derive_masks(self) -> None:
        """Derive from the state what may be chosen in it."""
        left = self._param_budget - self._episode.seed_params
        blueprint = tuple(params <= left for params in self._blueprint_params)
        prunable = {SeedStage.TRAINING, SeedStage.BLENDING, SeedStage.HOLDING}
        possible: dict[Op, set[SeedStage]] = {
            Op.WAIT: set(),
            Op.GERMINATE: {SeedStage.DORMANT} if any(blueprint) else set(),
            Op.ADVANCE: {SeedStage.TRAINING},
            Op.FOSSILIZE: {SeedStage.HOLDING},
            Op.PRUNE: prunable,
        }
        slot = tuple(tuple(stage in possible[op] for stage in self._episode.stages) for op in _OPS)
        op_mask = tuple(op is Op.WAIT or any(slots) for op, slots in zip(_OPS, slot, strict=True))
        self.masks = ActionMasks(op_mask, slot, blueprint)
        self._valid_actions.follow(self.masks, start=self._episode.epoch == 0)

    def _observe(self) -> Observation:
        episode = self._episode
        return encode(
            episode.slots,
            progress=episode.epoch / self._max_epochs,
            accuracy=episode.accuracy,
            accuracy_change=episode.accuracy_change,
            gain=episode.gain,
            loss=episode.loss,
            host_gradient=episode.network.host_gradient_norm,
            growth=episode.seed_params / self.host_params,
            budget_used=episode.seed_params / self._param_budget if self._param_budget else 1.0,
        )


gymnasium.register("esper/Growth-v0", entry_point="esper.simic.environment:GrowthEnv")
gymnasium.register("esper/GrowthFlat-v0", entry_point="esper.simic.flat:FlatGrowthEnv")
