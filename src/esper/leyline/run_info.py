"""What is known about a run beside its events: ``run.json``, as frozen dataclasses.

Reading checks every field against these classes; a file that does not fit is refused with the name of the field. It is
no part of the contract: its classes nest, and its text may be any that an operating system gives (paths and error
messages that are not valid Unicode), which no event may hold. So it does not stand on the table of payloads' types.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, stdev
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

from esper.leyline._payload.types import NONFINITE
from esper.leyline._payload.wording import brief, shorten

__all__ = [
    "Estimate",
    "Evaluation",
    "PolicyScore",
    "RecordedFinding",
    "RecordedVerdict",
    "RunInfo",
    "RunInfoError",
    "RunStatus",
    "SinkStats",
    "checked_record",
    "parse_run_info",
]

RunStatus: TypeAlias = Literal["running", "completed", "interrupted", "failed"]
"""How a run ended. One that says it is running and is not was killed."""


_LONGEST_NAME, _MOST_NAMED = 60, 20
"""Characters of the name of a field that is none, and how many are named."""
_LARGEST = 2**1023
"""No integer from here on is sure to have a float."""


class RunInfoError(ValueError):
    """A run.json is not what it should be; the message names the field."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over episodes."""

    mean: float
    """In the unit of what was measured."""
    standard_error: float
    """Sample standard deviation over the square root of the number of episodes; same unit, 0 or more."""

    @classmethod
    def of(cls, samples: Sequence[float]) -> Estimate:
        """Estimate the mean of two or more samples; both are NaN where a sample is not finite."""
        if not all(map(math.isfinite, samples)):
            return cls(math.nan, math.nan)
        return cls(fmean(samples), stdev(samples) / math.sqrt(len(samples)))

    def errors_above(self, other: Estimate) -> float:
        """Return by how many standard errors of the difference this mean exceeds another.

        Negative when it is lower; infinite when both are exact and differ, 0 when they are the same.
        """
        difference = self.mean - other.mean
        error = math.hypot(self.standard_error, other.standard_error)
        if error == 0.0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / error


@dataclass(frozen=True, slots=True)
class PolicyScore:
    """How one policy did."""

    reward: Estimate
    """Undiscounted return of an episode. Unit: reward."""
    val_accuracy: Estimate
    """Final validation accuracy, which the reward follows. Unit: fraction; 0 to 1."""
    test_accuracy: Estimate
    """Final accuracy on held-out data, which nothing follows. Unit: fraction; 0 to 1."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Three policies on the same fresh episodes."""

    episodes: int
    """Played by each policy. Unit: episodes; 2 or more."""
    learnt: PolicyScore
    random: PolicyScore
    """Every head uniform over what is allowed."""
    do_nothing: PolicyScore
    """WAIT at every step: the bare host."""


