"""Whatever happens to a log, its views say the same of every quantity that they share."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import event
from tests.karn.drawn_runs import DrawnRun, drawn_runs, fold
from tests.karn.shown import screens

from esper.karn.bounds import WHOLE_RUN
from esper.karn.progress import best_value, played_text
from esper.karn.quantities import LIFECYCLE, QUANTITIES
from esper.karn.seeds import count_endings
from esper.karn.snapshot import Ending, RunSnapshot
from esper.karn.summary import summary
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    RewardComputedPayload,
    TrainingStartedPayload,
)

pytest.importorskip("textual")


def page_of(snapshot: RunSnapshot) -> str:
    return summary(snapshot, None, Path("runs/drawn"))


def sections(page: str, groups: int) -> list[str]:
    """The summary's part about each group, in order."""
    parts = re.split(r"^Training$", page, flags=re.MULTILINE)[1:]
    assert len(parts) == groups
    return parts


def numbers_after(name: str, page: str) -> list[list[str]]:
    """The cells of every row of that name."""
    rows = re.findall(rf"^ +{re.escape(name)} +(\S.*)$", page, flags=re.MULTILINE)
    return [row.split() for row in rows]


@settings(max_examples=60, deadline=None)
@given(drawn_runs(), st.integers(0, 2**32))
def test_how_shards_are_merged_changes_nothing_that_is_shown(run: DrawnRun, seed: int) -> None:
    by_time, merged = fold(run.by_time()), fold(run.merged(random.Random(seed)))
    groups = sorted(by_time.groups)
    assert sorted(merged.groups) == groups
    for group_id in groups:
        shown = [screens(snapshot, snapshot.groups[group_id]) for snapshot in (by_time, merged)]
        without_counts = [re.sub(r"^ [a-z ]+ +[\d,]+$", "", one, flags=re.MULTILINE) for one in shown]
        assert without_counts[0] == without_counts[1]
    if len(groups) == 1:
        assert page_of(by_time) == page_of(merged)


@settings(max_examples=60, deadline=None)
@given(drawn_runs())
def test_summary_and_dashboard_say_the_same(run: DrawnRun) -> None:
    snapshot = fold(run.by_time())
    for group, page in zip(snapshot.groups.values(), sections(page_of(snapshot), len(snapshot.groups)), strict=True):
        screen = screens(snapshot, group)
        if group.batch is not None:
            assert played_text(group.batch.data) in page
            assert played_text(group.batch.data) in screen
            best = best_value(entry.data.avg_reward for entry in group.batches)
            if best is not None:
                shown = QUANTITIES["avg_reward"].text(best)
                assert f"{shown} (batch" in screen
                rows = numbers_after(QUANTITIES["avg_reward"].name, page)
                assert rows[0][-1] == shown or len(group.batches) == 1
        for blueprint in group.lifecycle:
            name = "—" if blueprint is None else blueprint
            (in_page,), in_screen = numbers_after(name, page.split("PPO health")[0])[-1:], numbers_after(name, screen)
            assert in_page in in_screen
        assert ("superseded" in page) == bool(group.resumes or group.earlier_runs)
        if group.superseded:
            assert f"{group.superseded:,} event" in page
            assert f"superseded: {group.superseded:,}" in screen


@settings(max_examples=60, deadline=None)
@given(drawn_runs())
def test_the_fold_of_the_whole_run_counts_what_the_bounded_one_does(run: DrawnRun) -> None:
    live, whole = fold(run.by_time()), fold(run.by_time(), WHOLE_RUN)
    for group_id, group in live.groups.items():
        other = whole.groups[group_id]
        assert (group.lifecycle, group.actions, group.superseded) == (other.lifecycle, other.actions, other.superseded)
        seeds = [seed for env in other.envs.values() for slot in env.slots.values() for seed in slot.seeds]
        counts = count_endings(seeds)
        totals = [sum(getattr(of, name) for of in other.lifecycle.values()) for name in LIFECYCLE]
        germinated = sum(seed.germinated is not None for seed in seeds)
        ended = [counts[ending] for ending in Ending if ending is not Ending.OPEN]
        assert totals == [germinated, *ended] or other.counted_from


def test_what_was_supplied_and_empty_is_none_and_what_was_not_supplied_is_a_dash() -> None:
    def shown(**fields: object) -> str:
        snapshot = fold([(None, event(RewardComputedPayload, **fields))])
        return screens(snapshot, snapshot.groups["default"])

    assert "none: no other choice was possible or likely" in shown(alternatives=[])
    assert "— alternatives not supplied" in shown()


def test_an_ablation_of_five_batches_ago_says_so() -> None:
    start = event(TrainingStartedPayload, n_envs=1, max_epochs=1)
    matrix = event(CounterfactualMatrixPayload, slot_ids=("a",), strategy="full_factorial", epoch=1)
    events = [start, event(EpochCompletedPayload, inner_epoch=1), matrix]
    for batch in range(5):
        ended = event(BatchEpochCompletedPayload, episodes_completed=batch + 1, batch_idx=batch, n_envs=1)
        events += [ended, event(EpochCompletedPayload, inner_epoch=1)]
    snapshot = fold([(None, made) for made in events])
    shown = screens(snapshot, snapshot.groups["default"])
    assert re.search(r"COUNTERFACTUAL +full_factorial, — ms, epoch 1, 5 batches ago", shown)
    current = fold([(None, made) for made in events[:3]])
    assert "batches ago" not in screens(current, current.groups["default"])
