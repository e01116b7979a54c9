"""Plans for sets of keys: however a mapping is made up, the same is read from it."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.leyline import (
    AnalyticsSnapshotPayload,
    EpochCompletedPayload,
    FieldTypeError,
    PayloadError,
    PPOUpdatePayload,
    TelemetryPayload,
    UnknownFieldError,
)
from esper.leyline._payload.frozen import FrozenDict, FrozenList, freeze
from esper.leyline._payload.reading import PLANS, Reader
from esper.leyline._payload.table import types_of
from esper.leyline.testing import payloads, same

REQUIRED: dict[str, Any] = {
    "policy_loss": 0.1, "value_loss": 0.2, "entropy": 1.0, "grad_norm": 0.5, "kl_divergence": 0.01,
    "clip_fraction": 0.1, "nan_grad_count": 0,
}  # fmt: skip
OPTIONAL = (
    "explained_variance",
    "ratio_mean",
    "ratio_min",
    "ratio_max",
    "ratio_std",
    "early_stop_epoch",
    "inner_epoch",
)
CONTENT: list[dict[str, Any]] = [
    {"a": 1, "b": [True, {"c": [0.5, None]}], "d": {"e": "é"}},
    {"é": "text", "list": [["nested"], []], "empty": {}},
    {"$float": "NaN"},
    {"$dict": {"$float": "NaN"}},
]


def test_more_sets_of_keys_than_there_are_plans_are_read_alike() -> None:
    reader = Reader(PPOUpdatePayload, types_of(PPOUpdatePayload), wire=False)
    some = [set(names) for size in range(8) for names in itertools.combinations(OPTIONAL, size)]
    assert len(some) > PLANS
    for _ in range(2):
        for names in some:
            payload = reader.read(REQUIRED | dict.fromkeys(names, 7))
            assert payload.supplied == names
            assert all((getattr(payload, name) == 7) == (name in names) for name in OPTIONAL)


def test_mappings_of_one_size_with_different_keys_do_not_meet_each_other_s_plan() -> None:
    for _ in range(3):
        for name in OPTIONAL:
            payload = PPOUpdatePayload.from_dict(REQUIRED | {name: 7})
            assert payload.supplied == {name}
        with pytest.raises(UnknownFieldError, match="foreign"):
            PPOUpdatePayload.from_dict(REQUIRED | {"foreign": 7})


@given(payloads(PPOUpdatePayload), st.randoms())
def test_the_order_of_keys_means_nothing(payload: PPOUpdatePayload, random: Any) -> None:
    items = list(payload.to_dict().items())
    random.shuffle(items)
    assert same(PPOUpdatePayload.from_dict(dict(items)), payload)


def test_a_single_field_is_read_as_any_number_is() -> None:
    assert AnalyticsSnapshotPayload.from_dict({"kind": "note"}).kind == "note"


@pytest.mark.parametrize("content", CONTENT)
def test_containers_of_any_are_copied_and_frozen_at_every_depth(content: dict[str, Any]) -> None:
    fields = {"env_id": 0, "val_accuracy": 0.5, "val_loss": 1.0, "inner_epoch": 3, "seeds": {"r0c0": content}}
    payload = EpochCompletedPayload.from_dict(fields)
    assert payload.seeds == {"r0c0": content}
    assert payload.to_dict() == fields

    def frozen(value: Any) -> bool:
        if isinstance(value, dict):
            return type(value) is FrozenDict and all(map(frozen, value.values()))
        return not isinstance(value, list) or (type(value) is FrozenList and all(map(frozen, value)))

    assert frozen(payload.seeds)
    assert payload.seeds["r0c0"] is not content


def test_a_wrong_value_in_a_plan_is_reported_as_without_one() -> None:
    for wrong in (True, "0.5", None, {"a": 1}, [1]):
        for _ in range(2):
            with pytest.raises(FieldTypeError) as caught:
                PPOUpdatePayload.from_dict(REQUIRED | {"entropy": wrong})
            assert [problem.path for problem in caught.value.problems] == ["entropy"]
            assert caught.value.problems[0].actual == f"{type(wrong).__name__} {wrong!r}"


def test_a_parsed_line_s_objects_are_reported_by_the_name_that_users_know() -> None:
    for parsed, fields in ((freeze({"op": 1.0}), "dict {'op': 1.0}"), (freeze([1.0]), "list [1.0]")):
        with pytest.raises(FieldTypeError) as caught:
            Reader(PPOUpdatePayload, types_of(PPOUpdatePayload), wire=True).read(REQUIRED | {"entropy": parsed})
        assert caught.value.problems[0].actual == fields


def test_what_is_not_finite_stands_as_text_only_in_a_parsed_line() -> None:
    fields = REQUIRED | {"grad_norm": "Infinity", "explained_variance": "NaN"}
    payload = Reader(PPOUpdatePayload, types_of(PPOUpdatePayload), wire=True).read(fields)
    assert payload.grad_norm == math.inf
    assert math.isnan(payload.explained_variance)
    with pytest.raises(FieldTypeError, match="grad_norm"):
        PPOUpdatePayload.from_dict(fields)


ODD: st.SearchStrategy[Any] = st.sampled_from([
    None, True, 3, -1, 2**70, 10**5000, 0.5, math.inf, "", "é", "NaN", "\ud800", b"", {1}, (1, "b"), [], [[1.5, "a"]],
    ["a", "b"], [0.5, math.nan], {"a": 1.0}, {"a": "NaN"}, {"é": 1.0}, {"é": [1]}, {1: 2}, {"a": ()}, {"$float": "NaN"},
    {"a": {"$dict": {}}}, {"a": {"b": [None, {"c": "\ud800"}]}}, [{"a": 1}], ({"a": [True]},),
])  # fmt: skip


@given(st.sampled_from(get_args(TelemetryPayload)).flatmap(payloads), st.booleans(), st.data())
def test_a_plan_reads_what_the_careful_way_reads_and_refuses_what_it_refuses(
    payload: TelemetryPayload, wire: bool, data: st.DataObject
) -> None:
    fields = payload.to_dict()
    for name in data.draw(st.lists(st.sampled_from([*fields]), max_size=2, unique=True)):
        fields[name] = data.draw(ODD)
    if wire:  # as the parser would have it
        fields = {name: freeze(value) if isinstance(value, dict) else value for name, value in fields.items()}
    reader = Reader(type(payload), types_of(type(payload)), wire=wire)
    outcomes = []
    for read in (reader.read, reader._carefully):
        try:
            outcomes.append(read(dict(fields)))
        except PayloadError as error:
            outcomes.append(error.args)
    assert outcomes[0] == outcomes[1] or same(*outcomes)


def test_an_error_within_a_foreign_mapping_is_not_taken_for_a_missing_key() -> None:
    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        PPOUpdatePayload.from_dict(REQUIRED | {"head_op_entropy": Broken(op=1.0)})


def test_a_key_that_cannot_even_be_shown_is_reported_all_the_same() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    for key in (10**5000, Rude()):
        with pytest.raises(UnknownFieldError) as caught:
            PPOUpdatePayload.from_dict({**REQUIRED, key: 1})  # type: ignore[dict-item]  # what is being tested
        assert caught.value.unknown == ("…",)
        with pytest.raises(FieldTypeError, match="layer_gradient_health"):
            PPOUpdatePayload.from_dict(REQUIRED | {"layer_gradient_health": {key: 1.0}})
