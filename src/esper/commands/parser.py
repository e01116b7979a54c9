"""What the parsers of all commands share: errors in one line, examples, and options that several have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NoReturn

__all__ = ["USER_ERROR", "Parser", "add_notify", "command", "examples"]

USER_ERROR = 2
"""Exit status of wrong use."""


class Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def _print_message(self, message: str, file: Any = None) -> None:
        with suppress(ValueError):  # the stream is closed
            super()._print_message(message, file)

    def parse_known_args(self, *args: Any, **options: Any) -> tuple[Any, list[str]]:
        """Parse, and refuse what is left here, so that a command's error is the command's and points to its help."""
        known, left = super().parse_known_args(*args, **options)
        if left:
            close = get_close_matches(left[0].partition("=")[0], self._option_string_actions, 1, 0.75)
            self.error(f"unrecognized arguments: {' '.join(left)}" + (f"; did you mean {close[0]}?" if close else ""))
        return known, left

    def error(self, message: str) -> NoReturn:
        """End with status 2 and a line that says where help is."""
        self.exit(USER_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def examples(*lines: str) -> str:
    """Return examples, a line each, as the end of a command's help."""
    return "\n  ".join(("examples:", *lines)) + "\n"


def command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """Add a command and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run, prog=parser.prog)
    return parser


def add_notify(parser: Any) -> None:
    """Add the option that lets a command be run when the verdict turns."""
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="run this shell command, with the verdict as JSON on its standard input, when the run goes BAD, ends or "
        "crashes; the terminal's bell rings, too",
    )
