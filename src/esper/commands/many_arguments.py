"""The command lines over many runs, and for logs from and to elsewhere: runs, compare, export, import."""

from __future__ import annotations

import argparse
from typing import Any

from esper.commands.parser import command, examples
from esper.commands.reading import reading_logs

__all__ = ["add_many"]


def add_many(commands: Any) -> None:
    """Add them to the parser's commands, in the order in which ``--help`` lists them."""
    _add_runs(commands)
    _add_compare(commands)
    _add_export(commands)
    _add_import(commands)


def _add_runs(commands: Any) -> None:
    parser = command(
        commands,
        "runs",
        _runs,
        "list every run below a directory, also those that still go on",
        examples(
            "esper runs                                   what lies below runs",
            "esper runs runs --sort best_return -r        the best first",
            "esper runs . --where task=digits --where verdict=BAD",
            "esper runs . --where 'age<2h' --where 'run=*sweep*'      of the last two hours",
            "esper runs . --json | jq '.[] | select(.seed == 3) | .run'",
        )
        + "\nA condition is KEY, one of = != < <= > >=, and a value: text (* and ? for any letters), a number (2h,\n"
        "10MB), or nothing for what is not known. The keys are those of --json; one that is none lists them all.\n"
        "\nexit status: 0 listed, 1 there is no run, 2 there is no such directory or key.\n",
    )
    parser.add_argument("root", metavar="DIR", nargs="?", default="runs", help="a directory (default runs)")
    parser.add_argument("--sort", metavar="KEY", default="run", help="the key to sort by (default run)")
    parser.add_argument("-r", "--reverse", action="store_true", help="the highest first")
    parser.add_argument(
        "--where", metavar="CONDITION", action="append", help="only runs for which it holds; any number"
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects instead, with every key")


@reading_logs()
def _runs(args: argparse.Namespace) -> int:
    from esper.commands.runs import runs_command

    return runs_command(args.root, sort=args.sort, reverse=args.reverse, where=args.where or (), as_json=args.json)


def _add_compare(commands: Any) -> None:
    parser = command(
        commands,
        "compare",
        _compare,
        "set runs against each other, seeds taken together, and say whether a difference is real",
        examples(
            "esper compare runs/a-* runs/b-*                  what differs by seed only is one arm",
            "esper compare runs -o compare.html               every run below a directory, as a page, too",
            "esper compare runs/a-* runs/b-* --by accuracy    decided by another quantity than the return",
            "esper compare runs/ab                            the arms of an A/B run",
            "esper compare runs --json | jq .conclusions      for machines",
        )
        + "\nexit status: 0 compared, 1 there is nothing to compare, 2 a run cannot be found or an option is none.\n",
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="run directories, logs, patterns, or directories with runs below them"
    )
    parser.add_argument(
        "--by",
        choices=("return", "accuracy", "evaluation"),
        default="return",
        help="what decides: final mean episode return, final validation accuracy, or evaluated return (default return)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="count the episodes to this return (default what the weakest arm ends with)",
    )
    parser.add_argument(
        "--ignore", metavar="KEY", action="append", help="a setting that makes no other arm; any number"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write a page as well")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")


@reading_logs()
def _compare(args: argparse.Namespace) -> int:
    from esper.commands.compare import compare_command

    return compare_command(
        args.runs, by=args.by, threshold=args.threshold, ignore=args.ignore or (), output=args.output, as_json=args.json
    )


def _add_export(commands: Any) -> None:
    parser = command(
        commands,
        "export",
        _export,
        "write runs as tables, one a kind of event: Parquet, CSV, or a DuckDB file",
        examples(
            "esper export runs/demo -o demo             a directory of Parquet files",
            "esper export runs/* -o runs.duckdb         many runs in one database, told apart by run_name",
            "esper export runs/demo -o demo.csv         a directory of CSV files, containers in them as JSON",
            "esper export old/events.jsonl --format csv -o old",
        )
        + "\nexit status: 0 exported, 1 a log holds no event, 2 something cannot be read or written.\n",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories, logs, or - for standard input")
    parser.add_argument(
        "-o", "--output", metavar="X", required=True, help="what to make; a name that ends in .csv or .duckdb says what"
    )
    parser.add_argument(
        "--format",
        choices=("parquet", "csv", "duckdb"),
        help="what to write (default what the name of X says, or parquet)",
    )


@reading_logs()
def _export(args: argparse.Namespace) -> int:
    from esper.commands.exporting import export_command

    return export_command(args.runs, args.output, form=args.format)


def _add_import(commands: Any) -> None:
    parser = command(
        commands,
        "import",
        _import,
        "make a run of a log of untyped dicts, by a map, or of an export",
        examples(
            "esper import old.jsonl > map.toml                    a map to start from, made of what is there",
            "esper import old.jsonl --map map.toml -o runs/old    what the map does not account for is set aside",
            "ssh gpu cat old.jsonl.gz | esper import - --map map.toml -o runs/old",
            "esper import runs.duckdb -o runs/again               an export; several runs go below runs/again",
        )
        + "\nexit status: 0 every line is an event now, or skipped as the map says, 1 some were set aside or none is\n"
        "an event, 2 the map or the log cannot be used.\n",
    )
    parser.add_argument("old", metavar="OLD", help="a log of JSON objects, plain or gzip, or -; or an export")
    parser.add_argument("-o", "--output", metavar="RUN", help="the run directory to make")
    parser.add_argument(
        "--map", metavar="FILE", help="what becomes of each kind and key, in TOML; without, one is printed"
    )


@reading_logs()
def _import(args: argparse.Namespace) -> int:
    from esper.commands.importing import import_command

    return import_command(args.old, args.output, args.map)
