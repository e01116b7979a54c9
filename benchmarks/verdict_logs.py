"""Synthetic event logs for the verdicts' bench: ordinary events, drawn in a few lines each, with a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from esper.leyline.run_info import RunInfo, SinkStats
from esper.leyline.telemetry import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)

__all__ = ["HEALTHY", "TROUBLE", "Log", "info"]

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
RANDOM = random.Random(0)
WELL: dict[str, Any] = {
    "policy_loss": -0.02,
    "nan_grad_count": 0,
    "inf_grad_count": 0,
    "dead_layers": 0,
    "exploding_layers": 0,
    "entropy_collapsed": False,
    "skipped": False,
}


def noise(scale: float) -> float:
    return RANDOM.gauss(0, scale)


def positive(typical: float) -> float:
    return typical * math.exp(noise(0.2))


@dataclass
class Log:
    """A run of which every batch is drawn."""

    returns: Callable[[int], float]
    batches: int = 60
    update: Callable[[int], dict[str, Any]] = lambda _b: {}
    accuracy: Callable[[int], float] | None = None
    loss: Callable[[int, int], float] = lambda _env, _b: 0.5
    seeds: Callable[[int], str] | None = None
    """Slot, and ``!`` behind it for a seed that is kept."""
    slots: tuple[str, ...] = ("r0", "r1")
    envs: int = 2
    seconds: Callable[[int], float] = lambda _b: 2.0
    clip_ratio: float = 0.2
    flag: bool = True
    """Whether ``entropy_collapsed`` is supplied."""
    fails: str = ""
    group: str = "default"
    scale: float = 1.0
    shift: float = 0.0
    seed: int = 1
    info: RunInfo | None = None
    apart: float = 0.0
    """By how much the returns of one batch differ."""

    def events(self) -> Iterator[TelemetryEvent]:
        RANDOM.seed(self.seed)
        now = START
        begun = TrainingStartedPayload(
            n_envs=self.envs,
            max_epochs=2,
            task="drawn",
            host_params=10,
            slot_ids=self.slots,
            seed=1,
            n_episodes=self.envs * self.batches,
            lr=1e-3,
            clip_ratio=self.clip_ratio,
            entropy_coef=0.01,
            param_budget=100,
            policy_device="cpu",
            env_devices=("cpu",) * self.envs,
        )
        yield self._event(begun, now)
        for b in range(self.batches):
            now += timedelta(seconds=self.seconds(b))
            for data, epoch in self._batch(b):
                yield self._event(data, now, epoch)
        if self.fails:
            failed = AnalyticsSnapshotPayload(kind="training_failed")
            yield TelemetryEvent(
                data=failed, timestamp=now, message=f"training failed: {self.fails}", severity="critical"
            )

    def _event(self, data: TelemetryPayload, now: datetime, epoch: int | None = None) -> TelemetryEvent:
        return TelemetryEvent(data=data, timestamp=now, epoch=epoch, group_id=self.group)

    def _batch(self, b: int) -> Iterator[tuple[TelemetryPayload, int | None]]:
        value = self.returns(b) * self.scale + self.shift
        self.apart = noise(0.4)
        for epoch in (1, 2):
            for env in range(self.envs):
                loss = self.loss(env, b)
                accuracy = self.accuracy(b) if self.accuracy else 0.5
                yield EpochCompletedPayload(env, accuracy if math.isfinite(loss) else math.nan, loss, epoch), epoch
                apart = self.apart * (1 - 2 * env / max(self.envs - 1, 1)) * self.scale
                yield (
                    RewardComputedPayload(
                        env_id=env,
                        total_reward=value / 2 + apart / 2,
                        action_name="WAIT",
                        value_estimate=0.1,
                        action_confidence=0.5,
                    ),
                    epoch,
                )
        if self.seeds is not None:
            yield from self._seeds(b, self.seeds(b))
        entropy = 0.6 + 1.2 * math.exp(-3 * b / self.batches)
        told = WELL | {
            "value_loss": positive(0.05),
            "entropy": entropy,
            "grad_norm": positive(0.6),
            "kl_divergence": positive(0.012),
            "clip_fraction": positive(0.1),
            "explained_variance": 0.8 + noise(0.05),
            "ratio_max": 1.0 + positive(0.5),
            "batch": b,
            "lr": 1e-3,
        }
        if not self.flag:
            del told["entropy_collapsed"]
        yield PPOUpdatePayload(**told | self.update(b)), None
        yield (
            BatchEpochCompletedPayload(
                episodes_completed=self.envs * (b + 1),
                batch_idx=b,
                avg_reward=value,
                n_envs=self.envs,
                avg_accuracy=self.accuracy(b) if self.accuracy else math.nan,
                total_episodes=self.envs * self.batches,
            ),
            None,
        )

    def _seeds(self, b: int, what: str) -> Iterator[tuple[TelemetryPayload, int | None]]:
        slot = what.rstrip("!")
        yield SeedGerminatedPayload(slot, b % self.envs, "mlp", 5), 1
        if what.endswith("!"):
            yield SeedFossilizedPayload(slot, b % self.envs, "mlp", 0.1, 5), 2
        else:
            yield SeedPrunedPayload(slot, b % self.envs, "policy", "mlp"), 2


def info(**changes: Any) -> RunInfo:
    """A run.json, of a run that completed with nothing lost unless it is said otherwise."""
    sink: dict[str, Any] = {
        "name": "jsonl",
        "durable": True,
        "emitted": 900,
        "delivered": 900,
        "rejected": 0,
        "dropped": 0,
        "queued": 0,
        "lag": 0.0,
        "set_aside": False,
        "last_error": None,
    }
    told: dict[str, Any] = {
        "status": "completed",
        "started": START,
        "ended": START,
        "configuration": {},
        "versions": {},
    }
    for name in tuple(changes):
        if name in sink:
            sink[name] = changes.pop(name)
    return RunInfo(**told | {"sinks": (SinkStats(**sink),)} | changes)


def rises(to: float = 10.0, *, within: float = 0.5, scatter: float = 0.4, of: int = 60) -> Callable[[int], float]:
    return lambda b: to * min(b / (within * of), 1.0) + noise(scatter)


def at(batches: range | tuple[int, ...], **fields: Any) -> Callable[[int], dict[str, Any]]:
    return lambda b: fields if b in batches else {}


def collapse(b: int, start: int = 30, top: float = 10.0, steep: float = 3.0, floor: float = 0.0) -> float:
    return (top * min(b / start, 1.0) if b <= start else max(floor, top - steep * (b - start))) + noise(0.4)


ALWAYS = range(1 << 30)
LATE = range(30, 1 << 30)
TROUBLE = {
    "collapsed to nothing": Log(collapse),
    "collapsed, rewards ×1,000": Log(collapse, scale=1000.0),
    "collapsed, rewards + 1,000,000": Log(collapse, shift=1e6),
    "collapsed in the newest twentieth": Log(lambda b: collapse(b, 190), batches=200),
    "collapsed in the newest fiftieth of 20,000": Log(lambda b: collapse(b, 19600, steep=0.1), batches=20_000),
    "fell to half": Log(lambda b: collapse(b, floor=5.0)),
    "declines slowly": Log(lambda b: 10 - b / 12 + noise(0.4)),
    "collapsed and recovered": Log(lambda b: (2.0 if 25 <= b < 33 else 10 * min(b / 20, 1)) + noise(0.4)),
    "never learnt": Log(lambda b: 5 + noise(0.5)),
    "never learnt, one environment": Log(lambda b: 5 + noise(3.0), envs=1, batches=120),
    "plateau after a small rise": Log(lambda b: 2 + 3 * min(b / 12, 1) + noise(0.4), batches=120),
    "return not finite from half on": Log(lambda b: math.nan if b >= 30 else b / 3 + noise(0.4)),
    "return infinite once": Log(lambda b: math.inf if b == 20 else min(b, 30) / 3 + noise(0.4)),
    "accuracy falls, return rises": Log(rises(), accuracy=lambda b: 0.9 - 0.01 * b + noise(0.01)),
    "NaN gradients from the start, three batches": Log(
        rises(of=3), batches=3, update=at(ALWAYS, nan_grad_count=400, value_loss=math.nan)
    ),
    "entropy collapsed, flagged": Log(rises(), update=at(LATE, entropy=0.001, entropy_collapsed=True)),
    "entropy collapsed, without a flag": Log(
        lambda b: 5 + noise(0.5), flag=False, update=lambda b: {"entropy": 1.4 * math.exp(-b / 3)}
    ),
    "differential entropy collapsed": Log(
        lambda b: 5 + noise(0.5), flag=False, update=lambda b: {"entropy": 2.8 - 0.3 * b}
    ),
    "KL spikes now and then": Log(rises(), update=at((11, 25, 40, 52), kl_divergence=0.4)),
    "KL too large throughout": Log(rises(), update=lambda _b: {"kl_divergence": positive(0.3), "clip_fraction": 0.6}),
    "KL ten times the run's target": Log(
        rises(), info=info(configuration={"target_kl": 0.01}), update=at(LATE, kl_divergence=0.1)
    ),
    "clip fraction saturated": Log(rises(), update=lambda _b: {"clip_fraction": 0.85}),
    "value loss explodes": Log(rises(), update=lambda b: {"value_loss": positive(0.05) * (1e5 if b >= 40 else 1)}),
    "explained variance below 0 throughout": Log(rises(), update=lambda _b: {"explained_variance": -0.6 + noise(0.2)}),
    "critic worse than nothing": Log(rises(), update=lambda _b: {"explained_variance": -3 + noise(0.3)}),
    "gradient spike ×10,000": Log(rises(), update=at((33,), grad_norm=6000.0)),
    "gradients vanished": Log(lambda b: 5 + noise(0.4), update=at(LATE, grad_norm=0.0, kl_divergence=0.0)),
    "every update skipped": Log(lambda b: 5 + noise(0.4), batches=12, update=at(ALWAYS, skipped=True)),
    "a policy loss that is not finite": Log(rises(), update=at((41,), policy_loss=math.nan)),
    "dead layers": Log(rises(), update=at(LATE, dead_layers=2)),
    "exploding layers": Log(rises(), update=at((20, 21), exploding_layers=1, grad_norm=200.0)),
    "ratio of 1,000": Log(rises(), update=at((30, 31), ratio_max=1000.0)),
    "overflow in every update": Log(
        rises(), update=at(ALWAYS, amp_overflow_detected=True, update_skipped=True, grad_norm=math.inf)
    ),
    "hosts diverge again and again": Log(rises(), loss=lambda env, b: math.nan if env == 0 and b % 3 == 0 else 0.5),
    "a host diverged once": Log(rises(), loss=lambda env, b: math.inf if env == 1 and b == 20 else 0.5),
    "every seed dies": Log(rises(), seeds=lambda b: f"r{b % 2}"),
    "a slot is never used": Log(rises(), seeds=lambda _b: "r0!"),
    "failed": Log(rises(), fails="the policy's weights are not finite"),
    "events dropped": Log(rises(), info=info(dropped=40, delivered=860)),
    "events rejected": Log(rises(), info=info(rejected=3, delivered=897)),
    "silent for three hours": Log(rises(), seconds=lambda b: 10800.0 if b == 30 else 2.0),
    "clock set back": Log(rises(), seconds=lambda b: -3600.0 if b == 30 else 2.0),
    "one batch far below all": Log(lambda b: -200.0 if b == 30 else min(b, 30) / 3 + noise(0.4)),
}
HEALTHY = {
    "learns at once": Log(rises(within=0.2)),
    "learns until the end": Log(rises(within=1.0)),
    "learns late": Log(lambda b: 10 / (1 + math.exp(-(b - 40) / 4)) + noise(0.4)),
    "learns, one noisy environment": Log(lambda b: 10 * min(b / 80, 1) + noise(2.5), envs=1, batches=160),
    "learns, ten batches": Log(rises(of=10, scatter=0.2, within=1.0), batches=10),
    "learns, 20,000 batches": Log(rises(of=20_000, within=0.9, scatter=2.0), batches=20_000),
    "learns, rewards ×1,000": Log(rises(), scale=1000.0),
    "learns, rewards + 1,000,000": Log(rises(), shift=1e6),
    "costs: from -1,500 to -150": Log(lambda b: -1500 + 1350 * min(b / 40, 1) + noise(60)),
    "learns after a dip": Log(lambda b: (4 - b / 4 if b < 5 else 3 + 7 * min((b - 5) / 30, 1)) + noise(0.4)),
    "continuous actions": Log(rises(), flag=False, update=lambda b: {"entropy": 1.42 - 0.05 * b}),
    "unscaled returns": Log(
        rises(500, scatter=20), update=lambda b: {"grad_norm": positive(200.0), "value_loss": positive(900.0) * (1 + b)}
    ),
    "stops at its target KL": Log(
        rises(),
        info=info(configuration={"target_kl": 0.075}),
        update=lambda _b: {
            "kl_divergence": positive(0.08),
            "clip_fraction": 0.42,
            "ratio_max": 3.5,
            "early_stop_epoch": 3,
        },
    ),
    "finds its loss scale": Log(
        rises(),
        update=at(range(4), amp_overflow_detected=True, update_skipped=True, grad_norm=math.inf, inf_grad_count=9),
    ),
    "a critic that begins badly": Log(rises(), update=lambda b: {"explained_variance": 0.9 - 4 * math.exp(-b / 2)}),
    "solved early, at its ceiling": Log(
        lambda b: min(500.0, 20 + 40 * b + noise(10)),
        batches=200,
        flag=False,
        update=lambda b: {"entropy": 0.69 * math.exp(-b / 40) + 0.05},
    ),
    "returns without variance at the end": Log(
        lambda b: min(500.0, 20 + 20 * b + noise(10)),
        update=lambda b: {"explained_variance": math.nan if b > 30 else 0.8},
    ),
    "seeds kept in both slots": Log(
        rises(),
        seeds=lambda b: f"r{b % 2}{'!' if b % 3 == 0 else ''}",
        accuracy=lambda b: 0.6 + 0.3 * min(b / 40, 1) + noise(0.01),
    ),
    "one KL a little above": Log(rises(), update=at((7,), kl_divergence=0.07)),
}
