r"""One event, one line of strict JSON; and a reader that never skips a line without a word.

A line is an object whose keys are ``schema_version`` and the event's field names. Floats that are not finite are the
strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` in fields typed float; inside containers of Any they are
``{"$float": "NaN"}``, and a dict that could be mistaken for that is wrapped as ``{"$dict": {…}}``. A field that was not
supplied is not written. Text is ASCII with ``\u`` escapes.

What `read_events` makes of a line that is not right:

=====================================  =================================================================
empty                                  `InvalidRecord` of kind ``empty``
last line cut off                      ``torn``
more than 128 MiB                      ``long``
not UTF-8                              ``utf-8``
not JSON, NaN tokens, duplicate keys,  ``json``
nesting bombs, integers beyond Python
not an object, no ``schema_version``   ``envelope``
a newer ``schema_version``             ``version``
fields missing, unknown, mistyped,     ``missing``, ``unknown``, ``type``
an unknown event type, lone surrogates,
containers more than 64 deep
=====================================  =================================================================

CRLF line ends and a byte order mark at the start are accepted. Digits of a timestamp below microseconds are not kept.
Behind a line that is too long reading goes on in a file, which has an end; a pipe or a device is read no further.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from json import JSONDecodeError
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias, TypeVar

from esper.leyline._payload.envelope import UNUSUAL
from esper.leyline._payload.parsing import strict
from esper.leyline._payload.wording import brief
from esper.leyline.errors import MissingFieldError, PayloadError, UnknownFieldError, WireError, WireProblem
from esper.leyline.lines import LONGEST_LINE, has_end, open_log, read_lines_of
from esper.leyline.position import Shard
from esper.leyline.telemetry import SCHEMA_VERSION, TelemetryEvent

__all__ = [
    "SCHEMA_VERSION",
    "InvalidRecord",
    "InvalidRecordKind",
    "Source",
    "decode_event",
    "encode_event",
    "log_files",
    "read_as",
    "read_events",
    "read_shards",
    "salvage",
    "shard_of",
]

InvalidRecordKind: TypeAlias = WireProblem | Literal["missing", "unknown", "type"]
Source: TypeAlias = str | os.PathLike[str] | IO[str] | IO[bytes]
"""A log file, a run directory, ``-`` for standard input, or an open stream."""


@dataclass(frozen=True, slots=True)
class InvalidRecord:
    """A line of a log that is not an event."""

    file: str
    """Name of the file, or of the stream."""
    line: int
    """Number of the line, the first being 1."""
    kind: InvalidRecordKind
    """What is wrong, as one of a few words."""
    reason: str
    """What is wrong, in full: what was expected where, and what came."""
    text: str
    """The raw line; bytes that are not UTF-8 as ``\\xNN``. Of one that is too long the beginning."""


T = TypeVar("T")
_Record: TypeAlias = TelemetryEvent | InvalidRecord


def encode_event(event: TelemetryEvent) -> str:
    """Return the event as one line of ASCII, without the line end.

    Raises:
        PayloadError: the event holds what the contract does not allow, such as a tensor or a lone surrogate.
    """
    line: str = event._codec.to_json(event)  # noqa: SLF001 - the same room
    return line


def salvage(event: TelemetryEvent) -> dict[str, Any]:
    """Return what can be written of an event that `encode_event` refuses, as JSON values; never raises.

    Returns:
        ``event``: the fields of the envelope and, under ``data``, of the payload, as `encode_event` writes them,
        without those that cannot be written. ``unwritable``: of each of these the ``field`` (``data.policy_loss``),
        what was ``expected``, the ``type`` that came and its ``value``, the beginning of its repr.
    """
    written, unwritable = event._codec.salvage(event)  # noqa: SLF001 - as above
    return {"event": json.loads(written), "unwritable": unwritable}


def decode_event(line: str | bytes) -> TelemetryEvent:
    """Return the event that a line holds.

    Raises:
        WireError: the line is not strict JSON, not an envelope, or of a newer schema version.
        PayloadError: a field of the envelope or of the payload is missing, unknown or of another type.
    """
    if isinstance(line, bytes):
        try:
            line = line.decode()
        except UnicodeDecodeError as error:
            raise WireError("utf-8", f"not UTF-8: {error.reason} at byte {error.start}") from None
    codec = TelemetryEvent._codec  # noqa: SLF001 - the same room
    event: TelemetryEvent
    for read in (codec.from_line, codec.from_any_line):
        try:
            event = read(line)
        except UNUSUAL:
            continue
        return event
    return _decode_carefully(line)


def _decode_carefully(line: str) -> TelemetryEvent:
    """Read a line of any form, or say what is wrong with it."""
    text = line.strip(" \t\r\n")
    if not text:
        raise WireError("empty", "an empty line")
    record = _parse(text)
    if not isinstance(record, dict):
        raise WireError("envelope", f"expected a JSON object, got {type(record).__name__}")
    if "schema_version" not in record:
        raise WireError("envelope", "no schema_version: this is not a line of an esper log")
    version = record["schema_version"]
    if version.__class__ is not int or version < 1:
        raise WireError("envelope", f"schema_version: expected a number from 1, got {brief(version)}")
    if version > SCHEMA_VERSION:
        raise WireError(
            "version",
            f"written with schema version {brief(version)}, and this esper reads up to {SCHEMA_VERSION}: "
            "upgrade with pip install -U esper-telemetry",
        )
    event: TelemetryEvent = TelemetryEvent._codec.from_json(record)  # noqa: SLF001 - the same room
    return event


class _UnparsableError(WireError):
    """What a line may come to by being cut off, as opposed to JSON that is not strict."""


def _parse(text: str) -> Any:
    try:
        value, end = strict.raw_decode(text)
    except JSONDecodeError as error:
        raise _UnparsableError("json", f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise WireError("json", "nested too deeply") from None
    except WireError:
        raise
    except ValueError as error:
        raise WireError("json", f"not readable: {error}") from None
    if end != len(text):
        raise WireError("json", f"not JSON: more text after the object, at column {end + 1}")
    return value


def log_files(source: str | os.PathLike[str]) -> list[Path]:
    """Return the log files of a run directory, or the file itself.

    Raises:
        FileNotFoundError: there is no such file, or no log in the directory.
    """
    path = Path(source)
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"no such log: {path}")
        return [path]
    files = sorted([*path.glob("events.jsonl"), *path.glob("events-rank*.jsonl")])
    if not files:
        raise FileNotFoundError(f"no log in {path}: expected events.jsonl or events-rank*.jsonl")
    return files


def shard_of(path: Path) -> Shard:
    """Return which shard of a run a log file is, by its name: its rank's; None for the log of a process on its own."""
    rank = path.stem.removeprefix("events-rank")
    return int(rank) if rank != path.stem and rank.isdecimal() else None


