"""From a dict to JSON, by plans: most dicts of a log hold the same keys in the same order as one before them.

A sequence of keys that was met is written once, and kept with the plan for so many values: straight code that tests
exact types inline and ends in one f-string, as the plan of a payload does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from esper.leyline._payload.source import define, indented
from esper.leyline._payload.types import WRITING_NAMES, Type, quote

__all__ = ["Shapes"]

_Plan: TypeAlias = Callable[[Mapping[Any, Any], int], str]

_WIDEST, _LONGEST = 32, 64
"""Keys of a dict that gets a plan, and characters of each of them, at most."""
_MOST = 512
"""Sequences of keys that are kept."""


class Shapes(dict[tuple[Any, ...], _Plan]):
    """How dicts of values of one type are written: to each sequence of keys the plan for it.

    A plan takes the dict and how deep its values lie, and raises as `Type.write` does.

    Args:
        row: the type of the values.
    """

    def __init__(self, row: Type) -> None:
        super().__init__()
        self._row = row
        self._of_width: dict[int, Callable[..., _Plan]] = {}

    def __missing__(self, keys: tuple[Any, ...]) -> _Plan:
        if len(keys) > _WIDEST or any(key.__class__ is not str or len(key) > _LONGEST for key in keys):
            return self._row.write_values
        texts = [f"{quote(key)}:" for key in keys]
        if len(keys) not in self._of_width:
            self._of_width[len(keys)] = self._compile(len(keys))
        plan = self._of_width[len(keys)](*texts)
        if len(self) >= _MOST:
            self.clear()
        self[keys] = plan
        return plan

    def _compile(self, width: int) -> Callable[..., _Plan]:
        """Compile the plan for so many values; keys are arguments, never pasted as text."""
        row, namespace = self._row, {**WRITING_NAMES}
        values = [f"v{i}" for i in range(width)]
        body = [f"{''.join(f'{v}, ' for v in values)}= _values.values()"] if values else []
        for v in values:
            body += row.prepared(v)
            namespace |= {**row.names(v), f"_write_{v}": row.write}
        members = ",".join(f"{{_key_{v}}}{row.piece % v}" for v in values)
        plan = ["def plan(_values, _depth):", *indented([*body, f"return f'{{{{{members}}}}}'"])]
        keyed = [f"def keyed({', '.join(f'_key_{v}' for v in values)}):", *indented([*plan, "return plan"])]
        return define("keyed", keyed, namespace, f"{row.text} by {width} keys")
