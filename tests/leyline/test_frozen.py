"""Frozen containers are dict and list in everything but change."""

from __future__ import annotations

import copy
import json
import pickle
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from typing import Any

import pytest

from esper.leyline import EpochCompletedPayload, FieldTypeError, TelemetryEvent, decode_event, encode_event
from esper.leyline._payload.frozen import FrozenDict, FrozenList, freeze, thaw
from esper.leyline.testing import same

CHANGES_TO_A_DICT = {
    "d[k] = v": lambda d: d.__setitem__("a", 2),
    "del d[k]": lambda d: d.__delitem__("a"),
    "d |= e": lambda d: d.__ior__({"b": 1}),
    "clear": lambda d: d.clear(),
    "pop": lambda d: d.pop("a"),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("b", 1),
    "update": lambda d: d.update(b=1),
    "__init__": lambda d: d.__init__(b=1),
}
CHANGES_TO_A_LIST = {
    "l[i] = v": lambda x: x.__setitem__(0, 2),
    "del l[i]": lambda x: x.__delitem__(0),
    "l += m": lambda x: x.__iadd__([1]),
    "l *= 2": lambda x: x.__imul__(2),
    "append": lambda x: x.append(1),
    "clear": lambda x: x.clear(),
    "extend": lambda x: x.extend([1]),
    "insert": lambda x: x.insert(0, 1),
    "pop": lambda x: x.pop(),
    "remove": lambda x: x.remove(3),
    "reverse": lambda x: x.reverse(),
    "sort": lambda x: x.sort(),
    "__init__": lambda x: x.__init__([1]),
}


@pytest.mark.parametrize("change", CHANGES_TO_A_DICT)
def test_every_change_to_a_dict_is_a_type_error_and_changes_nothing(change: str) -> None:
    frozen = freeze({"a": 1})
    with pytest.raises(TypeError, match=r"dict cannot be changed; make your own with dict\(\.\.\.\)"):
        CHANGES_TO_A_DICT[change](frozen)
    assert frozen == {"a": 1}


@pytest.mark.parametrize("change", CHANGES_TO_A_LIST)
def test_every_change_to_a_list_is_a_type_error_and_changes_nothing(change: str) -> None:
    frozen = freeze([3, 1])
    with pytest.raises(TypeError, match=r"list cannot be changed; make your own with list\(\.\.\.\)"):
        CHANGES_TO_A_LIST[change](frozen)
    assert frozen == [3, 1]


@pytest.mark.parametrize(("kind", "changes"), [(dict, CHANGES_TO_A_DICT), (list, CHANGES_TO_A_LIST)])
def test_no_method_that_changes_is_forgotten(kind: type, changes: dict[str, Any]) -> None:
    """Each public method of dict and list either is refused or leaves a frozen container as it was."""
    arguments: dict[str, tuple[Any, ...]] = {"count": (1,), "index": (3,), "get": ("a",), "fromkeys": ("b",)}
    original = {"a": 1} if kind is dict else [3, 1]
    for name in {name for name in dir(kind) if not name.startswith("_")} - changes.keys():
        frozen = freeze(original)
        getattr(frozen, name)(*arguments.get(name, ()))
        assert frozen == original, name


def test_frozen_containers_equal_print_and_serialise_as_plain_ones() -> None:
    plain = {"a": [1, {"b": (2, [3])}], "c": {}}
    frozen = freeze(plain)
    assert frozen == plain
    assert plain == frozen
    assert repr(frozen) == repr(plain)
    assert json.dumps(frozen) == json.dumps(plain)
    assert isinstance(frozen, dict)
    assert isinstance(frozen["a"], list)
    assert [*frozen.items()] == [*plain.items()]


def test_what_is_derived_from_a_frozen_container_is_plain_and_one_s_own() -> None:
    frozen_dict, frozen_list = freeze({"a": 1}), freeze([1])
    for mine in (frozen_dict | {"b": 2}, frozen_dict.copy(), dict(frozen_dict), type(frozen_dict)(frozen_dict)):
        assert type(mine) is dict
    for copied in ([*frozen_list, 2], frozen_list.copy(), frozen_list[:], list(frozen_list), type(frozen_list)([1])):
        assert type(copied) is list


