from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import event
from tests.effort import tries

from esper.karn.report import report
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo, SinkStats
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedGerminatedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
    TrainingStartedPayload,
)
from esper.leyline.testing import events
from esper.leyline.wire import encode_event

SECTIONS = (
    "Is it well?", "What came out", "Is it learning?", "PPO, update by update", "What grew where?",
    "Which blueprints are kept?",
    "What did the policy do?", "What was it paid for?", "What were the seeds worth?", "How good is the telemetry?",
    "How was it configured?",
)  # fmt: skip


def update(**emitted: Any) -> TelemetryEvent:
    required = {
        "policy_loss": 0.0, "value_loss": 0.0, "entropy": 1.0, "grad_norm": 1.0, "kl_divergence": 0.0,
        "clip_fraction": 0.0, "nan_grad_count": 0,
    }  # fmt: skip
    return TelemetryEvent(data=PPOUpdatePayload(**{**required, **emitted}))


def batch(index: int, **emitted: Any) -> TelemetryEvent:
    required = {
        "episodes_completed": index + 1, "batch_idx": index, "avg_accuracy": 0.5, "avg_reward": 1.0,
        "total_episodes": 9, "n_envs": 1,
    }  # fmt: skip
    return TelemetryEvent(data=BatchEpochCompletedPayload(**{**required, **emitted}))


def flags_of(page: Any) -> list[str]:
    plot = page.plots["Flags raised, of the updates that supplied them"]
    return [note["text"] for note in plot["layout"]["annotations"]]


# ── what is on the page ────────────────────────────────────────────────────────────────────────────────────────


def test_of_a_run_without_host_and_accuracy_there_is_nothing_about_them(write_log: Any, page_of: Any) -> None:
    nothing: dict[str, Any] = {"max_epochs": 0, "host_params": 0, "slot_ids": (), "n_episodes": 0, "param_budget": 0}
    started = event(TrainingStartedPayload, n_envs=4, task="CartPole-v1", env_devices=(), **nothing)
    batches = [batch(index, avg_accuracy=math.nan, total_episodes=0) for index in range(4)]
    page = page_of(write_log("run", [started, update(), *batches]))
    assert "This run supplies no number of episodes planned, no host and no accuracy." in page.text
    for absent in ("What grew where?", "seeds germinated", " 0 slots", "host epochs an episode", "Final validation"):
        assert absent not in page.text, absent
    assert "Mean episode return (avg_reward)" in page.plots


@pytest.mark.parametrize(("n_envs", "n_batches"), [(1, 3), (4, 12), (64, 2)])
def test_plotly_accepts_every_plot(n_envs: int, n_batches: int, run_of: Any, write_log: Any, page_of: Any) -> None:
    page = page_of(write_log("run", list(run_of(n_envs=n_envs, n_batches=n_batches).events())))

    assert len(page.plots) > 25
    for title, spec in page.plots.items():
        assert go.Figure(spec["data"], spec["layout"]).data, title


def test_every_section_stands_there_and_says_where_its_numbers_come_from(
    run_of: Any, write_log: Any, page_of: Any
) -> None:
    page = page_of(write_log("run", list(run_of().events())))
    for title in SECTIONS:
        assert f'<h2>{title}</h2>\n<p class="says">' in page.html


def test_numbers_are_the_numbers_that_were_emitted(run_of: Any, write_log: Any, page_of: Any) -> None:
    emitted = list(run_of(n_envs=3, n_batches=5).events())
    page = page_of(write_log("run", emitted))

    batches = [event.data for event in emitted if isinstance(event.data, BatchEpochCompletedPayload)]
    updates = [event.data for event in emitted if isinstance(event.data, PPOUpdatePayload)]
    reward, entropy = page.curve("Mean episode return (avg_reward)"), page.curve("entropy · nats")
    assert reward["y"] == pytest.approx([data.avg_reward for data in batches], rel=1e-7)
    assert reward["x"] == entropy["x"] == [data.episodes_completed for data in batches]
    assert entropy["y"] == pytest.approx([data.entropy for data in updates], rel=1e-7)
    for band, mean in zip(reward["customdata"], reward["y"], strict=True):
        low, high = map(float, band.split(" … "))
        assert low < mean < high


