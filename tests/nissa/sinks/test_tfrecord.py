from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("tensorboard")

from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]  # it has none

from esper.nissa.sinks.tfrecord import record


@given(st.binary(max_size=4000))
@example(b"")
@example(b"123456789")
@example(bytes(1023))
@example(bytes(1024))
@example(b"\xff" * 1025)
@example(b"\x01" * 2051)
def test_a_record_is_the_one_that_tensorboard_writes(message: bytes) -> None:
    written = io.BytesIO()
    RecordWriter(written).write(message)
    assert record(message) == written.getvalue()
