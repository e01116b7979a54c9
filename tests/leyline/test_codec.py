"""Strict in, lossless out: mapping → payload → mapping, and what is refused on the way."""

from __future__ import annotations

import collections
import dataclasses
import math
import traceback
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from esper.leyline import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    FieldTypeError,
    MissingFieldError,
    PayloadError,
    PPOUpdatePayload,
    TelemetryEvent,
    TelemetryPayload,
    TrainingStartedPayload,
    UnknownFieldError,
)
from esper.leyline._payload.scalars import Optional
from esper.leyline._payload.table import types_of
from esper.leyline.errors import FieldProblem
from esper.leyline.testing import events, payloads, same, values
from esper.leyline.wire import encode_event

Entry = dict[str, Any]
EPOCH: Entry = {"env_id": 0, "val_accuracy": 0.5, "val_loss": 1.0, "inner_epoch": 3}
BATCH: Entry = {
    "episodes_completed": 4, "batch_idx": 0, "avg_accuracy": 0.5, "avg_reward": 1.0, "total_episodes": 8, "n_envs": 4,
}  # fmt: skip
PPO: Entry = {
    "policy_loss": 0.1, "value_loss": 0.2, "entropy": 1.0, "grad_norm": math.inf, "kl_divergence": 0.01,
    "clip_fraction": 0.1, "nan_grad_count": 0,
}  # fmt: skip
MATRIX: Entry = {"env_id": 0, "slot_ids": ["a", "b"], "configs": [{"seed_mask": [True, False], "accuracy": 0.5}]}


def refusal(cls: type[TelemetryPayload], fields: object) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        cls.from_dict(fields)  # type: ignore[arg-type]  # what is being tested
    assert caught.value.payload == cls.__name__
    return caught.value


# ---- what goes in comes out


def test_what_to_dict_writes_from_dict_takes(full: TelemetryPayload, bare: TelemetryPayload) -> None:
    for payload in (full, bare):
        assert same(type(payload).from_dict(payload.to_dict()), payload)


@given(st.sampled_from(get_args(TelemetryPayload)).flatmap(payloads))
def test_any_payload_survives_its_mapping(payload: TelemetryPayload) -> None:
    assert same(type(payload).from_dict(payload.to_dict()), payload)


def test_to_dict_keeps_floats_as_they_are_and_tuples_as_tuples() -> None:
    fields = PPOUpdatePayload(**PPO, explained_variance=math.nan).to_dict()
    assert fields["grad_norm"] == math.inf
    assert math.isnan(fields["explained_variance"])  # type: ignore[arg-type]  # a float
    assert CounterfactualMatrixPayload.from_dict(MATRIX).to_dict()["slot_ids"] == ("a", "b")


def test_lists_become_tuples_where_the_field_is_one_and_ints_do_for_floats() -> None:
    payload = CounterfactualMatrixPayload.from_dict(MATRIX | {"compute_time_ms": 3})
    assert payload.slot_ids == ("a", "b")
    assert type(payload.configs) is tuple
    assert type(payload.compute_time_ms) is int


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict, collections.UserDict, MappingProxyType])
def test_any_mapping_will_do(kind: Any) -> None:
    fields = EPOCH | {"seeds": kind({"r0c1": kind({"alpha": 0.5})})}
    assert EpochCompletedPayload.from_dict(kind(fields)).seeds == {"r0c1": {"alpha": 0.5}}
    assert BatchEpochCompletedPayload.from_dict(kind(BATCH)).n_envs == 4


def test_what_from_dict_took_is_frozen_and_its_own() -> None:
    seeds = {"r0c1": {"alpha": 0.5, "history": [1, 2]}}
    payload = EpochCompletedPayload.from_dict(EPOCH | {"seeds": seeds})
    seeds["r0c1"]["alpha"] = 0.9
    assert payload.seeds is not None
    assert payload.seeds["r0c1"]["alpha"] == 0.5
    with pytest.raises(TypeError, match="cannot be changed"):
        payload.seeds["r0c1"]["history"].append(3)