def test_every_field_of_an_update_has_a_panel_or_is_named_as_missing(write_log: Any, page_of: Any) -> None:
    page = page_of(write_log("run", [update(ratio_mean=1.0, ratio_min=0.5, advantage_mean=0.0), batch(0)]))
    rows = flags_of(page)
    missing = re.search(r"Supplied by no update: .*?\.", page.text)
    assert missing
    shown = {*re.findall(r"\w+", f"{[*page.plots]} {rows} {missing[0]}")}
    # batch says where on the axis the update stands
    assert {field.name for field in dataclasses.fields(PPOUpdatePayload)} - shown == {"batch"}


def test_reward_components_add_up_to_the_reward(run_of: Any, write_log: Any, page_of: Any) -> None:
    page = page_of(write_log("run", list(run_of().events())))
    traces = page.plots["Episode return by component"]["data"]
    sums = [sum(parts) for parts in zip(*(trace["y"] for trace in traces if trace["type"] == "bar"), strict=True)]
    assert sums == pytest.approx(traces[-1]["y"])
    assert traces[-1]["y"] == pytest.approx(page.curve("Mean episode return (avg_reward)")["y"])


def test_counterfactual_cells_are_the_measured_accuracies(write_log: Any, page_of: Any) -> None:
    configs = (
        {"seed_mask": [False, False], "accuracy": 0.5}, {"seed_mask": [True, False], "accuracy": 0.75},
        {"seed_mask": [True, True], "accuracy": 0.875},
    )  # fmt: skip
    matrix = CounterfactualMatrixPayload(env_id=7, slot_ids=("a", "b"), configs=configs)
    page = page_of(write_log("run", [TelemetryEvent(data=matrix, epoch=3), batch(0)]))

    (newest,) = page.plots["Newest ablation of each environment"]["data"]
    assert (newest["x"], newest["y"], newest["z"]) == (
        ["host alone", "a", "a + b"],
        ["env 7"],
        [[0.5, 0.75, 0.875]],
    )
    (worth,) = page.plots["Contribution of each slot over the run"]["data"]
    rows = page.plots["Contribution of each slot over the run"]["layout"]["yaxis"]["ticktext"]
    assert (rows, worth["z"]) == (["b"], [[0.125]])


def test_an_ablation_of_earlier_batches_is_shown_with_its_age(write_log: Any, page_of: Any) -> None:
    matrix = CounterfactualMatrixPayload(env_id=0, slot_ids=("a",), configs=({"seed_mask": [True], "accuracy": 0.5},))
    emitted = [event(TrainingStartedPayload, n_envs=1, max_epochs=1), TelemetryEvent(data=matrix, epoch=1)]
    for index in range(6):
        lived = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=1)
        emitted += [TelemetryEvent(data=lived, epoch=1), batch(index)]
    (newest,) = page_of(write_log("run", emitted)).plots["Newest ablation of each environment"]["data"]
    assert newest["y"] == ["env 0, 5 batches ago"]
    assert newest["text"][0][0].endswith("5 batches ago")


def test_the_funnel_counts_each_seed_once_a_stage(run_of: Any, write_log: Any, page_of: Any) -> None:
    emitted = list(run_of(n_batches=8).events())
    page = page_of(write_log("run", emitted))
    germinated = sum(
        1 for event in emitted if isinstance(event.data, SeedGerminatedPayload) and event.data.blueprint_id == "mixer"
    )
    (funnel,) = page.plots["mixer"]["data"]
    assert funnel["x"][0] == germinated
    assert funnel["x"] == sorted(funnel["x"], reverse=True)


def test_a_seed_of_a_run_that_broke_off_ends_where_the_log_ends(write_log: Any, page_of: Any) -> None:
    def germinated(seed_id: str) -> TelemetryEvent:
        data = SeedGerminatedPayload(slot_id="r0", env_id=0, blueprint_id="norm", params=1)
        return TelemetryEvent(data=data, epoch=1, seed_id=seed_id)

    def entered(seed_id: str, epoch: int) -> TelemetryEvent:
        data = SeedStageChangedPayload(slot_id="r0", env_id=0, from_stage="DORMANT", to_stage="GERMINATED")
        return TelemetryEvent(data=data, epoch=epoch, seed_id=seed_id)

    def lived(epoch: int) -> TelemetryEvent:
        data = EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=1.0, inner_epoch=epoch)
        return TelemetryEvent(data=data, epoch=epoch)

    whole = [germinated("a"), entered("a", 1), lived(1), lived(2), lived(3), lived(4), batch(0)]
    page = page_of(write_log("run", [*whole, germinated("b"), entered("b", 1), lived(1), lived(2)]))

    bars = page.plots["Seeds by slot"]["data"][0]
    assert (bars["base"], bars["x"]) == ([0, 1], [1, 0.5])


