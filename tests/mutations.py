"""Damaged files: every parser meets bytes that were changed at random, and only its documented error leaves it.

Run: PYTHONPATH=. python tests/mutations.py --times 100000

prints a line for each kind of file, and ends with status 1 where the promise was broken, with what reproduces it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from io import BytesIO, StringIO
from pathlib import Path

import torch
from tests.builders import event, examples

from esper.commands.health import read_limits
from esper.karn.importing.mapping import MapError, read_map
from esper.leyline.limits import Limits, Status
from esper.leyline.printable import is_printable
from esper.leyline.run_directory import RunDirectory
from esper.leyline.run_info import RunInfoError
from esper.leyline.telemetry import EVENT_TYPES, BatchEpochCompletedPayload, TelemetryEvent
from esper.leyline.validate import rejected_events
from esper.leyline.wire import encode_event, read_events
from esper.simic.config import TrainingConfig
from esper.simic.training.checkpoint import Checkpoint
from esper.simic.training.trained import TrainedPolicy, policy_shape
from esper.tamiyo.policy import Policy

__all__ = ["FILES", "BrokenPromiseError", "Damaged", "meet"]

_TOKENS = [
    b'"', b"{", b"}", b"[", b"]", b":", b",", b"\n", b"\\", b"\0", b"\xff", b"\xed\xa0\x80", b"null", b"true", b"1e999",
    b"-1", b"NaN", b"Infinity", b"9" * 5_000, b"[" * 3_000, b'{"a":' * 300, b"\x1b[2J", "\u202e".encode(),
    b"\xef\xbb\xbf", b"\x80\x02", b"cos\nsystem\n", b"PK\x03\x04", b"0x", b"=", b"'''", b"inf", b"1" * 400,
    b"2026-13-45T99:99:99Z",
]  # fmt: skip


class BrokenPromiseError(AssertionError):
    """A parser let something else out than what it documents, or said it so that a screen would act."""


@dataclass(frozen=True)
class Damaged:
    """A kind of file, and how it is read."""

    name: str
    whole: bytes
    """What the file holds before it is damaged."""
    read: Callable[[Path], object]
    """Reads it, as commands do."""
    errors: tuple[type[Exception], ...]
    """What may leave `read`: nothing, or its documented error."""


def mutated(content: bytes, choose: random.Random) -> bytes:
    """Change a few bytes of a file: flipped, replaced, cut out, doubled, moved; or cut it off."""
    data = bytearray(content)
    for _ in range(choose.choice((1, 1, 2, 4, 16))):
        at = choose.randrange(len(data) + 1)
        length = choose.choice((1, 1, 2, 8, 64))
        match choose.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << choose.randrange(8)
            case 1:
                data[at : at + length] = choose.randbytes(length)
            case 2:
                data[at:at] = choose.choice(_TOKENS)
            case 3:
                data[at : at + length] = choose.choice(_TOKENS)
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[choose.randrange(len(data) + 1) :][:length]
            case 6 if not choose.randrange(4):
                del data[at:]
    return bytes(data)


def meet(damaged: Damaged, times: int, seed: int = 0) -> int:
    """Read a file damaged so often; return how often it was refused.

    Raises:
        BrokenPromiseError: something else than the documented error left the parser; the message says by which bytes.
    """
    refused = 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, damaged.name)
        for number in range(times):
            content = mutated(damaged.whole, random.Random(f"{seed}-{damaged.name}-{number}"))
            path.write_bytes(content)
            try:
                damaged.read(path)
            except damaged.errors as error:
                refused += 1
                line = str(error)
                if str(path) not in f"{line}{error.filename if isinstance(error, OSError) else ''}":
                    raise BrokenPromiseError(
                        f"{damaged.name} {seed} {number}: does not name the file: {line}"
                    ) from error
                if len(line) > 2_000:
                    raise BrokenPromiseError(f"{damaged.name} {seed} {number}: {len(line)} characters") from error
            except Exception as error:
                raise BrokenPromiseError(f"{damaged.name} {seed} {number}: {type(error).__name__}: {error}") from error
    return refused


def _read_log(path: Path) -> None:
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    records = list(read_events(path))
    assert len(records) == lines
    for record in records:
        if not isinstance(record, TelemetryEvent):
            assert len(record.reason) < 20_000


def _read_rejected(path: Path) -> None:
    for line in rejected_events(path.parent):
        assert is_printable(line)


def _read_limits(path: Path) -> None:
    limits = read_limits(str(path), Limits())
    for status in (Status.WATCH, Status.BAD):
        limits.kl(status), limits.ratio(status), limits.clip_fraction(status)


_MAP = b"""kind = "event_type"
data = "data"
drop = ["hostname"]

