"""The command ``esper``. Nothing slow is imported before it is known what is asked for."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import logging
import signal
import sys
import warnings
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from esper.commands.streams import give_up_broken_streams, say, show, take_closed_descriptors
from esper.leyline._payload.field_docs import meanings
from esper.leyline.field_docs import field_table
from esper.leyline.invalid_lines import NoEventsError
from esper.leyline.printable import printable
from esper.simic.config import TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main", "script"]

_USER_ERROR = 2
_TRAIN_EXTRA = ("torch", "numpy", "gymnasium")
_TRAIN_EXAMPLES = """\
examples:
  esper train                                   the digits, about two minutes
  esper train --episodes 400 --envs 8 --seed 3  longer and wider
  esper train --task wine:wine --slots 2        a task of your own: attribute wine of wine.py
  esper train --dashboard --tensorboard         watch it live, keep it for TensorBoard
  esper train --resume runs/demo                go on with a run that was interrupted or killed
  torchrun --nproc-per-node 4 -m esper train    share the environments among four processes
  esper train --stop-on-bad --notify ./tell-me  end a run that is lost, and hear of it

exit status: 0 done, 1 the training failed, 2 something asked for is not there,
3 an event is not in the log, 130 or 143 ended by Ctrl-C or SIGTERM.
"""


def _examples(*lines: str) -> str:
    return "\n  ".join(("examples:", *lines)) + "\n"


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def _print_message(self, message: str, file: Any = None) -> None:
        with suppress(ValueError):  # the stream is closed
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        self.exit(_USER_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: what follows ``esper``; None for those of this process.
    """
    take_closed_descriptors()
    args = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.closed:
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal cannot show must not end the command
    handler = _Handler()
    log = logging.getLogger("esper")
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: say(f"esper: warning: {message}\n")
            return _run(args)
    finally:
        log.removeHandler(handler)
        give_up_broken_streams()


def script() -> int:
    """Run the command line as a process of its own: a signal while it exits changes nothing any more."""
    try:
        return main()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _run(args: argparse.Namespace) -> int:
    command: Callable[[argparse.Namespace], int] = args.command
    try:
        return command(args)
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        needs = f"it needs {error.name}: pip install 'esper-telemetry[train]'"
        say(f"{args.prog}: error: {needs if error.name in _TRAIN_EXTRA else _one_line(error)}\n")
    except NoEventsError as error:
        say(f"{args.prog}: {_one_line(error)}\n")
        return 1
    except (ValueError, OSError, ImportError) as error:
        say(f"{args.prog}: error: {_one_line(error)}\n")
    return _USER_ERROR


