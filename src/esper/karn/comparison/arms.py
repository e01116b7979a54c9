"""Which runs are one arm: those that differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from esper.karn.comparison.compared_run import ComparedRun
from esper.karn.comparison.settings import is_of_each_run, is_setting
from esper.karn.formatting import ABSENT

__all__ = ["Arm", "arms_of", "differences", "named", "unheeded", "without_repeats"]

_MOST_IN_NAME: Final = 3
"""Settings in the name of an arm."""
_SHORT: Final = 24
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Arm:
    """What is compared: all seeds of one configuration."""

    key: str
    """``A``, ``B``, …, in the order of the runs."""
    label: str
    """What tells it from the others: ``lr=0.003``."""
    settings: Mapping[str, str]
    """Of its first run; what is no difference is among them."""
    runs: tuple[ComparedRun, ...]
    """1 or more."""

    @property
    def name(self) -> str:
        """Key and, where that is short, label."""
        return named(self.key, self.label)

    @property
    def task(self) -> str | None:
        """What it learns."""
        return self.runs[0].task


def named(key: str, label: str) -> str:
    """Return what an arm is called where it stands beside others: its key and, where that is short, its label."""
    return f"{key} {label}" if label and len(label) <= _SHORT else key


def arms_of(runs: Sequence[ComparedRun], ignore: frozenset[str]) -> list[Arm]:
    """Put runs together, in the order in which each arm comes first.

    A log without run.json joins the arm whose TRAINING_STARTED is the same as its own, if there is exactly one.

    Args:
        runs: 1 or more.
        ignore: settings that make no difference, besides the seed and its like.
    """
    arms = dict[tuple[tuple[str, str], ...], list[ComparedRun]]()
    for run in sorted(runs, key=lambda run: not run.configuration):
        known = _key(run.settings, ignore)
        if not run.configuration:
            own = _key(_start(run), ignore)
            same = [key for key, members in arms.items() if _key(_start(members[0]), ignore) == own]
            known = same[0] if len(same) == 1 else known
        arms.setdefault(known, []).append(run)
    order = {id(run): at for at, run in enumerate(runs)}
    members = [sorted(of, key=lambda run: order[id(run)]) for of in arms.values()]
    members.sort(key=lambda of: order[id(of[0])])
    settings = [of[0].settings for of in members]
    labels = _labels(settings, ignore)
    return [
        Arm(_letters(at), label, of[0].settings, tuple(of))
        for at, (label, of) in enumerate(zip(labels, members, strict=True))
    ]


def _start(run: ComparedRun) -> dict[str, str]:
    return {**run.start, "group": run.group}


def _key(settings: Mapping[str, str], ignore: frozenset[str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in settings.items() if is_setting(name, ignore)))


def _letters(at: int) -> str:
    before, last = divmod(at, len(_LETTERS))
    return (_letters(before - 1) if before else "") + _LETTERS[last]


def _labels(arms: Sequence[Mapping[str, str]], ignore: frozenset[str]) -> list[str]:
    """Name each arm by as few settings as tell all of them apart."""
    named = list[str]()
    for name in _different(arms, ignore):
        if len(_parts(arms, named)) == len(arms) or len(named) == _MOST_IN_NAME:
            break
        if len(_parts(arms, [*named, name])) > len(_parts(arms, named)):
            named.append(name)
    return [", ".join(f"{name}={arm.get(name, ABSENT)}" for name in named) for arm in arms]


def _parts(arms: Sequence[Mapping[str, str]], names: Sequence[str]) -> set[tuple[str, ...]]:
    return {tuple(arm.get(name, ABSENT) for name in names) for arm in arms}


def _different(arms: Sequence[Mapping[str, str]], ignore: frozenset[str]) -> Iterator[str]:
    for name in dict.fromkeys(name for arm in arms for name in arm):
        if is_setting(name, ignore) and len(_parts(arms, [name])) > 1:
            yield name


def differences(arms: Sequence[Arm], ignore: frozenset[str]) -> dict[str, list[str]]:
    """Return every setting in which arms differ, with the value of each arm in their order."""
    settings = [arm.settings for arm in arms]
    return {name: [one.get(name, ABSENT) for one in settings] for name in _different(settings, ignore)}


def unheeded(arms: Sequence[Arm], ignore: frozenset[str]) -> dict[str, list[str]]:
    """Return what differs between runs without making another arm, with all its values; seed and identifiers aside."""
    values = dict[str, set[str]]()
    for run in (run for arm in arms for run in arm.runs):
        for name, value in run.settings.items():
            if not is_setting(name, ignore) and not is_of_each_run(name):
                values.setdefault(name, set()).add(value)
        for name, value in run.versions.items():
            values.setdefault(f"version of {name}", set()).add(value)
    return {name: sorted(found) for name, found in values.items() if len(found) > 1}


def without_repeats(runs: Sequence[ComparedRun]) -> dict[int, int]:
    """Return the runs that repeat another one bit for bit, by place, and which.

    Such a run is no second seed: counted twice, it would feign certainty.
    """
    first, repeats = dict[object, int](), dict[int, int]()
    for at, run in enumerate(runs):
        course = (run.seed, run.returns, run.accuracies)
        if run.returns.values and first.setdefault(course, at) != at:
            repeats[at] = first[course]
    return repeats
