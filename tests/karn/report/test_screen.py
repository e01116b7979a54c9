"""The first screen, and what stands beside every plot: is it well, since when not, why, and over which range."""

from __future__ import annotations

import html
import math
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from esper.karn.report import report
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)

STARTED: dict[str, Any] = {
    "n_envs": 1, "max_epochs": 2, "task": "drawn", "host_params": 10, "slot_ids": ("a",), "seed": 1, "n_episodes": 60,
    "lr": 1e-3, "clip_ratio": 0.2, "entropy_coef": 0.01, "param_budget": 9, "policy_device": "cpu",
    "env_devices": ("cpu",),
}  # fmt: skip


def start(**told: Any) -> TelemetryEvent:
    return TelemetryEvent(data=TrainingStartedPayload(**{**STARTED, **told}))


def update(index: int, **told: Any) -> TelemetryEvent:
    usual = {
        "policy_loss": -0.01, "value_loss": 0.5, "entropy": 1.0, "grad_norm": 1.0, "kl_divergence": 0.01,
        "clip_fraction": 0.1, "nan_grad_count": 0, "batch": index,
    }  # fmt: skip
    return TelemetryEvent(data=PPOUpdatePayload(**{**usual, **told}))


def batch(index: int, avg_reward: float = 1.0) -> TelemetryEvent:
    data = BatchEpochCompletedPayload(
        episodes_completed=index + 1, batch_idx=index, avg_accuracy=0.5, avg_reward=avg_reward, total_episodes=60,
        n_envs=1,
    )  # fmt: skip
    return TelemetryEvent(data=data)


def run_with(n: int, returns: dict[int, float] | None = None, updates: dict[int, dict[str, Any]] | None = None) -> Any:
    """Return a run that is flat but for some batches and updates."""
    yield start(n_episodes=max(n, 60))
    for index in range(n):
        yield update(index, **(updates or {}).get(index, {}))
        yield batch(index, (returns or {}).get(index, 1.0 + index / n))


def first_screen(page: Any) -> str:
    """Return the first screen as HTML."""
    found: str = page.html[page.html.index('<section id="verdict"') : page.html.index('<section id="s0"')]
    return found


