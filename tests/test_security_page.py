"""The security page promises only what a test proves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path("docs/security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))


@pytest.mark.parametrize("named", NAMED)
def test_the_test_that_a_promise_names_exists(named: str) -> None:
    file, _, test = named.partition("::")
    source = Path(file).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in source


def test_every_promise_names_one() -> None:
    promises = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(promises) >= 10
    for line in promises:
        assert "`tests/" in line.rpartition(" | ")[2], line