def test_episodes_that_were_not_emitted_to_their_end_are_not_compared(
    run_of: Any, write_log: Any, page_of: Any
) -> None:
    emitted = list(run_of(n_envs=1, n_batches=3).events())
    ends = [i for i, event in enumerate(emitted) if isinstance(event.data, BatchEpochCompletedPayload)]
    page = page_of(write_log("run", emitted[: ends[1] + 6]))

    curves = page.plots["val_accuracy within an episode, early and late in the run"]["data"]
    assert [trace["x"] for trace in curves if "fill" not in trace] == [[1.0, 2, 3, 4, 5, 6, 7, 8]] * 2


def test_sums_over_rewards_that_were_not_all_emitted_are_left_out(run_of: Any, write_log: Any, page_of: Any) -> None:
    emitted = list(run_of(n_batches=3).events())
    del emitted[next(i for i, event in enumerate(emitted) if isinstance(event.data, RewardComputedPayload))]
    page = page_of(write_log("run", emitted))

    assert page.curve("Mean episode return (avg_reward)")["customdata"][0] == "— … —"
    for trace in page.plots["Episode return by component"]["data"]:
        assert [value is None for value in trace["y"]] == [True, False, False]
    assert "run: 1 batches, of which not every reward is in the log, are left out." in page.text


def test_ops_have_the_same_colour_in_every_report(run_of: Any, write_log: Any, page_of: Any) -> None:
    def colours(seed: int) -> list[tuple[str, str]]:
        page = page_of(write_log(f"run{seed}", list(run_of(seed=seed).events())))
        return [(trace["name"], trace["marker"]["color"]) for trace in page.plots["Actions"]["data"]]

    assert colours(1) == colours(2)
    assert [op for op, _ in colours(1)] == ["WAIT", "GERMINATE", "ADVANCE", "FOSSILIZE", "PRUNE"]


def test_the_head_says_what_was_run_and_what_came_of_it(run_of: Any, write_log: Any, page_of: Any) -> None:
    directory = write_log("run", list(run_of(n_envs=2, n_batches=6).events())[:-1])
    text = page_of(directory).text
    words = " ".join(text.split())
    assert (
        "Task digits, seed 1, 2 environments, 3 slots, 8 host epochs an episode; 10 of 12 episodes were played" in words
    )
    assert "? UNKNOWN Too early to say after 5 batches. Did it learn? Not clear. " in words


def test_a_long_table_scrolls_and_a_short_one_is_shown_whole(run_of: Any, write_log: Any, page_of: Any) -> None:
    directory = write_log("run", list(run_of().events()))
    assert 'class="box table long"' not in page_of(directory).html
    with (directory / "events.jsonl").open("a") as log:
        log.write("nonsense\n" * 100)
    assert page_of(directory).html.count('class="box table long"') == 1


# ── absence is never a number ──────────────────────────────────────────────────────────────────────────────────


def test_what_was_not_supplied_is_a_gap_and_never_its_default(write_log: Any, page_of: Any) -> None:
    emitted = [update(ratio_std=0.25), batch(0), update(), batch(1), update(ratio_std=0.5), batch(2)]
    page = page_of(write_log("run", emitted))
    assert page.curve("ratio_std")["y"] == [0.25, None, 0.5]


def test_what_nobody_supplied_is_named_and_not_drawn(write_log: Any, page_of: Any) -> None:
    page = page_of(write_log("run", [update(), batch(0)]))
    assert not any(title.startswith("advantage_mean") for title in page.plots)
    assert "Supplied by no update:" in page.text
    assert "advantage_mean" in page.text


def test_a_skipped_update_is_a_gap_and_a_flag(write_log: Any, page_of: Any) -> None:
    page = page_of(write_log("run", [update(), batch(0), update(skipped=True, entropy=77.0), batch(1)]))
    assert page.curve("entropy · nats")["y"] == [1.0, None]
    skipped = next(
        trace for trace in page.plots["Flags raised, of the updates that supplied them"]["data"]
        if trace["name"] == "skipped"
    )  # fmt: skip
    assert skipped["x"] == [2.0]


def test_a_flag_that_nobody_supplied_is_not_shown_as_lowered(write_log: Any, page_of: Any) -> None:
    page = page_of(write_log("run", [update(skipped=False), batch(0)]))
    assert {"skipped: 0 of 1", "update_skipped: not supplied"} < {*flags_of(page)}


