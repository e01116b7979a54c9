"""A run that never was: the same events every time, of real payloads, in the order and mixture of a real one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from esper.karn.dashboard.feed import NewRecords, Record
from esper.karn.dashboard.following import FollowedRun
from esper.leyline.event_types import Severity
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

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLOTS = ("r0", "r1", "r2")
BLUEPRINTS = {"norm": 24, "mlp": 812, "mixer": 144, "attention": 624}
NEXT = {"GERMINATED": "TRAINING", "TRAINING": "BLENDING", "BLENDING": "HOLDING"}


@dataclass(slots=True)
class Seed:
    seed_id: str
    blueprint_id: str
    stage: str = "GERMINATED"
    alpha: float = 0.0
    epochs: int = 0


@dataclass
class Story:
    """Makes the run: ``events()`` gives all of it, the attributes say how large it is."""

    n_envs: int = 4
    n_episodes: int = 160
    episodes: int = 96
    """Entry; the rest is still to come."""
    max_epochs: int = 24
    extra_epochs: int = 13
    """Of the batch that is still going on; 0 for none."""
    unhealthy: bool = False
    rng: Random = field(default_factory=lambda: Random(7))
    now: datetime = NOON
    """The moment of the newest event."""
    serial: int = 0

    def event(
        self,
        data: TelemetryPayload,
        message: str = "",
        severity: Severity = "info",
        seed: Seed | None = None,
        epoch: int | None = None,
    ) -> TelemetryEvent:
        self.now += timedelta(milliseconds=3)
        self.serial += 1
        return TelemetryEvent(
            event_id=f"event-{self.serial:06}",
            timestamp=self.now,
            data=data,
            message=message,
            severity=severity,
            seed_id=None if seed is None else seed.seed_id,
            epoch=epoch,
        )

    def events(self) -> Iterator[TelemetryEvent]:
        yield self.event(
            TrainingStartedPayload(
                n_envs=self.n_envs,
                max_epochs=self.max_epochs,
                task="digits",
                host_params=706,
                slot_ids=SLOTS,
                seed=0,
                n_episodes=self.n_episodes,
                lr=3e-3,
                clip_ratio=0.2,
                entropy_coef=0.05,
                param_budget=1600,
                policy_device="cpu",
                env_devices=("cpu",) * self.n_envs,
                episode_id="0f9d",
                entropy_anneal={"start": 0.05, "end": 0.01, "episodes": 160.0},
            ),
            f"training on digits begins: {self.n_episodes} episodes in {self.n_envs} environments, seed 0",
        )
        batches = self.episodes // self.n_envs
        for batch in range(batches):
            yield from self.batch(batch, self.max_epochs)
            yield from self.batch_end(batch)
        if self.extra_epochs:
            yield from self.batch(batches, self.extra_epochs)

    def skill(self, batch: int) -> float:
        share = batch * self.n_envs / self.n_episodes
        return 1 - math.exp(-3 * share)

    def batch(self, batch: int, epochs: int) -> Iterator[TelemetryEvent]:
        slots: dict[int, dict[str, Seed]] = {env: {} for env in range(self.n_envs)}
        for epoch in range(1, epochs + 1):
            self.now += timedelta(milliseconds=60)
            for env in range(self.n_envs):
                yield from self.step(batch, env, epoch, slots[env])
        if epochs == self.max_epochs:
            for env, seeds in slots.items():
                for slot in [slot for slot, seed in seeds.items() if seed.stage != "FOSSILIZED"]:
                    yield from self.end(env, slot, seeds, "RULE", epochs)

    def step(self, batch: int, env: int, epoch: int, seeds: dict[str, Seed]) -> Iterator[TelemetryEvent]:
        rng, skill = self.rng, self.skill(batch)
        before: dict[str, dict[str, object]] = {
            slot: {"stage": seeds[slot].stage if slot in seeds else "DORMANT"} for slot in SLOTS
        }
        action, slot = "WAIT", None
        free = [slot for slot in SLOTS if slot not in seeds]
        if free and rng.random() < 0.3:
            action, slot = "GERMINATE", rng.choice(free)
            blueprint = rng.choices(list(BLUEPRINTS), [1, 1, 1 + 6 * skill, 1])[0]
            seeds[slot] = seed = Seed(f"env{env}-{slot}-s{self.serial}", blueprint)
            payload = SeedGerminatedPayload(
                slot, env, blueprint, BLUEPRINTS[blueprint], alpha=0.0, blend_tempo_epochs=2
            )
            yield self.event(payload, f"env {env} slot {slot}: {blueprint} seed germinated", seed=seed, epoch=epoch)
        for slot_id, seed in list(seeds.items()):
            seed.epochs += 1
            if seed.stage in NEXT and seed.epochs >= 2 and rng.random() < 0.5:
                yield from self.advance(env, slot_id, seed, epoch)
            elif seed.stage == "HOLDING" and rng.random() < 0.4:
                action, slot = ("FOSSILIZE", slot_id) if rng.random() < 0.3 + skill / 2 else ("PRUNE", slot_id)
                yield from self.end(env, slot_id, seeds, action, epoch)
        accuracy = 0.55 + 0.33 * skill * epoch / self.max_epochs + 0.02 * rng.random()
        diverged = self.unhealthy and env == 1
        yield self.event(
            EpochCompletedPayload(
                env_id=env,
                val_accuracy=accuracy,
                val_loss=math.inf if diverged else 1.6 - 1.2 * accuracy,
                inner_epoch=epoch,
                seeds={
                    slot_id: {
                        "stage": seed.stage,
                        "blueprint_id": seed.blueprint_id,
                        "alpha": seed.alpha,
                        "epochs_in_stage": seed.epochs,
                        "params": BLUEPRINTS[seed.blueprint_id],
                    }
                    for slot_id, seed in seeds.items()
                },
            ),
            f"env {env}, epoch {epoch}: validation accuracy {accuracy:.3f}",
            "warning" if diverged else "info",
            epoch=epoch,
        )
        if epoch % 6 == 0:
            yield self.event(self.ablation(env, accuracy, sorted(seeds)), f"env {env}: ablation", "debug", epoch=epoch)
        yield self.event(self.reward(env, action, slot, accuracy, before), f"env {env}: {action}", "debug", epoch=epoch)

    def advance(self, env: int, slot: str, seed: Seed, epoch: int) -> Iterator[TelemetryEvent]:
        left, seed.stage, seed.epochs = seed.stage, NEXT[seed.stage], 0
        seed.alpha = 0.75 if seed.stage == "HOLDING" else 0.4 if seed.stage == "BLENDING" else 0.0
        payload = SeedStageChangedPayload(
            slot, env, left, seed.stage, alpha=seed.alpha, accuracy_delta=0.01, epochs_in_stage=2, grad_ratio=0.3
        )
        yield self.event(payload, f"env {env} slot {slot}: {left} → {seed.stage}", "debug", seed, epoch)

    def end(self, env: int, slot: str, seeds: dict[str, Seed], action: str, epoch: int) -> Iterator[TelemetryEvent]:
        seed = seeds[slot]
        gain = self.rng.gauss(0.03, 0.02)
        if action == "FOSSILIZE":
            left, seed.stage = seed.stage, "FOSSILIZED"
            params = BLUEPRINTS[seed.blueprint_id]
            payload: TelemetryPayload = SeedFossilizedPayload(
                slot, env, seed.blueprint_id, gain, params, alpha=0.75, epochs_total=9, counterfactual=gain / 2
            )
            message = f"env {env} slot {slot}: {seed.blueprint_id} seed fossilized, {gain:+.1%} accuracy"
        else:
            left, seed.stage = seed.stage, "PRUNED"
            del seeds[slot]
            reason = "policy" if action == "PRUNE" else "episode_end"
            payload = SeedPrunedPayload(
                slot, env, reason, seed.blueprint_id, gain, auto_pruned=action != "PRUNE", epochs_total=9
            )
            message = f"env {env} slot {slot}: {seed.blueprint_id} seed pruned: {reason}"
        yield self.event(payload, message, seed=seed, epoch=epoch)
        changed = SeedStageChangedPayload(slot, env, left, seed.stage, alpha=seed.alpha)
        yield self.event(changed, f"env {env} slot {slot}: {left} → {seed.stage}", "debug", seed, epoch)

    def ablation(self, env: int, accuracy: float, slots: list[str]) -> CounterfactualMatrixPayload:
        n = len(slots)
        masks = [[bool(index >> bit & 1) for bit in range(n)] for index in range(2**n)]
        configs = tuple({"seed_mask": mask, "accuracy": accuracy - 0.04 * mask.count(False)} for mask in masks)
        return CounterfactualMatrixPayload(env, tuple(slots), configs, "full_factorial", 3.5)

    def reward(
        self, env: int, action: str, slot: str | None, accuracy: float, before: dict[str, dict[str, object]]
    ) -> RewardComputedPayload:
        rng = self.rng
        parts = {
            "base_acc_delta": rng.gauss(0.1, 0.1),
            "bounded_attribution": abs(rng.gauss(0.1, 0.05)),
            "compute_rent": -0.1 * rng.random(),
            "alpha_shock": -0.02 * rng.random(),
            "ratio_penalty": -0.02 if action == "GERMINATE" else 0.0,
            "stage_bonus": 0.05 * rng.random(),
            "fossilize_terminal_bonus": 0.3 if action == "FOSSILIZE" else 0.0,
            "blending_warning": -0.01 * rng.random(),
            "holding_warning": 0.0,
        }
        confidence = rng.random() ** 2
        return RewardComputedPayload(
            env_id=env,
            total_reward=math.fsum(parts.values()),
            action_name=action,
            value_estimate=rng.gauss(6, 1),
            action_confidence=confidence,
            val_acc=accuracy,
            host_accuracy=accuracy - 0.05,
            decision_entropy=2 * rng.random(),
            action_slot=slot,
            slot_states=before,
            alternatives=[
                {"action": "WAIT", "slot": None, "probability": (1 - confidence) / 2},
                {"action": "PRUNE", "slot": "r1", "probability": (1 - confidence) / 4},
            ],
            base_acc_delta=parts["base_acc_delta"],
            bounded_attribution=parts["bounded_attribution"],
            compute_rent=parts["compute_rent"],
            alpha_shock=parts["alpha_shock"],
            ratio_penalty=parts["ratio_penalty"],
            stage_bonus=parts["stage_bonus"],
            fossilize_terminal_bonus=parts["fossilize_terminal_bonus"],
            blending_warning=parts["blending_warning"],
            holding_warning=parts["holding_warning"],
        )

    def batch_end(self, batch: int) -> Iterator[TelemetryEvent]:
        rng, skill = self.rng, self.skill(batch)
        self.now += timedelta(milliseconds=200)
        yield self.update(batch)
        yield self.event(
            AnalyticsSnapshotPayload("action_distribution", action_counts={"WAIT": 60, "GERMINATE": 20, "PRUNE": 3})
        )
        for env in range(self.n_envs):
            yield self.event(
                AnalyticsSnapshotPayload(
                    "last_action",
                    env_id=env,
                    total_reward=0.1,
                    action_name="WAIT",
                    action_confidence=0.4,
                    value_estimate=5.0,
                )
            )
        accuracies = tuple(0.6 + 0.27 * skill + 0.02 * rng.random() for _ in range(self.n_envs))
        accuracy, reward = math.fsum(accuracies) / self.n_envs, 4.5 + 6.7 * skill + rng.gauss(0, 0.4)
        done = (batch + 1) * self.n_envs
        yield self.event(
            BatchEpochCompletedPayload(
                done,
                batch,
                accuracy,
                reward,
                self.n_episodes,
                self.n_envs,
                rolling_accuracy=accuracy - 0.01,
                env_accuracies=accuracies,
            ),
            f"batch {batch}: reward {reward:.2f}, accuracy {accuracy:.3f}, {done} of {self.n_episodes} episodes",
        )

    def update(self, batch: int) -> TelemetryEvent:
        rng, skill = self.rng, self.skill(batch)
        sick = self.unhealthy and (batch + 3) * self.n_envs > self.episodes
        payload = PPOUpdatePayload(
            policy_loss=-0.02 + rng.gauss(0, 0.005),
            value_loss=0.4 * (1 - skill) + 0.05,
            entropy=3.1 - 2 * skill + rng.gauss(0, 0.05),
            grad_norm=math.nan if sick else 0.8 + rng.gauss(0, 0.1),
            kl_divergence=0.19 if sick else 0.03 + 0.01 * rng.random(),
            clip_fraction=0.42 if sick else 0.15 + 0.05 * rng.random(),
            nan_grad_count=17 if sick else 0,
            explained_variance=-0.2 if sick else 0.2 + 0.6 * skill,
            entropy_loss=-3.1 + 2 * skill,
            advantage_mean=0.01,
            advantage_std=0.9,
            ratio_mean=1.0,
            ratio_min=0.4,
            ratio_max=2.4,
            ratio_std=0.2,
            lr=3e-3 * (1 - 0.9 * batch / 40),
            entropy_coef=0.05,
            dead_layers=0,
            exploding_layers=1 if sick else 0,
            layer_gradient_health={"actor.0": 0.031, "actor.2": 0.027, "critic.0": 0.11, "critic.2": 0.09},
            update_time_ms=118.4,
            head_op_entropy={"all": 1.1},
            head_slot_entropy={"all": 0.9},
            head_blueprint_entropy={"all": 1.2, "r0": 1.3, "r1": 1.2, "r2": 0.7},
            head_tempo_entropy={"all": 1.0, "r0": 1.05},
            head_style_entropy={"all": 0.6},
            head_slot_grad_norm={"r0": 0.11, "r1": 0.05, "r2": math.nan if sick else 0.2},
            head_blueprint_grad_norm={"norm": 0.05, "mlp": 0.1, "mixer": 0.2, "attention": 0.04},
            inner_epoch=8,
            batch=batch,
            skipped=False,
            update_skipped=False,
        )
        # A sick update's maker did not measure these two.
        measured = payload.to_dict() | ({} if sick else {"inf_grad_count": 0, "entropy_collapsed": False})
        return self.event(
            PPOUpdatePayload.from_dict(measured), f"batch {batch}: update of 8 epochs", "error" if sick else "info"
        )

    def write(self, path: Path) -> None:
        """Write the run as a log."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{encode_event(event)}\n" for event in self.events()))


class Entry:
    """A feed that has everything at once."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = tuple(records)

    def take(self) -> NewRecords:
        records, self._records = self._records, ()
        return NewRecords(records)


def look_at(records: Iterable[Record], now: datetime, source: str = "runs/demo") -> FollowedRun:
    """Watch records that have all come, at a moment."""
    following = FollowedRun(source, Entry(records), lambda: now)
    following.advance()
    return following


@cache
def retell(**numbers: Any) -> tuple[tuple[TelemetryEvent, ...], datetime]:
    """Return the events of a story, and the moment of the newest; the same story is payload but once."""
    story = Story(**numbers)
    return tuple(story.events()), story.now


@pytest.fixture(autouse=True, scope="module")
def _zone() -> Iterator[None]:
    """Local time is the same everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(name="retell")
def _retell() -> Callable[..., tuple[tuple[TelemetryEvent, ...], datetime]]:
    """The events of a story, and the moment of the newest."""
    return retell


@pytest.fixture
def make_story() -> type[Story]:
    """The story, to be payload with other numbers."""
    return Story


@pytest.fixture
def look() -> Callable[..., FollowedRun]:
    """Watch records that have all come: ``look(records, now)``."""
    return look_at
