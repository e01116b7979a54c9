"""Run by an environment that holds the wheel and typing-extensions only: the core must do its work there.

``make test-core`` runs it. It uses no test framework, because there is none.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tempfile
from pathlib import Path

from esper.karn.aggregator import TelemetryAggregator
from esper.leyline import EpochCompletedPayload, TelemetryEvent
from esper.leyline.wire import read_events
from esper.nissa.output import TelemetryHub
from esper.nissa.sinks.jsonl import JsonlSink


def main() -> None:
    """Write three epochs to a log and fold what is read back."""
    installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    assert installed <= {"esper-telemetry", "typing-extensions", "typing_extensions", "pip", "setuptools"}, installed
    assert importlib.util.find_spec("torch") is None
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "events.jsonl"
        emitted = [
            TelemetryEvent(data=EpochCompletedPayload(env_id=0, val_accuracy=0.5, val_loss=0.7, inner_epoch=epoch))
            for epoch in (1, 2, 3)
        ]
        with TelemetryHub([JsonlSink(log)]) as hub:
            for event in emitted:
                hub.emit(event)
        read = list(read_events(log))
        assert read == emitted, read
        aggregator = TelemetryAggregator()
        for event in emitted:
            aggregator.process(event)
        epoch = aggregator.snapshot().groups["default"].envs[0].epoch
        assert epoch is not None
        assert epoch.data is emitted[-1].data
    print(f"the core works with {', '.join(sorted(installed))}")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
