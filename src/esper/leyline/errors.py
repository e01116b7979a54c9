"""What can be wrong with a payload or a line.

::

    ValueError ── WireError                 a line that is not an event
    PayloadError                            a mapping that is not the payload it should be
    ├── MissingFieldError   (KeyError)
    ├── UnknownFieldError   (ValueError)
    └── FieldTypeError      (TypeError)

One error lists every problem of one mapping; its class is the first that applies in the order above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "FieldProblem",
    "FieldTypeError",
    "MissingFieldError",
    "PayloadError",
    "UnknownFieldError",
    "WireError",
    "WireProblem",
]


_MOST_NAMED = 20
"""Names that a message lists of fields that are none; `PayloadError.unknown` has all."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field, wrongly typed."""

    path: str
    """Where: ``env_devices[2]``, ``seeds['r0c1']['alpha']``; empty for the whole mapping."""
    expected: str
    """What the contract asks for, as written in the dataclass."""
    actual: str
    """What came instead: type and shortened value."""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}expected {self.expected}, got {self.actual}"


class PayloadError(Exception):
    """A mapping is not a valid payload.

    Attributes:
        payload: name of the payload class.
        missing: required fields that were not there.
        unknown: keys that are no field.
        problems: fields with a value of another type.
    """

    def __init__(
        self,
        payload: str,
        *,
        missing: tuple[str, ...] = (),
        unknown: tuple[str, ...] = (),
        problems: tuple[FieldProblem, ...] = (),
    ) -> None:
        super().__init__(payload, missing, unknown, problems)
        self.payload = payload
        self.missing = missing
        self.unknown = unknown
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), *self.args)

    def __str__(self) -> str:
        parts = []
        if self.missing:
            parts.append(f"missing {', '.join(self.missing)}")
        if self.unknown:
            more = len(self.unknown) - _MOST_NAMED
            named = ", ".join(self.unknown[:_MOST_NAMED])
            parts.append(f"unknown {named} and {more:,} more" if more > 0 else f"unknown {named}")
        parts.extend(map(str, self.problems))
        return f"{self.payload}: {'; '.join(parts)}"


class MissingFieldError(PayloadError, KeyError):
    """A required field is not there."""


class UnknownFieldError(PayloadError, ValueError):
    """A key is the name of no field."""


class FieldTypeError(PayloadError, TypeError):
    """A field holds a value of another type than the contract's."""


WireProblem: TypeAlias = Literal["empty", "torn", "long", "utf-8", "json", "envelope", "version"]


class WireError(ValueError):
    """A line is not an event: not strict JSON, not an envelope, or of another schema version.

    Attributes:
        kind: what is wrong, as one of a few words.
    """

    def __init__(self, kind: WireProblem, message: str) -> None:
        super().__init__(kind, message)
        self.kind: WireProblem = kind

    def __str__(self) -> str:
        message: str = self.args[1]
        return message


def _rebuild(
    cls: type[PayloadError],
    payload: str,
    missing: tuple[str, ...],
    unknown: tuple[str, ...],
    problems: tuple[FieldProblem, ...],
) -> PayloadError:
    return cls(payload, missing=missing, unknown=unknown, problems=problems)
