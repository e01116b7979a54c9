"""A payload behaves as a plain frozen slotted dataclass, cannot be changed, and knows what it was supplied_fields."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from esper.leyline import (
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    TelemetryEvent,
    TelemetryPayload,
)
from esper.leyline.telemetry import EVENT_TYPES
from esper.leyline.testing import events, same

Entry = dict[str, Any]
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def through_pickle(protocol: int) -> Callable[[Any], Any]:
    return lambda value: pickle.loads(pickle.dumps(value, protocol))


WAYS_TO_COPY: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {protocol}": through_pickle(protocol) for protocol in PROTOCOLS},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "dict": lambda p: type(p).from_dict(p.to_dict()),
}


def plain_twin(cls: type[TelemetryPayload]) -> type[Any]:
    """The same fields as an ordinary dataclass of the standard library."""
    fields = [
        (f.name, f.type) if f.default is dataclasses.MISSING else (f.name, f.type, dataclasses.field(default=f.default))
        for f in dataclasses.fields(cls)
    ]
    return dataclasses.make_dataclass(cls.__name__, fields, frozen=True, slots=True)


@pytest.mark.parametrize("way", WAYS_TO_COPY)
def test_a_copy_is_the_same_and_remembers_what_was_supplied(
    way: str, full: TelemetryPayload, bare: TelemetryPayload
) -> None:
    for payload in (full, bare):
        copied = WAYS_TO_COPY[way](payload)
        assert copied == payload
        assert same(copied, payload)


@given(events())
def test_any_payload_survives_every_way_of_copying(event: TelemetryEvent) -> None:
    for way in WAYS_TO_COPY.values():
        assert same(way(event.data), event.data)


@pytest.mark.parametrize("way", WAYS_TO_COPY)
def test_an_event_survives_every_way_of_copying(way: str, event: TelemetryEvent) -> None:
    assert same(WAYS_TO_COPY[way](event), event)


def test_asdict_astuple_and_repr_are_a_plain_dataclass_s(cls: type[TelemetryPayload], everything: Entry) -> None:
    payload, twin = cls(**everything), plain_twin(cls)(**everything)
    assert dataclasses.asdict(payload) == dataclasses.asdict(twin)
    assert dataclasses.astuple(payload) == dataclasses.astuple(twin)
    assert repr(payload) == repr(twin)
    assert json.dumps(dataclasses.asdict(payload)) == json.dumps(dataclasses.asdict(twin))


def test_asdict_gives_plain_containers_that_may_be_changed(full: TelemetryPayload) -> None:
    for value in dataclasses.asdict(full).values():
        if isinstance(value, dict):
            value["new"] = 1
        elif isinstance(value, list):
            value.append(1)


def test_signature_match_args_and_annotations_are_a_plain_dataclass_s(cls: type[TelemetryPayload]) -> None:
    twin = plain_twin(cls)
    assert inspect.signature(cls) == inspect.signature(twin)
    assert cls.__match_args__ == twin.__match_args__
    assert inspect.get_annotations(cls.__init__).keys() == inspect.get_annotations(twin.__init__).keys()
    assert cls.__init__.__qualname__ == f"{cls.__name__}.__init__"


def test_positional_arguments_work_as_for_a_plain_dataclass(cls: type[TelemetryPayload], everything: Entry) -> None:
    assert cls(*everything.values()) == cls(**everything)


def test_wrong_arguments_are_refused_as_by_a_plain_dataclass(cls: Any, required: Entry) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'loss'"):
        cls(**required, loss=1.0)
    name = next(iter(required))
    with pytest.raises(TypeError, match=f"missing 1 required positional argument: '{name}'"):
        cls(**{k: v for k, v in required.items() if k != name})


def test_weak_references_are_refused_as_by_a_plain_slotted_dataclass(full: TelemetryPayload) -> None:
    with pytest.raises(TypeError):
        weakref.ref(full)


def test_hash_works_where_the_fields_allow_it(cls: type[TelemetryPayload], everything: Entry, required: Entry) -> None:
    for supplied_fields in (everything, required):
        try:
            expected = hash(plain_twin(cls)(**supplied_fields))
        except TypeError:
            with pytest.raises(TypeError, match="unhashable"):
                hash(cls(**supplied_fields))
        else:
            assert hash(cls(**supplied_fields)) == expected


def test_replace_changes_one_field_and_marks_all_as_supplied(bare: TelemetryPayload) -> None:
    first = dataclasses.fields(bare)[0].name
    replaced = dataclasses.replace(bare, **{first: getattr(bare, first)})
    assert replaced == bare
    assert replaced.supplied == {f.name for f in dataclasses.fields(bare) if f.default is not dataclasses.MISSING}


def test_fields_can_be_neither_set_nor_deleted_nor_added(full: Any) -> None:
    name = dataclasses.fields(full)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError, match=name):
        setattr(full, name, 1)
    with pytest.raises(dataclasses.FrozenInstanceError, match=name):
        delattr(full, name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        full.brand_new = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        full.__class__ = EpochCompletedPayload


def test_what_the_caller_keeps_cannot_change_the_payload(cls: type[TelemetryPayload], everything: Entry) -> None:
    kept = copy.deepcopy(everything)
    payload = cls(**kept)
    for value in kept.values():
        _spoil(value)
    assert payload == cls(**everything)


def _spoil(value: Any) -> None:
    """Change everything in a value that can be changed, at any depth."""
    if isinstance(value, dict | list | tuple):
        for item in list(value.values() if isinstance(value, dict) else value):
            _spoil(item)
    if isinstance(value, dict):
        value["spoilt"] = True
    elif isinstance(value, list):
        value.append("spoilt")


def test_nothing_inside_a_payload_can_be_changed(full: TelemetryPayload) -> None:
    for field in dataclasses.fields(full):
        _assert_frozen(getattr(full, field.name))


def _assert_frozen(value: Any) -> None:
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _assert_frozen(item)
    if isinstance(value, dict | list):
        with pytest.raises(TypeError, match="cannot be changed"):
            value.clear()


def test_to_dict_gives_plain_containers_of_its_own(full: TelemetryPayload) -> None:
    before = copy.deepcopy(full)
    supplied_fields = full.to_dict()
    for value in supplied_fields.values():
        _spoil(value)
    assert same(full, before)


def test_supplied_names_what_was_passed_even_when_it_equals_the_default(
    cls: type[TelemetryPayload], required: Entry, bare: TelemetryPayload, full: TelemetryPayload
) -> None:
    defaults = {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
    assert bare.supplied == frozenset()
    assert full.supplied == defaults.keys()
    assert cls(**required, **defaults).supplied == defaults.keys()
    for name, default in defaults.items():
        payload = cls(**required, **{name: default})
        assert payload.supplied == {name}
        assert payload == bare
        assert not same(payload, bare)


def test_what_was_not_supplied_reads_as_the_specified_default_and_is_not_written(
    cls: type[TelemetryPayload], bare: TelemetryPayload, required: Entry
) -> None:
    assert bare == plain_equivalent(cls, required)
    assert bare.to_dict().keys() == required.keys()


def plain_equivalent(cls: type[TelemetryPayload], supplied_fields: Entry) -> TelemetryPayload:
    twin = plain_twin(cls)(**supplied_fields)
    return cls(**{f.name: getattr(twin, f.name) for f in dataclasses.fields(twin)})


def test_equality_compares_fields_of_the_same_class_only(full: Any, everything: Entry) -> None:
    assert full != plain_twin(type(full))(**everything)
    assert full != full.to_dict()


def test_content_of_any_kind_never_stops_construction() -> None:
    endless: list[Any] = []
    endless.append(endless)
    contents: list[Any] = [object(), {1: 2}, {"a": {3}}, endless, b"x", {"x": {"y": endless}}, 7, "text", ("a", [1])]
    for value in contents:
        payload = EpochCompletedPayload(
            env_id=value, val_accuracy=value, val_loss=value, inner_epoch=value, seeds=value
        )
        assert type(payload) is EpochCompletedPayload
        assert payload.supplied == {"seeds"}


def test_match_statements_read_payloads_by_position(full: TelemetryPayload) -> None:
    first = dataclasses.fields(full)[0].name
    assert type(full).__match_args__[0] == first
    assert type(full) in EVENT_TYPES


def test_any_list_becomes_a_tuple_where_the_field_is_one() -> None:
    class Mine(list[str]):
        pass

    payload = CounterfactualMatrixPayload(env_id=0, slot_ids=Mine(["a"]), configs=())  # type: ignore[arg-type]
    assert payload.slot_ids == ("a",)
    assert type(payload.slot_ids) is tuple
