"""One episode of one growing network: a decision, an epoch of training, what it brought.

A step carries out one op, trains host and seeds for one epoch, validates, ablates the seeds that have joined and pays
the reward. An episode has a fixed number of steps; at its end, before the last validation, what is not fossilized is
pruned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from esper.kasmina.blueprints import BLUEPRINTS
from esper.kasmina.host import Host
from esper.kasmina.network import GrowingNetwork
from esper.kasmina.slot import SeedSlot
from esper.leyline.actions import Action, Op
from esper.leyline.stages import SeedStage
from esper.nissa.output import emit_epoch_completed
from esper.simic.counterfactual import Ablation, ablate, emit_counterfactual_matrix
from esper.simic.outcome import StepOutcome
from esper.simic.reward import StepMeasurements, compute_reward

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from esper.kasmina.evaluator import Evaluator
    from esper.leyline.telemetry import Emit
    from esper.simic.config import RewardMode
    from esper.simic.tasks import Task

__all__ = ["EPISODE_END", "Episode"]

EPISODE_END = "episode_end"
"""Reason of the prunes that close an episode."""

_BLUEPRINT_IDS = tuple(BLUEPRINTS)


class Episode:
    """A host with its slots, from the first weights to the last validation.

    Attributes:
        env_id: global index of the environment, named in every event.
        slots: every slot, from input to output.
        network: host and slots as one network.
        epoch: host epochs trained so far.
        accuracy: newest validation accuracy, a fraction; NaN once the host diverged.
        accuracy_change: its change in the last step; 0 before the first.
        loss: newest mean validation cross-entropy in nats; not finite once the host diverged.
    """

    def __init__(
        self,
        task: Task,
        *,
        env_id: int,
        slot_ids: Sequence[str],
        control: Sequence[float],
        reward_mode: RewardMode,
        learning_rate: float,
        initialisation: torch.Generator,
        shuffling: torch.Generator,
        serials: Iterator[int],
        emit: Emit,
        group_id: str,
    ) -> None:
        """Make the network, and validate it once.

        Args:
            task: what the host learns; the network lives where its data lie.
            env_id: global index of the environment.
            slot_ids: names of the slots, from input to output; 1 or more.
            control: validation accuracy of do-nothing hosts after each epoch, and so the episode's length.
            reward_mode: how a step is paid.
            learning_rate: of the host and the seeds.
            initialisation: where all parameters are drawn from, on the CPU.
            shuffling: orders the training examples, on the CPU.
            serials: numbers that no other seed of the environment gets.
            emit: takes the events.
            group_id: arm of an A/B comparison.
        """
        self.env_id = env_id
        self._task = task
        self._control = control
        self._reward_mode: RewardMode = reward_mode
        self._shuffling = shuffling
        self._emit = emit
        self._group_id = group_id
        device = task.train.inputs.device
        self.slots = tuple(
            SeedSlot(
                slot_id,
                env_id=env_id,
                tokens=task.tokens,
                width=task.width,
                generator=initialisation,
                device=device,
                serials=serials,
                emit=emit,
                group_id=group_id,
            )
            for slot_id in slot_ids
        )
        self.network = GrowingNetwork(
            lambda: Host(features=task.features, width=task.width, classes=task.n_classes, n_slots=len(slot_ids)),
            self.slots,
            learning_rate=learning_rate,
            generator=initialisation,
            device=device,
        )
        self.epoch = 0
        self.accuracy, self.loss = self.network.evaluator(*task.validation).evaluate()
        self.accuracy_change = 0.0
        self._accuracy_at_start = self.accuracy

    @property
    def over(self) -> bool:
        """Whether the last epoch was trained."""
        return self.epoch == len(self._control)

    @property
    def stages(self) -> tuple[SeedStage, ...]:
        """Of every slot."""
        return tuple(slot.stage for slot in self.slots)

    @property
    def seed_params(self) -> int:
        """Trainable parameters of all seeds."""
        return sum(slot.params for slot in self.slots)

    @property
    def gain(self) -> float:
        """Accuracy less that of the do-nothing control after the same epoch; 0 before the first."""
        return self.accuracy - self._control[self.epoch - 1] if self.epoch else 0.0

    def test_accuracy(self) -> float:
        """Return the accuracy on held-out data, a fraction; NaN once the host diverged."""
        return self.network.evaluator(*self._task.test).evaluate()[0]

    def renumber(self, env_id: int) -> None:
        """Let events carry another index from now on."""
        self.env_id = env_id
        for slot in self.slots:
            slot.env_id = env_id

    def step(self, action: Action) -> StepOutcome:
        """Carry out one decision and one host epoch.

        Args:
            action: one that the state allows.
        """
        acted = self.slots[action.slot] if action.op is not Op.WAIT else None
        states_before = {slot.slot_id: _slot_state(slot) for slot in self.slots}
        stages_before, alphas_before = self.stages, self._alphas()
        fossilized = acted.seed.contribution if action.op is Op.FOSSILIZE and acted and acted.seed else None

        self._carry_out(action)
        lost = self._train_epoch()
        accuracy_before = self.accuracy
        evaluator = self.network.evaluator(*self._task.validation)
        self.accuracy, self.loss = evaluator.evaluate()
        self.accuracy_change = self.accuracy - accuracy_before
        ablation = self._ablate(evaluator)
        contributions = {slot_id: ablation.contribution(slot_id) for slot_id in ablation.slot_ids} if ablation else {}
        blending = {slot.slot_id for slot in self.slots if slot.stage is SeedStage.BLENDING}
        for slot in self.slots:
            slot.end_epoch(self.accuracy, contributions.get(slot.slot_id))
        seeds = self._emit_epoch()

        reward = compute_reward(
            StepMeasurements(
                op=action.op,
                accuracy_at_start=self._accuracy_at_start,
                accuracy_before=accuracy_before,
                accuracy=self.accuracy,
                control=self._control[self.epoch - 1],
                blending=tuple(value for slot_id, value in contributions.items() if slot_id in blending),
                settled=tuple(value for slot_id, value in contributions.items() if slot_id not in blending),
                fossilized=fossilized,
                lost_seeds=lost,
                host_params=self.network.host_params,
                seed_params=self.seed_params,
                alphas_before=alphas_before,
                alphas=self._alphas(),
                stages_before=stages_before,
                stages=self.stages,
                holding_epochs=tuple(slot.epochs_in_stage for slot in self.slots if slot.stage is SeedStage.HOLDING),
                final=self.over,
            ),
            self._reward_mode,
        )
        return StepOutcome(
            op=action.op,
            action_slot=acted.slot_id if acted else None,
            slot_states=states_before,
            seeds=seeds,
            reward=reward,
            epoch=self.epoch,
            val_accuracy=self.accuracy,
            val_loss=self.loss,
            host_accuracy=ablation.host_accuracy if ablation else self.accuracy,
            seed_contribution=contributions.get(acted.slot_id) if acted else None,
            final=self.over,
        )

    def _carry_out(self, action: Action) -> None:
        slot = self.slots[action.slot]
        match action.op:
            case Op.GERMINATE:
                slot.germinate(
                    _BLUEPRINT_IDS[action.blueprint],
                    style=action.style,
                    tempo=action.tempo,
                    val_accuracy=self.accuracy,
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
        self.epoch += 1
        for slot in self.slots:
            slot.begin_epoch()
        self.network.train_epoch(self._batches())
        if not self.over:
            return 0
        lost = [slot for slot in self.slots if slot.seed and slot.stage is not SeedStage.FOSSILIZED]
        for slot in lost:
            slot.prune(EPISODE_END)
        return len(lost)

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        inputs, labels = self._task.train
        order = torch.randperm(len(labels), generator=self._shuffling).to(labels.device)
        size = self._task.batch_size
        return zip(torch.split(inputs.index_select(0, order), size), torch.split(labels[order], size), strict=True)

    def _ablate(self, evaluator: Evaluator) -> Ablation | None:
        joined = [slot.slot_id for slot in self.slots if slot.alpha > 0]
        if not joined:
            return None
        ablation = ablate(joined, self.accuracy, evaluator.accuracy)
        emit_counterfactual_matrix(self._emit, ablation, env_id=self.env_id, epoch=self.epoch, group_id=self._group_id)
        return ablation

    def _emit_epoch(self) -> dict[str, dict[str, Any]]:
        seeds = {slot.slot_id: _seed_state(slot) for slot in self.slots if slot.seed}
        emit_epoch_completed(
            self._emit,
            env_id=self.env_id,
            inner_epoch=self.epoch,
            val_accuracy=self.accuracy,
            val_loss=self.loss,
            seeds=seeds,
            group_id=self._group_id,
        )
        return seeds

    def _alphas(self) -> tuple[float, ...]:
        return tuple(slot.alpha for slot in self.slots)


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
