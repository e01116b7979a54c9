"""How hard the tests try that draw their examples: in a change's checks a little, in `make soak` more."""

from __future__ import annotations

import os

__all__ = ["EFFORT", "tries"]

EFFORT = int(os.environ.get("EFFORT", "1"))
"""How many times as many examples as usual."""


def tries(usual: int) -> int:
    """Return how many examples a test tries; few are usual where each is a whole run, database or page."""
    return usual * EFFORT
