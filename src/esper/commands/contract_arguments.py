"""The command lines about the contract: validate, schema."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from esper.commands.parser import command, examples
from esper.commands.streams import show
from esper.leyline.field_docs import field_table

__all__ = ["add_contract"]


def add_contract(commands: Any) -> None:
    """Add them to the parser's commands, in the order in which ``--help`` lists them."""
    _add_validate(commands)
    _add_schema(commands)


def _add_validate(commands: Any) -> None:
    parser = command(
        commands,
        "validate",
        _validate,
        "list every line of a log that is not an event, and why",
        examples(
            "esper validate runs/demo                 file:line: kind: reason, like a compiler",
            "esper validate --json a.jsonl b.jsonl    for machines",
            "zcat old.jsonl.gz | esper validate -     from standard input",
        )
        + "\nexit status: 0 every line is an event, 1 some are not or there is none, 2 a log cannot be read.\n",
    )
    parser.add_argument("logs", metavar="LOG", nargs="+", help="run directories, logs, or - for standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    parser.add_argument("--strict", action="store_true", help="a value outside its range is an error, not a note")


def _validate(args: argparse.Namespace) -> int:
    from esper.leyline.validate import validate

    return validate(args.logs, as_json=args.json, strict=args.strict, out=sys.stdout)


def _add_schema(commands: Any) -> None:
    parser = command(
        commands,
        "schema",
        _schema,
        "print the contract as JSON Schema, as DuckDB views over a log, or as a table",
        examples(
            "esper schema > events.schema.json         for validators and code generators",
            "esper schema --duckdb runs/demo | duckdb  a typed view for each payload",
            "esper schema --duckdb runs/* | duckdb     the same over many runs, told apart by run_name",
            "esper schema --fields                     every field with type, unit, range and meaning",
        ),
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--duckdb",
        metavar="RUN",
        nargs="+",
        help="print a CREATE VIEW for each payload over these runs or logs instead",
    )
    form.add_argument("--fields", action="store_true", help="print every field as a table in Markdown instead")


def _schema(args: argparse.Namespace) -> int:
    from esper.leyline.schema import duckdb_views, json_schema

    if args.fields:
        show(field_table() + "\n")
    else:
        show((json.dumps(json_schema(), indent=2) if args.duckdb is None else duckdb_views(*args.duckdb)) + "\n")
    return 0
