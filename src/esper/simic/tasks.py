"""What a host network learns: data in three splits, and the host's shape.

A task of your own is an instance of `Task`, or a function without arguments that returns one, named
``module:attribute``::

    # wine.py
    from sklearn.datasets import load_wine

    from esper.simic.tasks import Task

    def wine() -> Task:
        inputs, labels = load_wine(return_X_y=True)
        inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
        return Task.from_arrays("wine", inputs, labels, train=96, validation=48, batch_size=32)
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DIGITS", "Split", "Task", "load_task"]

DIGITS = "digits"
"""Name of the built-in task: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, a row being a token."""

_PERMUTATION_SEED = 0


class Split(NamedTuple):
    """Examples of one purpose."""

    inputs: Tensor
    """float32, (examples, tokens, features)."""
    labels: Tensor
    """int64, (examples), from 0 to classes - 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """Data, and the host that is to learn it.

    Raises:
        ValueError: the splits do not fit each other; the message says how.
    """

    name: str
    """What the task is called in telemetry."""
    train: Split
    """What host and seeds learn from."""
    validation: Split
    """What the reward is measured on."""
    test: Split
    """Held out; nothing is decided by it."""
    n_classes: int
    """Classes to distinguish, 2 or more."""
    width: int = 12
    """Features of a token inside the host, 1 or more."""
    batch_size: int = 256
    """Examples in a training batch, 1 or more; a smaller last batch is trained on too."""
    learning_rate: float = 2e-2
    """Learning rate of the host and the seeds, above 0."""

    def __post_init__(self) -> None:
        shape = self.train.inputs.shape[1:]
        for purpose in ("train", "validation", "test"):
            inputs, labels = getattr(self, purpose)
            problem = _problem(inputs, labels, self.n_classes)
            if not problem and inputs.shape[1:] != shape:
                problem = f"inputs must be shaped like those of train, {tuple(shape)}, not {tuple(inputs.shape[1:])}"
            if problem:
                raise ValueError(f"task {self.name!r}, {purpose} split: {problem}")
        if min(self.n_classes - 1, self.width, self.batch_size) < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"task {self.name!r}: n_classes must be at least 2, width and batch_size at least 1 "
                "and learning_rate above 0"
            )

    @property
    def tokens(self) -> int:
        """Tokens of an input."""
        return self.train.inputs.shape[1]

    @property
    def features(self) -> int:
        """Features of an input token."""
        return self.train.inputs.shape[2]

    def to(self, device: str | torch.device) -> Task:
        """Return the task with its data on a device."""
        train, validation, test = (
            Split(split.inputs.to(device), split.labels.to(device))
            for split in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)

    @classmethod
    def from_arrays(
        cls,
        name: str,
        inputs: ArrayLike,
        labels: ArrayLike,
        *,
        train: int,
        validation: int,
        width: int = 12,
        batch_size: int = 256,
        learning_rate: float = 2e-2,
    ) -> Task:
        """Split a data set by a permutation that is always the same.

        Args:
            name: what the task is called.
            inputs: (examples, tokens, features), or (examples, tokens) for tokens of one feature.
            labels: (examples), the classes counted from 0.
            train: examples to learn from.
            validation: examples to measure the reward on; what remains is the test split.
            width: see `Task`.
            batch_size: see `Task`.
            learning_rate: see `Task`.

        Raises:
            ValueError: the arrays do not fit each other, or nothing remains for the test split.
        """
        examples = torch.from_numpy(np.array(inputs, dtype=np.float32))
        classes = torch.from_numpy(_classes(name, labels))
        if examples.ndim == 2:  # noqa: PLR2004 - a plain table
            examples = examples.unsqueeze(-1)
        if examples.ndim != 3 or classes.shape != examples.shape[:1]:  # noqa: PLR2004 - named in the message
            raise ValueError(
                f"task {name!r}: inputs must be (examples, tokens, features) and labels (examples), "
                f"not {tuple(examples.shape)} and {tuple(classes.shape)}"
            )
        if min(train, validation) < 1 or train + validation >= len(examples):
            raise ValueError(
                f"task {name!r}: train ({train}) and validation ({validation}) must be at least 1 and leave some "
                f"of the {len(examples)} examples for testing"
            )
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(_PERMUTATION_SEED))
        sizes = [train, validation, len(examples) - train - validation]
        splits = [Split(examples[indices], classes[indices]) for indices in torch.split(order, sizes)]
        return cls(
            name=name,
            train=splits[0],
            validation=splits[1],
            test=splits[2],
            n_classes=int(classes.max()) + 1,
            width=width,
            batch_size=batch_size,
            learning_rate=learning_rate,
        )


def load_task(name: str) -> Task:
    """Return the task of this name.

    Args:
        name: `DIGITS`, or ``module:attribute``, the attribute being a `Task` or a function that returns one. The
            module may lie in the working directory.

    Raises:
        ValueError: there is no such task; the message is one line that says what to do.
        ModuleNotFoundError: scikit-learn, which ships the digits, is not installed.
    """
    if name == DIGITS:
        return _digits()
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"unknown task {name!r}: use {DIGITS!r}, or 'module:attribute' for a task of your own")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        task = getattr(importlib.import_module(module_name), attribute)
        if callable(task):
            task = task()
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"cannot load task {name!r}: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(task, Task):
        raise ValueError(  # noqa: TRY004 - to the caller it is the name that is wrong
            f"task {name!r} is a {type(task).__name__}: make it an esper.simic.tasks.Task or a function returning one"
        )
    return task


def _digits() -> Task:
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - only this task needs scikit-learn
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the task {DIGITS!r} needs scikit-learn: pip install 'esper-telemetry[train]'", name=error.name
        ) from error
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    return Task.from_arrays(DIGITS, pixels.reshape(-1, 8, 8) / 16.0, labels, train=1024, validation=512)


def _classes(name: str, labels: ArrayLike) -> NDArray[np.int64]:
    """Return labels as integers.

    Raises:
        ValueError: they are something else, or do not count from 0.
    """
    given = np.asarray(labels)
    if given.dtype.kind not in "biuf" or (given != (classes := given.astype(np.int64))).any():
        raise ValueError(f"task {name!r}: labels must be integers that count the classes from 0")
    if given.size and classes.min() != 0:
        raise ValueError(f"task {name!r}: labels must count the classes from 0, and the smallest is {classes.min()}")
    return classes


def _problem(inputs: Tensor, labels: Tensor, n_classes: int) -> str | None:
    """Say what is wrong with a split, if anything."""
    if inputs.dtype != torch.float32 or inputs.ndim != 3 or 0 in inputs.shape:  # noqa: PLR2004 - named below
        return (
            f"inputs must be float32 (examples, tokens, features), not empty; got {inputs.dtype} {tuple(inputs.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != inputs.shape[:1]:
        return f"labels must be int64 ({len(inputs)},), got {labels.dtype} {tuple(labels.shape)}"
    if int(labels.min()) < 0 or int(labels.max()) >= n_classes:
        return f"labels must lie between 0 and {n_classes - 1}"
    if not bool(inputs.isfinite().all()):
        return "inputs must be finite, and one is NaN or infinite"
    return None
