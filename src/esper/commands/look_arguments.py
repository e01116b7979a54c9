"""The command lines of what looks at one run: evaluate, watch, replay, health, report."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from esper.commands.parser import add_notify, command, examples
from esper.commands.reading import reading_logs
from esper.commands.streams import show

__all__ = ["add_looking"]


def add_looking(commands: Any) -> None:
    """Add them to the parser's commands, in the order in which ``--help`` lists them."""
    _add_evaluate(commands)
    _add_watch(commands)
    _add_replay(commands)
    _add_health(commands)
    _add_report(commands)


def _add_evaluate(commands: Any) -> None:
    parser = command(
        commands,
        "evaluate",
        _evaluate,
        "play a run's policy against chance and doing nothing",
        examples(
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


def _add_watch(commands: Any) -> None:
    parser = command(
        commands,
        "watch",
        _watch,
        "follow a run live in the terminal, or play a finished one back",
        examples(
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
    add_notify(parser)


def _watch(args: argparse.Namespace) -> int:
    from esper.karn.dashboard import watch

    if args.notify is None:
        return watch(args.run, speed=args.speed)
    if args.speed is not None:
        raise ValueError("--notify is for a run that is followed: leave out --speed")
    from esper.commands.notify import Notifier

    return watch(args.run, judged=Notifier(args.notify, args.run, sys.stderr).look)


def _add_replay(commands: Any) -> None:
    parser = command(
        commands,
        "replay",
        _replay,
        "print a run's closing summary from its log",
        examples(
            "esper replay runs/demo             the summary, as it was printed at the end of the run",
            "esper replay runs/demo --json      the whole final snapshot, for jq and friends",
            "esper replay old/events.jsonl      from the log alone",
        ),
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, a log, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print the whole final snapshot as JSON instead")


@reading_logs()
def _replay(args: argparse.Namespace) -> int:
    from esper.commands.replay import replay_command

    return replay_command(args.run, as_json=args.json)


def _add_health(commands: Any) -> None:
    parser = command(
        commands,
        "health",
        _health,
        "say whether a run is well, since when not, and why",
        examples(
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


@reading_logs()
def _health(args: argparse.Namespace) -> int:
    from esper.commands.health import health_command

    return health_command(
        args.run, as_json=args.json, fail_on=args.fail_on, limits_file=args.limits, everything=args.all
    )


def _add_report(commands: Any) -> None:
    parser = command(
        commands,
        "report",
        _report,
        "write one self-contained page on a run, or compare several",
        examples(
            "esper report runs/demo                     into report.html",
            "esper report runs/a runs/b -o a-vs-b.html  overlaid, with a table of differences",
        ),
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories or logs")
    parser.add_argument("-o", "--output", metavar="FILE", default="report.html", help="the page (default report.html)")


@reading_logs()
def _report(args: argparse.Namespace) -> int:
    from esper.karn.report import report

    show(f"{report(args.runs, args.output)}\n")
    return 0
