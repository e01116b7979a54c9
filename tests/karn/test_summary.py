"""The closing summary: one page, 80 columns, and nothing on it that the log does not hold."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.formatting import number
from esper.karn.summary import snapshot_json, summary
from esper.leyline.run_info import Estimate, Evaluation, PolicyScore, RunInfo, SinkStats
from esper.leyline.telemetry import (
    BatchEpochCompletedPayload,
    PPOUpdatePayload,
    RewardComputedPayload,
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
RUN = Path("runs/demo")
STARTED = TrainingStartedPayload(
    n_envs=4, max_epochs=24, task="digits", host_params=706, slot_ids=("a", "b", "c"), seed=7, n_episodes=160, lr=3e-3,
    clip_ratio=0.2, entropy_coef=0.05, param_budget=1000, policy_device="cpu", env_devices=("cpu",) * 4,
)  # fmt: skip


def batch(index: int, reward: float, accuracy: float) -> BatchEpochCompletedPayload:
    return BatchEpochCompletedPayload(
        episodes_completed=4 * (index + 1), batch_idx=index, avg_accuracy=accuracy, avg_reward=reward,
        total_episodes=160, n_envs=4,
    )  # fmt: skip


def update(**changes: Any) -> PPOUpdatePayload:
    summary_of = {
        "policy_loss": 0.1, "value_loss": 0.2, "entropy": 1.5, "grad_norm": 0.75, "kl_divergence": 0.0125,
        "clip_fraction": 0.125, "nan_grad_count": 0,
    }  # fmt: skip
    return PPOUpdatePayload(**{**summary_of, **changes})


def info(**changes: Any) -> RunInfo:
    summary_of = {
        "status": "completed", "started": START, "ended": START + timedelta(seconds=94), "configuration": {},
        "versions": {}, "sinks": (SinkStats("jsonl", True, 7, 5, 1, 1, 0, 0.0, False, "disk full"),),
    }  # fmt: skip
    return RunInfo(**{**summary_of, **changes})


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no run is: one of that name may lie where the tests are started."""
    monkeypatch.chdir(tmp_path)


def summary_of(
    *payloads: TelemetryPayload, about: RunInfo | None = None, group_ids: tuple[str, ...] = ("default",)
) -> str:
    aggregator = TelemetryAggregator()
    for group_id in group_ids:
        for payload in payloads:
            aggregator.process(TelemetryEvent(data=payload, group_id=group_id))
    return summary(aggregator.snapshot(), about, RUN)


