"""How a run was configured, and which of it makes another arm.

Settings are what TRAINING_STARTED supplies and what run.json has of the configuration. No difference are the seed, and
what says where, when and by whom a run was made rather than how: identifiers, paths, clocks, hosts, where a resume
began, and which of several devices of a kind it was.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from esper.karn.absence import supplied
from esper.leyline.telemetry import TrainingStartedPayload

if TYPE_CHECKING:
    from esper.leyline.run_info import RunInfo

__all__ = ["is_of_each_run", "is_setting", "of_info", "of_start", "value_text"]

_NO_DIFFERENCE: Final = re.compile(
    r"(.*_)?seed|seeds"
    r"|(episode|run|job|trial|wandb|wandb_run|slurm_job|experiment)_id|run_name|run"
    r"|(.*_)?(path|dir|directory|folder|file|url)"
    r"|(.*_)?(timestamp|datetime|date|started|created)|(start|end|wall|creation)_time|time"
    r"|hostname|host_name|user|username|pid|port"
    r"|start_episode|resume|resumed|resume_from|rank|local_rank"
)
_OF_EACH_RUN: Final = re.compile(r"seed|(episode|run)_id|run_name")
_DEVICE: Final = re.compile(r"([a-z]+):\d+")


def is_setting(key: str, ignore: frozenset[str] = frozenset()) -> bool:
    """Whether runs that differ in it are different arms."""
    return key not in ignore and _NO_DIFFERENCE.fullmatch(key.lower()) is None


def is_of_each_run(key: str) -> bool:
    """Whether it differs from run to run by its nature, so that it is no news that it does."""
    return _OF_EACH_RUN.fullmatch(key.lower()) is not None


def of_start(started: TrainingStartedPayload | None) -> dict[str, str]:
    """Return what TRAINING_STARTED supplies, each value as text."""
    if started is None:
        return {}
    values = {field.name: supplied(started, field.name) for field in dataclasses.fields(started)}
    return {name: value_text(value) for name, value in values.items() if value is not None}


def of_info(info: RunInfo | None) -> dict[str, str]:
    """Return the configuration of run.json, each value as text."""
    return {} if info is None else {name: value_text(value) for name, value in info.configuration.items()}


def value_text(value: object) -> str:
    """Return a value so that equal ones are equal: 1 and 1.0, ``cuda:0`` and ``cuda:1``, a tuple and a list."""
    if isinstance(value, str):
        match = _DEVICE.fullmatch(value)
        return value if match is None else match.group(1)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int | float):
        text = repr(value)
        return text.removesuffix(".0")
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {value_text(item)}" for key, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        texts = [value_text(item) for item in value]
        return f"{texts[0]} ({len(texts)} times)" if len(texts) > 1 and len(set(texts)) == 1 else ", ".join(texts)
    return json.dumps(value, default=str)
