"""What a log holds that is no event, in a few sentences however many lines it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from esper.leyline.printable import printable
from esper.leyline.wire import InvalidRecord

__all__ = ["InvalidLines", "NoEventsError"]

_WITHOUT_VERSION = "no schema_version"


class NoEventsError(ValueError):
    """A source that should be a log holds no event; the message says what it holds instead."""


@dataclass(slots=True)
class InvalidLines:
    """Counts lines by what is wrong with them, at a memory that does not depend on how many there are."""

    total: int = 0
    kinds: dict[tuple[str, str, bool], tuple[int, InvalidRecord]] = field(default_factory=dict)
    """How many, and the first, by file, kind and whether it is a line of another program."""

    def add(self, record: InvalidRecord) -> None:
        """Count one line."""
        self.total += 1
        key = (record.file, record.kind, record.reason.startswith(_WITHOUT_VERSION))
        count, first = self.kinds[key] if key in self.kinds else (0, replace(record, text=""))
        self.kinds[key] = count + 1, first

    def sentences(self) -> list[str]:
        """Return a sentence for each kind, such as ``4,180 lines without schema_version, first in line 1``."""
        several = len({file for file, _, _ in self.kinds}) > 1
        return [
            f"{count:,} {'line' if count == 1 else 'lines'} "
            + ("without schema_version" if foreign else f"of kind {kind}")
            + f", first in {f'{record.file}, ' if several else ''}line {record.line}"
            + ("" if foreign else f" ({printable(record.reason)})")
            for (_, kind, foreign), (count, record) in self.kinds.items()
        ]

    def no_events(self, source: object) -> NoEventsError:
        """Return the error of a source in which there was nothing else."""
        return NoEventsError(f"no events in {source}: {'; '.join(self.sentences()) or 'it is empty'}")
