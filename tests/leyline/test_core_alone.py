"""The core loads nothing but the standard library and typing-extensions, and says what to install for the rest."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CORE = ["leyline.telemetry", "leyline", "leyline.wire", "karn.aggregator", "nissa.output"]
BLOCKED = ["torch", "numpy", "gymnasium", "sklearn", "rich", "textual", "plotly", "duckdb", "hypothesis", "tensorboard"]


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("module", CORE)
def test_importing_it_loads_only_the_standard_library_and_typing_extensions(module: str) -> None:
    program = f"""
import json, sys
before = set(sys.modules)
for name in {BLOCKED!r}: sys.modules[name] = None
import esper.{module}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""
    loaded = set(json.loads(run(program))) - set(BLOCKED)
    assert loaded - sys.stdlib_module_names <= {"esper", "typing_extensions"}


def test_importing_the_contract_does_not_compile_the_codecs() -> None:
    program = "import sys, esper.leyline.telemetry; print([m for m in sys.modules if m.startswith('esper.leyline.')])"
    loaded = run(program)
    assert "'esper.leyline.telemetry'" in loaded
    assert "esper.leyline._payload.codec" not in loaded
    assert "esper.leyline.wire" not in loaded


def test_events_make_the_round_trip_without_any_extra() -> None:
    program = f"""
import sys
for name in {BLOCKED!r}: sys.modules[name] = None
from esper.leyline import EpochCompletedPayload, TelemetryEvent
from esper.leyline.wire import decode_event, encode_event
event = TelemetryEvent(data=EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=0.7, inner_epoch=1))
print(decode_event(encode_event(event)) == event)
"""
    assert run(program) == "True\n"


def test_the_strategies_say_what_to_install() -> None:
    program = """
import sys
sys.modules["hypothesis"] = None
try: import esper.leyline.testing
except ImportError as error: print(error)
"""
    assert "pip install 'esper-telemetry[dev]'" in run(program)
