from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.builders import reported


@pytest.fixture(autouse=True)
def nothing_else_is_reported() -> Iterator[None]:
    """A loss that a test does not expect is an error, as a warning is."""
    with reported(None) as messages:
        yield
    assert messages == []
