"""What a field's type means is found by what its annotation resolves to; what has no meaning is refused by name."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass
from datetime import datetime
from typing import Any, Literal, NewType, TypeAlias

import pytest

from esper.leyline._payload.table import row_of
from esper.leyline.payload import Payload, compile_payloads


class Colour(enum.Enum):
    RED = "red"


class Empty(enum.Enum):
    pass


Scores: TypeAlias = dict[str, float]
Metres = NewType("Metres", float)
Name = NewType("Name", str)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (Metres, "float"),
        (int | float, "float"),
        (Metres | None, "float | None"),
        (Any, "a JSON value"),
        (Any | None, "a JSON value"),
        (list[Metres], "list[float]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Scores, "dict[str, float]"),
        (dict[str, dict[str, Any]], "dict[str, dict[str, Any]]"),
        (dict[Name, bool], "dict[str, bool]"),
        (Literal["a", "b"], "one of a, b"),
        (Literal[1, 2] | None, "one of 1, 2 | None"),
        (Colour, "one of RED"),
    ],
    ids=str,
)
def test_an_annotation_means_what_it_resolves_to(annotation: Any, text: str) -> None:
    row = row_of(annotation)
    assert row is not None
    assert row.text == text


REFUSED = [
    bytes, object, datetime, complex, type(None), set[int], frozenset[str], Empty, int | str, str | float,
    tuple[int, str], tuple[int], tuple[()], dict[int, float], dict[Any, float], list[bytes], dict[str, set[int]],
    Mapping[str, int], Sequence[int], Literal["a", 1], Literal[True], Literal[b"a"],
]  # fmt: skip


@pytest.mark.parametrize("annotation", REFUSED, ids=str)
def test_an_annotation_without_a_row_is_refused_by_name_when_the_class_is_compiled(annotation: Any) -> None:
    assert row_of(annotation) is None
    cls: Any = make_dataclass("Mine", [("loss", float), ("odd", annotation)], bases=(Payload,), frozen=True, slots=True)
    with pytest.raises(TypeError, match=r"Mine\.odd: a field cannot be .*; it may be float, int, bool, str"):
        compile_payloads(cls)


def test_an_annotation_that_names_nothing_is_refused_with_the_name() -> None:
    cls: Any = make_dataclass("Mine", [("odd", "NoSuchType")], bases=(Payload,), frozen=True, slots=True)
    with pytest.raises(TypeError, match=r"Mine: an annotation has no meaning where the class is defined: .*NoSuchType"):
        compile_payloads(cls)