@pytest.mark.parametrize(("value", "symbol", "text"), [(math.nan, "x", "nan"), (math.inf, "triangle-up", "inf")])
def test_a_value_that_is_not_finite_is_a_gap_and_a_mark(
    value: float, symbol: str, text: str, write_log: Any, page_of: Any
) -> None:
    page = page_of(write_log("run", [update(), batch(0), update(grad_norm=value), batch(1), update(), batch(2)]))
    curve, mark = page.plots["grad_norm"]["data"]
    assert curve["y"] == [1.0, None, 1.0]
    assert (mark["x"], mark["marker"]["symbol"], mark["text"]) == ([2.0], [symbol], [f"run: {text}"])


def test_components_that_were_not_supplied_are_named(write_log: Any, page_of: Any) -> None:
    data = RewardComputedPayload(
        env_id=0, total_reward=1.0, action_name="WAIT", value_estimate=0.0, action_confidence=1.0, compute_rent=-0.5
    )
    page = page_of(write_log("run", [TelemetryEvent(data=data, epoch=1), batch(0)]))
    names = [trace["name"] for trace in page.plots["Episode return by component"]["data"]]
    assert names == ["compute_rent", "total_reward"]
    assert "run did not supply: base_acc_delta" in page.text


def test_a_reward_that_is_not_finite_is_said_and_never_summed(write_log: Any, page_of: Any) -> None:
    def reward(total: float) -> TelemetryEvent:
        data = RewardComputedPayload(
            env_id=0,
            total_reward=total,
            action_name="WAIT",
            value_estimate=0.0,
            action_confidence=1.0,
            compute_rent=total,
        )
        return TelemetryEvent(data=data, epoch=1)

    emitted = [reward(1.0), batch(0), reward(math.nan), batch(1, avg_reward=math.nan), reward(2.0), batch(2)]
    page = page_of(write_log("run", emitted))
    parts, total = page.plots["Episode return by component"]["data"]
    assert parts["y"] == total["y"] == [1.0, None, 2.0]
    assert "what was not finite is left out, in 1 batches" in page.text
    assert page.curve("Mean episode return (avg_reward)")["y"] == [1.0, None, 1.0]


def test_a_section_without_events_says_which_are_missing(write_log: Any, page_of: Any) -> None:
    page = page_of(write_log("run", [batch(0)]))
    for sentence in (
        "No PPO update (PPO_UPDATE_COMPLETED)", "No host epoch (EPOCH_COMPLETED)",
        "No seed event", "No ablation", "No TRAINING_STARTED", "there is no run.json",
    ):  # fmt: skip
        assert sentence in page.text


def test_a_value_too_large_to_draw_is_a_gap_and_a_mark_and_stays_short_in_a_table(write_log: Any, page_of: Any) -> None:
    emitted = [update(), batch(0, avg_reward=1.0), update(grad_norm=1e308), batch(1, avg_reward=1e308)]
    page = page_of(write_log("run", emitted))

    curve, mark = page.plots["grad_norm"]["data"]
    assert (curve["y"], mark["text"], mark["marker"]["symbol"]) == ([1.0, None], ["run: 1e+308"], ["triangle-up"])
    assert page.cell("mean episode return, best batch") == "1e+308"


def test_sums_that_overflow_are_gaps(write_log: Any, page_of: Any) -> None:
    def paid(epoch: int) -> TelemetryEvent:
        data = RewardComputedPayload(
            env_id=0, total_reward=1e308, action_name="WAIT", value_estimate=0.0, action_confidence=1.0,
            compute_rent=1e308,
        )  # fmt: skip
        return TelemetryEvent(data=data, epoch=epoch)

    page = page_of(write_log("run", [paid(1), paid(2), batch(0)]))
    assert [trace["y"] for trace in page.plots["Episode return by component"]["data"]] == [[None], [None]]


def test_slots_with_long_names_stay_apart(write_log: Any, page_of: Any) -> None:
    slots = [f"a slot whose name is so long that it does not fit {i}" for i in range(2)]
    configs = tuple({"seed_mask": [i > 0, i != 1], "accuracy": 0.5 + i / 8} for i in range(3))
    matrix = CounterfactualMatrixPayload(env_id=0, slot_ids=tuple(slots), configs=configs)
    page = page_of(write_log("run", [TelemetryEvent(data=matrix, epoch=1), batch(0)]))

    rows = page.plots["Contribution of each slot over the run"]["layout"]["yaxis"]["ticktext"]
    assert len({*rows}) == 2


