"""The seed slot: a place in the host where a seed lives through its stages and emits an event of each.

::

    DORMANT → GERMINATED → TRAINING → BLENDING → HOLDING → FOSSILIZED
                  └───────────┴──────────┴──────────┴───→ PRUNED → EMBARGOED → DORMANT

The slot holds the seed and joins it to the host's features; it does not train it. Whoever does calls, once a host
epoch and in this order, `SeedSlot.begin_epoch`, `SeedSlot.end_training` and `SeedSlot.end_epoch`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from esper.kasmina.blueprints import BLUEPRINTS, initialise
from esper.kasmina.schedules import AlphaSchedule, blend_epochs
from esper.kasmina.seed import GradientHealth, Seed
from esper.leyline.actions import AlphaCurve, AlphaSpeed, BlendStyle
from esper.leyline.stages import NEXT_STAGES, SeedStage
from esper.leyline.telemetry import (
    Emit,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryPayload,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor, nn

    from esper.leyline.event_types import Severity

__all__ = ["EMBARGO_EPOCHS", "POLICY", "IllegalTransitionError", "SeedSlot"]

EMBARGO_EPOCHS = 2
"""Host epochs that a slot stays empty after a prune."""
POLICY = "policy"
"""Reason of a prune that the policy chose; any other reason is a rule's."""

# what happens by itself and every time is of no interest to somebody who skims
_ROUTINE_STAGES = frozenset({SeedStage.TRAINING, SeedStage.EMBARGOED, SeedStage.DORMANT})


class IllegalTransitionError(Exception):
    """A slot was asked for what its stage does not allow; nothing was changed and nothing was emitted.

    Attributes:
        slot_id: the slot that was asked.
        stage: the stage it is in.
        requested: the stage it was asked to enter.
    """

    def __init__(self, slot_id: str, stage: SeedStage, requested: SeedStage) -> None:
        super().__init__(slot_id, stage, requested)
        self.slot_id = slot_id
        self.stage = stage
        self.requested = requested

    def __str__(self) -> str:
        legal = ", ".join(sorted(stage.name for stage in NEXT_STAGES[self.stage])) or "nothing"
        return f"slot {self.slot_id} cannot go from {self.stage.name} to {self.requested.name} (possible: {legal})"


