"""Values of other people's classes: what is a number or text is kept as one, what is not is refused with a remedy."""

from __future__ import annotations

import enum
import json
import math
from fractions import Fraction
from typing import Any

import pytest
from tests.builders import event, payload

from esper.leyline import (
    AnalyticsSnapshotPayload,
    BatchEpochCompletedPayload,
    CounterfactualMatrixPayload,
    EpochCompletedPayload,
    FieldTypeError,
    PayloadError,
    PPOUpdatePayload,
    RewardComputedPayload,
    TelemetryEvent,
    TelemetryPayload,
    decode_event,
    encode_event,
)
from esper.leyline.testing import same
from esper.leyline.wire import salvage

numpy = pytest.importorskip("numpy")


class Colour(enum.StrEnum):
    RED = "red"


class Name(str):
    __slots__ = ()


class Number(enum.IntEnum):
    ONE = 1


class Whole(int):
    pass


class Real(float):
    pass


REALS: list[tuple[Any, float]] = [
    (numpy.float64(0.1), 0.1),
    (numpy.float32(0.1), float(numpy.float32(0.1))),
    (numpy.float16(0.5), 0.5),
    (numpy.longdouble(0.5), 0.5),
    (numpy.float32("nan"), math.nan),
    (numpy.float64("-inf"), -math.inf),
    (Fraction(1, 4), 0.25),
    (Real(1.5), 1.5),
    (numpy.int64(3), 3),
    (Number.ONE, 1),
]
INTEGERS: list[tuple[Any, int]] = [
    (numpy.int8(-3), -3),
    (numpy.uint64(2**63), 2**63),
    (Number.ONE, 1),
    (Whole(7), 7),
]
TEXTS: list[tuple[Any, str]] = [(Colour.RED, "red"), (Name("name"), "name"), (numpy.str_("é"), "é")]
FLAGS: list[tuple[Any, bool]] = [(numpy.bool_(True), True), (numpy.bool_(False), False)]
FIELDS: list[tuple[type[TelemetryPayload], str, list[tuple[Any, Any]]]] = [
    (EpochCompletedPayload, "val_loss", REALS),
    (PPOUpdatePayload, "lr", REALS),
    (EpochCompletedPayload, "env_id", INTEGERS),
    (AnalyticsSnapshotPayload, "env_id", INTEGERS),
    (AnalyticsSnapshotPayload, "kind", TEXTS),
    (RewardComputedPayload, "ab_group", TEXTS),
    (PPOUpdatePayload, "skipped", FLAGS),
    (BatchEpochCompletedPayload, "env_accuracies", [((given, 0.5), (base, 0.5)) for given, base in REALS]),
    (CounterfactualMatrixPayload, "slot_ids", [([given, "a"], (base, "a")) for given, base in TEXTS]),
    (PPOUpdatePayload, "head_op_entropy", [({"all": given}, {"all": base}) for given, base in REALS]),
    (PPOUpdatePayload, "head_op_entropy", [({given: 0.5}, {base: 0.5}) for given, base in TEXTS]),
    (AnalyticsSnapshotPayload, "action_counts", [({"a": given}, {"a": base}) for given, base in INTEGERS]),
    (
        EpochCompletedPayload,
        "seeds",
        [
            ({"r0c0": {"deep": [{"er": given}]}}, {"r0c0": {"deep": [{"er": base}]}})
            for given, base in [*REALS, *INTEGERS, *TEXTS, *FLAGS]
        ],
    ),
    (EpochCompletedPayload, "seeds", [({given: {given: 1}}, {base: {base: 1}}) for given, base in TEXTS]),
    (RewardComputedPayload, "alternatives", [([{"p": given}], [{"p": base}]) for given, base in [*REALS, *FLAGS]]),
]
CASES = [(cls, name, given, base) for cls, name, values in FIELDS for given, base in values]


@pytest.mark.parametrize(("cls", "name", "given", "base"), CASES)
def test_it_is_written_and_read_as_the_exact_base_value(
    cls: type[TelemetryPayload], name: str, given: Any, base: Any
) -> None:
    emitted = event(cls, **{name: given})
    assert same(getattr(decode_event(encode_event(emitted)).data, name), base)
    read = cls.from_dict(emitted.data.to_dict() | {name: given})
    assert same(getattr(read, name), base)


@pytest.mark.parametrize(("cls", "name", "given", "base"), CASES)
def test_the_live_event_and_the_decoded_one_hold_the_same(
    cls: type[TelemetryPayload], name: str, given: Any, base: Any
) -> None:
    emitted = event(cls, **{name: given})
    live, decoded = getattr(emitted.data, name), getattr(decode_event(encode_event(emitted)).data, name)
    assert same(live, base)
    assert same(live, decoded)
    assert same(emitted, decode_event(encode_event(emitted)))


def test_the_envelope_takes_them_too() -> None:
    data = payload(EpochCompletedPayload)
    emitted = TelemetryEvent(
        data=data, epoch=numpy.int64(3), slot_id=numpy.str_("r0c0"), group_id=Colour.RED, message=Name("m")
    )
    assert same(decode_event(encode_event(emitted)), emitted)
    assert (type(emitted.epoch), type(emitted.slot_id), type(emitted.group_id)) == (int, str, str)
    assert same(TelemetryEvent.from_dict(emitted.to_dict() | {"epoch": numpy.int64(3)}), emitted)


