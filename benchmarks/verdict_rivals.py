"""What rlwatch and rldoctor say of a run, fed with the numbers that its events hold, a record a batch.

Neither is needed: they are looked for in build/rivals, where
``pip install --target build/rivals --no-deps rlwatch==0.5.1 rldoctor==0.2.0`` puts them.
"""

from __future__ import annotations

import logging
import math
import statistics
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
)

__all__ = ["RIVALS", "records"]

PLACE = Path(__file__).parent.parent / "build" / "rivals"


def records(events: Iterable[TelemetryEvent]) -> list[dict[str, Any]]:
    """Return a record a batch: of the update what it measured, of the episodes mean and scatter of their returns."""
    made: list[dict[str, Any]] = []
    returns: dict[int, float] = defaultdict(float)
    update: PPOUpdatePayload | None = None
    for event in events:
        data = event.data
        if isinstance(data, RewardComputedPayload):
            returns[data.env_id] += data.total_reward
        elif isinstance(data, PPOUpdatePayload):
            update = data
        elif isinstance(data, BatchEpochCompletedPayload):
            record: dict[str, Any] = {"step": data.batch_idx, "reward_mean": data.avg_reward}
            if len(returns) > 1 and all(map(math.isfinite, returns.values())):
                record["reward_std"] = statistics.pstdev(returns.values())
            if update is not None and not update.skipped:
                record |= {
                    "entropy": update.entropy,
                    "kl": update.kl_divergence,
                    "pg_clipfrac": update.clip_fraction,
                    "grad_norm": update.grad_norm,
                    "policy_loss": update.policy_loss,
                    "loss": update.policy_loss + update.value_loss,
                }
                for name, field in (
                    ("value_explained_var", "explained_variance"),
                    ("lr", "lr"),
                    ("advantage_std", "advantage_std"),
                ):
                    if field in update.supplied:
                        record[name] = getattr(update, field)
            made.append(record)
            returns.clear()
            update = None
    return made


def _rlwatch(made: list[dict[str, Any]]) -> str:
    from rlwatch.config import RLWatchConfig  # type: ignore[import-not-found]  # in build/rivals
    from rlwatch.detectors import DetectorSuite  # type: ignore[import-not-found]  # as above

    suite, worst = DetectorSuite(RLWatchConfig()), "OK"
    for record in made:
        alerts = suite.check_step(
            record["step"],
            entropy=record.get("entropy"),
            kl_divergence=record.get("kl"),
            reward_mean=record["reward_mean"],
            reward_std=record.get("reward_std"),
            advantage_std=record.get("advantage_std"),
            loss=record.get("loss"),
            grad_norm=record.get("grad_norm"),
        )
        for alert in alerts:
            worst = "BAD" if alert.severity == "critical" or worst == "BAD" else "WATCH"
    return worst


def _rldoctor(made: list[dict[str, Any]]) -> str:
    from rl_doctor import Severity, diagnose, run_from_records  # type: ignore[import-not-found]  # in build/rivals

    if not made:
        return "UNKNOWN"
    worst = diagnose(run_from_records(made, config={"algorithm": "ppo"})).worst
    return {Severity.CRITICAL: "BAD", Severity.WARNING: "WATCH", Severity.SKIPPED: "UNKNOWN"}.get(worst, "OK")


RIVALS = {"rlwatch": _rlwatch, "rldoctor": _rldoctor} if PLACE.exists() else {}
if RIVALS:
    sys.path.append(str(PLACE))
    logging.getLogger("rlwatch").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