def words(fragment: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", fragment)).split())


def strip_of(page: Any, name: str) -> dict[str, list[float]]:
    """Return where the marks of each status begin in a row of the strip, in thousandths of the run."""
    (row,) = re.findall(rf'<span class="name">{re.escape(html.escape(name))}</span><svg.*?</svg>', page.html)
    paths = dict(re.findall(r'<path class="(\w+)" d="(.*?)"', row))
    return {status: [float(x) for x in re.findall(r"M([\d.]+) ", path)] for status, path in paths.items()}


def test_a_verdict_says_what_since_when_why_and_what_to_try(write_log: Any, page_of: Any) -> None:
    broken = {index: {"explained_variance": -5.0} for index in range(30, 60)}
    page = page_of(write_log("run", [*run_with(60, updates=broken)]))
    said = words(first_screen(page))
    assert "✗ BAD Expl. variance below -1 (-5 at worst) in 30 of 30 updates, first in batch 30" in said
    assert "Since then 29 of 60 updates" in said
    assert "Usual cause: " in said
    assert "Try first: scale the returns" in said
    assert strip_of(page, "✗ expl. variance")["bad"][0] == pytest.approx(500.0)


def test_a_length_of_episodes_that_is_unknown_is_not_called_0(write_log: Any, page_of: Any) -> None:
    said = words(first_screen(page_of(write_log("run", [start(max_epochs=0), update(0), batch(0)]))))
    assert "1 slot, — host epochs an episode" in said


def test_a_spike_at_any_of_ten_thousand_updates_is_seen(write_log: Any, page_of: Any) -> None:
    kls, returns = {0: 0.9, 4_999: 0.8}, {0: 76.0, 4_999: 77.0}
    spikes = {at: {"kl_divergence": kl} for at, kl in kls.items()}
    page = page_of(write_log("run", [*run_with(10_000, returns=returns, updates=spikes)]))
    shares = [1000 * at / 10_000 for at in kls]
    for row in ("any rule", "! KL"):
        assert strip_of(page, row)["bad"] == pytest.approx(shares, abs=1000 / 160)
    assert sorted(page.curve("kl_divergence · nats")["y"])[-2:] == [0.8, 0.9]
    assert sorted(page.curve("Mean episode return (avg_reward)")["y"])[-2:] == [76.0, 77.0]
    assert "highest 77." in page.trend("Mean episode return (avg_reward)")
    curve = re.search(r'<path class="curve".*? d="(.*?)"', first_screen(page))
    assert curve
    points = [tuple(map(float, point.split())) for point in re.findall(r"[ML]([\d.]+ [\d.]+)", curve[1])]
    second, first = sorted(points, key=lambda point: point[1])[:2]
    assert [first[0], second[0]] == pytest.approx(shares, abs=0.2)
    assert len(page.html) < 5_000_000


@pytest.mark.parametrize(("value", "sign", "edge"), [(math.nan, "×", "bottom"), (math.inf, "▲", "top")])
def test_a_return_that_is_not_finite_is_marked_where_it_was(
    value: float, sign: str, edge: str, write_log: Any, page_of: Any
) -> None:
    page = page_of(write_log("run", [*run_with(20, returns={9: value})]))
    found = re.search(rf'<span class="broken" style="left:([\d.]+)%;{edge}:.*?>{sign}</span>', first_screen(page))
    assert found
    assert float(found[1]) == 50.0
    assert "not finite in 1 of them" in words(first_screen(page))


@pytest.mark.parametrize("returns", [(5e-324,), (5e-324, 1e-323), (1.0, math.nextafter(1.0, 2.0)), (-1e100, 1e100)])
def test_returns_that_hardly_or_hugely_differ_are_drawn_on_the_plane(
    returns: tuple[float, ...], write_log: Any, page_of: Any
) -> None:
    page = page_of(write_log("run", [*run_with(len(returns), returns=dict(enumerate(returns)))]))
    (curve,) = re.findall(r'<path class="curve"[^>]*? d="(.*?)"', first_screen(page))
    heights = [float(height) for height in re.findall(r"[ML][\d.]+ (\S+?)(?=h0|L|M|$)", curve)]
    assert len(heights) == len(returns)
    assert all(0 <= height <= 1000 for height in heights)


def test_returns_are_held_against_chance_and_doing_nothing_or_else_their_beginning(
    write_log: Any, page_of: Any
) -> None:
    directory = write_log("run", [*run_with(20)])
    assert "first 10: 1.225" in words(first_screen(page_of(directory)))

    def score(mean: float) -> PolicyScore:
        return PolicyScore(*[Estimate(mean, 0.25)] * 3)

    told = RunInfo(
        status="completed", started=datetime.now(UTC), configuration={}, versions={},
        evaluation=Evaluation(16, score(5.0), score(2.0), score(1.0)),
    )  # fmt: skip
    RunDirectory(directory).write_info(told)
    page = page_of(directory)
    said = words(first_screen(page))
    assert "do nothing 1.00 ± 0.25" in said
    assert "random 2.00 ± 0.25" in said
    assert page.cell("learnt") == "5.00 ± 0.25"


def test_what_was_kept_stands_with_its_gain(write_log: Any, page_of: Any) -> None:
    def seed(name: str, blueprint: str, gain: float | None) -> list[TelemetryEvent]:
        where: dict[str, Any] = {"slot_id": "a", "env_id": 0, "blueprint_id": blueprint}
        born = TelemetryEvent(data=SeedGerminatedPayload(params=4, **where), seed_id=name, epoch=1)
        if gain is None:
            return [born]
        kept = SeedFossilizedPayload(params_added=4, improvement=gain, **where)
        return [born, TelemetryEvent(data=kept, seed_id=name, epoch=2)]

    emitted = [start(), *seed("1", "mlp", 0.1), *seed("2", "mlp", 0.3), *seed("3", "norm", None), batch(0)]
    page = page_of(write_log("run", emitted))
    assert "2 of 3 seeds kept" in words(first_screen(page))
    assert [page.cell("mlp", column) for column in (1, 2, 3)] == ["2 of 2", "+0.200", "—"]
    assert [page.cell("norm", column) for column in (1, 2, 3)] == ["0 of 1", "—", "—"]


def test_of_a_run_without_host_nothing_is_said_about_what_was_kept(write_log: Any, page_of: Any) -> None:
    foreign = start(n_envs=0, max_epochs=0, host_params=0, slot_ids=(), n_episodes=0, param_budget=0)
    other = TelemetryEvent(data=BatchEpochCompletedPayload(3, 0, math.nan, 2.0, 0, 1))
    said = words(first_screen(page_of(write_log("run", [foreign, update(0), other]))))
    assert "kept" not in said
    assert "accuracy 0" not in said
    assert "Task drawn, seed 1, — environments; 3 episodes were played" in said


def test_a_resume_stands_where_it_went_on(write_log: Any, page_of: Any) -> None:
    first = [start(), *(batch(index) for index in range(6))]
    page = page_of(
        write_log("run", [*first, start(start_episode=5, lr=0.5), *(batch(index) for index in range(5, 10))])
    )
    said = words(first_screen(page))
    assert "resumed once" in said
    assert re.search(r'<span class="event" style="top:0;left:50\.0%">resumed', first_screen(page))
    assert [page.cell("lr", column, under="Configured differently") for column in (1, 2)] == ["0.001", "0.5"]


def test_that_nothing_differs_is_said_only_of_what_was_compared(write_log: Any, page_of: Any) -> None:
    one, other = write_log("one", [start(), batch(0)]), write_log("other", [start(), batch(0)])
    info = RunInfo(status="completed", started=datetime.now(UTC), configuration={"lr": 1.0}, versions={"torch": "2"})
    RunDirectory(one).write_info(info)
    said = " ".join(page_of(one, other).text.split())
    assert "No difference in TRAINING_STARTED. Not compared" in said
    assert "run.json of other" in said

    RunDirectory(other).write_info(info)
    assert (
        "No difference in TRAINING_STARTED and options in run.json, versions in run.json." in page_of(one, other).text
    )

    changed = RunInfo(status="completed", started=info.started, configuration={"lr": 1.0}, versions={"torch": "3"})
    RunDirectory(other).write_info(changed)
    page = page_of(one, other)
    assert "No difference" not in page.text
    under = "Configured differently"
    assert [page.cell("version of torch", column, under=under) for column in (1, 2)] == ["2", "3"]


def test_values_that_differ_behind_what_is_shown_of_them_differ(write_log: Any, page_of: Any) -> None:
    logs = [write_log(name, [start(task="x" * 500 + name), batch(0)]) for name in ("one", "other")]
    assert "Configured differently" in page_of(*logs).text


def test_the_limits_of_the_kl_are_drawn_as_far_as_they_are_near(write_log: Any, page_of: Any) -> None:
    def drawn(kl: float) -> tuple[list[float], str]:
        page = page_of(write_log("run", [start(), update(0, kl_divergence=kl), batch(0)]))
        return [one["y0"] for one in page.plots["kl_divergence · nats"]["layout"]["shapes"]], page.trend(
            "kl_divergence · nats"
        )

    assert drawn(0.01) == ([0.05], "The only update: 0.01. Not drawn, because it is far away: BAD 0.15.")
    assert drawn(0.1) == ([0.05, 0.15], "The only update: 0.1.")


def test_every_plot_says_over_what_it_reaches_and_what_it_shows(run_of: Any, write_log: Any, page_of: Any) -> None:
    page = page_of(write_log("run", [*run_of(n_batches=24).events()]))
    trends = re.findall(r'<p class="trend" id="t\d+">(.*?)</p>', page.html)
    assert len(trends) == len(page.plots) == page.html.count("<figure>")
    begins = r"(\w+: )?(All [\d,]+ (batches|updates|host epochs)|The newest of each|Seeds that entered each stage)"
    assert [trend for trend in trends if not re.match(begins, trend)] == []


class Tags(HTMLParser):
    """Every element of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_text_of_a_log_makes_no_element_anywhere(write_log: Any, tmp_path: Path) -> None:
    evil = "\"'><img src=x onerror=alert(1)><script>alert(1)</script>"
    where: dict[str, Any] = {"slot_id": evil, "env_id": 0, "blueprint_id": evil}
    events = [
        TelemetryEvent(data=TrainingStartedPayload(**{**STARTED, "task": evil, "slot_ids": (evil,)}), group_id=evil),
        TelemetryEvent(data=SeedGerminatedPayload(params=4, **where), seed_id=evil, slot_id=evil, group_id=evil),
        *(TelemetryEvent(data=one.data, group_id=evil, message=evil, severity="error") for one in run_with(12)),
    ]
    directory = write_log("run", events[:2] + events[3:])
    info = RunInfo(status="failed", error=evil, started=datetime.now(UTC), configuration={evil: evil}, versions={})
    RunDirectory(directory).write_info(info)

    tags = Tags(report([directory], tmp_path / "report.html").read_text(encoding="utf-8")).found

    assert "img" not in {tag for tag, _ in tags}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    scripts = [attributes for tag, attributes in tags if tag == "script"]
    assert [one for one in scripts if one not in ({"type": "application/json"}, {})] == [
        {"id": "plotly", "type": "text/plain"}
    ]
    assert scripts.count({}) == 1
