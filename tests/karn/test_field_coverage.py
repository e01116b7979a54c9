"""Every field reaches the snapshot under its own name, and a view that shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.golden.contract import CONTRACT, WAITING
from tests.karn.shown import opened, screens

from esper.karn.aggregator import TelemetryAggregator
from esper.karn.snapshot import Entry, History, RunSnapshot
from esper.karn.summary import summary
from esper.leyline.telemetry import EVENT_TYPES, AnalyticsSnapshotPayload, TelemetryEvent, TelemetryPayload

pytestmark = pytest.mark.no_cover  # what it runs has tests of its own, and the tracer would take a third of the time

PAYLOADS = tuple(EVENT_TYPES)
FIELDS = [(cls, field.name) for cls in PAYLOADS for field in dataclasses.fields(cls)]
KINDS = ("last_action", "action_distribution", "of tomorrow")


def snapshot_of(payload: TelemetryPayload, event: TelemetryEvent | None = None) -> RunSnapshot:
    aggregator = TelemetryAggregator()
    aggregator.process(TelemetryEvent(data=payload) if event is None else event)
    return aggregator.snapshot()


def sample(annotation: str, variant: int) -> Any:
    """A value of the annotated type; another one for each variant."""
    kinds = {
        "int": 1 + variant,
        "float": 0.25 + variant,
        "bool": bool(variant),
        "str": f"text{variant}",
        "tuple[str, ...]": ("x",) * (1 + variant),
        "tuple[float, ...]": (0.5,) * (1 + variant),
        "tuple[dict[str, Any], ...]": ({"accuracy": 0.5 + variant},),
        "list[dict[str, Any]]": [{"probability": 0.5 + variant}],
        "dict[str, float]": {"all": 0.5 + variant},
        "dict[str, int]": {"WAIT": 1 + variant},
        "dict[str, dict[str, Any]]": {"a": {"alpha": 0.5 + variant}},
    }
    return kinds[annotation.removesuffix(" | None")]


def base_of(cls: type[TelemetryPayload]) -> dict[str, Any]:
    return {field.name: sample(str(field.type), 0) for field in dataclasses.fields(cls)}


def shown(value: object) -> Iterator[TelemetryPayload]:
    """Every payload in a snapshot, the event log and the events' own references left aside."""
    if isinstance(value, Entry):
        yield value.data
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from shown(part)
    elif isinstance(value, tuple | History):
        for part in value:
            yield from shown(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.name != "log":
                yield from shown(getattr(value, field.name))


def test_there_are_all_the_fields_of_the_contract_to_cover() -> None:
    assert len(FIELDS) == sum(map(len, CONTRACT.values()))


@pytest.mark.parametrize(
    ("cls", "name", "given"),
    [(cls, name, {}) for cls, name in FIELDS if cls is not AnalyticsSnapshotPayload]
    + [(cls, name, {"kind": kind}) for cls, name in FIELDS if cls is AnalyticsSnapshotPayload for kind in KINDS],
)
def test_changing_any_one_field_changes_the_snapshot(
    cls: type[TelemetryPayload], name: str, given: dict[str, str]
) -> None:
    base = {**base_of(cls), **given}
    annotation = next(str(field.type) for field in dataclasses.fields(cls) if field.name == name)
    changed = {**base, name: sample(annotation, 1)}
    before, after = (list(shown(snapshot_of(cls(**values)))) for values in (base, changed))
    assert before == [cls(**base)]
    assert after == [cls(**changed)]
    assert before != after


@pytest.mark.parametrize("cls", PAYLOADS)
def test_the_envelope_stands_beside_every_payload(cls: type[TelemetryPayload]) -> None:
    event = TelemetryEvent(data=cls(**base_of(cls)), seed_id="s", epoch=3, message="hello", severity="warning")
    assert repr(event) in repr(snapshot_of(event.data, event).groups)


ONLY_IN_FULL = {
    "AnalyticsSnapshotPayload": "action_counts value_estimate",
    "BatchEpochCompletedPayload": "env_accuracies n_envs",
    "EpochCompletedPayload": "seeds",
    "PPOUpdatePayload": (
        "advantage_mean advantage_std early_stop_epoch entropy_coef entropy_loss inner_epoch loss_scale "
        "ratio_mean ratio_min ratio_std"
    ),
    "RewardComputedPayload": "ab_group slot_states",
    "SeedFossilizedPayload": "epochs_total params_added",
    "SeedGerminatedPayload": "blend_tempo_epochs epochs_in_stage grad_ratio has_exploding has_vanishing",
    "SeedPrunedPayload": "epochs_total",
    "SeedStageChangedPayload": "accuracy_delta epochs_in_stage from_stage grad_ratio",
    "TrainingStartedPayload": (
        "amp_dtype amp_enabled clip_ratio compile_backend compile_enabled compile_mode entropy_anneal "
        "entropy_coef env_devices episode_id local_rank lr max_epochs n_episodes param_budget policy_device "
        "resume_path reward_mode"
    ),
}
"""Fields that no screen and no summary shows by themselves: they are read where an event is opened."""


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_changing_any_one_field_changes_what_is_shown(cls: type[TelemetryPayload], name: str) -> None:
    """On a screen, in the summary, or at least where the event is opened from one of the screens."""
    base, annotation = base_of(cls), next(str(f.type) for f in dataclasses.fields(cls) if f.name == name)
    kinds = KINDS[:2] if cls is AnalyticsSnapshotPayload else ("",)
    differs = {"shown": False, "opened": False}
    for kind in kinds:
        given = {**base, "kind": kind} if kind else base
        before, after = (render(cls(**values)) for values in (given, {**given, name: sample(annotation, 1)}))
        differs["shown"] |= before[0] != after[0]
        differs["opened"] |= before[1] != after[1]
    if f"{cls.__name__}.{name}" in WAITING:  # it may be shown already, while nobody supplies it
        return
    assert differs["shown"] or differs["opened"]
    assert differs["shown"] != (name in ONLY_IN_FULL.get(cls.__name__, "").split())


def render(payload: TelemetryPayload) -> tuple[str, str]:
    """Return what screens and summary say of a run with this one event, and what is said where it is opened."""
    snapshot = snapshot_of(payload)
    group = snapshot.groups["default"]
    return screens(snapshot, group) + summary(snapshot, None, Path("run")), opened(snapshot, group)