def read_shards(source: Source) -> Iterator[tuple[Shard, TelemetryEvent | InvalidRecord]]:
    """Read a log as `read_events` does, and say which shard each record comes from, for `esper.leyline.position`.

    Args:
        source: a log file, a run directory, ``-`` for standard input, or an open stream.

    Raises:
        FileNotFoundError: there is nothing to read.
    """
    if isinstance(source, str | os.PathLike):
        if os.fspath(source) == "-":
            return ((None, record) for record in read_as("-", decode_event))
        files = log_files(source)
        shards = [_of_shard(shard_of(path), _read_file(path, len(files), decode_event)) for path in files]
        if len(shards) == 1:
            return shards[0]
        return (record for _, record in heapq.merge(*map(_in_time, shards), key=lambda pair: pair[0]))
    return ((None, record) for record in _read_stream(source, str(getattr(source, "name", "<stream>")), decode_event))


def _of_shard(shard: Shard, records: Iterator[_Record]) -> Iterator[tuple[Shard, _Record]]:
    for record in records:
        yield shard, record


def read_events(source: Source) -> Iterator[TelemetryEvent | InvalidRecord]:
    """Read a log: events in order, and in place of each line that is not one an `InvalidRecord`.

    The shards of several ranks are merged by timestamp, each shard keeping its own order.

    Args:
        source: a log file, a run directory, ``-`` for standard input, or an open stream.

    Raises:
        FileNotFoundError: there is nothing to read.
    """
    return (record for _, record in read_shards(source))


def _in_time(records: Iterator[tuple[Shard, _Record]]) -> Iterator[tuple[datetime, tuple[Shard, _Record]]]:
    # The newest time so far, since a clock may go back and an invalid line has none.
    time = datetime.min.replace(tzinfo=UTC)
    for shard, record in records:
        if isinstance(record, TelemetryEvent):
            time = max(time, record.timestamp)
        yield time, (shard, record)


def read_as(file: str, decode: Callable[[bytes], T]) -> Iterator[T | InvalidRecord]:
    """Read one log as `read_events` does, each line by another decoder that raises what `decode_event` does.

    Args:
        file: a log file, or ``-`` for standard input.
        decode: what makes something of a line.
    """
    if file != "-":
        return _read_file(Path(file), 1, decode)
    if sys.stdin is None or sys.stdin.closed:
        raise OSError(errno.EBADF, "standard input is closed")
    return _read_stream(sys.stdin.buffer, "<stdin>", decode)


_NO_END: Final = ", and no end in sight: what follows is not read"
_SHOWN_OF_LONG: Final = 1_000
"""Bytes of a line that is too long."""


def _read_file(path: Path, together: int, decode: Callable[[bytes], T]) -> Iterator[T | InvalidRecord]:
    with open_log(path, together=together) as stream:
        yield from _read_stream(stream, str(path), decode)


def _read_stream(stream: IO[str] | IO[bytes], name: str, decode: Callable[[bytes], T]) -> Iterator[T | InvalidRecord]:
    surrogates = "surrogatepass"
    if isinstance(stream, io.TextIOWrapper):
        with contextlib.suppress(io.UnsupportedOperation):  # somebody has begun to read it
            stream.reconfigure(errors="surrogateescape")  # bytes that are not UTF-8 are for us to report
            surrogates = "surrogateescape"
    for number, raw in enumerate(read_lines_of(stream), 1):
        line = raw.encode("utf-8", surrogates) if isinstance(raw, str) else raw
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        kind: InvalidRecordKind
        try:
            if len(raw) > LONGEST_LINE:
                raise WireError("long", f"more than {LONGEST_LINE >> 20} MiB{'' if has_end(stream) else _NO_END}")
            yield decode(line)
            continue
        except WireError as error:
            torn = not line.endswith(b"\n") and (isinstance(error, _UnparsableError) or error.kind == "utf-8")
            kind = "torn" if torn else error.kind
            reason = f"the log ends within this line ({error})" if torn else str(error)
        except MissingFieldError as error:
            kind, reason = "missing", str(error)
        except UnknownFieldError as error:
            kind, reason = "unknown", str(error)
        except PayloadError as error:
            kind, reason = "type", str(error)
        text = line[:_SHOWN_OF_LONG] if kind == "long" else line
        yield InvalidRecord(name, number, kind, reason, text.decode("utf-8", "backslashreplace").rstrip("\r\n"))