def test_from_dict_supplies_what_the_mapping_has() -> None:
    assert BatchEpochCompletedPayload.from_dict(BATCH).supplied == frozenset()
    assert BatchEpochCompletedPayload.from_dict(BATCH | {"rolling_accuracy": 0.0}).supplied == {"rolling_accuracy"}
    assert BatchEpochCompletedPayload.from_dict(BATCH | {"env_accuracies": None}).supplied == {"env_accuracies"}


def test_a_dict_of_floats_may_hold_whole_numbers_and_numbers_that_are_not_finite() -> None:
    health = {"a": 1, "b": math.nan, "é": -0.0}
    payload = PPOUpdatePayload.from_dict(PPO | {"layer_gradient_health": health})
    assert same(payload.layer_gradient_health, health)


# ---- what is refused


def test_all_missing_fields_are_named(cls: type[TelemetryPayload], required: Entry) -> None:
    error = refusal(cls, {})
    assert isinstance(error, MissingFieldError)
    assert isinstance(error, KeyError)
    assert error.missing == tuple(required)
    assert str(error) == f"{cls.__name__}: missing {', '.join(required)}"


def test_every_required_field_is_required_and_no_other(cls: type[TelemetryPayload], everything: Entry) -> None:
    for field in dataclasses.fields(cls):
        fields = {name: value for name, value in everything.items() if name != field.name}
        if field.default is dataclasses.MISSING:
            assert refusal(cls, fields).missing == (field.name,)
        else:
            assert cls.from_dict(fields).supplied == cls.from_dict(everything).supplied - {field.name}


def test_nan_grad_count_is_required() -> None:
    assert refusal(PPOUpdatePayload, {k: v for k, v in PPO.items() if k != "nan_grad_count"}).missing == (
        "nan_grad_count",
    )


def test_unknown_fields_are_named(cls: type[TelemetryPayload], everything: Entry) -> None:
    error = refusal(cls, everything | {"val_acuracy": 1.0, 7: None})
    assert isinstance(error, UnknownFieldError)
    assert isinstance(error, ValueError)
    assert error.unknown == ("val_acuracy", "7")
    assert str(error) == f"{cls.__name__}: unknown val_acuracy, 7"


WRONG: dict[str, list[Any]] = {
    "int": [True, 3.0, "4", math.nan, None, [3]],
    "float": [True, "0.5", "NaN", None, [0.5], 1j],
    "bool": [0, 1, 1.0, "true", None],
    "str": [3, b"cpu", None, ["cpu"], "\ud800"],
    "tuple": ["ab", {"a": 1}, {"a"}, 3, None],
    "list": ["ab", {"a": 1}, {"a"}, 3, None],
    "dict": [[("a", 1)], "ab", 3, None],
}


def test_every_field_refuses_what_is_not_of_its_type(cls: type[TelemetryPayload], everything: Entry) -> None:
    for name, row in types_of(cls).items():
        for wrong in WRONG[row.text.partition("[")[0].partition(" ")[0]]:
            if wrong is None and isinstance(row, Optional):
                continue
            error = refusal(cls, everything | {name: wrong})
            assert isinstance(error, FieldTypeError)
            assert isinstance(error, TypeError)
            (problem,) = error.problems
            assert problem.path == name
            assert problem.actual
            assert f"{name}: expected {problem.expected}, got {problem.actual}" in str(error)