def line_of(text: str, beginning: str) -> list[str]:
    """The words of the only line that begins so, its beginning left out."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(beginning)]
    return line.strip().removeprefix(beginning).split()


def test_the_verdict_stands_with_its_standard_errors() -> None:
    def score(reward: float, val: float, test: float) -> PolicyScore:
        return PolicyScore(Estimate(reward, 0.37), Estimate(val, 0.007), Estimate(test, 0.006))

    evaluation = Evaluation(16, score(11.22, 0.88, 0.877), score(4.38, 0.655, 0.673), score(5.03, 0.603, 0.625))
    text = summary_of(STARTED, about=info(evaluation=evaluation))
    assert line_of(text, "learnt") == ["11.22", "±", "0.37", "0.880", "±", "0.007", "0.877", "±", "0.006"]
    assert line_of(text, "do nothing")[:3] == ["5.03", "±", "0.37"]
    errors = (0.877 - 0.673) / math.hypot(0.006, 0.006)
    assert f"{errors:+.1f} from random" in text


def test_no_evaluation_is_reported_as_such() -> None:
    text = summary_of(STARTED, about=info())
    assert "Did it learn?\n  Not clear.\n    by the mean episode return: no batch yet\n" in text
    assert "policy   " not in text


def test_both_ends_of_the_run_are_compared() -> None:
    text = summary_of(STARTED, *(batch(n, float(n), n / 100) for n in range(30)))
    assert line_of(text, "mean episode return") == ["4.5", "24.5", "29"]
    assert line_of(text, "validation accuracy") == ["0.045", "0.245", "0.290"]
    assert "120 of 160 episodes" in text


@pytest.mark.parametrize("rewards", [(math.nan, 1.0), (math.inf, -math.inf), (0.0, 0.0)])
def test_rewards_that_are_not_finite_or_zero_are_shown(rewards: tuple[float, float]) -> None:
    text = summary_of(STARTED, *(batch(n, reward, 0.5) for n, reward in enumerate(rewards)))
    shown = line_of(text, "mean episode return")
    assert shown[:2] == [number(reward) for reward in rewards]


def test_a_short_run_is_never_compared_with_itself() -> None:
    six = summary_of(STARTED, *(batch(n, float(n), n / 100) for n in range(6)))
    assert line_of(six, "mean episode return") == ["1", "4", "5"]
    assert "first 3" in six
    assert "newest 3" in six
    one = summary_of(STARTED, batch(0, 1.5, 0.25))
    assert line_of(one, "mean episode return") == ["1.5"]
    assert "the only batch" in one


def test_the_verdict_on_ppo_counts_every_rule() -> None:
    text = summary_of(update(policy_loss=math.nan, exploding_layers=3, entropy_collapsed=False))
    assert "✗ BAD (1 BAD, " in text
    assert "✗ BAD   policy loss not finite in 1 of 1 updates" in text
    assert line_of(text, "policy loss")[-2:] == ["✗", "BAD"]
    assert line_of(text, "exploding layers")[3:] == ["✓", "OK"]


def test_seeds_are_counted_by_blueprint_and_in_all() -> None:
    at: dict[str, Any] = {"slot_id": "a", "env_id": 0}
    text = summary_of(
        SeedGerminatedPayload(**at, blueprint_id="mlp", params=812),
        SeedFossilizedPayload(**at, blueprint_id="mlp", improvement=0.1, params_added=812),
        SeedGerminatedPayload(**at, blueprint_id="norm", params=24),
        SeedPrunedPayload(**at, reason="policy"),
        SeedPrunedPayload(slot_id="b", env_id=0, reason="stagnation", auto_pruned=True),
        SeedPrunedPayload(slot_id="c", env_id=0, reason="stagnation"),
    )
    assert line_of(text, "mlp") == ["1", "1", "0", "0", "0"]
    assert line_of(text, "norm") == ["1", "0", "1", "0", "0"]
    assert line_of(text, "—") == ["0", "0", "0", "1", "1"]
    assert line_of(text, "all") == ["2", "1", "1", "1", "1"]


def test_what_was_not_supplied_is_a_dash_and_unknown_never_a_number() -> None:
    text = summary_of(update())
    assert line_of(text, "expl. variance")[:5] == ["—", "—", "—", "?", "UNKNOWN"]
    assert line_of(text, "inf gradients")[:4] == ["—", "—", "—", "?"]
    assert line_of(text, "NaN gradients")[:4] == ["0", "0", "0", "✓"]


def test_before_any_update_health_is_unknown() -> None:
    text = summary_of(STARTED)
    assert line_of(text, "entropy")[:4] == ["—", "—", "—", "?"]
    assert "✓" not in text


def test_ppo_numbers_show_their_range_and_hide_no_nan() -> None:
    text = summary_of(
        update(kl_divergence=0.5, explained_variance=math.nan), update(grad_norm=math.inf, explained_variance=0.5)
    )
    assert line_of(text, "KL")[:3] == ["0.0125", "0.0125", "0.5"]
    assert line_of(text, "expl. variance")[:3] == ["0.5", "0.5", "NaN"]
    assert line_of(text, "gradient norm")[:4] == ["inf", "0.75", "inf", "✗"]


def test_the_accounts_of_every_sink_are_shown_with_their_trouble() -> None:
    text = summary_of(STARTED, about=info())
    assert line_of(text, "jsonl  ") == ["5", "1", "1", "0"]
    assert "jsonl: disk full" in text
    assert "Telemetry: 1 event\n" in text


def test_it_says_how_the_run_ended_and_what_to_do_next() -> None:
    text = summary_of(STARTED, about=info(status="failed", error="OSError: boom"))
    assert text.startswith("Run runs/demo: failed after 1 min 34 s\n  OSError: boom\n")
    assert "esper report runs/demo -o report.html" in text
    assert "esper evaluate" not in text, "there is no policy"
    assert "esper train --resume" not in text, "there is no checkpoint"


@pytest.mark.parametrize("status", ["completed", "interrupted", "failed", "running"])
def test_what_the_directory_holds_is_what_can_be_done_next(status: str, tmp_path: Path) -> None:
    for name in ("policy.pt", "checkpoint.pt", "events-rank0.jsonl", "events-rank1.jsonl"):
        (tmp_path / name).touch()
    text = summary(TelemetryAggregator().snapshot(), info(status=status), tmp_path)
    assert f"esper evaluate {tmp_path}" in text
    assert (f"esper train --resume {tmp_path}" in text) == (status != "completed")
    assert f"Log: {tmp_path}/events-rank0.jsonl, {tmp_path}/events-rank1.jsonl\n" in text


def test_without_run_json_the_log_still_says_its_part() -> None:
    text = summary_of(STARTED, batch(0, 1.0, 0.5))
    assert "no run.json beside the log" in text
    assert "Did it learn?\n  Not clear.\n" in text
    assert "4 of 160 episodes" in text


def test_a_log_without_events_says_so() -> None:
    assert "No event." in summary(TelemetryAggregator().snapshot(), None, RUN)


def test_groups_stand_apart() -> None:
    text = summary_of(STARTED, group_ids=("control", "treatment"))
    assert text.index("Group control") < text.index("Group treatment")
    assert "Group" not in summary_of(STARTED)


def test_a_resume_and_an_earlier_run_are_shown() -> None:
    resumed = TrainingStartedPayload.from_dict({**STARTED.to_dict(), "start_episode": 4})
    text = summary_of(STARTED, STARTED, batch(0, 1.0, 0.5), update(), resumed)
    assert "Resumed once (1 event superseded)." in text
    assert "Earlier runs in this log: 1." in text


def test_the_page_fits_eighty_columns_and_a_hostile_log_cannot_break_it() -> None:
    name = "\x1b[31m" + "long" * 40 + "\n"
    text = summary_of(
        TrainingStartedPayload.from_dict({**STARTED.to_dict(), "task": name}),
        batch(0, -1234.5678, 0.123456),
        update(kl_divergence=-1e-300, grad_norm=1e300, explained_variance=-123456.789),
        SeedGerminatedPayload(slot_id=name, env_id=0, blueprint_id=name, params=1),
        about=info(error=name),
        group_ids=("default", name),
    )
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "\x1b" not in text


def test_the_snapshot_as_json_keeps_what_was_supplied_and_nothing_else() -> None:
    aggregator = TelemetryAggregator()
    payload = RewardComputedPayload(
        env_id=3, total_reward=math.nan, action_name="WAIT", value_estimate=0.0, action_confidence=1.0
    )
    aggregator.process(TelemetryEvent(data=payload))
    snapshot = json.loads(snapshot_json(aggregator.snapshot()))
    (reward,) = snapshot["groups"]["default"]["envs"]["3"]["rewards"]
    assert reward["event"]["data"] == {
        "env_id": 3, "total_reward": "NaN", "action_name": "WAIT", "value_estimate": 0.0, "action_confidence": 1.0,
    }  # fmt: skip
    assert snapshot["events"] == {"REWARD_COMPUTED": 1}
    assert snapshot["groups"]["default"]["envs"]["3"]["counterfactual"] is None


def test_a_number_beyond_every_float_is_shown_as_huge_and_ends_nothing() -> None:
    huge = 10**400
    text = summary_of(
        STARTED, batch(0, huge, huge), batch(1, huge, huge), update(kl_divergence=huge, nan_grad_count=huge)
    )
    assert line_of(text, "KL")[0] == "huge"
    assert line_of(text, "NaN gradients")[0] == "huge"
    assert line_of(text, "mean episode return") == ["inf", "inf", "—"]
    assert "mean episode return was not finite in 2 batches of 2" in text


def test_nothing_is_advised_about_a_stream_that_is_gone() -> None:
    text = summary(TelemetryAggregator().snapshot(), None, Path("-"))
    assert "esper report" not in text
    assert text.endswith("Log: standard input\n")