@pytest.mark.parametrize("value", [{"a": [1, {"b": 2}]}, [1, [2, {"c": 3}]], ({"a": 1}, [2])])
def test_copies_and_pickles_of_frozen_containers_stay_frozen(value: Any) -> None:
    frozen = freeze(value)
    for copied in (
        copy.copy(frozen),
        copy.deepcopy(frozen),
        *(pickle.loads(pickle.dumps(frozen, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
    ):
        assert copied == frozen
        assert type(copied) is type(frozen)
        assert type(copied[1] if isinstance(copied, list | tuple) else copied["a"]) is FrozenList


def test_freezing_what_is_frozen_copies_nothing() -> None:
    frozen = freeze({"a": [1]})
    assert freeze(frozen) is frozen
    assert freeze((1, "a", None)) == (1, "a", None)


def test_kinds_of_dict_and_list_are_copied_too_and_other_things_kept() -> None:
    class Mine(list[int]):
        pass

    pair = namedtuple("pair", "a b")  # noqa: PYI024 - what people hand over
    shared = object()
    frozen = freeze(
        {"o": OrderedDict(a=[1]), "d": defaultdict(int, a=1), "l": Mine([1]), "t": pair([1], 2), "x": shared}
    )
    assert {type(frozen["o"]), type(frozen["d"])} == {FrozenDict}
    assert type(frozen["l"]) is FrozenList
    assert type(frozen["t"][0]) is FrozenList
    assert frozen["x"] is shared
    user = UserDict(a=1)
    assert freeze(user) is user


def test_cycles_keep_their_shape() -> None:
    loop: dict[str, Any] = {"list": []}
    loop["self"] = loop
    loop["list"].append(loop)
    frozen = freeze(loop)
    assert frozen["self"] is frozen
    assert frozen["list"][0] is frozen
    assert type(frozen["list"]) is FrozenList


@pytest.mark.parametrize("levels", [22, 40, 60, 5_000])
def test_what_holds_the_same_over_and_over_is_refused_at_once_and_not_written_out(levels: int) -> None:
    shared: Any = [1.0]
    for level in range(levels):
        shared = [shared, shared] if level % 2 else {"one": shared, "other": shared}
    frozen = freeze({"x": shared, "kept": [1]})
    assert frozen["kept"] == [1]
    event = TelemetryEvent(data=EpochCompletedPayload(0, 0.5, 1.0, 1, seeds={"r0": {"x": shared}}))
    with pytest.raises(FieldTypeError, match=r"holds the same over and over|at most 64 deep"):
        encode_event(event)


def test_what_is_held_twice_is_written_twice() -> None:
    shared: Any = [1.0]
    for _ in range(12):
        shared = [shared]
    event = TelemetryEvent(data=EpochCompletedPayload(0, 0.5, 1.0, 1, seeds={"r0": {"x": shared, "y": [shared] * 3}}))
    assert same(decode_event(encode_event(event)), event)


def test_no_depth_is_too_deep() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    frozen, depth = freeze(deep), 0
    while frozen:
        assert type(frozen) is FrozenList
        (frozen,) = frozen
        depth += 1
    assert depth == 100_000


def test_thaw_gives_plain_containers_at_every_depth() -> None:
    value = {"a": [1, {"b": ({"c": []}, 2)}]}
    thawed = thaw(freeze(value))
    assert thawed == value
    assert type(thawed["a"][1]["b"][0]["c"]) is list
    thawed["a"][1]["b"][0]["c"].append(1)


def test_a_frozen_container_cannot_become_another_class() -> None:
    class Mine(dict[str, Any]):
        __slots__ = ()

    frozen = freeze({"a": 1})
    with pytest.raises(TypeError, match="cannot be changed"):
        frozen.__class__ = Mine


def test_lists_within_many_tuples_are_frozen_too() -> None:
    value: Any = [1]
    for _ in range(20):
        value = (value,)
    frozen = freeze(value)
    while isinstance(frozen, tuple):
        (frozen,) = frozen
    assert type(frozen) is FrozenList


def test_a_container_that_refuses_to_be_copied_is_kept() -> None:
    class Rude(list[int]):
        def __iter__(self) -> Any:
            raise RuntimeError

    rude = Rude([1])
    frozen = freeze({"a": {"b": rude}})
    assert frozen["a"]["b"] is rude
    assert type(frozen["a"]) is FrozenDict
