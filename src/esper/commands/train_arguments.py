"""The command line of ``esper train``, whose options are the configuration's fields."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from esper.commands.parser import add_notify, command
from esper.leyline._payload.field_docs import meanings
from esper.simic.config import TrainingConfig

__all__ = ["add_training"]

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


def add_training(commands: Any) -> None:
    """Add it to the parser's commands."""
    parser = command(
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
    add_notify(run)
    run.add_argument("--dashboard", action="store_true", help="open the dashboard beside the run")
    run.add_argument("--tensorboard", action="store_true", help="write for TensorBoard as well, into the run directory")
    run.add_argument(
        "--wandb", action="store_true", help="log to Weights & Biases as well; WANDB_MODE=offline needs no account"
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
