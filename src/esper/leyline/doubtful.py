"""Values that are of their field's type and yet hardly true: outside the range that the field's docstring states.

Nothing is refused for its value, since a training that went wrong is what telemetry is for. But an accuracy of 76.1 is
more likely a percentage, and a negative k3 estimate a mistake in the estimator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache

from esper.leyline._payload.wording import shorten
from esper.leyline.errors import FieldProblem
from esper.leyline.field_docs import Meaning, meanings
from esper.leyline.stages import NEXT_STAGES, SeedStage
from esper.leyline.telemetry import SeedStageChangedPayload, TelemetryEvent

__all__ = ["STAGES_OF_CHANGE", "doubtful"]

_STAGES = {stage.name: stage for stage in SeedStage}
_USUAL_CHANGES = {(before.name, after.name) for before, allowed in NEXT_STAGES.items() for after in allowed}
STAGES_OF_CHANGE = ("from_stage", "to_stage")
"""Fields of a stage change that are judged together."""
_MOST = 3
"""Doubtful values that are listed of one container."""


def doubtful(event: TelemetryEvent) -> list[FieldProblem]:
    """Return what is doubtful about an event: numbers out of range, and stage changes that no slot makes.

    A number that is not finite counts as out of range where it lies beyond a limit; NaN never does.
    """
    found: list[FieldProblem] = []
    for owner in (event.data, event):
        for name, low, high, expected in _ranges(type(owner)):  # type: ignore[arg-type]  # classes are hashable
            value = getattr(owner, name)
            kind = value.__class__
            # Nearly all are within, so what is beyond is looked for before it is named.
            is_within = low <= value <= high if kind is float or kind is int else _are_within(value, low, high)
            if not is_within:
                found += _out_of_range(name, value, low, high, expected)
    data = event.data
    if type(data) is SeedStageChangedPayload and (data.from_stage, data.to_stage) not in _USUAL_CHANGES:
        found += _stage_change(data)
    return found


@cache
def _ranges(cls: type) -> list[tuple[str, float, float, str]]:
    """Return of each field with a range: its name, the smallest and largest value, and the range in words."""
    ranges = []
    for name, meaning in meanings(cls).items():
        limits = meaning.limits
        if limits:
            low = limits.get("minimum", -math.inf)
            if "exclusiveMinimum" in limits:
                low = math.nextafter(limits["exclusiveMinimum"], math.inf)
            ranges.append((name, low, limits.get("maximum", math.inf), _in_words(meaning)))
    return ranges


def _in_words(meaning: Meaning) -> str:
    limit = str(meaning.range).partition(",")[0]
    return f"{limit}, a fraction and not percent" if meaning.unit == "fraction" else limit


def _are_within(value: object, low: float, high: float) -> bool:
    """Whether all numbers are within that a container holds; anything else holds none."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return True
    for item in value:
        kind = item.__class__
        if kind is float or kind is int:
            if not low <= item <= high:
                return False
        elif kind is not str and not _are_within(item, low, high):
            return False
    return True


def _out_of_range(path: str, value: object, low: float, high: float, expected: str) -> Iterator[FieldProblem]:
    kind = value.__class__
    if kind is float or kind is int:
        if not low <= value <= high and value == value:  # type: ignore[operator]  # noqa: PLR0124 - NaN alone differs
            yield FieldProblem(path, expected, shorten(value))
    elif isinstance(value, dict | tuple | list):
        items: Iterable[tuple[object, object]] = value.items() if isinstance(value, dict) else enumerate(value)
        listed = 0
        for key, item in items:
            for problem in _out_of_range(f"{path}[{key!r}]", item, low, high, expected):
                if listed == _MOST:
                    return
                listed += 1
                yield problem


def _stage_change(change: SeedStageChangedPayload) -> Iterator[FieldProblem]:
    unknown = [name for name in STAGES_OF_CHANGE if getattr(change, name) not in _STAGES]
    for name in unknown:
        yield FieldProblem(name, f"one of {', '.join(_STAGES)}", shorten(getattr(change, name)))
    if not unknown:
        allowed = NEXT_STAGES[_STAGES[change.from_stage]]
        if _STAGES[change.to_stage] not in allowed:
            following = " or ".join(stage.name for stage in SeedStage if stage in allowed) or "nothing"
            yield FieldProblem("to_stage", f"{following} after {change.from_stage}", change.to_stage)
