"""What each seed is worth: accuracy with every subset of the seeds left out."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from esper.leyline.telemetry import CounterfactualMatrixPayload, Emit, TelemetryEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from esper.leyline.event_types import Severity

__all__ = ["Ablation", "ablate", "emit_counterfactual_matrix"]


@dataclass(slots=True, frozen=True)
class Ablation:
    """A full factorial over the seeds that take part in the network."""

    slot_ids: tuple[str, ...]
    """Slots whose seed has joined (alpha above 0), from input to output; 1 or more."""
    accuracies: dict[frozenset[str], float]
    """Accuracy, a fraction, by the set of slots left out; all 2^k sets. NaN where the host so ablated has diverged."""
    compute_time_ms: float
    """Wall time of the ablation, in ms."""

    @property
    def host_accuracy(self) -> float:
        """Accuracy with every seed left out."""
        return self.accuracies[frozenset(self.slot_ids)]

    def contribution(self, slot_id: str) -> float:
        """Return the accuracy lost when this seed alone is left out, -1 to 1; below 0 it hurts."""
        return self.accuracies[frozenset()] - self.accuracies[frozenset({slot_id})]


def ablate(slot_ids: Sequence[str], full_accuracy: float, accuracy: Callable[[frozenset[str]], float]) -> Ablation:
    """Measure every subset.

    Args:
        slot_ids: the slots to switch, 1 or more.
        full_accuracy: accuracy with none left out, which is known already.
        accuracy: measures the accuracy with these slots left out. Asked so that the first slots change least often.
    """
    started = time.perf_counter()
    measured = {frozenset[str](): full_accuracy}
    for left_out in itertools.islice(itertools.product((False, True), repeat=len(slot_ids)), 1, None):
        ablated = frozenset(itertools.compress(slot_ids, left_out))
        measured[ablated] = accuracy(ablated)
    accuracies = {
        ablated: measured[ablated]
        for size in range(len(slot_ids) + 1)
        for ablated in map(frozenset, itertools.combinations(slot_ids, size))
    }
    return Ablation(tuple(slot_ids), accuracies, (time.perf_counter() - started) * 1e3)


def emit_counterfactual_matrix(emit: Emit, ablation: Ablation, *, env_id: int, epoch: int, group_id: str) -> None:
    """Emit an ablation.

    Args:
        emit: takes the event.
        ablation: what was measured.
        env_id: global index of the environment.
        epoch: host epoch after which it was measured, the first being 1.
        group_id: arm of an A/B comparison.
    """
    configs = tuple(
        {"seed_mask": [slot_id not in ablated for slot_id in ablation.slot_ids], "accuracy": accuracy}
        for ablated, accuracy in ablation.accuracies.items()
    )
    payload = CounterfactualMatrixPayload(
        env_id=env_id,
        slot_ids=ablation.slot_ids,
        configs=configs,
        strategy="full_factorial",
        compute_time_ms=ablation.compute_time_ms,
    )
    message = f"env {env_id}: {len(configs)} configurations ablated, host alone {ablation.host_accuracy:.1%}"
    diverged = sum(math.isnan(accuracy) for accuracy in ablation.accuracies.values())
    if diverged:
        message = (
            f"env {env_id}: {diverged} of {len(configs)} configurations have no accuracy, because the host diverged"
        )
    severity: Severity = "warning" if diverged else "info"
    emit(TelemetryEvent(data=payload, epoch=epoch, group_id=group_id, message=message, severity=severity))