class _Handler(logging.Handler):
    """Shows what the library reports, as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"esper: {record.levelname.lower()}: {printable(record.getMessage())}\n")


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return printable(f"{error.filename}: {error.strerror}")
    return printable(" ".join(str(error).split()))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="esper",
        description="Grow neural networks with PPO, and see everything that happened: typed telemetry, end to end.",
    )
    parser.add_argument("--version", action="version", version=f"esper {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for add in (
        _add_train,
        _add_evaluate,
        _add_watch,
        _add_replay,
        _add_health,
        _add_runs,
        _add_compare,
        _add_report,
        _add_validate,
        _add_schema,
        _add_export,
        _add_import,
    ):
        add(commands)
    return parser


def _version() -> str:
    try:
        return version("esper-telemetry")
    except PackageNotFoundError:  # copied here rather than installed
        return "(unknown version)"


def _command(
    commands: Any, name: str, command: Callable[[argparse.Namespace], int], summary: str, epilog: str = ""
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command, prog=parser.prog)
    return parser


# ── train ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _add_train(commands: Any) -> None:
    parser = _command(
        commands, "train", _train, "train a growing network, and record everything about it", _TRAIN_EXAMPLES
    )
    about, hints = meanings(TrainingConfig), get_type_hints(TrainingConfig)
    config = parser.add_argument_group("configuration")
    for field in dataclasses.fields(TrainingConfig):
        if field.name != "episode_id":
            kind, choices, number = _kind(hints[field.name])
            config.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=kind,
                choices=choices,
                nargs=number,
                default=argparse.SUPPRESS,  # so that only what the user names is there
                metavar=None if choices else getattr(kind, "__name__", "").upper(),
                help=_help_text(about[field.name].text, field.default),
            )
    run = parser.add_argument_group("the run")
    place = run.add_mutually_exclusive_group()
    place.add_argument("--run-dir", metavar="DIR", help="where everything goes; by default runs/TIME-TASK")
    place.add_argument(
        "--resume",
        metavar="RUN",
        help="go on in this run directory, with its own configuration; more --episodes may be asked for",
    )
    run.add_argument(
        "--evaluate-episodes",
        type=int,
        default=16,
        metavar="N",
        help="fresh episodes that the learnt policy, chance and doing nothing play at the end; 0 for none (default 16)",
    )
    run.add_argument("--quiet", action="store_true", help="show no progress")
    run.add_argument(
        "--stop-on-bad", action="store_true", help="end a run that stays BAD for five batches, with status 1"
    )
    _add_notify(run)
    run.add_argument("--dashboard", action="store_true", help="open the dashboard beside the run")
    run.add_argument("--tensorboard", action="store_true", help="write for TensorBoard as well, into the run directory")
    run.add_argument(
        "--wandb", action="store_true", help="log to Weights & Biases as well; WANDB_MODE=offline needs no account"
    )


def _add_notify(parser: Any) -> None:
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="run this shell command, with the verdict as JSON on its standard input, when the run goes BAD, ends or "
        "crashes; the terminal's bell rings, too",
    )


def _kind(hint: Any) -> tuple[Callable[[str], Any], tuple[str, ...] | None, int | None]:
    """Return how to read an option of this type, its choices, and how many values it takes."""
    inner = next((arg for arg in get_args(hint) if arg is not NoneType), hint) if NoneType in get_args(hint) else hint
    if get_origin(inner) is tuple:
        return *_kind(get_args(inner)[0])[:2], len(get_args(inner))
    return (str, get_args(inner), None) if get_origin(inner) is Literal else (inner, None, None)


def _help_text(doc: str, default: object) -> str:
    shown = "" if default is None else f" (default {default})"
    return f"{doc.replace('`', '')}{shown}".replace("%", "%%")


def _train(args: argparse.Namespace) -> int:
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(TrainingConfig) if hasattr(args, f.name)}
    if "ab" in given:
        given["ab"] = tuple(given["ab"])
    from esper.commands.train import TrainOptions, train_command

    options = TrainOptions(
        run_dir=args.run_dir,
        resume=args.resume,
        evaluate_episodes=args.evaluate_episodes,
        quiet=args.quiet,
        tensorboard=args.tensorboard,
        wandb=args.wandb,
        dashboard=args.dashboard,
        stop_on_bad=args.stop_on_bad,
        notify=args.notify,
    )
    return train_command(given, options)


# ── looking at what a run left ───────────────────────────────────────────────────────────────────────────────────


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        _evaluate,
        "play a run's policy against chance and doing nothing",
        _examples(
            "esper evaluate runs/demo                the episodes of the closing summary once more",
            "esper evaluate runs/demo --episodes 64  smaller standard errors",
            "esper evaluate runs/demo --seed 7       on other fresh episodes",
        ),
    )
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--episodes", type=int, default=16, metavar="N", help="for each policy, 2 or more (default 16)")
    parser.add_argument(
        "--task", metavar="NAME", help="module:attribute of a task outside esper; a policy file only names it"
    )
    parser.add_argument(
        "--seed",
        type=int,
        help="seed of the fresh episodes, 0 or more (default the run's own, so that the closing summary repeats)",
    )


def _evaluate(args: argparse.Namespace) -> int:
    from esper.commands.evaluate import evaluate_command

    return evaluate_command(args.run, episodes=args.episodes, seed=args.seed, task=args.task)


def _add_replay(commands: Any) -> None:
    parser = _command(
        commands,
        "replay",
        _replay,
        "print a run's closing summary from its log",
        _examples(
            "esper replay runs/demo             the summary, as it was printed at the end of the run",
            "esper replay runs/demo --json      the whole final snapshot, for jq and friends",
            "esper replay old/events.jsonl      from the log alone",
        ),
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, a log, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print the whole final snapshot as JSON instead")


def _replay(args: argparse.Namespace) -> int:
    from esper.commands.replay import replay_command

    return replay_command(args.run, as_json=args.json)


def _add_health(commands: Any) -> None:
    parser = _command(
        commands,
        "health",
        _health,
        "say whether a run is well, since when not, and why",
        _examples(
            "esper health runs/demo                        the verdict, and what was found",
            "esper health runs/demo --all                  every rule, also those that found nothing",
            "esper health runs/demo --json | jq .headline  for machines",
            "esper health runs/demo --fail-on watch        in a script: status 1 for WATCH, too",
            "esper health runs/demo --limits mine.toml     kl_watch = 0.1, a line a limit",
        )
        + "\nexit status: 0 well enough (see --fail-on), 1 not, or there is no event, 2 the log cannot be read.\n",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, a log, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON instead")
    parser.add_argument("--all", action="store_true", help="list every rule, also what is well or not known")
    parser.add_argument(
        "--fail-on", choices=("watch", "bad", "never"), default="bad", help="what ends with status 1 (default bad)"
    )
    parser.add_argument(
        "--limits", metavar="FILE", help="limits in place of the run's own: TOML or JSON, a name and a number each"
    )


def _health(args: argparse.Namespace) -> int:
    from esper.commands.health import health_command

    return health_command(
        args.run, as_json=args.json, fail_on=args.fail_on, limits_file=args.limits, everything=args.all
    )


def _add_runs(commands: Any) -> None:
    parser = _command(
        commands,
        "runs",
        _runs,
        "list every run below a directory, also those that still go on",
        _examples(
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


def _runs(args: argparse.Namespace) -> int:
    from esper.commands.runs import runs_command

    return runs_command(args.root, sort=args.sort, reverse=args.reverse, where=args.where or (), as_json=args.json)


def _add_compare(commands: Any) -> None:
    parser = _command(
        commands,
        "compare",
        _compare,
        "set runs against each other, seeds taken together, and say whether a difference is real",
        _examples(
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


def _compare(args: argparse.Namespace) -> int:
    from esper.commands.compare import compare_command

    return compare_command(
        args.runs, by=args.by, threshold=args.threshold, ignore=args.ignore or (), output=args.output, as_json=args.json
    )


def _add_watch(commands: Any) -> None:
    parser = _command(
        commands,
        "watch",
        _watch,
        "follow a run live in the terminal, or play a finished one back",
        _examples(
            "esper watch runs/demo             also before the run has begun; ? shows the keys",
            "esper watch runs/demo --speed 20  play a finished run back, twenty times as fast",
            "ssh gpu cat run/events.jsonl | esper watch -",
        ),
    )
    parser.add_argument("run", metavar="RUN", help="a run directory or a log, there or still to come, or -")
    parser.add_argument(
        "--speed",
        type=float,
        metavar="N",
        help="play a finished run back at N times its own pace, above 0 (default follow the log as it grows)",
    )
    _add_notify(parser)


def _watch(args: argparse.Namespace) -> int:
    from esper.karn.dashboard import watch

    if args.notify is None:
        return watch(args.run, speed=args.speed)
    if args.speed is not None:
        raise ValueError("--notify is for a run that is followed: leave out --speed")
    from esper.commands.notify import Notifier

    return watch(args.run, judged=Notifier(args.notify, args.run, sys.stderr).look)


def _add_report(commands: Any) -> None:
    parser = _command(
        commands,
        "report",
        _report,
        "write one self-contained page on a run, or compare several",
        _examples(
            "esper report runs/demo                     into report.html",
            "esper report runs/a runs/b -o a-vs-b.html  overlaid, with a table of differences",
        ),
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories or logs")
    parser.add_argument("-o", "--output", metavar="FILE", default="report.html", help="the page (default report.html)")


def _report(args: argparse.Namespace) -> int:
    from esper.karn.report import report

    show(f"{report(args.runs, args.output)}\n")
    return 0


# ── the contract ─────────────────────────────────────────────────────────────────────────────────────────────────


def _add_validate(commands: Any) -> None:
    parser = _command(
        commands,
        "validate",
        _validate,
        "list every line of a log that is not an event, and why",
        _examples(
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
    parser = _command(
        commands,
        "schema",
        _schema,
        "print the contract as JSON Schema, as DuckDB views over a log, or as a table",
        _examples(
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


# ── tables, and logs from elsewhere ──────────────────────────────────────────────────────────────────────────────


def _add_export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        _export,
        "write runs as tables, one a kind of event: Parquet, CSV, or a DuckDB file",
        _examples(
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


def _export(args: argparse.Namespace) -> int:
    from esper.commands.ending import cleanly_ended
    from esper.commands.exporting import export_command

    with cleanly_ended():
        return export_command(args.runs, args.output, form=args.format)


def _add_import(commands: Any) -> None:
    parser = _command(
        commands,
        "import",
        _import,
        "make a run of a log of untyped dicts, by a map, or of an export",
        _examples(
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


def _import(args: argparse.Namespace) -> int:
    from esper.commands.ending import cleanly_ended
    from esper.commands.importing import import_command

    with cleanly_ended():
        return import_command(args.old, args.output, args.map)
