"""A log as a run writes it, made with the real payloads and a seeded generator instead of training."""

from __future__ import annotations

import html
import json
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from esper.karn.report import report
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

SLOTS = ("r0", "r1", "r2")
BLUEPRINTS = {"norm": 24, "mlp": 812, "mixer": 144, "attention": 624}
STAGES = ("DORMANT", "GERMINATED", "TRAINING", "BLENDING", "HOLDING")
OPS = ("WAIT", "GERMINATE", "ADVANCE", "FOSSILIZE", "PRUNE")
START = datetime(2025, 3, 1, 21, 0, tzinfo=UTC)


class Synthetic:
    """A run that seems to learn."""

    def __init__(self, *, n_envs: int, n_batches: int, max_epochs: int, seed: int, group_id: str) -> None:
        self.n_envs, self.n_batches, self.max_epochs, self.group_id = n_envs, n_batches, max_epochs, group_id
        self.random = random.Random(seed)
        self.seed = seed
        self.time = START
        self.n_seeds = 0

    def event(self, data: TelemetryPayload, **envelope: object) -> TelemetryEvent:
        self.time += timedelta(milliseconds=20)
        return TelemetryEvent(data=data, timestamp=self.time, group_id=self.group_id, **envelope)  # type: ignore[arg-type]

    def events(self, start_episode: int = 0) -> Iterator[TelemetryEvent]:
        yield self.event(
            TrainingStartedPayload(
                n_envs=self.n_envs, max_epochs=self.max_epochs, task="digits", host_params=706, slot_ids=SLOTS,
                seed=self.seed, n_episodes=self.n_envs * self.n_batches, lr=3e-3, clip_ratio=0.2, entropy_coef=0.05,
                param_budget=2000, policy_device="cpu", env_devices=("cpu",) * self.n_envs,
                start_episode=start_episode, entropy_anneal={"start": 0.05, "end": 0.01, "episodes": 160.0},
            )
        )  # fmt: skip
        for index in range(start_episode // self.n_envs, self.n_batches):
            yield from self.batch(index)

    def batch(self, index: int) -> Iterator[TelemetryEvent]:
        skill = 1 - math.exp(-3 * (index + 1) / self.n_batches)
        finals, returns = [], []
        counts: dict[str, int] = dict.fromkeys(OPS, 0)
        for env_id in range(self.n_envs):
            accuracy, total = 0.1, 0.0
            planted = sorted(self.seeds(env_id, skill), key=lambda event: event.epoch or 0)
            for epoch in range(1, self.max_epochs + 1):
                yield from (event for event in planted if event.epoch == epoch)
                target = 0.6 + 0.28 * skill + self.random.gauss(0, 0.015)
                before, accuracy = accuracy, accuracy + (target - accuracy) * 0.25
                yield self.event(
                    EpochCompletedPayload(
                        env_id=env_id, val_accuracy=accuracy, val_loss=-math.log(accuracy), inner_epoch=epoch
                    ),
                    epoch=epoch,
                )
                op = self.random.choices(OPS, (3 + 3 * skill, 2, 2, 1 + skill, 2 - 1.6 * skill))[0]
                counts[op] += 1
                parts: dict[str, Any] = {
                    "base_acc_delta": 10 * (accuracy - before),
                    "bounded_attribution": 0.3 * skill * self.random.random(),
                    "compute_rent": -0.05 * self.random.random(), "alpha_shock": -0.01 * (op == "ADVANCE"),
                    "ratio_penalty": -0.02 * (op == "GERMINATE"), "stage_bonus": 0.05 * (op == "ADVANCE"),
                    "fossilize_terminal_bonus": 0.4 * skill * (op == "FOSSILIZE"), "blending_warning": 0.0,
                    "holding_warning": -0.1 * (self.random.random() < 0.1),
                }  # fmt: skip
                total += sum(parts.values())
                yield self.event(
                    RewardComputedPayload(
                        env_id=env_id, total_reward=sum(parts.values()), action_name=op, value_estimate=1.0,
                        action_confidence=0.4, val_acc=accuracy, **parts,
                    ),
                    epoch=epoch,
                )  # fmt: skip
            finals.append(accuracy)
            returns.append(total)
            yield self.matrix(env_id, accuracy)
        yield self.event(AnalyticsSnapshotPayload(kind="action_distribution", action_counts=counts))
        yield self.update(index, skill)
        yield self.event(
            BatchEpochCompletedPayload(
                episodes_completed=(index + 1) * self.n_envs, batch_idx=index, avg_accuracy=sum(finals) / self.n_envs,
                avg_reward=sum(returns) / self.n_envs, total_episodes=self.n_envs * self.n_batches, n_envs=self.n_envs,
                rolling_accuracy=sum(finals) / self.n_envs, env_accuracies=tuple(finals),
            )
        )  # fmt: skip

    def seeds(self, env_id: int, skill: float) -> Iterator[TelemetryEvent]:
        for slot_id in SLOTS:
            epoch = self.random.randint(1, max(1, self.max_epochs // 3))
            while epoch < self.max_epochs:
                blueprint = self.random.choices(list(BLUEPRINTS), (2, 2, 2 + 8 * skill, 2))[0]
                self.n_seeds += 1
                where: dict[str, Any] = {"slot_id": slot_id, "env_id": env_id}
                envelope: dict[str, Any] = {"slot_id": slot_id, "seed_id": f"seed-{self.n_seeds}"}
                params = BLUEPRINTS[blueprint]
                yield self.event(
                    SeedGerminatedPayload(blueprint_id=blueprint, params=params, **where), epoch=epoch, **envelope
                )
                reached, spent, born = 0, 0, epoch
                while reached < 4 and epoch <= self.max_epochs:
                    yield self.event(
                        SeedStageChangedPayload(
                            from_stage=STAGES[reached], to_stage=STAGES[reached + 1], epochs_in_stage=spent, **where
                        ),
                        epoch=epoch, **envelope,
                    )  # fmt: skip
                    reached += 1
                    if self.random.random() > 0.7 + 0.25 * skill:
                        break
                    spent = 0 if reached == 1 else self.random.randint(1, 4)
                    epoch += spent
                epoch = min(epoch, self.max_epochs)
                measured: dict[str, Any] = {
                    "improvement": self.random.gauss(0.05 + 0.1 * skill, 0.05),
                    "epochs_total": epoch - born,
                }
                if reached == 4 and self.random.random() < 0.4 + 0.5 * skill:
                    kept = SeedFossilizedPayload(
                        blueprint_id=blueprint, params_added=params, counterfactual=0.05 + 0.2 * self.random.random(),
                        **measured, **where,
                    )  # fmt: skip
                    yield self.event(kept, epoch=epoch, **envelope)
                    changed = SeedStageChangedPayload(
                        from_stage="HOLDING", to_stage="FOSSILIZED", epochs_in_stage=1, **where
                    )
                    yield self.event(changed, epoch=epoch, **envelope)
                    break
                by_rule = epoch == self.max_epochs
                pruned = SeedPrunedPayload(
                    reason="episode_end" if by_rule else "policy", auto_pruned=by_rule, blueprint_id=blueprint,
                    **measured, **where,
                )  # fmt: skip
                yield self.event(pruned, epoch=epoch, **envelope)
                changed = SeedStageChangedPayload(
                    from_stage=STAGES[reached], to_stage="PRUNED", epochs_in_stage=1, **where
                )
                yield self.event(changed, epoch=epoch, **envelope)
                epoch += 3

    def matrix(self, env_id: int, accuracy: float) -> TelemetryEvent:
        slots = SLOTS[: self.random.randint(1, 3)]
        worth = [0.02 + 0.12 * self.random.random() for _ in slots]
        configs = []
        for bits in range(2 ** len(slots)):
            mask = [bool(bits >> i & 1) for i in range(len(slots))]
            lost = sum(w for w, on in zip(worth, mask, strict=True) if not on)
            configs.append({"seed_mask": mask, "accuracy": accuracy - lost})
        data = CounterfactualMatrixPayload(
            env_id=env_id, slot_ids=slots, configs=tuple(configs), strategy="full_factorial", compute_time_ms=4.2
        )
        return self.event(data, epoch=self.max_epochs)

    def update(self, index: int, skill: float) -> TelemetryEvent:
        def noise(scale: float) -> float:
            return self.random.gauss(0, scale)

        overflow = index == self.n_batches // 2
        entropy = 2.6 - 1.4 * skill + noise(0.03)
        heads: dict[str, Any] = {
            f"head_{head}_entropy": {"all": entropy * share + noise(0.02)} | dict.fromkeys(SLOTS, entropy * share)
            for head, share in {"blueprint": 0.5, "style": 0.25, "tempo": 0.4}.items()
        }
        data = PPOUpdatePayload(
            policy_loss=-0.02 + noise(0.004), value_loss=0.6 - 0.4 * skill + abs(noise(0.03)), entropy=entropy,
            grad_norm=math.inf if overflow else 0.8 + abs(noise(0.2)), kl_divergence=0.02 + abs(noise(0.01)),
            clip_fraction=0.12 + abs(noise(0.03)), nan_grad_count=3 * overflow, inf_grad_count=9 * overflow,
            explained_variance=math.nan if index == 0 else 0.2 + 0.7 * skill + noise(0.03), entropy_loss=-entropy,
            advantage_mean=noise(0.1), advantage_std=1.5 - skill, ratio_mean=1 + noise(0.01), ratio_min=0.6,
            ratio_max=1.6 + abs(noise(0.2)), ratio_std=0.1, lr=3e-3 * (1 - 0.9 * index / self.n_batches),
            entropy_coef=0.05, update_time_ms=120 + abs(noise(10)), inner_epoch=8, batch=index,
            head_op_entropy={"all": 1.2 - 0.5 * skill},
            layer_gradient_health={"op": 0.01, "body.0": 0.02 + abs(noise(0.01))},
            amp_overflow_detected=overflow, update_skipped=overflow, entropy_collapsed=False, **heads,
        )  # fmt: skip
        severity = "warning" if overflow else "info"
        return self.event(data, severity=severity, message="a gradient overflowed" if overflow else "updated")


@pytest.fixture(scope="session")
def run_of() -> Callable[..., Synthetic]:
    """Make a synthetic run."""

    def make(
        *, n_envs: int = 2, n_batches: int = 6, max_epochs: int = 8, seed: int = 1, group_id: str = "default"
    ) -> Synthetic:
        return Synthetic(n_envs=n_envs, n_batches=n_batches, max_epochs=max_epochs, seed=seed, group_id=group_id)

    return make


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[[str, Sequence[TelemetryEvent]], Path]:
    """Write events to a run directory and return it."""

    def write(name: str, events: Sequence[TelemetryEvent]) -> Path:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        text = "".join(f"{encode_event(event)}\n" for event in events)
        (directory / "events.jsonl").write_text(text, encoding="ascii")
        return directory

    return write


def drawn(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a plot as the page draws it: with the texts that it keeps once."""
    for trace in spec["data"]:
        if isinstance(trace.get("text"), list) and all(isinstance(text, int) for text in trace["text"]):
            trace["text"] = [spec["texts"][text] for text in trace["text"]]
    return spec


class Page:
    """A report, taken apart."""

    def __init__(self, path: Path) -> None:
        self.html = path.read_text(encoding="utf-8")
        found = re.findall(
            r"<figcaption>(?:<details><summary>)?(.*?)</(?:summary|figcaption)>.*?"
            r'<script type="application/json">(.*?)</script>',
            self.html,
            re.DOTALL,
        )
        self.plots: dict[str, dict[str, Any]] = {html.unescape(title): drawn(json.loads(spec)) for title, spec in found}
        self.text = html.unescape(
            re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]*>", " ", self.html, flags=re.DOTALL)
        )

    def trend(self, title: str) -> str:
        """Return what a plot does, in words."""
        found = re.search(rf'aria-label="{re.escape(html.escape(title))}" aria-describedby="(t\d+)"', self.html)
        assert found, title
        said = re.search(rf'<p class="trend" id="{found[1]}">(.*?)</p>', self.html)
        assert said, title
        return html.unescape(said[1])

    def curve(self, title: str) -> dict[str, Any]:
        """Return the first curve of a plot."""
        found: dict[str, Any] = next(
            trace for trace in self.plots[title]["data"] if trace["type"] == "scatter" and "fill" not in trace
        )
        return found

    def cell(self, row: str, column: int = 1, *, under: str = "") -> str:
        """Return a cell of the first row of that name, under a text."""
        page = self.html[self.html.index(html.escape(under)) :]
        cells = re.search(rf'<th scope="row">{re.escape(html.escape(row))}</th>(.*?)</tr>', page)
        assert cells, row
        found: list[str] = re.findall(r"<td[^>]*>(.*?)</td>", cells[1])
        return html.unescape(found[column - 1])


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[..., Page]:
    """Report on sources and return the page."""

    def make(*sources: Path) -> Page:
        return Page(report(sources, tmp_path / "report.html"))

    return make