# ── what may stand in a log ────────────────────────────────────────────────────────────────────────────────────


def test_text_from_a_log_stays_text(write_log: Any, page_of: Any) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    germinated = SeedGerminatedPayload(slot_id=evil, env_id=0, blueprint_id=evil, params=1)
    action = RewardComputedPayload(
        env_id=0, total_reward=1.0, action_name=f"%{{x}}{evil}", value_estimate=0.0, action_confidence=1.0
    )
    emitted = [
        TelemetryEvent(data=germinated, epoch=1, seed_id=evil, message=evil, severity="error"),
        TelemetryEvent(data=action, epoch=1, group_id=evil), TelemetryEvent(data=batch(0).data, group_id=evil),
    ]  # fmt: skip
    page = page_of(write_log("run", emitted))

    assert evil not in page.html
    assert "<img" not in page.html.replace(page_of.__name__, "")
    assert page.html.count("</script>") == len(page.plots) + 2
    assert "onerror" in page.text
    assert not any("<" in trace["name"] for spec in page.plots.values() for trace in spec["data"] if "name" in trace)


def test_control_characters_and_very_long_text_are_tamed(write_log: Any, page_of: Any) -> None:
    emitted = TelemetryEvent(data=batch(0).data, message="\x1b[31m" + "long " * 5000, severity="warning")
    page = page_of(write_log("run", [emitted]))
    assert "\x1b" not in page.html
    assert r"\x1b[31mlong" in page.text
    assert "long " * 100 not in page.text


def test_lines_that_are_no_events_are_shown_with_file_and_line(run_of: Any, write_log: Any, page_of: Any) -> None:
    directory = write_log("run", list(run_of(n_batches=2).events()))
    with (directory / "events.jsonl").open("a") as log:
        log.write('nonsense\n{"schema_version": 1, "torn')
    lines = (directory / "events.jsonl").read_text().splitlines()
    page = page_of(directory)

    assert page.cell("lines that are no events") == "2"
    assert page.cell(f"events.jsonl:{len(lines) - 1}") == "json"
    assert page.cell(f"events.jsonl:{len(lines)}") == "torn"


def test_rejected_events_are_shown_with_their_reason(write_log: Any, page_of: Any) -> None:
    directory = write_log("run", [batch(0)])
    record = {"event_id": "1", "event_type": "PPO_UPDATE_COMPLETED", "field": "entropy", "reason": "got a Tensor"}
    (directory / "rejected.jsonl").write_text(json.dumps(record) + "\ntorn")
    page = page_of(directory)
    assert page.cell("events rejected") == "2"
    assert "got a Tensor" in page.text


def test_groups_of_one_log_are_overlaid(run_of: Any, write_log: Any, page_of: Any) -> None:
    arms = [event for name in ("A", "B") for event in run_of(n_batches=3, group_id=name).events()]
    page = page_of(write_log("run", arms))
    names = [trace["name"] for trace in page.plots["Mean episode return (avg_reward)"]["data"] if "fill" not in trace]
    assert names == ["A", "B"]


def test_a_resume_does_not_show_batches_twice(run_of: Any, write_log: Any, page_of: Any) -> None:
    whole = list(run_of(n_batches=4).events())
    ends = [i for i, event in enumerate(whole) if isinstance(event.data, BatchEpochCompletedPayload)]
    interrupted = whole[: ends[2] + 5]  # killed within the fourth batch
    page = page_of(write_log("run", [*interrupted, *run_of(n_batches=4, seed=9).events(start_episode=4)]))
    assert page.curve("Mean episode return (avg_reward)")["x"] == [2, 4, 6, 8]
    assert page.cell("runs before this one in the log, resumes, events taken back").startswith("0, 1, ")


