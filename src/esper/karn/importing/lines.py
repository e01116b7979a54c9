"""The lines of an old log: a file, plain or compressed by gzip, or standard input."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from esper.leyline.lines import LONGEST_LINE, read_lines_of

__all__ = ["NotJsonError", "numbered_lines", "parsed"]

_GZIP: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class NotJsonError(ValueError):
    """A line is no JSON, or says a thing twice; the message says why."""


@contextmanager
def numbered_lines(source: str, progress: Callable[[int], None] | None = None) -> Iterator[Iterator[tuple[int, bytes]]]:
    """Open a log.

    Args:
        source: a file, or ``-`` for standard input.
        progress: called now and then with how many bytes of the file were read since.

    Yields:
        The lines with their numbers, the first being 1; those of spaces alone are left out.

    Raises:
        ValueError: while reading: a line is too long, or the file is compressed and damaged.
        OSError: it cannot be read.
    """
    with ExitStack() as stack:
        raw = _standard_input() if source == "-" else stack.enter_context(Path(source).open("rb"))
        packed = raw.peek(2)[:2] == _GZIP
        stream = cast("BinaryIO", stack.enter_context(gzip.open(raw)) if packed else raw)
        yield _lines(source, stream, raw, progress)


def _standard_input() -> BufferedReader:
    if sys.stdin is None or sys.stdin.closed:
        raise ValueError("- is standard input, which is closed")
    buffer = sys.stdin.buffer
    return buffer if isinstance(buffer, BufferedReader) else BufferedReader(cast("RawIOBase", buffer))


def _lines(
    source: str, stream: BinaryIO, raw: BinaryIO, progress: Callable[[int], None] | None
) -> Iterator[tuple[int, bytes]]:
    number = told = 0
    try:
        for number, line in enumerate(cast("Iterator[bytes]", read_lines_of(stream)), 1):
            if len(line) > LONGEST_LINE:
                raise ValueError(f"{source}: line {number} is longer than {LONGEST_LINE >> 20} MiB: this is no log")
            if progress is not None and number % 512 == 0 and source != "-":
                progress(raw.tell() - told)
                told = raw.tell()
            if line.strip():
                yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{source}: damaged after line {number}: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise NotJsonError("a key that stands twice in one object")
    return made


_decode = json.JSONDecoder(object_pairs_hook=_object).decode


def parsed(line: bytes) -> Any:
    """Return what a line of an old log says: JSON, in which NaN, Infinity and -Infinity may stand bare.

    Raises:
        NotJsonError: it is none.
    """
    try:
        return _decode(line.decode())
    except UnicodeDecodeError:
        raise NotJsonError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise NotJsonError(f"not JSON: {error.msg}") from None
    except NotJsonError:
        raise
    except ValueError:
        raise NotJsonError("not JSON: a number of too many digits") from None
    except RecursionError:
        raise NotJsonError("nested too deeply") from None
