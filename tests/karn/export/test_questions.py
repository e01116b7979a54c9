"""The page of questions: every query answers, on short runs of its own, and says what the events do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.builders import events_in

from esper.leyline import RewardComputedPayload, SeedFossilizedPayload, SeedGerminatedPayload
from esper.simic.determinism import one_thread

PAGE = (Path(__file__).parents[3] / "docs" / "questions.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the page's examples have run, from top to bottom."""
    directory = tmp_path_factory.mktemp("questions")
    names: dict[str, object] = {"__name__": "__docs__"}
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.chdir(directory)
        for example in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
            exec(compile(example, "questions.md", "exec", dont_inherit=True), names)
    return directory


def answer(runs: Path, heading: str) -> list[dict[str, Any]]:
    part = PAGE[PAGE.index(f"## {heading}") :]
    (query,) = re.findall(r"^```sql\n(.*?)^```", part.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    with duckdb.connect(str(runs / "runs.duckdb"), read_only=True) as database:
        result = database.execute(query)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def test_every_query_of_the_page_is_asked_here() -> None:
    assert PAGE.count("```sql\n") == 5


def test_which_blueprints_survive(runs: Path) -> None:
    emitted = [event.data for log in runs.glob("runs/*/events.jsonl") for event in events_in(log)]
    rows = answer(runs, "Which blueprints survive")
    assert sum(row["germinated"] for row in rows) == sum(isinstance(data, SeedGerminatedPayload) for data in emitted)
    assert sum(row["kept"] for row in rows) == sum(isinstance(data, SeedFossilizedPayload) for data in emitted)
    assert all(row["share"] == row["kept"] / row["germinated"] for row in rows)


def test_what_precedes_a_spike_of_the_kl_divergence(runs: Path) -> None:
    rows = answer(runs, "What precedes a spike")
    assert rows == sorted(rows, key=lambda row: -row["times_usual"])
    assert all(row["times_usual"] > 1.5 and (row["entropy_before"] is None) == (row["batch"] == 0) for row in rows)
    assert rows


def test_where_the_reward_went(runs: Path) -> None:
    rows = answer(runs, "Where did the reward go")
    assert len(rows) == 4
    parts = ("accuracy", "attribution", "rent", "shock", "costs", "stages", "fossilizing", "warnings")
    for row in rows:
        rewards = [e.data.total_reward for e in events_in(runs / "runs" / row["run_name"] / "events.jsonl")
                   if isinstance(e.data, RewardComputedPayload)]  # fmt: skip
        assert row["mean episode return"] == pytest.approx(sum(rewards) / 8)
        assert sum(row[part] for part in parts) == pytest.approx(row["mean episode return"])


def test_which_episode_was_best_and_what_grew_in_it(runs: Path) -> None:
    rows = answer(runs, "Which episode was best")
    assert len({(row["run_name"], row["episode"]) for row in rows}) == 1
    run, episode = rows[0]["run_name"], rows[0]["episode"]
    returns: dict[tuple[str, int], float] = {}
    germinated: dict[tuple[str, int], int] = {}
    for log in runs.glob("runs/*/events.jsonl"):
        batch = 0
        for event in events_in(log):
            if event.event_type.name == "BATCH_EPOCH_COMPLETED":
                batch += 1
            elif isinstance(event.data, RewardComputedPayload | SeedGerminatedPayload):
                key = log.parent.name, batch * 2 + event.data.env_id
                if isinstance(event.data, SeedGerminatedPayload):
                    germinated[key] = germinated[key] + 1 if key in germinated else 1
                else:
                    returns[key] = (returns[key] if key in returns else 0.0) + event.data.total_reward
    best = max(returns, key=returns.__getitem__)
    assert (run, episode) == best
    assert rows[0]["episode_return"] == pytest.approx(returns[best])
    assert len(rows) == max(germinated[best] if best in germinated else 0, 1)


def test_how_the_arms_differ_by_seed(runs: Path) -> None:
    rows = answer(runs, "How do the arms differ")
    assert [(row["lr"], row["seed"]) for row in rows] == [("0.003", "1"), ("0.003", "2"), ("0.01", "1"), ("0.01", "2")]
    for seed in ("1", "2"):
        assert sum(row["against_the_seed"] for row in rows if row["seed"] == seed) == pytest.approx(0.0, abs=1e-9)