@settings(max_examples=tries(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(events(), min_size=1, max_size=12))
def test_no_events_that_the_contract_allows_break_it(tmp_path: Path, emitted: list[TelemetryEvent]) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text("".join(f"{encode_event(event)}\n" for event in emitted))
    assert report([log], tmp_path / "any.html").exists()


# ── several runs ───────────────────────────────────────────────────────────────────────────────────────────────


def test_two_runs_are_overlaid_and_their_difference_is_shown(run_of: Any, write_log: Any, page_of: Any) -> None:
    first = write_log("first", [batch(0, avg_reward=2.0)])
    second = write_log("second", [batch(0, avg_reward=2.5)])
    page = page_of(first, second)

    names = [trace["name"] for trace in page.plots["Mean episode return (avg_reward)"]["data"] if "fill" not in trace]
    assert names == ["first", "second"]
    assert [page.cell("mean episode return, newest batches", column) for column in (1, 2, 3)] == [
        "2",
        "2.5",
        "+0.5",
    ]
    assert page.cell("policy entropy, newest updates", 3) == "—"


def test_runs_of_one_name_are_distinguished(run_of: Any, write_log: Any, page_of: Any, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
        write_log(f"{parent}/run", [batch(0)])
    page = page_of(tmp_path / "a/run", tmp_path / "b/run")
    assert "<h1>run, b/run</h1>" in page.html


# ── run.json ───────────────────────────────────────────────────────────────────────────────────────────────────


def score(mean: float) -> PolicyScore:
    return PolicyScore(*(Estimate(mean + i, 0.1) for i in range(3)))


def test_an_evaluation_is_called_by_the_arm_that_was_evaluated(run_of: Any, write_log: Any, page_of: Any) -> None:
    """The first of a run: of several runs with several arms each it has to be named."""
    evaluated = RunInfo(
        status="completed", started=datetime.now(UTC), configuration={}, versions={},
        evaluation=Evaluation(16, score(5.0), score(2.0), score(1.0)),
    )  # fmt: skip
    arms = [event for name in ("A", "B") for event in run_of(n_batches=2, group_id=name).events()]
    directories = [write_log(name, arms) for name in ("first", "second")]
    for directory in directories:
        RunDirectory(directory).write_info(evaluated)
    page = page_of(*directories)
    under = "Evaluation on fresh episodes"
    assert [page.cell(f"{run} · A: learnt", under=under) for run in ("first", "second")] == ["16", "16"]
    assert "B: learnt" not in page.html


def test_evaluation_delivery_and_versions_come_from_run_json(write_log: Any, page_of: Any) -> None:
    directory = write_log("run", [batch(0)])
    accounts = SinkStats("jsonl", True, 9, 7, 1, 1, 0, 0.0, False, None)
    info = RunInfo(
        status="interrupted", started=datetime.now(UTC), configuration={"lr": 0.003}, versions={"torch": "2.13"},
        sinks=(accounts,), evaluation=Evaluation(16, score(5.0), score(2.0), score(1.0)),
    )  # fmt: skip
    RunDirectory(directory).write_info(info)
    page = page_of(directory)

    assert page.cell("how it ended") == "interrupted"
    assert page.cell("learnt") == "5.00 ± 0.10"
    under = "Evaluation on fresh episodes"
    assert [page.cell("learnt", column, under=under) for column in (1, 2)] == ["16", "5.00 ± 0.10"]
    assert page.cell("random", 5, under=under) == "+21.2 standard errors"
    assert [page.cell("jsonl", column) for column in range(1, 6)] == ["9", "7", "1", "1", "0"]
    assert (page.cell("option lr"), page.cell("version of torch")) == ("0.003", "2.13")


def test_a_run_json_that_cannot_be_read_is_reported_and_hides_nothing_else(write_log: Any, page_of: Any) -> None:
    directory = write_log("run", [batch(0)])
    (directory / "run.json").write_text("{")
    page = page_of(directory)
    assert "run.json:1: not JSON" in page.text
    assert page.curve("Mean episode return (avg_reward)")["y"] == [1.0]


# ── mistakes ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_that_is_not_there_is_reported_in_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such log: .*nowhere"):
        report([tmp_path / "nowhere"], tmp_path / "report.html")
    assert not [*tmp_path.iterdir()]


def test_a_log_without_events_is_reported_and_the_old_report_stays(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("nonsense\n")
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(ValueError, match=r"no events in .*: 1 line of kind json, first in line 1"):
        report([tmp_path], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "old"


@pytest.mark.parametrize("output", [".", "nowhere/report.html"])
def test_an_output_that_cannot_be_written_is_reported_before_anything_is_read(output: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"is a directory|no such directory"):
        report([tmp_path / "nowhere"], tmp_path / output)


def test_without_plotly_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'esper-telemetry\[report\]'"):
        report([tmp_path], tmp_path / "report.html")


def test_a_failure_while_writing_leaves_the_old_report(
    write_log: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_log("run", [batch(0)])
    output = tmp_path / "report.html"
    output.write_text("old")

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        report([directory], output)
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "run"]