def test_an_emitter_may_give_a_bool_where_a_number_is_asked_for_and_a_mapping_may_not() -> None:
    made = payload(EpochCompletedPayload, inner_epoch=True, val_loss=False)
    assert same((made.inner_epoch, made.val_loss), (1, 0))
    counts = payload(AnalyticsSnapshotPayload, action_counts={"WAIT": True, "PRUNE": numpy.bool_(False)})
    assert same(counts.action_counts, {"WAIT": 1, "PRUNE": 0})
    assert same(payload(BatchEpochCompletedPayload, env_accuracies=(True, 0.5)).env_accuracies, (1, 0.5))
    for name in ("inner_epoch", "val_loss"):
        for flag in (True, numpy.bool_(True)):
            with pytest.raises(FieldTypeError, match=name):
                EpochCompletedPayload.from_dict(made.to_dict() | {name: flag})


def test_a_bool_in_a_container_of_any_stays_one_also_where_another_payload_shares_it() -> None:
    shared = payload(EpochCompletedPayload, seeds={"a": {"fresh": True}}).seeds
    assert shared is not None
    counts = payload(AnalyticsSnapshotPayload, action_counts=shared["a"])
    assert same(counts.action_counts, {"fresh": 1})
    assert same(shared, {"a": {"fresh": True}})


@pytest.mark.parametrize(
    ("cls", "name", "given"),
    [
        (EpochCompletedPayload, "env_id", numpy.float64(3.0)),
        (EpochCompletedPayload, "env_id", Fraction(3, 1)),
        (EpochCompletedPayload, "val_loss", Fraction(10**400)),
        (EpochCompletedPayload, "val_loss", numpy.complex128(1)),
        (EpochCompletedPayload, "val_loss", Colour.RED),
        (PPOUpdatePayload, "skipped", numpy.int64(1)),
        (AnalyticsSnapshotPayload, "kind", numpy.bytes_(b"x")),
        (AnalyticsSnapshotPayload, "kind", Name("\ud800")),
        (AnalyticsSnapshotPayload, "action_counts", {"a": numpy.float64(1.0)}),
        (EpochCompletedPayload, "seeds", {"a": {"b": numpy.datetime64("2026-01-01")}}),
    ],
)
def test_what_is_not_of_the_field_s_kind_is_refused_both_ways(
    cls: type[TelemetryPayload], name: str, given: Any
) -> None:
    emitted = event(cls, **{name: given})
    with pytest.raises(PayloadError, match=name):
        encode_event(emitted)
    with pytest.raises(PayloadError, match=name):
        cls.from_dict(payload(cls).to_dict() | {name: given})


class Rude:
    """Looks like a number until it is asked."""

    def __float__(self) -> float:
        raise RuntimeError


def test_a_tensor_or_an_array_is_refused_with_what_to_do_about_it() -> None:
    torch = pytest.importorskip("torch")
    for given, remedy in (
        (torch.tensor(0.5), ".item()"),
        (torch.ones(1, 1), ".item()"),
        (torch.ones(2), ".tolist()"),
        (numpy.array(0.5), ".item()"),
        (numpy.ones(3), ".tolist()"),
    ):
        for fields in ({"val_loss": given}, {"seeds": {"a": {"alpha": given}}}):
            with pytest.raises(FieldTypeError) as caught:
                encode_event(event(EpochCompletedPayload, **fields))
            assert str(caught.value).endswith(f"pass what its {remedy} returns")
            assert "\n" not in str(caught.value)
    for given in (torch.ones(2), numpy.ones(1)):
        with pytest.raises(FieldTypeError, match=r"pass what its \.tolist\(\) returns"):
            encode_event(event(BatchEpochCompletedPayload, env_accuracies=given))


def test_what_can_be_written_of_a_refused_event_is_kept_and_the_rest_described() -> None:
    emitted = event(
        PPOUpdatePayload,
        policy_loss=Rude(),
        grad_norm=math.inf,
        kl_divergence=numpy.float32(0.25),
        layer_gradient_health={"fc": Rude()},
        head_op_entropy={"all": 0.5},
        message="\ud800",
        slot_id="r0c0",
        epoch=10**5000,
    )
    with pytest.raises(FieldTypeError, match="policy_loss"):
        encode_event(emitted)
    kept = json.loads(json.dumps(salvage(emitted), allow_nan=False))
    assert kept["event"]["event_id"] == emitted.event_id
    assert kept["event"]["event_type"] == "PPO_UPDATE_COMPLETED"
    assert kept["event"]["slot_id"] == "r0c0"
    data = kept["event"]["data"]
    assert (data["grad_norm"], data["kl_divergence"], data["head_op_entropy"]) == ("Infinity", 0.25, {"all": 0.5})
    assert "ratio_mean" not in data
    unwritable = {each["field"]: each for each in kept["unwritable"]}
    assert set(unwritable) == {"data.policy_loss", "data.layer_gradient_health", "message", "epoch"}
    assert unwritable["data.policy_loss"]["expected"] == "float"
    assert unwritable["data.policy_loss"]["type"] == "Rude"
    assert "Rude object" in unwritable["data.policy_loss"]["value"]


def test_salvage_keeps_everything_of_an_event_that_can_be_written() -> None:
    emitted = event(EpochCompletedPayload, seeds={"a": {"b": math.nan}})
    assert salvage(emitted) == {"event": json.loads(encode_event(emitted)), "unwritable": []}


def test_salvage_survives_content_without_end_and_reprs_that_raise() -> None:
    class Unshowable:
        def __repr__(self) -> str:
            raise RuntimeError

    endless: dict[str, Any] = {}
    endless["again"] = endless
    kept = salvage(event(EpochCompletedPayload, val_loss=Unshowable(), seeds={"a": endless}, val_accuracy=0.5))
    assert [each["field"] for each in kept["unwritable"]] == ["data.val_loss", "data.seeds"]
    assert kept["event"]["data"]["val_accuracy"] == 0.5
    json.dumps(kept, allow_nan=False)
