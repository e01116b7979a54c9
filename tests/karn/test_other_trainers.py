"""Views of a run that another trainer made: nothing is invented, and what it does not tell has no row."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.console import progress_cells
from esper.karn.dashboard.charts import all_charts
from esper.karn.dashboard.env_detail import env_detail
from esper.karn.dashboard.env_rows import env_heading
from esper.karn.dashboard.feed import NewRecords
from esper.karn.dashboard.following import FollowedRun, Phase, View
from esper.karn.dashboard.overview import status_line
from esper.karn.dashboard.run_detail import run_detail
from esper.karn.dashboard.standing import standing_rows
from esper.karn.derived import confidence_of, return_of
from esper.karn.progress import unsupplied_text
from esper.karn.snapshot import GroupSnapshot
from esper.karn.summary import summary
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    RewardComputedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STARTED: dict[str, Any] = {
    "n_envs": 4,
    "max_epochs": 0,
    "task": "CartPole-v1",
    "host_params": 0,
    "slot_ids": (),
    "seed": 1,
    "n_episodes": 0,
    "lr": 3e-4,
    "clip_ratio": 0.2,
    "entropy_coef": 0.0,
    "param_budget": 0,
    "policy_device": "cpu",
    "env_devices": (),
}
OURS = STARTED | {"max_epochs": 24, "host_params": 706, "slot_ids": ("r0",), "n_episodes": 40}


def batch(index: int, avg_reward: float = 1.0, planned: int = 0, done: int = 0) -> BatchEpochCompletedPayload:
    return BatchEpochCompletedPayload(done or 43 * (index + 1), index, math.nan, avg_reward, planned, 43)


def told(*payloads: TelemetryPayload) -> list[TelemetryEvent]:
    return [TelemetryEvent(data=data, timestamp=NOON + timedelta(seconds=at)) for at, data in enumerate(payloads)]


class Once:
    def __init__(self, events: list[TelemetryEvent]) -> None:
        self._events = tuple(events)

    def take(self) -> NewRecords:
        events, self._events = self._events, ()
        return NewRecords(events)


def view(*payloads: TelemetryPayload) -> View:
    events = told(*payloads)
    following = FollowedRun("run", Once(events), lambda: events[-1].timestamp)
    following.advance()
    return following.view()


def group(*payloads: TelemetryPayload) -> GroupSnapshot:
    found = view(*payloads).group
    assert found is not None
    return found


def text(rows: Any) -> str:
    return "\n".join("".join(span if isinstance(span, str) else span[0] for span in row.spans) for row in rows)


def page(*payloads: TelemetryPayload) -> str:
    aggregator = TelemetryAggregator()
    for event in told(*payloads):
        aggregator.process(event)
    return summary(aggregator.snapshot(), None, Path("run"))


FOREIGN = TrainingStartedPayload(**STARTED)
SENTENCE = "This run supplies no number of episodes planned, no host and no accuracy."


def test_one_sentence_says_what_such_a_run_does_not_tell_and_of_ours_there_is_none() -> None:
    assert unsupplied_text(group(FOREIGN, batch(0))) == SENTENCE
    ours = BatchEpochCompletedPayload(4, 0, 0.5, 1.0, 40, 4)
    assert unsupplied_text(group(TrainingStartedPayload(**OURS), ours)) == ""
    assert unsupplied_text(group(batch(0))) == ""
    assert SENTENCE in page(FOREIGN, batch(0))
    assert SENTENCE in text(standing_rows(view(FOREIGN, batch(0)), 130, 40))
    assert SENTENCE in text(run_detail(view(FOREIGN, batch(0)), 130)[0])


def test_there_is_no_row_of_an_accuracy_a_host_slots_or_seeds_that_there_are_not() -> None:
    seen = view(FOREIGN, batch(0), batch(1))
    shown = text(
        [
            *status_line(seen, 130, 1),
            *standing_rows(seen, 130, 40),
            *all_charts(seen, 130)[0],
            *env_heading(seen, 130, 1),
        ]
    )
    shown += text(run_detail(seen, 130)[0]) + page(FOREIGN, batch(0), batch(1)).partition("Health:")[0]
    shown = shown.replace(SENTENCE, "")
    assert [
        word for word in ("accuracy", "parameters", "slot", "loss", "blueprint", "germinated") if word in shown
    ] == []
    runs = group(FOREIGN, batch(0)), group(TrainingStartedPayload(**OURS))
    columns = [[cell.name for cell in progress_cells(one, NOON)] for one in runs]
    assert ["accuracy" in names for names in columns] == [False, True]


@pytest.mark.parametrize("planned", [0, 1, 40])
def test_a_plan_of_nothing_or_one_that_was_exceeded_is_unknown(planned: int) -> None:
    payloads: list[TelemetryPayload] = [FOREIGN, *(batch(index, planned=planned) for index in range(3))]
    seen = view(*payloads)
    shown = text(standing_rows(seen, 130, 40))
    assert " 129 episodes · batch 2 complete" in shown
    assert "ETA" not in shown
    assert "129 episodes were played" in page(*payloads)
    assert seen.phase is Phase.LIVE


def test_one_rollout_without_an_episode_leaves_the_means_and_the_trend_alone() -> None:
    payloads = FOREIGN, batch(0, 1.0), batch(1, math.nan), batch(2, 3.0)
    assert "NaN" not in page(*payloads).partition("Health:")[0]
    assert "not finite" not in page(*payloads)
    drawn = text(all_charts(view(*payloads), 130)[0][1:])
    assert "NaN" not in drawn
    assert "not finite" not in drawn
    assert "—" in [cell.text for cell in progress_cells(group(*payloads[:3]), NOON) if cell.name == "return"]
    assert math.isnan(return_of(batch(0, math.nan), TrainingStartedPayload(**OURS)) or 0.0), (
        "a diverged host's is shown"
    )
    assert "No batch measured a return." in page(FOREIGN, batch(0, math.nan))


def test_a_density_is_no_confidence_and_a_reward_without_parts_has_none() -> None:
    step = RewardComputedPayload(0, -7.5, "continuous", 1.0, math.nan)
    assert confidence_of(step) is None
    seen = view(FOREIGN, step)
    shown = "\n".join(text(column) for column in env_detail(seen, 0, 100))
    assert "total_reward -7.5, its parts not supplied" in shown
    assert "base_acc_delta" not in shown
    assert [word for word in ("NaN", "SEEDS", "COUNTERFACTUAL", "epoch") if word in shown] == []
