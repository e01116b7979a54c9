"""Wrote ``schema_version_1.jsonl``, once. Kept to show how; a golden log is never written again.

Two events of each type where there is something to leave out, with what is hard to carry: floats that are not finite,
negative zero, the smallest subnormal, every plane of Unicode, keys that look like the wire's own, fields not supplied.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)
from esper.leyline.wire import encode_event

PAYLOADS: tuple[TelemetryPayload, ...] = (
    TrainingStartedPayload(
        n_envs=4, max_epochs=24, task="digits", host_params=706, slot_ids=("r0c0", "r0c1"), seed=2**63, n_episodes=160,
        lr=3e-3, clip_ratio=0.2, entropy_coef=0.05, param_budget=2000, policy_device="cuda:0",
        env_devices=("cpu", "cpu"),
        episode_id="e-1", resume_path="", reward_mode="shaped", start_episode=0,
        entropy_anneal={"start": 0.05, "end": 0.01, "episodes": 160}, world_size=2, rank=1, local_rank=1,
        amp_enabled=True, amp_dtype="bfloat16", compile_enabled=False, compile_backend=None, compile_mode=None,
    ),
    TrainingStartedPayload(
        n_envs=1, max_epochs=6, task="my.module:task", host_params=1, slot_ids=(), seed=-1, n_episodes=1, lr=5e-324,
        clip_ratio=0.2, entropy_coef=-0.0, param_budget=0, policy_device="cpu", env_devices=("cpu",),
    ),
    EpochCompletedPayload(
        env_id=0, val_accuracy=0.8125, val_loss=math.inf, inner_epoch=3,
        seeds={"r0c0": {"stage": "TRAINING", "alpha": 0.0, "grad_ratio": math.nan, "$float": "NaN"},
               "r0c1": {"$dict": {}}},
    ),
    EpochCompletedPayload(env_id=1, val_accuracy=0, val_loss=1.7976931348623157e308, inner_epoch=1),
    BatchEpochCompletedPayload(
        episodes_completed=4, batch_idx=0, avg_accuracy=0.5, avg_reward=-0.0, total_episodes=160, n_envs=4,
        rolling_accuracy=0.5, env_accuracies=(0.25, math.nan, 1, 0.75),
    ),
    PPOUpdatePayload(
        policy_loss=-0.01, value_loss=0.5, entropy=1.25, grad_norm=math.inf, kl_divergence=-math.inf, clip_fraction=0.1,
        nan_grad_count=3, explained_variance=math.nan, entropy_loss=-1.25, ratio_max=1.5, inf_grad_count=7,
        layer_gradient_health={"fc.weight": math.inf, "é": 1}, loss_scale=65536.0, amp_overflow_detected=True,
        update_skipped=True, early_stop_epoch=None, head_op_entropy={"all": 0.75}, inner_epoch=8, batch=0,
        skipped=False,
    ),
    PPOUpdatePayload(
        policy_loss=0.0, value_loss=0.0, entropy=0.0, grad_norm=0.0, kl_divergence=0.0, clip_fraction=0.0,
        nan_grad_count=0,
    ),
    RewardComputedPayload(
        env_id=0, total_reward=0.125, action_name="GERMINATE", value_estimate=1.5, action_confidence=0.5,
        base_acc_delta=0.125, slot_states={"r0c0": {"stage": "DORMANT"}},
        alternatives=[{"action": "WAIT", "slot": None, "probability": 0.25}], ab_group="B", action_slot="r0c0",
    ),
    RewardComputedPayload(env_id=0, total_reward=-1.0, action_name="WAIT", value_estimate=0.0, action_confidence=1.0),
    SeedGerminatedPayload(slot_id="r0c0", env_id=0, blueprint_id="mixer", params=144, blend_tempo_epochs=5),
    SeedStageChangedPayload(
        slot_id="r0c0", env_id=0, from_stage="GERMINATED", to_stage="TRAINING", alpha=None, accuracy_delta=0.0
    ),
    SeedFossilizedPayload(
        slot_id="r0c0", env_id=0, blueprint_id="mixer", improvement=0.25, params_added=144, alpha=1.0
    ),
    SeedPrunedPayload(slot_id="r0c1", env_id=0, reason="policy", blueprint_id="norm", auto_pruned=False),
    CounterfactualMatrixPayload(
        env_id=0, slot_ids=("r0c0",), configs=({"seed_mask": [True], "accuracy": 0.75}, {"seed_mask": [False]}),
        strategy="full_factorial",
    ),
    AnalyticsSnapshotPayload(kind="action_distribution", action_counts={"WAIT": 90, "GERMINATE": 6}),
    AnalyticsSnapshotPayload(kind="last_action", env_id=0, total_reward=None),
)  # fmt: skip


def main() -> None:
    """Write the log beside this script."""
    start = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    lines = [
        encode_event(
            TelemetryEvent(
                event_id=f"00000000-0000-8000-8000-{index:012x}",
                timestamp=start + timedelta(seconds=index),
                seed_id=f"s{index}" if index % 2 else None,
                slot_id="r0c0" if index % 3 else None,
                epoch=index if index % 4 else None,
                group_id="A" if index % 5 else "default",
                data=payload,
                message="" if index % 2 else "ascii \x00 é \u2028 \uffff \U0001f331 \U0010ffff",
                severity="info" if index % 2 else "warning",
            )
        )
        for index, payload in enumerate(PAYLOADS)
    ]
    Path(__file__).with_name("schema_version_1.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
