from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from esper.simic.tasks import Split, Task, load_task

WINE = """
from sklearn.datasets import load_wine
from esper.simic.tasks import Task

def wine():
    inputs, labels = load_wine(return_X_y=True)
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    return Task.from_arrays("wine", inputs, labels, train=96, validation=48, batch_size=32)

instance = wine()
text = "not a task"
def broken():
    raise RuntimeError("no such\\nfile")
"""


@pytest.fixture
def wine_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "wine_of_mine.py").write_text(WINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "wine_of_mine", raising=False)
    return "wine_of_mine"


def test_digits_is_split_as_stated() -> None:
    task = load_task("digits")
    assert (task.name, task.n_classes, task.tokens, task.features, task.width) == ("digits", 10, 8, 8, 12)
    assert [len(split.labels) for split in (task.train, task.validation, task.test)] == [1024, 512, 261]
    assert (task.batch_size, task.learning_rate) == (256, 2e-2)


def test_the_splits_share_no_example_and_are_always_the_same() -> None:
    first, again = load_task("digits"), load_task("digits")
    assert torch.equal(first.test.inputs, again.test.inputs)
    numbers = Task.from_arrays("n", np.arange(10.0)[:, None], [0, 1] * 5, train=5, validation=3)
    parts = [set(split.inputs.flatten().tolist()) for split in (numbers.train, numbers.validation, numbers.test)]
    assert set.union(*parts) == set(range(10))
    assert sum(map(len, parts)) == 10


def test_making_a_task_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    load_task("digits")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("attribute", ["wine", "instance"])
def test_a_task_of_ones_own_is_an_instance_or_a_function_in_the_working_directory(
    wine_module: str, attribute: str
) -> None:
    task = load_task(f"{wine_module}:{attribute}")
    assert (task.name, task.n_classes, task.tokens, task.features) == ("wine", 3, 13, 1)
    assert [len(split.labels) for split in (task.train, task.validation, task.test)] == [96, 48, 34]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("digit", "'digits', or 'module:attribute'"),
        ("", "'digits'"),
        (":wine", "'module:attribute'"),
        ("wine_of_mine:", "'module:attribute'"),
        ("nowhere_to_be_found:task", "No module named 'nowhere_to_be_found'"),
        ("wine_of_mine:beer", "beer"),
        ("wine_of_mine:text", "is a str: make it an esper.simic.tasks.Task"),
        ("wine_of_mine:broken", "RuntimeError: no such file"),
        ("wine_of_mine:Task", "TypeError"),
    ],
)
def test_a_name_that_is_no_task_gets_one_line_that_says_what_to_do(wine_module: str, name: str, says: str) -> None:
    with pytest.raises(ValueError) as refusal:
        load_task(name)
    assert says in str(refusal.value)
    assert repr(name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_digits_without_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'esper-telemetry\[train\]'"):
        load_task("digits")


@pytest.mark.parametrize(
    ("inputs", "labels", "train", "says"),
    [
        (np.zeros(10), np.zeros(10), 5, "inputs must be"),
        (np.zeros((10, 2)), np.zeros(9), 5, "labels"),
        (np.zeros((10, 2)), np.arange(10) % 2, 8, "leave some"),
        (np.zeros((10, 2)), np.arange(10) % 2, 0, "at least 1"),
        (np.zeros((10, 2)), np.arange(10) % 2 - 1, 5, "count the classes from 0, and the smallest is -1"),
        (np.zeros((10, 2)), np.arange(10) % 2 + 1, 5, "count the classes from 0, and the smallest is 1"),
        (np.zeros((10, 2)), np.arange(10) / 2, 5, "labels must be integers"),
        (np.zeros((10, 2)), np.array(["a", "b"] * 5), 5, "labels must be integers"),
        (np.full((10, 2), np.nan), np.arange(10) % 2, 5, "inputs must be finite"),
        (np.zeros((10, 2)), np.zeros(10), 5, "n_classes must be at least 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(inputs: np.ndarray, labels: np.ndarray, train: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Task.from_arrays("bad", inputs, labels, train=train, validation=2)


def test_a_task_made_by_hand_is_checked_split_by_split() -> None:
    split = Split(torch.zeros(4, 2, 3), torch.tensor([0, 1, 0, 1]))
    good = Task(name="t", train=split, validation=split, test=split, n_classes=2)
    for validation, says in [
        (Split(split.inputs.double(), split.labels), "float32"),
        (Split(split.inputs, split.labels.int()), "int64"),
        (Split(split.inputs, split.labels[:3]), "int64"),
        (Split(torch.zeros(4, 3, 3), split.labels), "shaped like those of train"),
        (Split(torch.zeros(0, 2, 3), split.labels[:0]), "not empty"),
        (Split(split.inputs, split.labels + 1), "between 0 and 1"),
    ]:
        with pytest.raises(ValueError, match=f"'t', validation split: .*{says}"):
            dataclasses.replace(good, validation=validation)
    for change in ({"batch_size": 0}, {"width": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}):
        with pytest.raises(ValueError, match="'t'"):
            dataclasses.replace(good, **change)
