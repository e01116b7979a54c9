"""TensorBoard: every number a curve under its own name, seed lifecycles as text."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import re
import socket
import time
from pathlib import Path
from typing import Any, TypeAlias

from esper.leyline.telemetry import TelemetryEvent
from esper.nissa.append_only import AppendOnly
from esper.nissa.optional import isolated
from esper.nissa.plotting import Plotter, Point
from esper.nissa.protocol import DeliveryPolicy, Live, Rejected
from esper.nissa.reporting import Reporter

__all__ = ["TensorBoardSink"]

_CAPACITY = 65_536
"""Events that may wait for TensorBoard's files by default."""
_LONGEST_NAME = 200
"""Bytes that a directory's name may have; file systems take 255."""
_Run: TypeAlias = tuple[str, int | None]
"""The group and the environment whose curves are drawn as one run of TensorBoard's."""


class TensorBoardSink:
    """Writes TensorBoard's event files.

    Tags are ``<payload>/<field>``, such as ``PPOUpdate/kl_divergence``, and ``<payload>/<field>/<key>`` for dicts. Each
    environment is a run of its own (``env0``, ``env1``, …), so that TensorBoard draws one number of all of them in one
    chart; so is each A/B group but the default one. Steps are batches, and epochs of the environment, counted on over
    its episodes; an event of which that is unknown is not drawn.

    What was not supplied is not written. What is not finite is written as it is. TensorBoard keeps 32 bits of a float.

    Args:
        directory: TensorBoard's ``--logdir``.
        policy: what happens when the files cannot keep up.

    Raises:
        ImportError: TensorBoard is not installed.
        SinkUnavailableError: it is installed, and does not work.
    """

    name = "tensorboard"

    def __init__(self, directory: str | os.PathLike[str], *, policy: DeliveryPolicy | None = None) -> None:
        self.policy: DeliveryPolicy = Live(capacity=_CAPACITY) if policy is None else policy
        self._events, self._text, self._record = isolated("TensorBoardSink", "TensorBoard", "tensorboard", _modules)
        self._directory = Path(directory)
        self._file_name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}.{id(self)}"
        self._plotter = Plotter()
        self._begun: set[_Run] = set()
        self._reporter = Reporter()
        self._unwritten: dict[_Run, io.BytesIO] = {}

    def write(self, event: TelemetryEvent) -> None:
        """Add the event's numbers, or its text, to what the next flush writes.

        Raises:
            Rejected: TensorBoard's format cannot hold the event.
        """
        try:
            point = self._plotter.point(event)
            if point.step is None:
                return
            message = self._events.Event(wall_time=event.timestamp.timestamp(), step=point.step)
            add = message.summary.value.add
            if point.is_text:
                self._add_text(add(), f"{point.section}/{event.slot_id or 'run'}", _as_table(event))
            for name, number in point.numbers.items():
                add(tag=f"{point.section}/{name}", simple_value=number)
            if event.severity not in {"debug", "info"}:
                self._add_text(add(), f"messages/{event.severity}", event.message)
            self._put((event.group_id, point.env_id), point, message)
        except Exception as error:
            raise Rejected(repr(error)) from error

    def flush(self, *, barrier: bool = True) -> None:  # noqa: ARG002 - it is the log that survives a crash
        """Hand everything to the operating system."""
        for run in list(self._unwritten):
            path = self._path(*run)
            path.mkdir(parents=True, exist_ok=True)
            # Opened anew for each batch: a thousand environments must not use up the files that training may open.
            with AppendOnly(path / self._file_name, self._reporter) as file:
                file.append(self._unwritten[run].getvalue())
            self._begun.add(run)
            del self._unwritten[run]

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _path(self, group_id: str, env_id: int | None) -> Path:
        group = self._directory if group_id == "default" else self._directory / _directory_name(group_id)
        return group if env_id is None else group / f"env{env_id}"

    def _add_text(self, value: Any, tag: str, text: str) -> None:
        value.CopyFrom(self._text)
        value.tag = tag
        value.tensor.string_val[0] = text.encode()

    def _put(self, run: _Run, point: Point, message: Any) -> None:
        before, then = [], message.wall_time
        if run not in self._begun and run not in self._unwritten:
            before.append(self._events.Event(wall_time=then, file_version="brain.Event:2"))
        if point.retracts_from is not None:
            # TensorBoard's own way: a start at a step makes its readers forget what stands there and behind.
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            before.append(self._events.Event(wall_time=then, step=point.retracts_from, session_log=start))
        # Not tensorboard's own EventFileWriter: it wakes a thread of its own for every event.
        unwritten = self._unwritten.setdefault(run, io.BytesIO())
        for each in (*before, message):
            unwritten.write(self._record(each.SerializeToString()))


def _modules() -> tuple[Any, Any, Any]:
    text = importlib.import_module("tensorboard.plugins.text.summary_v2")
    return (
        importlib.import_module("tensorboard.compat.proto.event_pb2"),
        text.text_pb("", "").value[0],  # a form: to make one for each text takes ten times as long
        importlib.import_module("esper.nissa.sinks.tfrecord").record,  # it needs NumPy, as TensorBoard does
    )


def _directory_name(group_id: str) -> str:
    """Return a name for a group's directory: no two groups share one, and none leaves the directory above."""
    name = re.sub(r"[^\w-]", lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), group_id) or "%"
    if re.fullmatch(r"env\d+", name):  # an environment's
        name = f"%65{name[1:]}"
    if len(name.encode()) > _LONGEST_NAME:
        name = f"{name[:40]}%{hashlib.sha256(group_id.encode()).hexdigest()}"
    return name


def _as_table(event: TelemetryEvent) -> str:
    rows = "".join(f"| {name} | {value} |\n" for name, value in event.data.to_dict().items())
    return f"**{event.message or event.event_type.name}**\n\n| field | value |\n|---|---|\n{rows}"
