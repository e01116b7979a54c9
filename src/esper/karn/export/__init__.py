"""Runs as tables: Parquet, CSV, DuckDB or Arrow, one table a kind of event. Extra ``export``.

Everything passes the one reader and `esper.leyline.position`, so that what a resume took back, and which batch and
episode an event is of, is what every other view says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esper.leyline._lazy import lazy

if TYPE_CHECKING:
    from esper.karn.export.exporting import FORMATS, Exported, Format, export, format_of, tables
else:  # what the columns are is known without the extra
    __getattr__, __dir__ = lazy(
        __name__,
        FORMATS="esper.karn.export.exporting",
        Exported="esper.karn.export.exporting",
        Format="esper.karn.export.exporting",
        export="esper.karn.export.exporting",
        format_of="esper.karn.export.exporting",
        tables="esper.karn.export.exporting",
    )

__all__ = ["FORMATS", "Exported", "Format", "export", "format_of", "tables"]
