"""Each room has a front door: what a user needs is imported from the room itself, and costs nothing before it is."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

ROOMS = ["leyline", "nissa", "karn"]
LAZY = {
    "leyline": ["esper.leyline.wire", "esper.leyline._payload.codec"],
    "nissa": ["esper.nissa.sinks", "esper.leyline.wire"],
    "karn": ["esper.karn.report", "esper.karn.dashboard", "esper.leyline.wire", "esper.nissa"],
}


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_that_a_room_offers_can_be_imported_from_it(room: str) -> None:
    package = importlib.import_module(f"esper.{room}")
    assert package.__all__ == sorted(package.__all__, key=lambda name: (not name.isupper(), name))
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_imports_nothing_that_is_not_asked_for(room: str) -> None:
    program = f"import sys, esper.{room}; print([name for name in {LAZY[room]!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_misspelt_is_an_attribute_error_that_names_it(room: str) -> None:
    package = importlib.import_module(f"esper.{room}")
    with pytest.raises(AttributeError, match=rf"'?esper\.{room}'? has no attribute 'Telemtry'"):
        _ = package.Telemtry


def test_a_sink_whose_library_is_missing_says_what_to_install() -> None:
    program = "import sys; sys.modules['wandb'] = None\nfrom esper.nissa import WandbSink\nWandbSink()"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "pip install 'esper-telemetry[wandb]'" in done.stderr
