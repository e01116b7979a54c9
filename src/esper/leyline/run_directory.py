"""The directory of a run: what its files are called, and what is refused before a run begins.

::

    events.jsonl         the log; events-rank0.jsonl, … when several processes train together
    rejected.jsonl       events that could not be encoded, with the reason
    run.json             what is known beside the events; rewritten whole at every barrier
    policy.pt            the learnt policy
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from esper.leyline.run_info import RunInfo, RunInfoError, parse_run_info
from esper.leyline.strict_json import strict_json

__all__ = ["RunDirectory", "RunDirectoryError"]

_OURS = ("events.jsonl", "events-rank*.jsonl", "rejected*.jsonl", "run.json", "policy.pt")


class RunDirectoryError(ValueError):
    """A directory cannot be what it is asked to be; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run's files. Use `create` for a new run and `open` for one that exists."""

    path: Path

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Make a directory for a new run; one that exists is taken when it holds no run.

        Raises:
            RunDirectoryError: it holds a run already, is no directory, or cannot be written.
        """
        run = cls(Path(path))
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            occupied = sorted(file.name for pattern in _OURS for file in run.path.glob(pattern))
            with tempfile.TemporaryFile(dir=run.path):
                pass
        except (FileExistsError, NotADirectoryError):
            raise RunDirectoryError(f"{path} cannot be a run directory: there is a file of that name") from None
        except OSError as error:
            raise RunDirectoryError(f"{path} cannot be written: {error.strerror}") from None
        if occupied:
            raise RunDirectoryError(f"{path} holds a run already ({', '.join(occupied)}); choose another directory")
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Take the directory of a run that was begun.

        Raises:
            RunDirectoryError: there is no such directory, or no run in it.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            raise RunDirectoryError(f"no such run: {path}")
        if not any(file for pattern in _OURS for file in run.path.glob(pattern)):
            raise RunDirectoryError(f"{path} holds no run: expected events.jsonl or run.json in it")
        return run

    @property
    def log(self) -> Path:
        """The log of a run of one process."""
        return self.path / "events.jsonl"

    def shard(self, rank: int) -> Path:
        """Return the log of one of several processes."""
        return self.path / f"events-rank{rank}.jsonl"

    @property
    def info(self) -> Path:
        """What is known beside the events."""
        return self.path / "run.json"

    @property
    def policy(self) -> Path:
        """The learnt policy."""
        return self.path / "policy.pt"

    def write_info(self, info: RunInfo) -> None:
        """Replace run.json; whoever reads sees the old one or the new one, also after a crash.

        Raises:
            OSError: it cannot be written; the old one is still there.
        """
        handle, name = tempfile.mkstemp(dir=self.path, prefix=".run-", suffix=".json")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(strict_json(info) + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(self.info)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def read_info(self) -> RunInfo | None:
        """Return what run.json says; None when there is none, as beside a log that another program wrote.

        Raises:
            RunInfoError: it does not say what it should; the message names file and field.
            OSError: it cannot be read.
        """
        try:
            text = self.info.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise RunInfoError(f"{self.info}: not UTF-8: {error.reason} at byte {error.start}") from None
        return parse_run_info(text, str(self.info))
