"""Writes the pages of the reference that are made from code: every field, every command, every public name."""

# ruff: noqa: INP001 - imported by conf.py, no package

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.field_census import emitters, shown_in

from esper import cli
from esper.leyline.field_docs import Meaning, meanings
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent

if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["DOORS", "write"]

DOORS = {
    "esper.leyline": "the contract",
    "esper.leyline.testing": "for tests of code that emits or reads events",
    "esper.nissa": "the hub, its sinks, and a run being written",
    "esper.karn": "the aggregator, the verdict and the views",
    "esper.simic.diagnostics": "what every PPO author measures",
    "esper.simic.tasks": "what a host learns",
    "esper.simic.environment": "the growing network as a Gymnasium environment",
    "esper.integrations.stable_baselines3": "the callback for Stable-Baselines3",
}
"""The modules whose public names are promised, and what each is for."""


_FIELDS = """# Every field

What each field of the eleven payloads means, who emits it and where it is shown. *Shown in* names the views whose own
code reads the field; the dashboard's event inspector, the SQL views and `esper replay --json` show every field.
[What became of each field](../fields.md) in every mode of training is measured by `make fields`.
"""


def write(folder: Path) -> None:
    """Write the pages into a folder, those alone that changed, so that the rest of the site need not be built anew."""
    (folder / "api").mkdir(parents=True, exist_ok=True)
    pages = {"payloads.md": _payloads(), "commands.md": _commands()}
    pages |= {f"api/{door}.md": _door(door, what) for door, what in DOORS.items()}
    pages["api/index.md"] = "\n".join(
        ["# Public names\n\nKept stable; what is not here may change.\n\n```{toctree}\n:maxdepth: 1\n", *DOORS, "```\n"]
    )
    for name, text in pages.items():
        page = folder / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def _payloads() -> str:
    parts = [
        _FIELDS,
        "## TelemetryEvent\n",
        f"{_prose(TelemetryEvent)}\n",
        *(_field(field, meanings(TelemetryEvent)[field.name], "") for field in dataclasses.fields(TelemetryEvent)),
    ]
    for cls, event_type in EVENT_TYPES.items():
        by = ", ".join(f"`esper.{module}`" for module in emitters(cls))
        parts += [f"## {cls.__name__}\n", f"{_prose(cls)}\n", f"Event type `{event_type.name}`, emitted by {by}.\n"]
        parts += [_field(field, meanings(cls)[field.name], _views(field.name)) for field in dataclasses.fields(cls)]
    return "\n".join(parts)


def _prose(cls: type[Any]) -> str:
    return (inspect.getdoc(cls) or "").replace("``", "`").split("\n\n")[0]


def _views(name: str) -> str:
    views = shown_in(name)
    return f" Shown in {', '.join(views)}." if views else ""


def _field(field: dataclasses.Field[Any], meaning: Meaning, shown: str) -> str:
    default = _default(field)
    unit = f"; unit {meaning.unit}" if meaning.unit and meaning.unit != "1" else ""
    limits = f"; range {meaning.range}" if meaning.range else ""
    text = meaning.text.replace("``", "`")
    return f"`{field.name}`: `{field.type}`, {default}{unit}{limits}\n: {text}{shown}\n"


def _default(field: dataclasses.Field[Any]) -> str:
    if not is_optional(field):
        return "required"
    made = field.default is dataclasses.MISSING
    return "made anew unless given" if made else f"`{field.default!r}` unless supplied"


def _commands() -> str:
    with mock.patch.dict(os.environ, {"COLUMNS": "100"}):
        parser = cli._parser()  # noqa: SLF001 - what --help prints, and nothing else does
        named = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
        parts = [f"# The command\n\n```text\n{parser.format_help()}```\n"]
        parts += [f"## esper {name}\n\n```text\n{sub.format_help()}```\n" for name, sub in named.choices.items()]
    return "\n".join([*parts, "What each status means: [exit statuses](../runs.md#exit-statuses).\n"])


def _door(door: str, what: str) -> str:
    names = importlib.import_module(door).__all__
    payloads = [name for name in names if name.endswith("Payload") and name != "TelemetryPayload"]
    left_out = f"   :exclude-members: {', '.join(payloads)}\n" if payloads else ""
    elsewhere = (
        "The payloads and their fields are listed on [a page of their own](../payloads.md).\n\n" if payloads else ""
    )
    return f"""# {door}

For `from {door} import …`: {what}.

{elsewhere}```{{eval-rst}}
.. automodule:: {door}
   :members:
   :imported-members:
{left_out}```
"""
