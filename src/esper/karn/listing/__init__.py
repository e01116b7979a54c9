"""Many runs: what lies below a directory, what each of them came to, and which of them are asked for."""

from __future__ import annotations

from esper.karn.listing.cache import Listing, list_runs
from esper.karn.listing.discover import FoundRun, discover
from esper.karn.listing.filters import chosen, ordered
from esper.karn.listing.row import RunRow, read_rows
from esper.karn.listing.table import rows_json, runs_table

__all__ = [
    "FoundRun",
    "Listing",
    "RunRow",
    "chosen",
    "discover",
    "list_runs",
    "ordered",
    "read_rows",
    "rows_json",
    "runs_table",
]
