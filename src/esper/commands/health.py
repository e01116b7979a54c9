"""``esper health``: is a run well, since when not, and why."""

from __future__ import annotations

import json
import math
import textwrap
import tomllib
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from esper.commands.folding import fold_log
from esper.commands.streams import show
from esper.karn.health import assess
from esper.karn.verdict import Finding, Verdict, tally_text
from esper.karn.verdict_json import verdict_json
from esper.leyline._payload.wording import brief
from esper.leyline.limits import Limits, Status, real
from esper.leyline.lines import read_small
from esper.leyline.printable import printable

__all__ = ["FailOn", "health_command", "read_limits", "verdict_text"]

FailOn: TypeAlias = Literal["watch", "bad", "never"]
_FAILS: dict[FailOn, tuple[Status, ...]] = {
    "watch": (Status.WATCH, Status.BAD),
    "bad": (Status.BAD,),
    "never": (),
}
_WIDTH = 100
_MAY_BE_NEGATIVE = ("explained_watch", "explained_bad")


def health_command(source: str, *, as_json: bool, fail_on: FailOn, limits_file: str | None, everything: bool) -> int:
    """Fold a log and print its verdict: the headline, then what was found.

    Args:
        source: a run directory, a log, or ``-``.
        as_json: the verdict as JSON instead.
        fail_on: the least grave status that is a failure.
        limits_file: limits in place of the run's own, in TOML or JSON.
        everything: also what is well, and what is not known.

    Returns:
        The exit status: 1 where the verdict is a failure, else 0.

    Raises:
        NoEventsError: the log holds no event.
        ValueError: the limits cannot be read.
        OSError: there is no such log, or it cannot be read.
    """
    log = fold_log(source, None if limits_file is None else lambda limits: read_limits(limits_file, limits))
    verdict = assess(log.snapshot, log.info, now=datetime.now(UTC), invalid=log.invalid, rejected=log.rejected)
    show(verdict_json(verdict) + "\n" if as_json else verdict_text(verdict, everything=everything))
    return 1 if verdict.status in _FAILS[fail_on] else 0


def read_limits(file: str, limits: Limits) -> Limits:
    """Return limits with those that a file names in their place.

    Args:
        file: TOML, or JSON; a name and a number each.
        limits: what holds where the file says nothing.

    Raises:
        ValueError: the file is neither, or names what is no limit; the message says which.
        OSError: it cannot be read.
    """
    try:
        text = read_small(Path(file)).decode()
        named = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is neither TOML nor JSON: {error}") from None
    known = [field.name for field in fields(Limits)]
    for name, value in named.items():
        if name not in known:
            raise ValueError(f"{file}: {printable(name[:60])} is no limit; there are {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{file}: {name} must be a number, got {brief(value)}")  # noqa: TRY004 - the user's error
        if not math.isfinite(real(value)) or (value <= 0 and name not in _MAY_BE_NEGATIVE):
            raise ValueError(f"{file}: {name} must be finite and above 0, got {brief(value)}")
    return replace(limits, **{name: float(value) for name, value in named.items()})


def verdict_text(verdict: Verdict, *, everything: bool) -> str:
    """Return a verdict for people: its headline, then the findings, the gravest first."""
    lines = [verdict.headline]
    for finding in verdict.alarms:
        lines += ["", *_finding(finding)]
    lines.append("")
    if everything:
        lines += [_row(finding) for finding in verdict.findings if not finding.is_alarm]
    else:
        lines.append(f"{tally_text(verdict.findings)}; --all lists every rule")
    return "\n".join(lines) + "\n"


def _row(finding: Finding) -> str:
    group = "" if finding.group in (None, "default") else f"{finding.group} "
    return (
        f"{finding.status.value} {finding.status.name:<8}{group}{finding.area:<10}{finding.rule:<20}{finding.evidence}"
    )


def _finding(finding: Finding) -> list[str]:
    advice = finding.advice
    assert advice is not None  # it is an alarm
    parts = {
        "since": finding.cost,
        "usual cause": advice.cause,
        "try first": advice.remedy,
        "source": advice.source,
    }
    return [
        *_wrapped(
            f"{finding.status.value} {finding.status.name:<6}{finding.area} {finding.rule}: {finding.evidence}", " " * 8
        ),
        *(line for name, text in parts.items() if text for line in _wrapped(f"        {name}: {text}", " " * 10)),
    ]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, drop_whitespace=True) or [text]
