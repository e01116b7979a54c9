"""Tasks beside the built-in one, for runs of the verdicts' bench; all data come with scikit-learn."""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer, load_wine

from esper.simic.tasks import Task


def wine() -> Task:
    inputs, labels = load_wine(return_X_y=True)
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    return Task.from_arrays("wine", inputs, labels, train=96, validation=48, batch_size=32)


def cancer() -> Task:
    inputs, labels = load_breast_cancer(return_X_y=True)
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    return Task.from_arrays("cancer", inputs, labels, train=256, validation=160, batch_size=64)
