"""The directory of a run: what its files are called, and what is refused before a run begins.

::

    events.jsonl         the log; events-rank0.jsonl, … when several processes train together
    rejected.jsonl       events that could not be encoded, with the reason
    run.json             what is known beside the events; rewritten whole at every barrier
    checkpoint.pt        what the run goes on from when it is resumed
    policy.pt            the learnt policy
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from esper.leyline.atomic import atomic_write
from esper.leyline.lines import read_small
from esper.leyline.run_info import RunInfo, RunInfoError, parse_run_info
from esper.leyline.strict_json import strict_json

__all__ = ["RunDirectory", "RunDirectoryError", "info_beside"]

_OURS = ("events.jsonl", "events-rank*.jsonl", "rejected*.jsonl", "run.json", "checkpoint.pt", "policy*.pt")


class RunDirectoryError(ValueError):
    """A directory cannot be what it is asked to be; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run's files. Use `create` for a new run and `open` for one that exists."""

    path: Path

    @classmethod
    def local(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Return the run's files without looking at them; ``~`` is the home directory.

        Raises:
            RunDirectoryError: the path is an address of something that is no file system.
        """
        text = os.fspath(path)
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
            raise RunDirectoryError(f"{text} is no local path: write to a directory, and copy it there afterwards")
        return cls(Path(text).expanduser())

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, rank: int | None = None) -> RunDirectory:
        """Make a directory for a new run; one that exists is taken when it holds no run.

        Args:
            path: the directory; ``~`` is the home directory.
            rank: number of this process where several share the directory: the files of the others are no obstacle.

        Raises:
            RunDirectoryError: it holds a run already, is no directory, or cannot be written.
        """
        run = cls.local(path)
        ours = (
            _OURS
            if rank is None
            else (run.shard(rank).name, *(["run.json", "checkpoint.pt", "policy.pt"] if rank == 0 else []))
        )
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            occupied = sorted(file.name for pattern in ours for file in run.path.glob(pattern))
            with tempfile.TemporaryFile(dir=run.path):
                pass
        except (FileExistsError, NotADirectoryError):
            raise RunDirectoryError(f"{path} cannot be a run directory: there is a file of that name") from None
        except OSError as error:
            raise RunDirectoryError(f"{path} cannot be written: {error.strerror}") from None
        if occupied:
            raise RunDirectoryError(
                f"{path} holds a run already ({', '.join(occupied)}); choose another directory, "
                "or go on with that run: esper train --resume, in Python open_run(…, resume=True)"
            )
        return run

    @classmethod
    def create_numbered(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Make a directory that did not exist: of this name, or with ``-2``, ``-3``, … behind it.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        wanted = cls.local(path).path
        name, number = wanted, 1
        while True:
            try:
                name.parent.mkdir(parents=True, exist_ok=True)
                name.mkdir()
            except FileExistsError:
                number += 1
                name = wanted.with_name(f"{wanted.name}-{number}")
            except OSError as error:
                raise RunDirectoryError(f"{name} cannot be written: {error.strerror}") from None
            else:
                return cls.create(name)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Take the directory of a run that was begun.

        Raises:
            RunDirectoryError: there is no such directory, or no run in it.
        """
        run = cls.local(path)
        if not run.path.is_dir():
            raise RunDirectoryError(f"no such run: {path}")
        if not any(file for pattern in _OURS for file in run.path.glob(pattern)):
            below = any(file for pattern in _OURS for file in run.path.glob(f"*/{pattern}"))
            hint = f"; esper runs {path} lists those below it" if below else ""
            raise RunDirectoryError(f"{path} holds no run: expected events.jsonl or run.json in it{hint}")
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
    def checkpoint(self) -> Path:
        """What the run goes on from when it is resumed."""
        return self.path / "checkpoint.pt"

    @property
    def policy(self) -> Path:
        """The learnt policy."""
        return self.path / "policy.pt"

    def policy_of(self, group_id: str) -> Path:
        """Return the policy of one arm of a comparison; ``policy.pt`` is that of the first."""
        return self.path / f"policy-{group_id}.pt"

    def write_info(self, info: RunInfo) -> None:
        """Replace run.json; whoever reads sees the old one or the new one, also after a crash.

        Raises:
            OSError: it cannot be written; the old one is still there.
        """
        with atomic_write(self.info) as file:
            file.write((strict_json(info) + "\n").encode("utf-8", "backslashreplace"))

    def read_info(self) -> RunInfo | None:
        """Return what run.json says; None when there is none, as beside a log that another program wrote.

        Raises:
            RunInfoError: it does not say what it should; the message names file and field.
            OSError: it cannot be read.
        """
        try:
            text = read_small(self.info).decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise RunInfoError(f"{self.info}: not UTF-8: {error.reason} at byte {error.start}") from None
        return parse_run_info(text, str(self.info))


def info_beside(log: Path) -> tuple[RunInfo | None, str]:
    """Return what run.json in the directory of a log says; where it says nothing, None and why.

    It is optional to every reader: nothing about it ends one.

    Args:
        log: a log, or the run directory itself.
    """
    directory = RunDirectory(log if log.is_dir() else log.parent)
    try:
        info = directory.read_info()
    except (RunInfoError, OSError) as error:
        return None, str(error)
    return info, "" if info else f"there is no run.json in {directory.path}"
