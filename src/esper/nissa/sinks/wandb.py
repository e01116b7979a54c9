"""Weights & Biases: every number a metric under its own name, the configuration as the run's config."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from esper.leyline.telemetry import TelemetryEvent, TrainingStartedPayload
from esper.nissa.optional import isolated
from esper.nissa.plotting import Plotter, Point
from esper.nissa.protocol import DeliveryPolicy, Live, Rejected

__all__ = ["WandbSink"]

_CAPACITY = 65_536
"""Events that may wait for Weights & Biases by default."""


class WandbSink:
    """Logs to a run of Weights & Biases.

    Metrics are ``<payload>/<field>``, such as ``PPOUpdate/kl_divergence``, ``<payload>/<field>/<key>`` for dicts, and
    have ``/env0`` behind them when they are about one environment; those of an A/B group but the default one have its
    name before them. They are drawn over ``batch``, and over ``env_epoch``, the epochs of the environment counted on
    over its episodes. What is measured at one step is one row. Seed lifecycles are rows of text. An event whose step is
    unknown is not logged. What a resume takes back stays, and rows since have ``drawn_anew``.

    What was not supplied is not logged. What is not finite is logged as it is.

    Args:
        directory: where wandb keeps the run; mode, project and the rest follow ``WANDB_MODE``, ``WANDB_PROJECT`` and
            the like. ``WANDB_MODE=offline`` needs neither account nor network.
        run: log to this run of yours instead, which the sink finishes too.
        policy: what happens when wandb cannot keep up.

    Raises:
        ImportError: wandb is not installed.
        SinkUnavailableError: it is installed, and does not work, or cannot begin a run.
    """

    name = "wandb"

    def __init__(
        self, directory: str | os.PathLike[str] = ".", *, run: Any = None, policy: DeliveryPolicy | None = None
    ) -> None:
        self.policy: DeliveryPolicy = Live(capacity=_CAPACITY) if policy is None else policy
        wandb: Any = isolated("WandbSink", "Weights & Biases", "wandb", lambda: importlib.import_module("wandb"))

        def init() -> Any:
            return wandb.init(dir=os.fspath(directory))

        hint = "WANDB_MODE=offline needs neither account nor network"
        self._run = isolated("WandbSink", "Weights & Biases", "wandb", init, hint=hint) if run is None else run
        self._plotter = Plotter()
        self._axes: dict[str, str] = {}
        self._rows: dict[tuple[str, int], dict[str, object]] = {}

    def write(self, event: TelemetryEvent) -> None:
        """Add the event to the row of its step.

        Raises:
            Rejected: wandb cannot hold the event.
        """
        try:
            point = self._plotter.point(event)
            if isinstance(event.data, TrainingStartedPayload):
                self._run.config.update(event.data.to_dict(), allow_val_change=True)
                return
            if point.step is None:
                return
            prefix = "" if event.group_id == "default" else f"{event.group_id}/"
            suffix = "" if point.env_id is None else f"/env{point.env_id}"
            section = f"{prefix}{point.section}"
            values = {f"{section}/{name}{suffix}": value for name, value in _values(event, point).items()}
            # text that is not valid Unicode would only fail far from here
            "".join([*values, *(value for value in values.values() if isinstance(value, str))]).encode()
        except Exception as error:
            raise Rejected(repr(error)) from error
        if section not in self._axes:
            self._axes[section] = point.axis
            self._run.define_metric(f"{section}/*", step_metric=point.axis)
        if point.begun_anew:
            values[f"{prefix}drawn_anew"] = point.begun_anew
        self._rows.setdefault((point.axis, point.step), {}).update(values)

    def flush(self, *, barrier: bool = True) -> None:  # noqa: ARG002 - it is the log that survives a crash
        """Hand the rows to wandb's own process."""
        for axis, step in list(self._rows):
            self._run.log({axis: step, **self._rows[axis, step]})
            del self._rows[axis, step]

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def _values(event: TelemetryEvent, point: Point) -> Mapping[str, object]:
    return {event.slot_id or "run": event.message or event.event_type.name} if point.is_text else point.numbers