KEYS = "keys of valid Unicode text"
CONTENT: list[tuple[type[TelemetryPayload], Entry, str, str, str]] = [
    (CounterfactualMatrixPayload, MATRIX | {"slot_ids": ["a", 3]}, "slot_ids[1]", "str", "int 3"),
    (CounterfactualMatrixPayload, MATRIX | {"slot_ids": ("a", None)}, "slot_ids[1]", "str", "NoneType None"),
    (CounterfactualMatrixPayload, MATRIX | {"configs": [{}, 3]}, "configs[1]", "dict[str, Any]", "int 3"),
    (CounterfactualMatrixPayload, MATRIX | {"configs": [{"a": (1,)}]}, "configs[0]['a']", "a JSON value", "tuple (1,)"),
    (
        CounterfactualMatrixPayload,
        MATRIX | {"configs": [{"a": [1, {"b": {2}}]}]},
        "configs[0]['a'][1]['b']",
        "a JSON value",
        "set {2}",
    ),
    (
        CounterfactualMatrixPayload,
        MATRIX | {"configs": [{1: 2}]},
        "configs[0]",
        KEYS,
        "key int 1",
    ),
    (BatchEpochCompletedPayload, BATCH | {"env_accuracies": [0.5, True]}, "env_accuracies[1]", "float", "bool True"),
    (PPOUpdatePayload, PPO | {"layer_gradient_health": {"fc": "1"}}, "layer_gradient_health['fc']", "float", "str '1'"),
    (
        PPOUpdatePayload,
        PPO | {"layer_gradient_health": {3: 1.0}},
        "layer_gradient_health",
        KEYS,
        "key int 3",
    ),
    (EpochCompletedPayload, EPOCH | {"seeds": {"a": None}}, "seeds['a']", "dict[str, Any]", "NoneType None"),
    (
        EpochCompletedPayload,
        EPOCH | {"seeds": {"a": {"b": "\udfff"}}},
        "seeds['a']['b']",
        "valid Unicode",
        "a lone surrogate in str '\\udfff'",
    ),
    (
        EpochCompletedPayload,
        EPOCH | {"seeds": {"\ud800": {}}},
        "seeds",
        KEYS,
        "key str '\\ud800'",
    ),
    (
        AnalyticsSnapshotPayload,
        {"kind": "x", "action_counts": {"WAIT": 1.0}},
        "action_counts['WAIT']",
        "int",
        "float 1.0",
    ),
]


@pytest.mark.parametrize(("cls", "fields", "path", "expected", "actual"), CONTENT)
def test_wrong_content_is_reported_by_its_path(
    cls: type[TelemetryPayload], fields: Entry, path: str, expected: str, actual: str
) -> None:
    assert refusal(cls, fields).problems == (FieldProblem(path, expected, actual),)


@pytest.mark.parametrize("thing", [None, 3, "text", [("env_id", 1)], object(), EpochCompletedPayload(**EPOCH)])
def test_what_is_no_mapping_is_refused(thing: object) -> None:
    error = refusal(EpochCompletedPayload, thing)
    assert isinstance(error, FieldTypeError)
    assert error.problems[0].expected == "a mapping from field names to values"
    assert type(thing).__name__ in str(error)


def test_one_message_reports_every_problem_and_the_class_is_the_first_that_applies() -> None:
    fields: Entry = {
        "env_id": True,
        "val_accuracy": "0.5",
        "val_loss": 1.0,
        "inner_epoch": 1,
        "seeds": {"a": 1, "b": 2},
    }
    error = refusal(EpochCompletedPayload, fields)
    assert type(error) is FieldTypeError
    assert [p.path for p in error.problems] == ["env_id", "val_accuracy", "seeds['a']", "seeds['b']"]
    error = refusal(EpochCompletedPayload, fields | {"loss": 1})
    assert type(error) is UnknownFieldError
    assert len(error.problems) == 4
    del fields["val_loss"]
    error = refusal(EpochCompletedPayload, fields | {"loss": 1})
    assert type(error) is MissingFieldError
    assert (error.missing, error.unknown, len(error.problems)) == (("val_loss",), ("loss",), 4)
    assert str(error) == (
        "EpochCompletedPayload: missing val_loss; unknown loss; env_id: expected int, got bool True; "
        "val_accuracy: expected float, got str '0.5'; seeds['a']: expected dict[str, Any], got int 1; "
        "seeds['b']: expected dict[str, Any], got int 2"
    )


def test_content_without_end_is_refused_and_not_followed() -> None:
    endless: Entry = {}
    endless["again"] = endless
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    for content in (endless, {"deep": deep}):
        (problem,) = refusal(EpochCompletedPayload, EPOCH | {"seeds": {"a": content}}).problems
        assert problem.expected == "containers at most 64 deep"


def test_a_long_value_is_shortened_and_a_repr_that_raises_does_no_harm() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    assert len(refusal(EpochCompletedPayload, EPOCH | {"env_id": "x" * 10_000}).problems[0].actual) < 80
    assert refusal(EpochCompletedPayload, EPOCH | {"env_id": Rude()}).problems[0].actual == "Rude …"


