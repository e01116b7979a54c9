"""Somebody else's PPO learns on the growing network."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from esper.simic.determinism import one_thread

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def maskable(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    specification = importlib.util.spec_from_file_location("maskable", BENCHMARKS / "maskable.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
