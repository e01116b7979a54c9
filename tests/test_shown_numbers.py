"""Every number that is shown, computed once more from the raw log by code that knows nothing of esper.

The commands run as their users run them, and the numbers are read off the text and the page.
"""

from __future__ import annotations

import html
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tests.raw_log import COMPONENTS, STAGES, RawRun, agrees, mean, number

pytestmark = pytest.mark.no_cover  # what it runs has tests of its own, and the tracer would take a third of the time

RULES = {
    "KL": "kl_divergence", "clip fraction": "clip_fraction", "entropy": "entropy",
    "expl. variance": "explained_variance", "gradient norm": "grad_norm", "NaN gradients": "nan_grad_count",
    "inf gradients": "inf_grad_count", "update": "skipped", "overflow": "amp_overflow_detected",
    "policy loss": "policy_loss", "value loss": "value_loss", "largest ratio": "ratio_max",
    "dead layers": "dead_layers", "exploding layers": "exploding_layers", "movement": "kl_divergence",
}  # fmt: skip
"""What the closing summary calls the fields of an update."""
CURVES = (
    "policy_loss", "value_loss", "entropy · nats", "grad_norm", "kl_divergence · nats", "clip_fraction · fraction",
    "explained_variance",
)  # fmt: skip
PLACES = {"reward": 2, "val_accuracy": 3, "test_accuracy": 3}
ENDS = ("fossilized", "policy", "rule", "unknown")


@dataclass
class Ledger:
    """What was shown beside what it ought to be."""

    wrong: list[str] = field(default_factory=list)
    of: Counter[str] = field(default_factory=Counter)

    def check(self, view: str, name: str, shown: str, value: float | None, places: int | None = None) -> None:
        self.of[view] += 1
        if not agrees(shown, value, places):
            self.wrong.append(f"{view}, {name}: {shown} is shown for {value!r}")

    def check_drawn(self, view: str, name: str, shown: float | None, value: float | None) -> None:
        """Compare a point of a curve, which is not rounded to what is read but to eight digits."""
        self.of[view] += 1
        if value is None or not math.isfinite(value):
            same = shown is None
        else:
            same = shown is not None and math.isclose(shown, value, rel_tol=1e-7, abs_tol=1e-12)
        if not same:
            self.wrong.append(f"{view}, {name}: {shown} is drawn for {value!r}")


@dataclass
class Shown:
    """A run, and what every view says of it."""

    raw: RawRun
    summary: str
    health: str
    page: str
    console: str
    """Empty where nobody watched it."""

    def row(self, text: str, name: str) -> list[str]:
        """Return the cells of a table's row in plain text."""
        found = re.search(rf"^ *{re.escape(name)}  +(.+)$", text, re.MULTILINE)
        assert found, name
        return re.split(r"  +", found[1].strip())

    def cells(self, name: str, under: str) -> list[str]:
        """Return the cells of a table's row on the page."""
        part = self.page[self.page.index(html.escape(under)) :]
        found = re.search(rf'<th scope="row">{re.escape(html.escape(name))}</th>(.*?)</tr>', part)
        assert found, name
        return [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", found[1])]

    def plot(self, title: str) -> tuple[str, dict[str, Any]]:
        """Return the sentence about a plot and what it draws."""
        part = self.page[self.page.index(f'aria-label="{html.escape(title)}"') :]
        trend = re.search(r'aria-describedby="(t\d+)"', part)
        spec = re.search(r'<script type="application/json">(.*?)</script>', part)
        assert trend
        assert spec
        said = re.search(rf'id="{trend[1]}">(.*?)</p>', self.page)
        assert said
        return html.unescape(said[1]), json.loads(spec[1])


def esper(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "esper", *arguments], capture_output=True, text=True, encoding="utf-8", check=False
    )  # fmt: skip