def test_a_traceback_shows_the_generated_lines() -> None:
    shown = "".join(traceback.format_exception(refusal(EpochCompletedPayload, EPOCH | {"env_id": "0"})))
    assert 'File "<esper EpochCompletedPayload.from_dict ' in shown
    assert "return _carefully(_mapping)" in shown


# ---- what is encoded


@given(events(), st.data())
def test_every_change_of_a_single_field_changes_the_line(event: TelemetryEvent, data: st.DataObject) -> None:
    payload = event.data
    fields = payload.to_dict()
    name, row = data.draw(st.sampled_from([*types_of(type(payload)).items()]))
    value = data.draw(values(row))
    assume(name not in fields or not same(fields[name], value))
    changed = dataclasses.replace(event, data=type(payload).from_dict(fields | {name: value}))
    assert encode_event(changed) != encode_event(event)


@given(events(), st.data())
def test_every_change_of_the_envelope_changes_the_line(event: TelemetryEvent, data: st.DataObject) -> None:
    other = data.draw(events())
    for field in dataclasses.fields(event):
        value = getattr(other, field.name)
        if field.name not in {"event_type", "data"} and not same(value, getattr(event, field.name)):
            assert encode_event(dataclasses.replace(event, **{field.name: value})) != encode_event(event)


# ---- against pydantic in strict mode

_NUMBERS: list[Any] = [True, 3, 3.0, math.nan, 1j, "4", b"4", None]
_CONTAINERS: list[Any] = [
    [],
    ["a"],
    ("a",),
    {"a"},
    {"a": 1},
    {"a": 1.0},
    {"a": {"b": 1}},
    {1: 2},
    [{"a": 1}],
    ({"a": 1},),
]
WHATEVER: list[Any] = [*_NUMBERS, *_CONTAINERS, "text", object(), range(3), MappingProxyType({"a": 1.0})]


def test_what_pydantic_refuses_for_its_type_from_dict_refuses(cls: type[TelemetryPayload], everything: Entry) -> None:
    """Known differences: lists do for tuples, and any Mapping does for a dict."""
    pydantic = pytest.importorskip("pydantic")
    hints = get_type_hints(cls)
    fields = {
        f.name: (hints[f.name], ... if f.default is dataclasses.MISSING else f.default) for f in dataclasses.fields(cls)
    }
    adapter = pydantic.TypeAdapter(pydantic.create_model(cls.__name__, __config__={"strict": True}, **fields))
    adapter.validate_python(everything)
    refused = 0
    for name, row in types_of(cls).items():
        for thing in WHATEVER:
            if row.text.startswith("dict") and isinstance(thing, MappingProxyType):
                continue
            if row.text.startswith("tuple") and isinstance(thing, list):
                continue
            try:
                adapter.validate_python(everything | {name: thing})
            except pydantic.ValidationError:
                refused += 1
                refusal(cls, everything | {name: thing})
    assert refused > len(everything) * 10


def test_what_pydantic_takes_in_strict_mode_and_from_dict_does_not() -> None:
    """The known differences the other way round: unknown keys, and content of containers of Any."""
    assert refusal(EpochCompletedPayload, EPOCH | {"foreign": 1}).unknown == ("foreign",)
    assert refusal(EpochCompletedPayload, EPOCH | {"seeds": {"a": {"b": {1, 2}}}}).problems


def test_training_started_of_the_specification_is_read() -> None:
    fields: Entry = {
        "n_envs": 4, "max_epochs": 24, "task": "digits", "host_params": 706, "slot_ids": ["r0c0"], "seed": 42,
        "n_episodes": 160, "lr": 3e-3, "clip_ratio": 0.2, "entropy_coef": 0.05, "param_budget": 2000,
        "policy_device": "cpu", "env_devices": ["cpu", "cpu", 3],
    }  # fmt: skip
    (problem,) = refusal(TrainingStartedPayload, fields).problems
    assert problem.path == "env_devices[2]"
    fields["env_devices"].pop()
    assert TrainingStartedPayload.from_dict(fields).env_devices == ("cpu", "cpu")
