"""The life of seeds, told a second time from actions and measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from tests.simic.differential.network import Array, Evaluated, blueprint_params, evaluate, host_params
from tests.simic.differential.policy import OPS, Masks
from tests.simic.differential.rewards import reward_parts
from tests.simic.differential.witness import Gradients, Played, Step

from esper.kasmina.blueprints import BLUEPRINTS
from esper.leyline.actions import ALPHA_TARGETS, TEMPOS
from esper.simic.tasks import Task

BLUEPRINT_IDS = tuple(BLUEPRINTS)
SPEEDS = (0.5, 1.0, 2.0)
PRUNABLE = ("TRAINING", "BLENDING", "HOLDING")


class Expected(NamedTuple):
    """An event as it should be: payload's name, fields, and where it belongs."""

    payload: str
    fields: dict[str, Any]
    epoch: int | None = None
    slot_id: str | None = None
    seed_id: str | None = None


@dataclass
class Seed:
    """A seed, as far as it is spoken of."""

    seed_id: str
    blueprint: str
    tempo: int
    params: int
    at_birth: float
    at_entry: float
    accuracy: float
    validated: bool = False
    validated_in_stage: bool = False
    target: float = 0.0
    curve: int = 0
    blend_epochs: int = 0
    alpha: float = 0.0
    epochs: int = 0
    gradient: tuple[float, float] | None = None
    """Norm of the seed's and of the host's."""
    contribution: float | None = None


@dataclass
class Slot:
    """A place for a seed."""

    slot_id: str
    stage: str = "DORMANT"
    epochs: int = 0
    seed: Seed | None = None


def alpha_after(epochs: int, seed: Seed) -> float:
    """Where alpha stands so many epochs into the blending."""
    share = epochs / seed.blend_epochs
    if share >= 1:
        return seed.target
    logistic = [1 / (1 + math.exp(-10 * (x - 0.5))) for x in (0, share, 1)]
    rises = (share, (1 - math.cos(math.pi * share)) / 2, (logistic[1] - logistic[0]) / (logistic[2] - logistic[0]))
    return seed.target * rises[seed.curve]


def norm(gradient: Array) -> float:
    """L2, of as many numbers as there are."""
    return math.sqrt(float((gradient.astype(np.float64) ** 2).sum()))


