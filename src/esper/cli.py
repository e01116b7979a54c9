"""The command ``esper``. Nothing slow is imported before it is known what is asked for."""

from __future__ import annotations

import argparse
import io
import logging
import signal
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from esper.commands.contract_arguments import add_contract
from esper.commands.look_arguments import add_looking
from esper.commands.many_arguments import add_many
from esper.commands.parser import USER_ERROR, Parser
from esper.commands.streams import give_up_broken_streams, say, take_closed_descriptors
from esper.commands.train_arguments import add_training
from esper.leyline.invalid_lines import NoEventsError
from esper.leyline.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main", "script"]

_TRAIN_EXTRA = ("torch", "numpy", "gymnasium")


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
    return USER_ERROR


class _Handler(logging.Handler):
    """Shows what the library reports, as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"esper: {record.levelname.lower()}: {printable(record.getMessage())}\n")


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return printable(f"{error.filename}: {error.strerror}")
    return printable(" ".join(str(error).split()))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="esper",
        description="Grow neural networks with PPO, and see everything that happened: typed telemetry, end to end.",
    )
    parser.add_argument("--version", action="version", version=f"esper {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for add in (add_training, add_looking, add_many, add_contract):
        add(commands)
    return parser


def _version() -> str:
    try:
        return version("esper-telemetry")
    except PackageNotFoundError:  # copied here rather than installed
        return "(unknown version)"
