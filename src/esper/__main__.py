"""``python -m esper`` is the command ``esper``."""

from __future__ import annotations

import sys

from esper.cli import script

if __name__ == "__main__":
    sys.exit(script())