class SeedSlot:
    """A slot of one environment's host, and the lifecycle of the seed in it.

    Every transition emits one SEED_STAGE_CHANGED; germinating, fossilizing and pruning emit their own event before.
    State is complete before anything is emitted.
    """

    def __init__(
        self,
        slot_id: str,
        *,
        env_id: int,
        tokens: int,
        width: int,
        generator: torch.Generator,
        device: torch.device,
        serials: Iterator[int],
        emit: Emit,
        group_id: str = "default",
    ) -> None:
        """Make an empty slot before the first host epoch of an episode.

        Args:
            slot_id: the slot's name, unique in its environment.
            env_id: global index of the environment.
            tokens: tokens of the features at this place.
            width: features of a token.
            generator: where the parameters of seeds are drawn from, on the CPU.
            device: where seeds live.
            serials: numbers that no other seed of the environment gets.
            emit: takes the events.
            group_id: arm of an A/B comparison, put on every event.
        """
        self.slot_id = slot_id
        self.stage = SeedStage.DORMANT
        self.epochs_in_stage = 0
        self.seed: Seed | None = None
        self.env_id = env_id
        self._shape = (tokens, width)
        self._generator = generator
        self._device = device
        self._serials = serials
        self._emit = emit
        self._group_id = group_id
        self._epoch = 1

    # ── the seed in the network ────────────────────────────────────────────────────────────────────────────────

    @property
    def alpha(self) -> float:
        """Weight of the seed in the slot's output, 0 for an empty slot."""
        return self.seed.alpha if self.seed else 0.0

    @property
    def params(self) -> int:
        """Trainable parameters of the seed, 0 for an empty slot."""
        return self.seed.params if self.seed else 0

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Parameters of the seed, none for an empty slot."""
        return self.seed.parameters if self.seed else ()

    def join(self, features: Tensor) -> Tensor:
        """Return the slot's output: the features with the seed joined at its present alpha."""
        return features if self.alpha == 0 else self._blend(features, self.alpha)

    def join_fully(self, features: Tensor) -> Tensor:
        """Return the slot's output with the seed at alpha 1, as it is trained behind the host."""
        return self._blend(features, 1.0)

    def _blend(self, features: Tensor, alpha: float) -> Tensor:
        assert self.seed is not None
        output: Tensor = self.seed.module(features)
        if self.seed.style is BlendStyle.MULTIPLY:
            output = output.tanh()
        if alpha != 1.0:
            output = alpha * output
        return features + output if self.seed.style is BlendStyle.ADD else features * (1.0 + output)

    # ── what the policy decides ────────────────────────────────────────────────────────────────────────────────

    def germinate(self, blueprint_id: str, *, style: BlendStyle, tempo: int, val_accuracy: float) -> None:
        """Plant a seed.

        Args:
            blueprint_id: a key of `BLUEPRINTS`; `KeyError` otherwise.
            style: how its output will join the features.
            tempo: host epochs that blending will take at normal speed, 1 or more.
            val_accuracy: present validation accuracy, which its improvement is counted from.

        Raises:
            IllegalTransitionError: the slot is not DORMANT.
        """
        self._refuse_unless_legal(SeedStage.GERMINATED)
        blueprint = BLUEPRINTS[blueprint_id]
        module = initialise(lambda: blueprint(*self._shape), self._generator, self._device)
        seed_id = f"env{self.env_id}-{self.slot_id}-s{next(self._serials)}"
        self.seed = seed = Seed(
            seed_id,
            blueprint_id,
            module,
            tuple(module.parameters()),
            style,
            tempo,
            accuracy_at_birth=val_accuracy,
            accuracy_at_entry=val_accuracy,
            accuracy=val_accuracy,
        )
        payload = SeedGerminatedPayload(
            slot_id=self.slot_id,
            env_id=self.env_id,
            blueprint_id=blueprint_id,
            params=seed.params,
            alpha=seed.alpha,
            epochs_in_stage=0,
            blend_tempo_epochs=tempo,
        )
        self._enter(SeedStage.GERMINATED, payload, f"{blueprint_id} seed germinated, {seed.params} parameters")

    def advance(self, *, target: float, speed: AlphaSpeed, curve: AlphaCurve) -> None:
        """Begin to blend the seed in; alpha rises from the next epoch on.

        Raises:
            IllegalTransitionError: the seed is not in TRAINING.
        """
        self._refuse_unless_legal(SeedStage.BLENDING)
        assert self.seed is not None
        self.seed.schedule = AlphaSchedule(target, blend_epochs(self.seed.tempo, speed), curve)
        self._enter(SeedStage.BLENDING)

    def fossilize(self) -> None:
        """Keep the seed for good.

        Raises:
            IllegalTransitionError: the seed is not in HOLDING.
        """
        self._refuse_unless_legal(SeedStage.FOSSILIZED)
        assert self.seed is not None
        seed = self.seed
        improvement = seed.accuracy - seed.accuracy_at_birth
        payload = SeedFossilizedPayload(
            slot_id=self.slot_id,
            env_id=self.env_id,
            blueprint_id=seed.blueprint_id,
            improvement=improvement,
            params_added=seed.params,
            alpha=seed.alpha,
            epochs_total=seed.epochs_total,
            **_measured(counterfactual=seed.contribution),
        )
        gained = f"{improvement:+.3f} accuracy since germination" if math.isfinite(improvement) else "gain unknown"
        message = f"{seed.blueprint_id} seed fossilized, {gained}"
        self._enter(SeedStage.FOSSILIZED, payload, message)

    def prune(self, reason: str = POLICY) -> None:
        """Remove the seed.

        Args:
            reason: `POLICY`, or the rule that removes it.

        Raises:
            IllegalTransitionError: there is no seed, or it is FOSSILIZED.
        """
        self._refuse_unless_legal(SeedStage.PRUNED)
        assert self.seed is not None
        seed = self.seed
        payload = SeedPrunedPayload(
            slot_id=self.slot_id,
            env_id=self.env_id,
            reason=reason,
            blueprint_id=seed.blueprint_id,
            auto_pruned=reason != POLICY,
            epochs_total=seed.epochs_total,
            **_measured(
                improvement=seed.accuracy - seed.accuracy_at_birth if seed.validations else None,
                counterfactual=seed.contribution,
            ),
        )
        self._enter(SeedStage.PRUNED, payload, f"{seed.blueprint_id} seed pruned: {reason}")

    # ── what an epoch brings ───────────────────────────────────────────────────────────────────────────────────

    def begin_epoch(self) -> None:
        """Before a host epoch is trained: a new seed begins to learn, a blending one moves, a pruned slot rests."""
        if self.stage is SeedStage.GERMINATED:
            self._enter(SeedStage.TRAINING)
        elif self.stage is SeedStage.PRUNED:
            self._enter(SeedStage.EMBARGOED)
        elif self.stage is SeedStage.BLENDING:
            assert self.seed is not None
            assert self.seed.schedule is not None
            self.seed.alpha = self.seed.schedule.alpha(self.epochs_in_stage + 1)

    def end_training(self, gradient: GradientHealth | None) -> None:
        """After a host epoch was trained: count it, and take the seed's gradient, None for an empty slot."""
        self.epochs_in_stage += 1
        if self.seed:
            self.seed.epochs_total += 1
            self.seed.gradient = gradient

    def end_epoch(self, val_accuracy: float, contribution: float | None) -> None:
        """After the epoch was validated: a blended seed comes to hold, an embargo to its end.

        Args:
            val_accuracy: validation accuracy after the epoch, a fraction.
            contribution: accuracy lost when the seed alone is ablated; None where no ablation was run.
        """
        if self.seed:
            self.seed.accuracy = val_accuracy
            self.seed.validations += 1
            self.seed.validations_in_stage += 1
            self.seed.contribution = contribution
        if self.stage is SeedStage.BLENDING:
            assert self.seed is not None
            assert self.seed.schedule is not None
            if self.epochs_in_stage >= self.seed.schedule.epochs:
                self._enter(SeedStage.HOLDING)
        elif self.stage is SeedStage.EMBARGOED and self.epochs_in_stage >= EMBARGO_EPOCHS:
            self._enter(SeedStage.DORMANT)
        self._epoch += 1

    # ── transitions ────────────────────────────────────────────────────────────────────────────────────────────

    def _refuse_unless_legal(self, requested: SeedStage) -> None:
        if requested not in NEXT_STAGES[self.stage]:
            raise IllegalTransitionError(self.slot_id, self.stage, requested)

    def _enter(self, stage: SeedStage, payload: TelemetryPayload | None = None, message: str = "") -> None:
        """Change the stage, then emit ``payload``, if any, and the transition."""
        self._refuse_unless_legal(stage)
        left, seed = self.stage, self.seed
        changed = SeedStageChangedPayload(
            slot_id=self.slot_id,
            env_id=self.env_id,
            from_stage=left.name,
            to_stage=stage.name,
            epochs_in_stage=self.epochs_in_stage,
            **(_seed_at_transition(seed) if seed else {}),
        )
        self.stage = stage
        self.epochs_in_stage = 0
        if seed:
            seed.accuracy_at_entry = seed.accuracy
            seed.validations_in_stage = 0
        if stage is SeedStage.PRUNED:
            self.seed = None
        if payload:
            self._emit_event(payload, seed, message, "info")
        message = f"{left.name} → {stage.name}"
        severity: Severity = "debug" if stage in _ROUTINE_STAGES else "info"
        if seed and seed.gradient and seed.gradient.exploding:
            message += f", gradient exploding: norm {seed.gradient.seed_norm:.3g}"
            severity = "warning"
        self._emit_event(changed, seed, message, severity)

    def _emit_event(self, payload: TelemetryPayload, seed: Seed | None, message: str, severity: Severity) -> None:
        self._emit(
            TelemetryEvent(
                data=payload,
                seed_id=seed.seed_id if seed else None,
                slot_id=self.slot_id,
                epoch=self._epoch,
                group_id=self._group_id,
                message=f"env {self.env_id} slot {self.slot_id}: {message}",
                severity=severity,
            )
        )


def _measured(**measurements: float | None) -> dict[str, Any]:
    """Return the measurements that exist, so that one which does not is left unsupplied."""
    return {name: value for name, value in measurements.items() if value is not None}


def _seed_at_transition(seed: Seed) -> dict[str, Any]:
    """Return what a stage change says of the seed, as far as it was measured."""
    gradient = seed.gradient
    return {
        "alpha": seed.alpha,
        **_measured(
            accuracy_delta=seed.accuracy - seed.accuracy_at_entry if seed.validations_in_stage else None,
            grad_ratio=gradient.ratio if gradient else None,
            has_vanishing=gradient.vanishing if gradient else None,
            has_exploding=gradient.exploding if gradient else None,
        ),
    }