[envelope]
timestamp = { from = "ts", zone = "Europe/Berlin" }

[kinds.SEED_CULLED]
to = "SEED_PRUNED"
drop = ["seed_id"]

[kinds.SEED_CULLED.envelope]
timestamp = { from = "ts", unix = "ms" }

[kinds.SEED_CULLED.fields]
improvement = { from = "improvement", scale = 0.01 }
slot_id = "/slot_id"
auto_pruned = { assume = false }
reason = { from = "to", values = { CULLED = "policy" } }

[kinds.heartbeat]
skip = true
"""


def _saved(content: object) -> bytes:
    file = BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _policy() -> tuple[bytes, bytes]:
    config = TrainingConfig(slots=1, ab=("shaped", "sparse"))
    with tempfile.TemporaryDirectory() as directory:
        policy = Policy(policy_shape(config), torch.Generator())
        TrainedPolicy(config, policy_shape(config), policy.state_dict()).save(Path(directory, "policy.pt"))
        pending = event(BatchEpochCompletedPayload)
        Checkpoint(config, 1, (), pending).save(Path(directory, "checkpoint.pt"))
        return Path(directory, "policy.pt").read_bytes(), Path(directory, "checkpoint.pt").read_bytes()


def _info() -> bytes:
    sink = {"name": "jsonl", "durable": True, "emitted": 2, "delivered": 1, "rejected": 1, "dropped": 0, "queued": 0}
    estimate = {"mean": 1.5, "standard_error": "NaN"}
    score = {"reward": estimate, "val_accuracy": estimate, "test_accuracy": estimate}
    return json.dumps(
        {
            "status": "completed", "started": "2026-01-01T00:00:00+00:00", "ended": None, "error": None,
            "configuration": {"lr": 0.1, "target_kl": 0.02, "ab": ["a", "b"], "deep": {"a": [1, {"b": None}]}},
            "versions": {"python": "3.11"},
            "sinks": [{**sink, "lag": 0.0, "set_aside": False, "last_error": None}],
            "evaluation": {"episodes": 2, "learnt": score, "random": score, "do_nothing": score},
            "verdict": {"status": "OK", "headline": "fine", "findings": []},
        },
        indent=1,
    ).encode()  # fmt: skip


def _read_info(path: Path) -> None:
    info = RunDirectory(path.parent).read_info()
    assert info is not None
    Limits.of_run(info.configuration)


def files() -> Iterator[Damaged]:
    """Make a whole file of each kind."""
    lines = [encode_event(TelemetryEvent(data=cls(**examples(cls)))) for cls in EVENT_TYPES]
    policy, checkpoint = _policy()
    rejected = json.dumps({"event_id": "e", "event_type": "t", "field": "f", "reason": "r", "event": {"a": [1]}})
    yield Damaged("events.jsonl", "".join(f"{line}\n" for line in lines).encode(), _read_log, ())
    yield Damaged("rejected.jsonl", f"{rejected}\n{rejected}\n".encode(), _read_rejected, ())
    yield Damaged("run.json", _info(), _read_info, (RunInfoError,))
    toml = "".join(f"{name} = {value}\n" for name, value in asdict(Limits()).items() if value is not None)
    yield Damaged("limits.toml", toml.encode(), _read_limits, (ValueError,))
    yield Damaged("limits.json", b'{"kl_watch": 0.1, "kl_bad": 1, "seeds": 3.5}', _read_limits, (ValueError,))
    yield Damaged("map.toml", _MAP, read_map, (MapError,))
    yield Damaged("policy.pt", policy, TrainedPolicy.load, (ValueError,))
    yield Damaged("checkpoint.pt", checkpoint, Checkpoint.load, (ValueError,))


FILES = {damaged.name: damaged for damaged in files()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    args = parser.parse_args()
    warnings.simplefilter("error")
    for name, damaged in FILES.items():
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            try:
                refused, broken = meet(damaged, args.times, args.seed), ""
            except BrokenPromiseError as error:
                refused, broken = 0, str(error)
        what = broken or f"{args.times:,} times damaged, {refused:,} times refused"
        print(f"{name}, seed {args.seed}: {what}", flush=True)  # noqa: T201 - a script
        if broken:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
