"""From mapping to payload, by plans that are compiled from the fields.

An emitter supplies the same fields every time. So each set of keys that is met gets a plan of its own: straight code
that fetches all values in one call, tests their exact types inline, and stores what was not supplied as a constant.
What a plan does not take for granted goes to `Type.check`, which converts what may be converted; at the first problem
the whole mapping is gone through again to list them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from esper.leyline._payload.construct import default_of, is_optional
from esper.leyline._payload.containers import DEEPEST, DICT_KEY, FLOAT_KEY
from esper.leyline._payload.frozen import FrozenDict, fill_dict, frozen_dict, frozen_list, new_dict, put
from esper.leyline._payload.source import define, indented, unfrozen_twin
from esper.leyline._payload.types import MismatchError, Type, mismatch
from esper.leyline._payload.wording import brief, is_unicode, shorten
from esper.leyline.errors import FieldProblem, FieldTypeError, MissingFieldError, PayloadError, UnknownFieldError

__all__ = ["PLANS", "Reader", "examine", "refusal"]

_Plan: TypeAlias = Callable[[dict[Any, Any]], Any]

PLANS = 64
"""Sets of keys that get a plan; whatever else a payload may come with is read the careful way."""
_LONGEST_NAME = 60
"""Characters of the name of a field that is none."""
_PROBLEMS = 100
"""Problems listed of one field."""


class Reader(dict[int, _Plan]):
    """How one payload class is read: to each size of a mapping, the plan that read the last one of that size.

    Args:
        cls: the payload class.
        types: the rows of its fields.
        wire: whether mappings come from `esper.leyline.wire`, whose parser makes `FrozenDict`, not from users.
    """

    def __init__(self, cls: type[Any], types: Mapping[str, Type], *, wire: bool) -> None:
        super().__init__()
        self._cls = cls
        self._wire = wire
        self._fields = dataclasses.fields(cls)
        self._types = types
        self._required = frozenset(f.name for f in self._fields if not is_optional(f))
        self._plans: dict[frozenset[object], _Plan] = {}

    def read(self, mapping: object) -> Any:
        """Return the payload, or raise the one `PayloadError` that lists everything that is wrong."""
        if mapping.__class__ is dict or mapping.__class__ is FrozenDict:
            return self[len(mapping)](mapping)  # type: ignore[arg-type]  # either is a dict
        return self._carefully(mapping)

    def __missing__(self, size: int) -> _Plan:
        return self._find

    def _find(self, mapping: dict[Any, Any]) -> Any:
        """Read by the plan for just these keys, which becomes the one for its size."""
        keys = frozenset(mapping)
        plan = self._plans.get(keys)
        if plan is None:
            if len(self._plans) == PLANS or not self._required <= keys <= self._types.keys():
                return self._carefully(mapping)
            plan = self._plans[keys] = self._compile([name for name in self._types if name in keys])
        self[len(keys)] = plan
        return plan(mapping)

    def _carefully(self, mapping: object) -> Any:
        values, refused = examine(self._cls.__name__, self._types, self._required, mapping, wire=self._wire)
        if refused is not None:
            raise refused
        return self._cls(**values)

    def _compile(self, present: list[str]) -> _Plan:
        stores, absent, bit = [], 0, 1
        namespace: dict[str, Any] = {
            "_fetch": itemgetter(*present) if present else None,
            "_UNFROZEN": unfrozen_twin(self._cls),
            "_FROZEN": self._cls,
            "_find": self._find,
            "_carefully": self._carefully,
            **_NAMES,
        }
        for f in self._fields:
            row = self._types[f.name]
            if f.name in present:
                otherwise = f"_check_{f.name}({f.name}, {f.name!r}, _mismatch, {self._wire})"
                stores += row.stored(f.name, otherwise, "line" if self._wire else "mapping")
                namespace |= {**row.names(f.name), f"_check_{f.name}": row.check}
            else:
                stores.append(f"_self.{f.name} = _default_{f.name}")
                namespace[f"_default_{f.name}"] = default_of(f, row)
                absent |= bit
            if is_optional(f):
                bit <<= 1
        fetch = [f"try: {', '.join(present)} = _fetch(_mapping)", "except KeyError: return _find(_mapping)"]
        body = [
            *(fetch if present else ["if _mapping: return _find(_mapping)"]),
            "try:",
            *indented(["_self = _UNFROZEN()", *stores]),
            "except (_MismatchError, RecursionError): return _carefully(_mapping)",
            f"_self._absent = {absent}",
            "_self.__class__ = _FROZEN",
            "return _self",
        ]
        kind = "from_json" if self._wire else "from_dict"
        source = f"{self._cls.__name__}.{kind} {len(self._plans)}"
        return define("plan", ["def plan(_mapping):", *indented(body)], namespace, source)


class _EnoughError(Exception):
    """So much is wrong with one field that the rest need not be looked at."""


class _Problems(list[FieldProblem]):
    def append(self, problem: FieldProblem) -> None:
        super().append(problem)
        if len(self) > _PROBLEMS:
            raise _EnoughError


def examine(
    owner: str, types: Mapping[str, Type], required: frozenset[str], mapping: object, *, wire: bool
) -> tuple[dict[str, Any], PayloadError | None]:
    """Return the values of a mapping that are right, by field name, and the error that lists everything else."""
    if not isinstance(mapping, Mapping):
        problem = FieldProblem("", "a mapping from field names to values", shorten(mapping))
        return {}, FieldTypeError(owner, problems=(problem,))
    problems: list[FieldProblem] = []
    values: dict[str, Any] = {}
    for name, row in types.items():
        if name in mapping:
            found, value = _Problems(), None
            try:
                value = row.check(mapping[name], name, found.append, wire)
            except RecursionError:
                found = _Problems([FieldProblem(name, f"containers at most {DEEPEST} deep", "deeper ones")])
            except _EnoughError:
                found[-1] = FieldProblem(name, row.text, "more of such values")
            if not found:
                values[name] = value
            problems += found
    missing = tuple(name for name in types if name in required and name not in mapping)
    unknown = tuple(
        key if isinstance(key, str) and len(key) <= _LONGEST_NAME and key.isidentifier() else brief(key)
        for key in mapping
        if key not in types
    )
    return values, refusal(owner, missing, unknown, problems)


def refusal(
    owner: str, missing: tuple[str, ...], unknown: tuple[str, ...], problems: Sequence[FieldProblem]
) -> PayloadError | None:
    """Return the error of the first class that applies, listing everything; None when nothing is wrong."""
    kind: type[PayloadError] | None = (
        MissingFieldError if missing else UnknownFieldError if unknown else FieldTypeError if problems else None
    )
    return None if kind is None else kind(owner, missing=missing, unknown=unknown, problems=tuple(problems))


def _own(value: Any, wire: bool, depth: int) -> Any:
    """Return a dict[str, Any] of the usual content, frozen; that of a parsed line belongs to nobody else yet."""
    if value.__class__ is not (FrozenDict if wire else dict) or depth > DEEPEST:
        raise MismatchError
    copy = value if wire else frozen_dict(value)
    for key, item in copy.items():
        if key.__class__ is not str or not key.isascii():
            raise MismatchError
        kind = item.__class__
        if kind is float or (kind is str and item.isascii()) or kind is int or kind is bool or item is None:
            continue
        put(copy, key, _own_any(item, wire, depth + 1))
    return copy


def _own_any(value: Any, wire: bool, depth: int) -> Any:
    """Return a value of Any, frozen."""
    kind = value.__class__
    if kind is float or (kind is str and value.isascii()) or kind is int or kind is bool or value is None:
        return value
    if kind is list and depth <= DEEPEST:
        for item in value:
            kind = item.__class__
            if kind is not bool and kind is not float and kind is not int:
                return frozen_list([_own_any(item, wire, depth + 1) for item in value])
        return frozen_list(value)
    if kind is str:
        return value if is_unicode(value) else mismatch()
    if wire and kind is FrozenDict and (FLOAT_KEY in value or DICT_KEY in value):
        raise MismatchError  # perhaps a wrapped value
    return _own(value, wire, depth)


_NAMES: dict[str, object] = {
    "_MismatchError": MismatchError,
    "_mismatch": mismatch,
    "_is_unicode": is_unicode,
    "_FrozenDict": FrozenDict,
    "_new_dict": new_dict,
    "_fill_dict": fill_dict,
    "_put": put,
    "_frozen_list": frozen_list,
    "_tuple": tuple,
    "_own": _own,
}
"""What the rows' source refers to."""