@dataclass(frozen=True, slots=True)
class SinkStats:
    """The accounts of one sink, which balance at every instant.

    ``emitted == delivered + rejected + dropped + queued``, where the left side is counted by who emits and the right
    side by who delivers.
    """

    name: str
    """Name of the sink, with a number behind it when the hub has several of that name."""
    durable: bool
    """Whether its policy is `Durable`: anything dropped is then a loss."""
    emitted: int
    """Events the hub was given. Unit: events; 0 or more."""
    delivered: int
    """Events the sink took and flushed. Unit: events; 0 or more."""
    rejected: int
    """Events the sink can never take. Unit: events; 0 or more."""
    dropped: int
    """Events given up: the queue was full, the sink set aside, or the hub closed. Unit: events; 0 or more."""
    queued: int
    """Events still on their way. Unit: events; 0 or more."""
    lag: float
    """Everything emitted longer ago than this has left the queue. Unit: seconds; 0 or more."""
    set_aside: bool
    """Whether the sink failed and is offered nothing any more."""
    last_error: str | None
    """The newest failure of the sink; None when there was none."""

    @property
    def lost(self) -> bool:
        """Whether a durable sink does not have all that was emitted."""
        return self.durable and self.rejected + self.dropped + self.queued > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFinding:
    """What one rule of health made of the run."""

    rule: str
    area: str
    """``learning``, ``PPO``, ``hosts`` or ``telemetry``."""
    group: str | None
    """The group it is about; None for the log as a whole."""
    status: str
    """``OK``, ``WATCH``, ``BAD`` or ``UNKNOWN``."""
    evidence: str
    """What decided, in a sentence."""
    times: int
    """How often it was found. Unit: updates, batches or events; 0 or more."""
    of: int
    """Of how many that could be judged. Unit: the same; 0 or more."""
    first_event: str | None
    """Identifier of the first event that showed it; None where no single one does."""
    first_time: datetime | None
    """When that was emitted, in UTC."""
    newest_event: str | None
    """Identifier of the newest event that showed it."""
    since_batch: int | None
    """Batch of the first event; None when unknown. Unit: index; 0 or more."""
    cost: str
    """What it has cost so far."""
    cause: str | None
    """What usually causes it; None where there is nothing to mend."""
    remedy: str | None
    """What to try first."""
    source: str | None
    """Who says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVerdict:
    """Whether the run was well when it ended, by all rules of health."""

    status: str
    """``OK``, ``WATCH``, ``BAD`` or ``UNKNOWN``."""
    headline: str
    """The same in a line."""
    findings: tuple[RecordedFinding, ...]
    """One a rule and group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What is known about a run beside its events."""

    status: RunStatus
    started: datetime
    """When the run began, in UTC."""
    ended: datetime | None = None
    """When it ended, in UTC; None while it runs."""
    configuration: dict[str, Any]
    """Every option by name, with the value the run had."""
    versions: dict[str, str]
    """Of esper, Python and the libraries that decide results, by name."""
    sinks: tuple[SinkStats, ...] = ()
    """The accounts of every sink when this was written."""
    evaluation: Evaluation | None = None
    """None before it was made, and when it was not asked for."""
    error: str | None = None
    """What ended a failed run, in a line."""
    verdict: RecordedVerdict | None = None
    """Whether it was well when it ended; None where nobody judged it."""

    @property
    def lost(self) -> bool:
        """Whether a durable sink does not have all that was emitted; to be asked when the run has ended."""
        return any(sink.lost for sink in self.sinks)


def parse_run_info(text: str, source: str) -> RunInfo:
    """Make a RunInfo of the text of a run.json.

    Args:
        text: what the file holds.
        source: name of the file, for the message.

    Raises:
        RunInfoError: the text is not JSON, or a field is missing, unknown or of another type.
    """
    try:
        return cast("RunInfo", checked_record(RunInfo, json.loads(text), ""))
    except json.JSONDecodeError as error:
        raise RunInfoError(f"{source}:{error.lineno}: not JSON: {error.msg}") from None
    except RunInfoError as error:
        raise RunInfoError(f"{source}: {error}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
        raise RunInfoError(f"{source}: {error}") from None


def checked_record(cls: type[Any], value: object, path: str) -> object:
    """Make a dataclass of a mapping in which every field has the type that its class says.

    Args:
        cls: the dataclass.
        value: a mapping by the names of its fields.
        path: what the mapping is called in messages, with a dot behind it; empty for the whole.

    Raises:
        RunInfoError: a field is missing, unknown or of another type; or the class refuses a value with a ValueError.
    """
    if not isinstance(value, dict):
        raise _refusal(path, "an object", value)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    strangers = [name for name in value if name not in fields]
    unknown = [n if n.isidentifier() and len(n) <= _LONGEST_NAME else brief(n) for n in strangers[:_MOST_NAMED]]
    missing = [name for name, f in fields.items() if name not in value and f.default is dataclasses.MISSING]
    if missing or unknown:
        problems = [
            *(f"{path}{name} is missing" for name in missing),
            *(f"{path}{name} is unknown" for name in unknown),
        ]
        more = len(strangers) - len(unknown)
        raise RunInfoError(", ".join(problems) + (f", and {more:,} more are" if more else ""))
    hints = get_type_hints(cls)
    return cls(**{name: _value(hints[name], item, f"{path}{name}") for name, item in value.items()})


def _value(hint: Any, value: Any, path: str) -> object:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):
        (inner,) = (arg for arg in args if arg is not NoneType)
        return None if value is None else _value(inner, value, path)
    if hint is Any or (origin is Literal and value in args) or (hint in (str, int, bool) and value.__class__ is hint):
        return value
    if dataclasses.is_dataclass(hint):
        return checked_record(cast("type[Any]", hint), value, f"{path}.")
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(args[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _value(args[1], item, f"{path}[{brief(key)}]") for key, item in value.items()}
    if hint is float and (value.__class__ is float or (value.__class__ is int and abs(value) < _LARGEST)):
        return float(value)
    if hint is float and value.__class__ is str and value in NONFINITE:
        return NONFINITE[value]
    if hint is datetime and isinstance(value, str) and (time := _time(value)) is not None:
        return time
    raise _refusal(
        path, " or ".join(map(repr, args)) if origin is Literal else getattr(hint, "__name__", str(hint)), value
    )


def _time(text: str) -> datetime | None:
    """Return a time that knows its zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.utcoffset() is None else time


def _refusal(path: str, expected: str, value: object) -> RunInfoError:
    return RunInfoError(f"{path.rstrip('.') or 'the file'}: expected {expected}, got {shorten(value)}")
