"""Errors carry their details as data, survive pickle, and fit the hierarchy that their module draws."""

from __future__ import annotations

import copy
import pickle

import pytest

from esper.leyline import FieldTypeError, MissingFieldError, PayloadError, UnknownFieldError, WireError
from esper.leyline.errors import FieldProblem

PROBLEM = FieldProblem("env_devices[2]", "str", "int 3")


@pytest.mark.parametrize(
    ("kind", "base"), [(MissingFieldError, KeyError), (UnknownFieldError, ValueError), (FieldTypeError, TypeError)]
)
def test_payload_errors_share_one_base_and_are_what_python_calls_such_errors(
    kind: type[PayloadError], base: type[Exception]
) -> None:
    assert issubclass(kind, PayloadError)
    assert issubclass(kind, base)
    with pytest.raises(base):
        raise kind("P", missing=("a",))


def test_a_wire_error_is_a_value_error_and_no_payload_error() -> None:
    assert issubclass(WireError, ValueError)
    assert not issubclass(WireError, PayloadError)


@pytest.mark.parametrize("kind", [PayloadError, MissingFieldError, UnknownFieldError, FieldTypeError])
def test_the_message_reports_everything_and_stays_readable(kind: type[PayloadError]) -> None:
    error = kind("EpochCompletedPayload", missing=("a", "b"), unknown=("c",), problems=(PROBLEM,))
    assert str(error) == "EpochCompletedPayload: missing a, b; unknown c; env_devices[2]: expected str, got int 3"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickle_and_copy(protocol: int) -> None:
    error = UnknownFieldError("P", unknown=("c",), problems=(PROBLEM,))
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is UnknownFieldError
        assert (again.payload, again.missing, again.unknown, again.problems) == ("P", (), ("c",), (PROBLEM,))
        assert str(again) == str(error)
    wire = pickle.loads(pickle.dumps(WireError("torn", "cut off"), protocol))
    assert (wire.kind, str(wire)) == ("torn", "cut off")


def test_a_problem_with_the_whole_has_no_path() -> None:
    assert str(FieldProblem("", "a mapping", "int 3")) == "expected a mapping, got int 3"