def shown(directory: Path, console: str = "") -> Shown:
    page = directory / "report.html"
    replayed, judged, reported = (
        esper("replay", str(directory)),
        esper("health", str(directory), "--all"),
        esper("report", str(directory), "-o", str(page)),
    )
    assert (replayed.returncode, reported.returncode) == (0, 0), replayed.stderr + reported.stderr
    assert judged.stdout, judged.stderr
    return Shown(RawRun(directory), replayed.stdout, judged.stdout, page.read_text("utf-8"), console)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Train a short run, and look at it."""
    directory = tmp_path_factory.mktemp("runs") / "short"
    options = ["--envs", "2", "--max-epochs", "8", "--episodes", "24", "--evaluate-episodes", "2"]
    run = esper("train", *options, "--run-dir", str(directory))
    assert run.returncode == 0, run.stderr
    made = shown(directory, run.stderr)
    assert made.summary == run.stdout  # the page printed live is the page printed from the log
    return made


# ── a hostile log, by hand ─────────────────────────────────────────────────────────────────────────────────────────

BEGUN = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = {
    "n_envs": 2, "max_epochs": 2, "task": "by hand", "host_params": 10, "slot_ids": ["a", "b"], "seed": 1,
    "n_episodes": 24, "lr": 0.001, "clip_ratio": 0.2, "entropy_coef": 0.01, "param_budget": 9, "policy_device": "cpu",
    "env_devices": ["cpu", "cpu"],
}  # fmt: skip


def hostile_lines() -> Iterator[str]:
    """Yield a run that broke off in its fifth batch and was resumed before its fourth, with whatever may be amiss."""
    at = 0

    def line(event_type: str, data: dict[str, Any], **envelope: Any) -> str:
        nonlocal at
        at += 1
        time = (BEGUN + timedelta(seconds=at)).isoformat()
        given = {"seed_id": None, "slot_id": None, "epoch": None, "group_id": "default", **envelope}
        return json.dumps({
            "schema_version": 1, "event_id": f"by-hand-{at}", "event_type": event_type, "timestamp": time, **given,
            "data": data, "message": "", "severity": "info",
        })  # fmt: skip

    def batch(index: int, *, broken: bool = False) -> Iterator[str]:
        for env_id in (0, 1):
            seed = {"seed_id": f"{'lost' if broken else 'kept'}-{index}-{env_id}", "slot_id": "ab"[env_id], "epoch": 1}
            place = {"slot_id": "ab"[env_id], "env_id": env_id}
            yield line("SEED_GERMINATED", {**place, "blueprint_id": ("mlp", "norm")[index % 2], "params": 4}, **seed)
            for epoch in (1, 2):
                loss = "NaN" if (index, env_id, epoch) == (6, 1, 2) else 1.5 - 0.1 * index
                accuracy = "NaN" if loss == "NaN" else 0.3 + 0.04 * index + 0.01 * env_id
                step = {"env_id": env_id, "val_accuracy": accuracy, "val_loss": loss, "inner_epoch": epoch}
                yield line("EPOCH_COMPLETED", step, epoch=epoch)
                paid = {
                    "env_id": env_id, "total_reward": "-Infinity" if loss == "NaN" else 0.25 * index + env_id,
                    "action_name": ("WAIT", "GERMINATE")[epoch % 2], "value_estimate": 0.1, "action_confidence": 0.5,
                    **({"base_acc_delta": 0.25 * index, "compute_rent": env_id} if loss != "NaN" else {}),
                }  # fmt: skip
                yield line("REWARD_COMPUTED", paid, epoch=epoch)
            end = {**place, "blueprint_id": ("mlp", "norm")[index % 2]}
            if broken:
                continue
            if (index + env_id) % 3 == 0:
                gain = {"improvement": 0.01 * index, "params_added": 4}
                worth = {"counterfactual": 0.125} if index % 2 else {}  # not always supplied
                yield line("SEED_FOSSILIZED", {**end, **gain, **worth}, **{**seed, "epoch": 2})
            else:
                cause = ({"auto_pruned": True}, {"auto_pruned": False}, {})[index % 3]
                yield line("SEED_PRUNED", {**end, "reason": "starved", **cause}, **{**seed, "epoch": 2})
        if broken:
            return
        update = {
            "policy_loss": -0.02 * index, "value_loss": "NaN" if index == 7 else 0.5 / (index + 1),
            "entropy": 1.5 - 0.05 * index, "grad_norm": "Infinity" if index == 5 else 0.5 + 0.1 * index,
            "kl_divergence": 0.4 if index == 8 else 0.01, "clip_fraction": 0.1, "nan_grad_count": int(index == 7),
            **({"explained_variance": 0.5 + 0.03 * index} if index > 2 else {}),
            **({"skipped": True} if index == 9 else {}),
        }  # fmt: skip
        yield line("PPO_UPDATE_COMPLETED", update)
        last = index == 11  # which is not the best
        yield line("BATCH_EPOCH_COMPLETED", {
            "episodes_completed": 2 * (index + 1), "batch_idx": index, "avg_accuracy": 0.3 + 0.04 * index - 0.1 * last,
            "avg_reward": "-Infinity" if index == 6 else 0.5 * index + 1.0 - 2.0 * last, "total_episodes": 24,
            "n_envs": 2,
        })  # fmt: skip

    yield line("TRAINING_STARTED", START)
    for index in range(4):
        yield from batch(index)
    yield from batch(4, broken=True)
    yield line("TRAINING_STARTED", {**START, "start_episode": 6, "lr": 0.0005})
    for index in range(3, 12):
        yield from batch(index)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    directory = tmp_path_factory.mktemp("runs") / "by-hand"
    directory.mkdir()
    (directory / "events.jsonl").write_text("".join(f"{line}\n" for line in hostile_lines()), "utf-8")
    return shown(directory)


# ── what each view shows ───────────────────────────────────────────────────────────────────────────────────────────


def check_summary(run: Shown, ledger: Ledger) -> None:
    raw, text = run.raw, run.summary
    played = re.search(r"([\d,]+) of ([\d,]+) episodes were played", text)
    assert played
    ledger.check("summary", "episodes", played[1], raw.batches[-1]["episodes_completed"])
    ledger.check("summary", "planned", played[2], raw.batches[-1]["total_episodes"])
    returns, accuracies = raw.batch_values("avg_reward"), raw.accuracies
    n = min(10, len(returns) // 2, len(accuracies) // 2)
    assert f"first {n} " in text
    for name, values, places in (("mean episode return", returns, None), ("validation accuracy", accuracies, 3)):
        for cell, value in zip(run.row(text, name), ends(values, n), strict=True):
            ledger.check("summary", name, cell, value, places)
    seeds = raw.seeds()
    for blueprint in [*sorted({seed.blueprint for seed in seeds if seed.blueprint}), "all"]:
        of = [seed for seed in seeds if blueprint in ("all", seed.blueprint)]
        counts = [sum(seed.germinated for seed in of), *(sum(seed.ending == end for seed in of) for end in ENDS)]
        for cell, count in zip(run.row(text, blueprint), counts, strict=True):
            ledger.check("summary", f"seeds of {blueprint}", cell, count)
    for label, name in RULES.items():
        measured = raw.update_values(name)
        known = [value for value in measured if value is not None]
        told = [value for value in known if not math.isnan(value)]
        highest = None if not known else math.nan if len(told) < len(known) else max(told)
        three = measured[-1] if known else None, min(told, default=None), highest
        for cell, expected in zip(run.row(text, label), three, strict=False):
            ledger.check("summary", label, cell, expected)
    events = re.search(r"Telemetry: ([\d,]+) events", text)
    assert events
    ledger.check("summary", "events", events[1], raw.n_events)
    for sink in raw.info.get("sinks", ()):
        accounts = [sink[name] for name in ("delivered", "rejected", "dropped", "queued")]
        for cell, count in zip(run.row(text, sink["name"]), accounts, strict=True):
            ledger.check("summary", sink["name"], cell, count)
    check_evaluation(run, ledger)
    if raw.resumes:
        resumed = re.search(r"Resumed once \((\d+) events superseded\)", text)
        assert resumed
        ledger.check("summary", "superseded", resumed[1], raw.superseded)


def ends(values: list[float], n: int) -> tuple[float, float, float]:
    return mean(values[:n]), mean(values[-n:]), max(value for value in values if math.isfinite(value))


def check_evaluation(run: Shown, ledger: Ledger) -> None:
    evaluation = run.raw.info.get("evaluation")
    if not evaluation:
        return
    for name, who in (("learnt", "learnt"), ("random", "random"), ("do nothing", "do_nothing")):
        of = evaluation[who]
        for view, cells in (("summary", run.row(run.summary, name)), ("report", run.cells(name, "± standard error"))):
            for cell, (quantity, places) in zip(cells, PLACES.items(), strict=True):
                middle, error = cell.split(" ± ")
                ledger.check(view, f"{name} {quantity}", middle, of[quantity]["mean"], places)
                ledger.check(view, f"{name} {quantity}, its error", error, of[quantity]["standard_error"], places)
        if who != "learnt":
            learnt, other = evaluation["learnt"]["test_accuracy"], of["test_accuracy"]
            apart = learnt["mean"] - other["mean"]
            apart /= math.hypot(learnt["standard_error"], other["standard_error"])
            said = re.search(rf"([+-][\d.]+) from {'doing nothing' if name == 'do nothing' else name}", run.summary)
            assert said
            ledger.check("summary", f"errors from {name}", said[1], apart, 1)


def check_health(run: Shown, ledger: Ledger) -> None:
    raw, text = run.raw, run.health
    for name in ("kl", "clip_fraction", "entropy", "policy_loss", "value_loss", "nan_gradients"):
        found = re.search(rf" {name}\b.*? (?:in|of) ([\d,]+) updates", text)
        fields = {"kl": "kl_divergence", "nan_gradients": "nan_grad_count"}
        known = sum(value is not None for value in raw.update_values(fields.get(name, name)))
        if found:  # of an entropy without its flag another sentence is said
            ledger.check("health", f"{name}, judged", found[1], known)
    returns = raw.batch_values("avg_reward")
    broken = sum(not math.isfinite(value) for value in returns)
    found = re.search(r"not finite in (\d+) of (\d+) batches, first in batch (\d+)", text)
    if broken:
        assert found
        first = next(batch["batch_idx"] for batch in raw.batches if not math.isfinite(number(batch["avg_reward"]) or 0))
        for cell, value in zip(found.groups(), (broken, len(returns), first), strict=True):
            ledger.check("health", "returns not finite", cell, value)
    else:
        finite = re.search(r"finite in (\d+) batches", text)
        assert finite
        ledger.check("health", "finite", finite[1], len(returns))
    kept = re.search(r"(\d+) of (\d+) seeds were kept", text)
    if kept:
        ended = [seed for seed in raw.seeds() if seed.ending]
        ledger.check("health", "kept", kept[1], sum(seed.ending == "fossilized" for seed in ended))
        ledger.check("health", "ended", kept[2], len(ended))


def check_report(run: Shown, ledger: Ledger) -> None:
    raw = run.raw
    returns, accuracies = raw.batch_values("avg_reward"), raw.accuracies
    n = min(10, len(returns) // 2, len(accuracies) // 2)
    for at, name in enumerate((f"first {n}", f"newest {n}", "best batch")):
        return_, accuracy, *_ = run.cells(name, "Mean episode return and")
        ledger.check("report", name, return_, ends(returns, n)[at])
        ledger.check("report", name, accuracy, ends(accuracies, n)[at], 3)
    seeds = raw.seeds()
    for blueprint in {seed.blueprint for seed in seeds if seed.blueprint}:
        of = [seed for seed in seeds if seed.blueprint == blueprint]
        counts, *gains = run.cells(blueprint, "seeds kept")
        kept, germinated = counts.split(" of ")
        ledger.check("report", f"{blueprint} kept", kept, sum(seed.ending == "fossilized" for seed in of))
        ledger.check("report", f"{blueprint} germinated", germinated, sum(seed.germinated for seed in of))
        for cell, name in zip(gains, ("improvement", "counterfactual"), strict=True):
            ledger.check("report", f"{blueprint} {name}", cell, raw.kept(blueprint, name), 3)
        for cell, end in zip(run.cells(blueprint, "Which blueprints are kept?")[1:], ENDS, strict=False):
            ledger.check("report", f"{blueprint} {end}", cell, sum(seed.ending == end for seed in of))
        trend, spec = run.plot(blueprint)
        for stage, drawn in zip(STAGES, spec["data"][0]["x"], strict=True):
            entered = sum(stage in seed.stages for seed in of)
            ledger.check_drawn("report", f"{blueprint} {stage}", drawn, entered)
            said = re.search(rf"{stage} ([\d,]+)", trend)
            assert said
            ledger.check("report", f"{blueprint} {stage}", said[1], entered)
    for kind, count in raw.types.items():
        ledger.check("report", kind, run.cells(kind, "Events by type")[0], count)
    ledger.check("report", "all events", run.cells("all events", "Events by type")[0], raw.n_events)
    check_curves(run, ledger)
    check_stacks(run, ledger)


def check_curves(run: Shown, ledger: Ledger) -> None:
    raw = run.raw
    curves: dict[str, list[float | None]] = {title: raw.update_values(title.split(" ")[0]) for title in CURVES}
    curves["Mean episode return (avg_reward)"] = [*raw.batch_values("avg_reward")]
    curves["Final validation accuracy (avg_accuracy)"] = [*raw.batch_values("avg_accuracy")]
    ends_of_batches = [float(batch["episodes_completed"]) for batch in raw.batches]
    for title, values in curves.items():
        trend, spec = run.plot(title)
        curve = next(trace for trace in spec["data"] if trace["type"] == "scatter" and "fill" not in trace)
        assert curve["x"] == ends_of_batches, title
        for drawn, value in zip(curve["y"], values, strict=True):
            ledger.check_drawn("report", title, drawn, value)
        known = [value for value in values if value is not None]
        check_trend(ledger, title, trend, known)
    band = next(trace for trace in run.plot("Mean episode return (avg_reward)")[1]["data"] if "fill" in trace)
    totals = [[sum(step) for step in paid(events).values()] for events in raw.by_batch()]
    whole = [one for one in totals if all(map(math.isfinite, one))]
    drawn = [value for value in band["y"] if value is not None]
    for low_high in (min(map(min, whole)), max(map(max, whole))):
        nearest = min(drawn, key=lambda value, wanted=low_high: abs(value - wanted))  # type: ignore[misc]
        ledger.check_drawn("report", "lowest or highest return of an environment", nearest, low_high)


def check_trend(ledger: Ledger, title: str, trend: str, known: list[float]) -> None:
    finite = [value for value in known if math.isfinite(value)]
    count = re.match(r"All ([\d,]+) ", trend)
    assert count, trend
    ledger.check("report", f"{title}, how many", count[1], len(known))
    moved = re.search(
        r"from (\S+) \(first (\d+)\) to (\S+) \(newest \d+\); lowest (\S+), highest (\S+?)[;.]? ?(?:not|$|N)", trend
    )
    if moved is None:
        assert "throughout" in trend, trend
        return
    n = int(moved[2])
    assert n == min(10, len(known) // 2)
    four = mean(known[:n]), mean(known[-n:]), min(finite), max(finite)
    for cell, value in zip((moved[1], moved[3], moved[4], moved[5]), four, strict=True):
        ledger.check("report", f"{title}, in words", cell, value, 3 if "accuracy" in title else None)
    broken = re.search(r"not finite in (\d+) of them", trend)
    ledger.check("report", f"{title}, not finite", broken[1] if broken else "0", len(known) - len(finite))


def paid(events: list[dict[str, Any]], name: str = "total_reward") -> dict[int, list[float]]:
    """Return what the steps of each environment were paid in a batch."""
    steps: dict[int, list[float]] = {}
    for line in events:
        if line["event_type"] == "REWARD_COMPUTED" and name in line["data"]:
            steps.setdefault(line["data"]["env_id"], []).append(number(line["data"][name]) or 0.0)
    return steps


def check_stacks(run: Shown, ledger: Ledger) -> None:
    """Check actions and rewards, batch by batch."""
    _, drawn = run.plot("Actions")
    batches = run.raw.by_batch()
    counted = [
        Counter(line["data"]["action_name"] for line in events if line["event_type"] == "REWARD_COMPUTED")
        for events in batches
    ]
    for trace in drawn["data"]:
        for share, ops in zip(trace["y"], counted, strict=True):
            ledger.check_drawn("report", f"share of {trace['name']}", share, ops[trace["name"]] / ops.total())
    _, drawn = run.plot("Episode return by component")
    stacks = {trace["name"]: trace["y"] for trace in drawn["data"]}
    for name in (*(one for one in COMPONENTS if one in stacks), "total_reward"):
        for shown_sum, events in zip(stacks[name], batches, strict=True):
            steps = paid(events, name)
            known = [value for of_env in steps.values() for value in of_env]
            value = sum(known) / len(paid(events)) if known else None
            ledger.check_drawn("report", f"{name} an episode", shown_sum, value)


def check_console(run: Shown, ledger: Ledger) -> None:
    """Check the rows that the training printed."""
    rows = [line for line in run.console.splitlines() if re.match(r" *\d+/\d+ ", line)]
    raw = run.raw
    began = raw.time("TRAINING_STARTED", 0)
    assert len(rows) == len(raw.batches) >= 10
    for at, (row, batch) in enumerate(zip(rows, raw.batches, strict=True)):
        assert len(row) <= 80
        episodes, *four, elapsed, _left = re.split(r" {2,}|(?<=\d) (?=—)|(?<=[\d—]) (?=[\d—.-]+$)", row.strip())[:7]
        done, planned = episodes.split("/")
        ledger.check("console", "episodes", done, batch["episodes_completed"])
        ledger.check("console", "planned", planned, batch["total_episodes"])
        update = raw.of("PPO_UPDATE_COMPLETED")[at]
        values = (batch["avg_reward"], None), (batch["avg_accuracy"], 3), (update["entropy"], None)
        for cell, (value, places) in zip(four, (*values, (update["kl_divergence"], None)), strict=True):
            ledger.check("console", "row", cell, number(value), places)
        seconds = (raw.time("BATCH_EPOCH_COMPLETED", at) - began).total_seconds()
        if seconds < 10:
            assert elapsed == f"{seconds:.1f} s"


def test_every_number_shown_of_a_run_is_what_its_log_says(trained: Shown) -> None:
    ledger = Ledger()
    check_summary(trained, ledger)
    check_health(trained, ledger)
    check_report(trained, ledger)
    check_console(trained, ledger)
    assert ledger.wrong == []
    assert min(ledger.of[view] for view in ("summary", "report", "console")) >= 60
    assert ledger.of["health"] >= 5


def test_every_number_shown_of_a_hostile_log_is_what_it_says(by_hand: Shown) -> None:
    ledger = Ledger()
    check_summary(by_hand, ledger)
    check_health(by_hand, ledger)
    check_report(by_hand, ledger)
    assert ledger.wrong == []
    assert min(ledger.of[view] for view in ("summary", "report")) >= 60


def test_that_a_resume_went_on_otherwise_is_shown(by_hand: Shown) -> None:
    assert by_hand.cells("lr", "Configured differently") == ["0.001", "0.0005"]
    assert by_hand.raw.resumes == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.745", 0.744),
        ("0.74", 0.7449),
        ("12", 12.02),
        ("—", 0.0),
        ("0", None),
        ("inf", math.nan),
        ("1.235e+07", 1.236e7),
    ],
)
def test_a_wrong_number_would_be_found(text: str, value: float | None) -> None:
    assert not agrees(text, value)


def test_the_recomputation_knows_nothing_of_esper() -> None:
    sources = [Path(__file__), Path(__file__).with_name("raw_log.py")]
    imports = [line for source in sources for line in source.read_text("utf-8").splitlines() if "import" in line]
    assert not [line for line in imports if re.match(r"\s*(from|import) esper", line)]
    assert fmean([1.0, 2.0]) == 1.5
