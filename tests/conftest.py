"""What every test stands on."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings
from tests.effort import EFFORT, tries

import esper

# Two processes test at once on as many cores, and more threads of torch's and NumPy's only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

IN_CI = "CI" in os.environ

# Time is not what these tests are about, and machines differ. CI judges a change by the same examples every time; new
# ones are looked for wherever else the tests run.
settings.register_profile(
    "esper",
    max_examples=tries(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=IN_CI,
)
settings.load_profile("esper")


def pytest_collection_finish() -> None:
    """Import all of esper, in CI.

    Hypothesis draws from the constants of the modules that are there: which ones are must not depend on the tests that
    happened to run before in the same process.
    """
    for module in pkgutil.walk_packages(esper.__path__, "esper.") if IN_CI else ():
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)


TO_SHRINK = 300.0
"""How long Hypothesis makes a failing example smaller. Unit: seconds."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a test that draws its examples the time to make one that fails small.

    A timeout meanwhile would be taken for a failure of its own, and called flaky.
    """
    if config.pluginmanager.hasplugin("timeout"):
        usual = float(config.getini("timeout"))
        for item in items:
            if is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker(pytest.mark.timeout(usual * EFFORT + TO_SHRINK))


# Whoever runs the tests in the background has them, and every child that they start, ignore what they test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
