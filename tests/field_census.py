"""Runs every mode briefly and says of each field what became of it: ``make fields``.

Prints a markdown table, which docs/fields.md keeps. Exits with 1 when a field is never supplied or never changes, and
does not stand on `CONSTANT` with its reason.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from tests.golden.contract import WAITING

import esper
from esper.leyline.payload import is_optional
from esper.leyline.telemetry import EVENT_TYPES, TelemetryEvent, TelemetryPayload, TrainingStartedPayload
from esper.simic.config import Fault, TrainingConfig
from esper.simic.tasks import Task, load_task
from esper.simic.training.checkpoint import Checkpoint
from esper.simic.training.ranks import Ranks
from esper.simic.training.vectorized import train_arms

SOURCE = Path(esper.__file__).parent
MANY = 20
"""Distinct values above which nobody wants to know how many there are."""
CONSTANT = {
    "SeedGerminatedPayload.alpha": "a new seed has no weight in its slot's output",
    "SeedGerminatedPayload.epochs_in_stage": "a new seed has just entered its stage",
    "SeedGerminatedPayload.grad_ratio": "a new seed has had no training batch",
    "SeedGerminatedPayload.has_vanishing": "a new seed has had no training batch",
    "SeedGerminatedPayload.has_exploding": "a new seed has had no training batch",
    "CounterfactualMatrixPayload.strategy": "seeds are few enough for all subsets; other emitters may choose otherwise",
    **WAITING,
}
"""Fields that are never supplied, or never change, and why that is right."""
SMALL: dict[str, Any] = {"episodes": 6, "envs": 2, "max_epochs": 6, "seed": 1}
MODES: dict[str, dict[str, Any]] = {
    "long": {"episodes": 8, "envs": 4, "max_epochs": 24, "seed": 2},
    "other": SMALL
    | {
        "task": "tests.field_census:coarse_digits",
        "slots": 2,
        "seed": 3,
        "lr": 1e-2,
        "clip_ratio": 0.1,
        "entropy_coef": 0.1,
        "param_budget": 2000,
        "device": "cpu:0",
        "episode_id": "census",
    },
    "env-device": SMALL | {"env_device": "cpu:0", "reward_mode": "simplified"},
    "ab": SMALL | {"ab": ("shaped", "sparse")},
    "float16": SMALL | {"amp_dtype": "float16"},
    "bfloat16": SMALL | {"amp_dtype": "bfloat16"},
    "compiled": SMALL | {"compile_backend": "eager"},
    "inductor": SMALL | {"compile_backend": "inductor", "compile_mode": "reduce-overhead"},
    **{f"inject {fault}": SMALL | {"inject": fault} for fault in get_args(Fault)},
}
_BEGUN_ONLY = "inductor"
"""Compiling takes half a minute; what the run says when it begins is all that is new."""
VIEWS = {
    "console": "karn/console.py",
    "summary": "karn/summary.py",
    "dashboard": "karn/dashboard/app.py",
    "report": "karn/report/__init__.py",
}


class Use(NamedTuple):
    """What became of one field."""

    payload: type[TelemetryPayload]
    field: dataclasses.Field[Any]
    supplied: int
    """Events of all modes that supplied it."""
    distinct: int
    """Values it had in them."""
    non_default: bool
    """Whether one of them was not the default; of a required field True."""

    @property
    def name(self) -> str:
        """As `CONSTANT` has it."""
        return f"{self.payload.__name__}.{self.field.name}"

    @property
    def changes(self) -> bool:
        """Whether it has more than one value, the default of where it is not supplied among them."""
        return self.supplied > 0 and self.non_default and self.distinct > 1


T = TypeVar("T")


class _Enough(BaseException):
    """Nothing more is to be learnt from this run."""


class _SecondOfTwo(Ranks):
    """A process beside which there is another one, which always agrees."""

    def gather(self, value: T) -> list[T]:
        return [value] * self.world_size


def coarse_digits() -> Task:
    """Return a second task: the digits in 4 rows of 2 x 8 pixels."""
    digits = load_task("digits")
    train, validation, test = (
        split._replace(inputs=split.inputs.reshape(len(split.inputs), 4, 16))
        for split in (digits.train, digits.validation, digits.test)
    )
    return dataclasses.replace(digits, name="coarse_digits", train=train, validation=validation, test=test)


def run_modes() -> list[TelemetryEvent]:
    """Run every mode and return everything that was emitted."""
    emitted: list[TelemetryEvent] = []

    def begin_only(event: TelemetryEvent) -> None:
        emitted.append(event)
        raise _Enough

    for mode, options in MODES.items():
        try:
            train_arms(TrainingConfig(**options), begin_only if mode == _BEGUN_ONLY else emitted.append)
        except _Enough:
            assert isinstance(emitted[-1].data, TrainingStartedPayload)
    kept: list[Checkpoint] = []
    train_arms(TrainingConfig(**SMALL), emitted.append, keep=kept.append)
    train_arms(TrainingConfig(**SMALL), emitted.append, resume=kept[1], resume_path="runs/demo/checkpoint.pt")
    with suppress(_Enough):
        train_arms(TrainingConfig(**SMALL), begin_only, ranks=_SecondOfTwo(rank=1, world_size=2, local_rank=1))
    return emitted


def census(events: list[TelemetryEvent]) -> list[Use]:
    """Count, for each field, what the events did with it."""
    uses = []
    for cls in EVENT_TYPES:
        payloads = [event.data for event in events if type(event.data) is cls]
        for field in dataclasses.fields(cls):
            given = [p for p in payloads if field.name in p.supplied or not is_optional(field)]
            values = Counter(repr(getattr(p, field.name)) for p in given)
            default = repr(field.default)
            distinct = len(values.keys() | ({default} if is_optional(field) and len(given) < len(payloads) else set()))
            non_default = not is_optional(field) or any(value != default for value in values)
            uses.append(Use(cls, field, len(given), distinct, non_default))
    return uses


def problems(uses: list[Use]) -> list[str]:
    """Say which fields never change without a reason, and which reasons hold no longer."""
    never = [f"{use.name} is never supplied" for use in uses if not use.supplied and use.name not in CONSTANT]
    constant = [
        f"{use.name} never changes" for use in uses if use.supplied and not use.changes and use.name not in CONSTANT
    ]
    stale = [f"{use.name} changes: take it off the list" for use in uses if use.changes and use.name in CONSTANT]
    return never + constant + stale


def emitters(cls: type[TelemetryPayload]) -> list[str]:
    """Return the modules that build a payload of this class."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).parts[0] not in ("kasmina", "tamiyo", "simic", "nissa"):
            continue
        calls = (node.func for node in ast.walk(_parsed(path)) if isinstance(node, ast.Call))
        if any(isinstance(func, ast.Name) and func.id == cls.__name__ for func in calls):
            found.append(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    return found


def shown_in(field: str) -> list[str]:
    """Return the views whose code names a field; names that several payloads share count for each of them."""
    return [view for view, module in VIEWS.items() if field in _names_in_view(module)]


@cache
def _names_in_view(module: str) -> frozenset[str]:
    paths = _reached(SOURCE / module)
    names = {name for path in paths for name in _names(path)}
    script = (SOURCE / module).parent / "page.js"
    if script.parent.name == "report":
        text = script.read_text()
        names |= {field.name for cls in EVENT_TYPES for field in dataclasses.fields(cls) if field.name in text}
    return frozenset(names)


def _reached(start: Path) -> set[Path]:
    """Return a view's module and those of karn that it imports, whatever folds and stores left aside."""
    reached, waiting = set[Path](), [start]
    while waiting:
        path = waiting.pop()
        if path in reached or not path.exists():
            continue
        reached.add(path)
        for node in ast.walk(_parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_OF_VIEWS):
                inside = SOURCE / Path(*node.module.split(".")[1:])
                targets = [inside, *(inside / alias.name for alias in node.names)]
                waiting += [target.with_suffix(".py") for target in targets if target.name not in _NO_VIEW]
    return reached


_OF_VIEWS = ("esper.karn", "esper.leyline.update_rules")
"""Modules whose names are shown; the rules name what the verdict shows."""
_NO_VIEW = {"aggregator", "snapshot"}


def _names(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return names


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _flags(options: dict[str, Any]) -> str:
    """Return options as they are typed."""
    return " ".join(
        f"--{name.replace('_', '-')} {' '.join(value) if isinstance(value, tuple) else value}"
        for name, value in options.items()
        if name != "episode_id"
    )


def table(uses: list[Use]) -> str:
    """Return the table in markdown."""
    modes = "\n".join([*(f"- `{_flags(options)}`" for options in MODES.values()), _OTHERS])
    lines = [_HEAD.format(modes=modes, count=len(uses))]
    for cls in EVENT_TYPES:
        lines.append(f"\n## {cls.__name__}\n\nEmitted by {', '.join(f'`{module}`' for module in emitters(cls))}.\n")
        lines.append("| field | supplied | distinct values | ever non-default | named by |\n|---|---|---|---|---|")
        for use in uses:
            if use.payload is cls:
                distinct = str(use.distinct) if use.distinct <= MANY else f"more than {MANY}"
                non_default = "required" if not is_optional(use.field) else "yes" if use.non_default else "no"
                views = ", ".join(shown_in(use.field.name)) or "—"
                lines.append(f"| `{use.field.name}` | {use.supplied:,} | {distinct} | {non_default} | {views} |")
    lines.append("\n## Fields that never change, and why that is right\n")
    lines += [f"- `{name}`: {reason}." for name, reason in CONSTANT.items()]
    return "\n".join(lines) + "\n"


_OTHERS = f"- `{_flags(SMALL)}` resumed, and shared by two processes"

_HEAD = """\
# Every field, and what becomes of it

`make fields` runs each mode briefly and counts, for each of the contract's {count} fields, the events that supplied it,
the values it had (its default, where an event left it out, is one of them) and whether it ever differed from its
default. *Named by* lists the views whose own code names the field; names that several payloads share count for each.
The dashboard's event inspector, the SQL views and `esper replay --json` show every field there is. A field that is
never supplied or never changes fails the build, unless it stands at the end of this page with its reason.

The modes, as options of `esper train`:

{modes}"""


def main() -> int:
    """Print the table; return the exit status."""
    uses = census(run_modes())
    sys.stdout.write(table(uses))
    found = problems(uses)
    sys.stderr.write("".join(f"{problem}\n" for problem in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
