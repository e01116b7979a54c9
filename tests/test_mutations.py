"""A damaged file is read, or refused by its parser's documented error in one line that names it; nothing else."""

from __future__ import annotations

import pytest
from tests.mutations import FILES, meet

TIMES = {"policy.pt": 300, "checkpoint.pt": 300}


@pytest.mark.parametrize("name", FILES)
def test_only_the_documented_error_leaves_the_parser_of(name: str) -> None:
    times = TIMES.get(name, 1_000)
    assert 0 <= meet(FILES[name], times) <= times
