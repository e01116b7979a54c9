"""From mapping to payload, by plans that are compiled from the fields.

An emitter supplies the same fields every time. So each set of keys that is met gets a plan of its own: straight code
that fetches all values in one call, tests their exact types inline, and stores what was not supplied as a constant.
What a plan does not take for granted goes to `check`, which converts what may be converted; at the first problem the
whole mapping is gone through again to list them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NoReturn, TypeAlias

from esper.leyline.errors import FieldProblem, FieldTypeError, MissingFieldError, PayloadError, UnknownFieldError
from esper.leyline.frozen import FrozenDict, frozen_dict, frozen_list
from esper.leyline.payload import Payload, define, is_optional, unfrozen_twin
from esper.leyline.shapes import DEEPEST, DICT_KEY, FLOAT_KEY, Shape, brief, check, is_unicode, shapes_of, shorten

__all__ = ["PLANS", "MismatchError", "Reader", "exact_test", "examine", "mismatch", "refusal"]

_Plan: TypeAlias = Callable[[dict[Any, Any]], Any]

PLANS = 64
"""Sets of keys that get a plan; whatever else a payload may come with is read the careful way."""
_PROBLEMS = 100
"""Problems listed of one field."""


class MismatchError(Exception):
    """A value is not what the fast way expects."""


def mismatch(*_: object) -> NoReturn:
    """Leave the fast way.

    Raises:
        MismatchError: always.
    """
    raise MismatchError


class Reader(dict[int, _Plan]):
    """How one payload class is read: to each size of a mapping, the plan that read the last one of that size.

    Args:
        cls: the payload class.
        wire: whether mappings come from `esper.leyline.wire`, whose parser makes `FrozenDict`, not from users.
    """

    def __init__(self, cls: type[Payload], *, wire: bool) -> None:
        super().__init__()
        self._cls = cls
        self._wire = wire
        self._fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass
        self._shapes = shapes_of(cls)
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
            if len(self._plans) == PLANS or not self._required <= keys <= self._shapes.keys():
                return self._carefully(mapping)
            plan = self._plans[keys] = self._compile([name for name in self._shapes if name in keys])
        self[len(keys)] = plan
        return plan(mapping)

    def _carefully(self, mapping: object) -> Any:
        values, refused = examine(self._cls.__name__, self._shapes, self._required, mapping, wire=self._wire)
        if refused is not None:
            raise refused
        return self._cls(**values)

    def _compile(self, present: list[str]) -> _Plan:
        lines = [
            "def plan(mapping):",
            f" try: {', '.join(present)} = fetch(mapping)",
            " except KeyError: return find(mapping)",
            " try:",
            "  self = UNFROZEN()",
        ]
        absent, bit = 0, 1
        for f in self._fields:
            if f.name in present:
                lines += _store(f.name, self._shapes[f.name], wire=self._wire)
            else:
                lines.append(f"  self.{f.name} = {f.default!r}")
                absent |= bit
            if is_optional(f):
                bit <<= 1
        lines += [
            " except (MismatchError, RecursionError): return carefully(mapping)",
            f" self._absent = {absent}",
            " self.__class__ = FROZEN",
            " return self",
        ]
        namespace = {
            "fetch": itemgetter(*present),
            "UNFROZEN": unfrozen_twin(self._cls),
            "FROZEN": self._cls,
            "MismatchError": MismatchError,
            "find": self._find,
            "carefully": self._carefully,
            "check": check,
            "mismatch": mismatch,
            "is_unicode": is_unicode,
            "FrozenDict": FrozenDict,
            "new_dict": dict.__new__,
            "fill_dict": dict.update,
            "frozen_list": frozen_list,
            "own": _own,
            "put": _put,
            **{f"shape_{name}": self._shapes[name] for name in present},
        }
        kind = "from_json" if self._wire else "from_dict"
        return define("plan", lines, namespace, f"{self._cls.__name__}.{kind} {len(self._plans)}")


class _EnoughError(Exception):
    """So much is wrong with one field that the rest need not be looked at."""


class _Problems(list[FieldProblem]):
    def append(self, problem: FieldProblem) -> None:
        super().append(problem)
        if len(self) > _PROBLEMS:
            raise _EnoughError


def examine(
    owner: str, shapes: Mapping[str, Shape], required: frozenset[str], mapping: object, *, wire: bool
) -> tuple[dict[str, Any], PayloadError | None]:
    """Return the values of a mapping that are right, by field name, and the error that lists everything else."""
    if not isinstance(mapping, Mapping):
        problem = FieldProblem("", "a mapping from field names to values", shorten(mapping))
        return {}, FieldTypeError(owner, problems=(problem,))
    problems: list[FieldProblem] = []
    values: dict[str, Any] = {}
    for name, shape in shapes.items():
        if name in mapping:
            found, value = _Problems(), None
            try:
                value = check(shape, mapping[name], name, found.append, wire)
            except RecursionError:
                found = _Problems([FieldProblem(name, f"containers at most {DEEPEST} deep", "deeper ones")])
            except _EnoughError:
                found[-1] = FieldProblem(name, shape.text, "more of such values")
            if not found:
                values[name] = value
            problems += found
    missing = tuple(name for name in shapes if name in required and name not in mapping)
    unknown = tuple(
        key if isinstance(key, str) and key.isidentifier() else brief(key) for key in mapping if key not in shapes
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


def _store(name: str, shape: Shape, *, wire: bool) -> list[str]:
    """Return the statements that test and store one value."""
    lines = [f"  if {exact_test(name, shape) or False}: self.{name} = {name}"]
    if shape.item is not None:
        lines += _store_container(name, shape, shape.item, wire=wire)
    return [*lines, f"  else: self.{name} = check(shape_{name}, {name}, {name!r}, mismatch, {wire})"]


def exact_test(name: str, shape: Shape) -> str:
    """Return the source of the test that a value may be stored without a second look; empty when there is none."""
    test = {
        "float": f"{name}.__class__ is float or {name}.__class__ is int",
        "int": f"{name}.__class__ is int",
        "bool": f"{name} is True or {name} is False",
        "str": f"{name}.__class__ is str and ({name}.isascii() or is_unicode({name}))",
    }.get(shape.kind, "")
    return " or ".join(filter(None, (test, f"{name} is None" * shape.nullable)))


def _store_container(name: str, shape: Shape, item: Shape, *, wire: bool) -> list[str]:
    """Return the branch for a container of the usual class: a look at each item, and a frozen copy."""
    is_exact = exact_test("item", item)
    is_dict_of_any = item.kind == "dict" and item.item is not None and item.item.kind == "any"
    carefully = f"self.{name} = check(shape_{name}, {name}, {name!r}, mismatch, {wire})"
    if shape.kind == "dict":
        lines = [
            f"  elif {name}.__class__ is {'FrozenDict' if wire else 'dict'}:",
            f"   copy = {name}" if wire else f"   copy = new_dict(FrozenDict); fill_dict(copy, {name})",
            "   for key, item in copy.items():",
            f"    if {'' if wire else 'key.__class__ is not str or '}not key.isascii(): mismatch()",
        ]
        if is_exact:
            return [*lines, f"    if not ({is_exact}): {carefully}; break", f"   else: self.{name} = copy"]
        if is_dict_of_any:
            return [*lines, f"    put(copy, key, own(item, {wire}, 2))", f"   self.{name} = copy"]
        return []
    lines = [
        f"  elif {name}.__class__ is list{'' if wire or shape.kind == 'list' else f' or {name}.__class__ is tuple'}:"
    ]
    made = "tuple" if shape.kind == "tuple" else "frozen_list"
    if is_exact:
        return [
            *lines,
            f"   for item in {name}:",
            f"    if not ({is_exact}): {carefully}; break",
            f"   else: self.{name} = {made}({name})",
        ]
    if is_dict_of_any:
        return [*lines, f"   self.{name} = {made}([own(item, {wire}, 2) for item in {name}])"]
    return []


_put: Callable[[Any, Any, Any], None] = dict.__setitem__


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
        _put(copy, key, _own_any(item, wire, depth + 1))
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
