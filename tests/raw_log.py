"""A run read from its files by plain JSON: what its numbers ought to be, without a line of esper.

It knows the documented format and nothing else: what a resume took back is what stands behind the last batch that it
goes on from; a new run begins where no episode is said to have been played.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

__all__ = ["RawRun", "agrees", "mean"]

COMPONENTS = (
    "base_acc_delta", "bounded_attribution", "compute_rent", "alpha_shock", "ratio_penalty", "stage_bonus",
    "fossilize_terminal_bonus", "blending_warning", "holding_warning",
)  # fmt: skip
STAGES = ("GERMINATED", "TRAINING", "BLENDING", "HOLDING", "FOSSILIZED")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def number(value: Any) -> float | None:
    """Return a number of the log; None for what is none."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value)
    return float(value) if isinstance(value, int | float) else None


def mean(values: list[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else fmean(values)


def agrees(shown: str, value: float | None, places: int | None = None) -> bool:
    """Whether a shown text is a number as it ought to be written, and of None a dash.

    Args:
        shown: the text.
        value: what it ought to be.
        places: behind the point, for a quantity that has a fixed number of them; else it has four significant digits.
    """
    if value is None:
        return shown == "—"
    if not math.isfinite(value):
        return shown == ("NaN" if math.isnan(value) else "inf" if value > 0 else "-inf")
    if places is not None and len(shown.partition(".")[2]) != places:
        return False
    try:
        read = float(shown.replace(",", ""))
    except ValueError:
        return False
    # whoever sums in another order may be at the other side of the middle between two roundings
    near = (value * (1 - 1e-9), value, value * (1 + 1e-9))
    exact = {value} if value == int(value) else set()
    return read in exact | {float(f"{one:.4g}" if places is None else f"{one:.{places}f}") for one in near}


@dataclass
class Seed:
    """What the log says about one seed."""

    blueprint: str | None = None
    germinated: bool = False
    ending: str = ""
    improvement: float | None = None
    counterfactual: float | None = None
    stages: frozenset[str] = frozenset()


class RawRun:
    """A run directory of one process and one group."""

    def __init__(self, directory: Path) -> None:
        lines = [json.loads(line) for line in (directory / "events.jsonl").read_text("utf-8").splitlines()]
        self.n_events = len(lines)
        self.types = Counter(line["event_type"] for line in lines)
        self.events = self._standing(lines)
        info = directory / "run.json"
        self.info: dict[str, Any] = json.loads(info.read_text("utf-8")) if info.exists() else {}
        self.start = self.of("TRAINING_STARTED")[-1] if self.of("TRAINING_STARTED") else None

    def _standing(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.resumes = self.superseded = 0
        kept: list[dict[str, Any]] = []
        for line in lines:
            if line["event_type"] == "TRAINING_STARTED":
                played = line["data"].get("start_episode", 0)
                before = kept
                kept = kept[: self._end_of(kept, played)] if played else []
                self.resumes = self.resumes + 1 if played else 0
                self.superseded = self.superseded + len(before) - len(kept) if played else 0
            kept.append(line)
        return kept

    @staticmethod
    def _end_of(kept: list[dict[str, Any]], played: int) -> int:
        ends = [
            at
            for at, line in enumerate(kept)
            if line["event_type"] == "BATCH_EPOCH_COMPLETED" and line["data"]["episodes_completed"] <= played
        ]
        return ends[-1] + 1

    def of(self, event_type: str) -> list[dict[str, Any]]:
        return [line["data"] for line in self.events if line["event_type"] == event_type]

    def time(self, event_type: str, at: int) -> datetime:
        return [datetime.fromisoformat(e["timestamp"]) for e in self.events if e["event_type"] == event_type][at]

    # ── batches ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def batches(self) -> list[dict[str, Any]]:
        return self.of("BATCH_EPOCH_COMPLETED")

    def batch_values(self, field: str) -> list[float]:
        return [value for batch in self.batches if (value := number(batch[field])) is not None]

    @property
    def accuracies(self) -> list[float]:
        """NaN is "not measured" of a batch."""
        return [value for value in self.batch_values("avg_accuracy") if not math.isnan(value)]

    def by_batch(self) -> list[list[dict[str, Any]]]:
        """Return the events of each completed batch, the end of the batch the last of them."""
        batches: list[list[dict[str, Any]]] = [[]]
        for line in self.events:
            batches[-1].append(line)
            if line["event_type"] == "BATCH_EPOCH_COMPLETED":
                batches.append([])
        return batches[:-1]

    # ── updates ────────────────────────────────────────────────────────────────────────────────────────────────

    def update_values(self, field: str) -> list[float | None]:
        """Return a field of every update, a flag as 1 or 0; None where it is not there, or the update was skipped."""
        return [
            None if field not in update or (update.get("skipped") and field != "skipped") else number(update[field])
            for update in self.of("PPO_UPDATE_COMPLETED")
        ]

    # ── seeds ──────────────────────────────────────────────────────────────────────────────────────────────────

    def seeds(self) -> list[Seed]:
        found: dict[str, Seed] = defaultdict(Seed)
        for line in self.events:
            if not line["event_type"].startswith("SEED_"):
                continue
            seed, data = found[line["seed_id"]], line["data"]
            if line["event_type"] == "SEED_GERMINATED":
                seed.germinated = True
                seed.stages |= {"GERMINATED"}
            if line["event_type"] == "SEED_STAGE_CHANGED":
                seed.stages |= {data["to_stage"]}
                continue
            seed.blueprint = data.get("blueprint_id", seed.blueprint)
            if line["event_type"] == "SEED_FOSSILIZED":
                seed.ending = "fossilized"
                seed.stages |= {"FOSSILIZED"}
            elif line["event_type"] == "SEED_PRUNED":
                by_rule = data.get("auto_pruned")
                if by_rule is None:
                    seed.ending = "policy" if data["reason"] == "policy" else "unknown"
                else:
                    seed.ending = "rule" if by_rule else "policy"
            for name in ("improvement", "counterfactual"):
                if name in data:
                    setattr(seed, name, number(data[name]))
        return [*found.values()]

    def kept(self, blueprint: str, field: str) -> float | None:
        values = [
            value
            for seed in self.seeds()
            if (seed.blueprint, seed.ending) == (blueprint, "fossilized")
            and (value := getattr(seed, field)) is not None
            and math.isfinite(value)
        ]
        return fmean(values) if values else None
