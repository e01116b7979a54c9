"""TensorBoard's records: a message with its length, and a checksum of each.

TensorBoard's own writer computes the checksum byte by byte in Python, which is most of what a curve costs.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["record"]

_POLYNOMIAL = 0x82F63B78
_PIECE = 1024
"""Bytes that are looked up at once."""


def _tables() -> NDArray[np.uint32]:
    """Return what a byte contributes to the checksum, by the number of bytes behind it, and by the byte."""
    last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = np.where(last & 1, (last >> 1) ^ np.uint32(_POLYNOMIAL), last >> 1).astype(np.uint32)
    tables = np.empty((_PIECE, 256), np.uint32)
    tables[0] = last
    for behind in range(1, _PIECE):
        before = tables[behind - 1]
        tables[behind] = last[before & 0xFF] ^ (before >> 8)
    return tables


_TABLES = _tables()
_BEHIND = np.arange(_PIECE - 1, -1, -1)


def record(message: bytes) -> bytes:
    """Return the record of a message, as it stands in an event file."""
    return b"".join((_length(len(message)), message, _masked_checksum(message)))


@lru_cache(maxsize=4096)
def _length(of: int) -> bytes:
    length = struct.pack("<Q", of)
    return length + _masked_checksum(length)


def _masked_checksum(data: bytes) -> bytes:
    checksum = _crc32c(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli). It is linear: the exclusive or of what each byte contributes at its place."""
    state = 0xFFFFFFFF
    for begin in range(0, len(data), _PIECE):
        piece = np.frombuffer(data, np.uint8, min(_PIECE, len(data) - begin), begin)
        # the state so far is as if it stood in the first four bytes, and what is left of it behind a shorter piece
        carried = np.frombuffer(struct.pack("<I", state), np.uint8)[: len(piece)]
        mixed = piece.copy()
        mixed[: len(carried)] ^= carried
        state = int(np.bitwise_xor.reduce(_TABLES[_BEHIND[-len(piece) :], mixed])) ^ (state >> 8 * len(piece))
    return state ^ 0xFFFFFFFF
