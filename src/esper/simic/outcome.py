"""What one step of the environment brought, in a form that travels: through ``info``, and out of worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, overload

from typing_extensions import override

from esper.leyline.actions import Op
from esper.leyline.telemetry import TelemetryEvent
from esper.simic.reward import RewardBreakdown

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["EmittedEvents", "OutcomeFields", "StepOutcome"]


class OutcomeFields(TypedDict):
    """The fields of a `RewardComputedPayload` that the environment knows; the rest is the policy's."""

    total_reward: float
    action_name: str
    base_acc_delta: float
    bounded_attribution: float
    compute_rent: float
    alpha_shock: float
    ratio_penalty: float
    stage_bonus: float
    fossilize_terminal_bonus: float
    blending_warning: float
    holding_warning: float
    val_acc: float
    slot_states: dict[str, dict[str, Any]]
    host_accuracy: float
    seed_contribution: NotRequired[float]
    action_slot: NotRequired[str]


@dataclass(slots=True, frozen=True, kw_only=True)
class StepOutcome:
    """Everything that the last step brought."""

    op: Op
    """The op carried out."""
    action_slot: str | None
    """Slot it was applied to; None for an op without one."""
    slot_states: dict[str, dict[str, Any]]
    """Every slot as the decision saw it, as REWARD_COMPUTED describes it."""
    seeds: dict[str, dict[str, Any]]
    """The occupied slots after the step, as EPOCH_COMPLETED describes them."""
    reward: RewardBreakdown
    """What the step was worth."""
    epoch: int
    """Host epoch that was trained, the first being 1."""
    val_accuracy: float
    """Validation accuracy after the step, a fraction; NaN once the host diverged."""
    val_loss: float
    """Mean validation cross-entropy in nats; not finite once the host diverged."""
    host_accuracy: float
    """Validation accuracy after the step with every seed ablated, a fraction."""
    seed_contribution: float | None
    """Accuracy lost when the seed of the slot acted on is ablated; None where no ablation was run."""
    final: bool
    """Whether the episode is over."""

    def fields(self) -> OutcomeFields:
        """Return the step as REWARD_COMPUTED describes it."""
        reward = self.reward
        fields: OutcomeFields = {
            "total_reward": reward.total_reward,
            "action_name": self.op.name,
            "base_acc_delta": reward.base_acc_delta,
            "bounded_attribution": reward.bounded_attribution,
            "compute_rent": reward.compute_rent,
            "alpha_shock": reward.alpha_shock,
            "ratio_penalty": reward.ratio_penalty,
            "stage_bonus": reward.stage_bonus,
            "fossilize_terminal_bonus": reward.fossilize_terminal_bonus,
            "blending_warning": reward.blending_warning,
            "holding_warning": reward.holding_warning,
            "val_acc": self.val_accuracy,
            "slot_states": self.slot_states,
            "host_accuracy": self.host_accuracy,
        }
        if self.seed_contribution is not None:
            fields["seed_contribution"] = self.seed_contribution
        if self.action_slot is not None:
            fields["action_slot"] = self.action_slot
        return fields


class EmittedEvents(Sequence[TelemetryEvent]):
    """The events of one step, in order. Two are equal when their payloads are: identifiers and times differ."""

    def __init__(self, events: Iterable[TelemetryEvent]) -> None:
        """Take the events."""
        self._events = tuple(events)

    @override
    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, index: int) -> TelemetryEvent: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TelemetryEvent, ...]: ...
    @override
    def __getitem__(self, index: int | slice) -> TelemetryEvent | tuple[TelemetryEvent, ...]:
        return self._events[index]

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, EmittedEvents) and [e.data for e in self] == [e.data for e in other]

    @override
    def __hash__(self) -> int:
        return hash(tuple(type(event.data) for event in self))

    @override
    def __repr__(self) -> str:
        return f"EmittedEvents({[event.event_type.name for event in self]})"