@dataclass
class Environment:
    """One environment over all its episodes."""

    task: Task
    env_id: int
    n_slots: int
    max_epochs: int
    param_budget: int
    reward_mode: str
    seeds_named: int = 0
    slots: list[Slot] = field(default_factory=list)
    accuracy: float = math.nan
    at_start: float = math.nan
    epoch: int = 0
    control: tuple[float, ...] = ()
    _events: list[Expected] = field(default_factory=list)

    @property
    def host_params(self) -> int:
        """Counted by hand."""
        return host_params(self.task.features, self.task.width, self.task.n_classes, self.n_slots)

    def begin(self, played: Played) -> None:
        """Start an episode."""
        self.slots = [Slot(f"r{index}") for index in range(self.n_slots)]
        self.accuracy = self.at_start = self._evaluate(played.start, {}).accuracy
        self.epoch, self.control = 0, played.control

    def masks(self) -> Masks:
        """What may be chosen now."""
        left = self.param_budget - self._seed_params()
        blueprint = [self._params(each) <= left for each in BLUEPRINT_IDS]
        stages = [slot.stage for slot in self.slots]
        by_op = [
            [False] * self.n_slots,
            [stage == "DORMANT" and any(blueprint) for stage in stages],
            [stage == "TRAINING" for stage in stages],
            [stage == "HOLDING" for stage in stages],
            [stage in PRUNABLE for stage in stages],
        ]
        op = [True, *(any(slots) for slots in by_op[1:])]
        return Masks(np.array([op]), np.array([by_op]), np.array([blueprint]))

    def states(self) -> dict[str, dict[str, Any]]:
        """The slots, as a decision sees them."""
        return {slot.slot_id: _state(slot) for slot in self.slots}

    def step(self, step: Step, told: Mapping[frozenset[str], float]) -> tuple[list[Expected], dict[str, Any]]:
        """Carry one decision out.

        Args:
            step: what went in.
            told: accuracy by the seeds left out, as it was emitted: heeded where it hangs on the last bits.

        Returns:
            The events it should lead to, and the environment's part of REWARD_COMPUTED.
        """
        self._events, self.epoch = [], self.epoch + 1
        op = OPS[step.action[0]].name
        acted = None if op == "WAIT" else self.slots[step.action[1]]
        before: dict[str, Any] = {
            "states": self.states(),
            "stages": [slot.stage for slot in self.slots],
            "alphas": self._alphas(),
            "accuracy": self.accuracy,
            "fossilized": acted.seed.contribution if op == "FOSSILIZE" and acted and acted.seed else None,
        }
        if acted:
            self._carry_out(op, acted, step.action)
        self._begin_epoch()
        lost = self._train(step.gradients)
        evaluated = self._ablate(step, told)
        full = evaluated[frozenset[str]()]
        alone = {next(iter(out)): acc for out, (acc, *_) in evaluated.items() if len(out) == 1}
        contributions = {slot_id: full.accuracy - accuracy for slot_id, accuracy in alone.items()}
        self.accuracy = full.accuracy
        blending = [slot.slot_id for slot in self.slots if slot.stage == "BLENDING"]
        self._end_epoch(contributions)
        self._expect("EpochCompletedPayload", None, self._epoch_fields(full))
        parts = reward_parts(
            self.reward_mode,
            op=op,
            last=self.epoch == self.max_epochs,
            accuracies=(self.at_start, before["accuracy"], self.accuracy, self.control[self.epoch - 1]),
            growth=self._seed_params() / self.host_params,
            lost=lost,
            blending=[value for slot_id, value in contributions.items() if slot_id in blending],
            settled=[value for slot_id, value in contributions.items() if slot_id not in blending],
            alphas=(before["alphas"], self._alphas()),
            stages=(before["stages"], [slot.stage for slot in self.slots]),
            fossilized=before["fossilized"],
            held_too_long=sum(slot.stage == "HOLDING" and slot.epochs > 2 for slot in self.slots),
        )
        fields: dict[str, Any] = {
            "env_id": self.env_id,
            "action_name": op,
            "total_reward": sum(parts.values()),
            **parts,
            "val_acc": self.accuracy,
            "slot_states": before["states"],
            "host_accuracy": evaluated[max(evaluated, key=len)].accuracy,
        }
        if acted:
            fields["action_slot"] = acted.slot_id
            if acted.slot_id in contributions:
                fields["seed_contribution"] = contributions[acted.slot_id]
        return self._events, fields

    # ── what a decision does ───────────────────────────────────────────────────────────────────────────────────

    def _carry_out(self, op: str, slot: Slot, action: tuple[int, ...]) -> None:
        seed = slot.seed
        if op == "GERMINATE":
            self.seeds_named += 1
            name = f"env{self.env_id}-{slot.slot_id}-s{self.seeds_named}"
            blueprint, tempo = BLUEPRINT_IDS[action[2]], TEMPOS[action[4]]
            params = self._params(blueprint)
            slot.seed = Seed(name, blueprint, tempo, params, self.accuracy, self.accuracy, self.accuracy)
            fields = {"blueprint_id": blueprint, "params": params, "alpha": 0.0, "epochs_in_stage": 0}
            self._about(slot, slot.seed, "SeedGerminatedPayload", fields | {"blend_tempo_epochs": tempo})
            self._enter(slot, "GERMINATED")
            return
        assert seed
        if op == "ADVANCE":
            seed.target, seed.curve = ALPHA_TARGETS[action[5]], action[7]
            seed.blend_epochs = math.ceil(seed.tempo / SPEEDS[action[6]])
            self._enter(slot, "BLENDING")
        elif op == "FOSSILIZE":
            fields = {
                "blueprint_id": seed.blueprint,
                "improvement": seed.accuracy - seed.at_birth,
                "params_added": seed.params,
                "alpha": seed.alpha,
                "epochs_total": seed.epochs,
            }
            self._about(slot, seed, "SeedFossilizedPayload", fields | _counterfactual(seed))
            self._enter(slot, "FOSSILIZED")
        else:
            self._prune(slot, "policy")

    def _prune(self, slot: Slot, reason: str) -> None:
        seed = slot.seed
        assert seed
        fields = {
            "reason": reason,
            "blueprint_id": seed.blueprint,
            "auto_pruned": reason != "policy",
            "epochs_total": seed.epochs,
        }
        if seed.validated:
            fields["improvement"] = seed.accuracy - seed.at_birth
        self._about(slot, seed, "SeedPrunedPayload", fields | _counterfactual(seed))
        self._enter(slot, "PRUNED")
        slot.seed = None

    def _enter(self, slot: Slot, stage: str) -> None:
        seed = slot.seed
        fields: dict[str, Any] = {"from_stage": slot.stage, "to_stage": stage, "epochs_in_stage": slot.epochs}
        if seed:
            fields["alpha"] = seed.alpha
            if seed.validated_in_stage:
                fields["accuracy_delta"] = seed.accuracy - seed.at_entry
            if seed.gradient:
                own, host = seed.gradient
                fields |= {"has_vanishing": own < 1e-2, "has_exploding": not own <= 5} | _ratio(own, host)
            seed.at_entry, seed.validated_in_stage = seed.accuracy, False
        self._about(slot, seed, "SeedStageChangedPayload", fields)
        slot.stage, slot.epochs = stage, 0

    # ── what an epoch does ─────────────────────────────────────────────────────────────────────────────────────

    def _begin_epoch(self) -> None:
        for slot in self.slots:
            if slot.stage == "GERMINATED":
                self._enter(slot, "TRAINING")
            elif slot.stage == "PRUNED":
                self._enter(slot, "EMBARGOED")
            elif slot.stage == "BLENDING":
                assert slot.seed
                slot.seed.alpha = alpha_after(slot.epochs + 1, slot.seed)

    def _train(self, gradients: Gradients) -> int:
        """Count an epoch; at the episode's end return how many seeds are lost."""
        for slot in self.slots:
            slot.epochs += 1
            if slot.seed:
                slot.seed.epochs += 1
                slot.seed.gradient = norm(gradients.seeds[slot.slot_id]), norm(gradients.host)
        lost = [slot for slot in self.slots if slot.seed and slot.stage != "FOSSILIZED"]
        if self.epoch < self.max_epochs:
            return 0
        for slot in lost:
            self._prune(slot, "episode_end")
        return len(lost)

    def _ablate(self, step: Step, told: Mapping[frozenset[str], float]) -> dict[frozenset[str], Evaluated]:
        """Really run the network with every subset of the seeds that have joined left out."""
        alphas = {slot.slot_id: slot.seed.alpha for slot in self.slots if slot.seed and slot.seed.alpha > 0}
        evaluated = {}
        for bits in range(2 ** len(alphas)):
            out = frozenset(slot_id for index, slot_id in enumerate(alphas) if bits >> index & 1)
            kept = {slot_id: alpha for slot_id, alpha in alphas.items() if slot_id not in out}
            found = self._evaluate(step.network, kept)
            if 0 < abs(told.get(out, math.nan) - found.accuracy) <= found.in_doubt:
                found = found._replace(accuracy=told[out])
            evaluated[out] = found
        if alphas:
            configs = [
                {"seed_mask": [slot_id not in out for slot_id in alphas], "accuracy": each.accuracy}
                for out, each in evaluated.items()
            ]
            fields = {"slot_ids": tuple(alphas), "configs": configs, "strategy": "full_factorial"}
            self._expect("CounterfactualMatrixPayload", None, fields)
        return evaluated

    def _end_epoch(self, contributions: dict[str, float]) -> None:
        for slot in self.slots:
            seed = slot.seed
            if seed:
                seed.accuracy, seed.validated, seed.validated_in_stage = self.accuracy, True, True
                seed.contribution = contributions.get(slot.slot_id)
            if slot.stage == "BLENDING" and seed and slot.epochs >= seed.blend_epochs:
                self._enter(slot, "HOLDING")
            elif slot.stage == "EMBARGOED" and slot.epochs >= 2:
                self._enter(slot, "DORMANT")

    def _epoch_fields(self, full: Evaluated) -> dict[str, Any]:
        seeds = {}
        for slot in self.slots:
            if slot.seed:
                gradient = slot.seed.gradient
                seeds[slot.slot_id] = _state(slot) | {"params": slot.seed.params}
                seeds[slot.slot_id] |= _ratio(*gradient) if gradient else {}
        return {"inner_epoch": self.epoch, "val_accuracy": full.accuracy, "val_loss": full.loss, "seeds": seeds}

    # ── small things ───────────────────────────────────────────────────────────────────────────────────────────

    def _evaluate(self, network: Any, alphas: dict[str, float]) -> Evaluated:
        inputs, labels = self.task.validation
        return evaluate(network, alphas, inputs.numpy(), labels.numpy())

    def _params(self, blueprint: str) -> int:
        return blueprint_params(blueprint, self.task.tokens, self.task.width)

    def _seed_params(self) -> int:
        return sum(slot.seed.params for slot in self.slots if slot.seed)

    def _alphas(self) -> list[float]:
        return [slot.seed.alpha if slot.seed else 0.0 for slot in self.slots]

    def _about(self, slot: Slot, seed: Seed | None, payload: str, fields: dict[str, Any]) -> None:
        named = {"slot_id": slot.slot_id} | fields
        self._expect(payload, slot.slot_id, named, seed.seed_id if seed else None)

    def _expect(self, payload: str, slot_id: str | None, fields: dict[str, Any], seed_id: str | None = None) -> None:
        self._events.append(Expected(payload, {"env_id": self.env_id} | fields, self.epoch, slot_id, seed_id))


def _state(slot: Slot) -> dict[str, Any]:
    if not slot.seed:
        return {"stage": slot.stage}
    seed = slot.seed
    return {
        "stage": slot.stage,
        "blueprint_id": seed.blueprint,
        "alpha": seed.alpha,
        "epochs_in_stage": slot.epochs,
    }


def _ratio(own: float, host: float) -> dict[str, float]:
    return {} if host == 0 else {"grad_ratio": own / host}


def _counterfactual(seed: Seed) -> dict[str, float]:
    return {} if seed.contribution is None else {"counterfactual": seed.contribution}
