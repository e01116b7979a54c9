"""Several processes that train one policy, under ``torchrun``: who plays what, and how they tell each other.

Every rank plays its environments, all get what all played, and each makes the same update: no gradient is reduced, and
the policy is, to the last bit, that of one process. What is exchanged lies on the CPU: gloo carries it everywhere.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from torch import Tensor

__all__ = ["ALONE", "RankLostError", "Ranks", "torchrun", "wait_for_directory"]

T = TypeVar("T")

_LONGEST_WAIT = timedelta(minutes=30)
"""For the slowest rank's batch; one that has ended is noticed at once."""
_LONGEST_REASON = 100
"""Characters of torch's."""
_LATE = 60.0
"""Seconds that a directory which another machine made may take to be seen on this one."""


class RankLostError(RuntimeError):
    """Another process of the run has failed, or is gone; the message says which, as far as that is known."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a rank sends instead of what the others wait for."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    """Global index. Unit: index; 0 to world_size - 1."""
    world_size: int = 1
    """How many there are. Unit: processes; 1 or more."""
    local_rank: int = 0
    """Index on its own machine. Unit: index; 0 or more."""

    @property
    def leads(self) -> bool:
        """Whether this process does what only one may do."""
        return self.rank == 0

    def share(self, n_envs: int) -> range:
        """Return which of a batch's environments this process plays."""
        return range(self.rank, n_envs, self.world_size)

    def check(self, n_envs: int) -> None:
        """Make sure that every process has something to play.

        Raises:
            ValueError: one has not.
        """
        if n_envs < self.world_size:
            raise ValueError(
                f"{self.world_size} processes need at least as many environments, got envs {n_envs}: "
                "ask for more of these, or start fewer of those"
            )

    def gather(self, value: T) -> list[T]:
        """Give every rank the value of every rank, in their order; all have to call this equally often.

        Raises:
            RankLostError: another one has failed, or is gone.
        """
        if self.world_size == 1:
            return [value]
        gathered: list[object] = [None] * self.world_size
        failures: list[Exception] = []

        def exchange() -> None:
            try:
                dist.all_gather_object(gathered, value)
            except Exception as error:  # noqa: BLE001 - torch's are many; each means the same
                failures.append(error)

        thread = threading.Thread(target=exchange, name="esper-gather", daemon=True)
        thread.start()
        thread.join()  # unlike torch's own wait it lets a signal through
        if failures:
            raise _lost("another process of the run has ended without a word") from failures[0]
        for rank, each in enumerate(gathered):
            if isinstance(each, _Failure):
                raise _lost(f"rank {rank} failed: {each.reason}")
        return cast("list[T]", gathered)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Let the others know when an error ends what is inside, and wait until they do."""
        try:
            yield
        except RankLostError:
            raise
        except Exception as error:
            if self.world_size > 1:
                with suppress(RankLostError):
                    self.gather(_Failure(f"{type(error).__name__}: {error}"))
            raise

    def first(self, work: Callable[[], T]) -> T:
        """Let rank 0 do something, and give every rank what it returned.

        Raises:
            ValueError: what rank 0 raised, there. Elsewhere `SystemExit` with 2: one message is enough.
            OSError: as above.
        """
        if self.world_size == 1:
            return work()
        done: T | None = None
        problem: ValueError | OSError | None = None
        if self.leads:
            try:
                done = work()
            except (ValueError, OSError) as error:
                problem = error
        done, failed = self.gather((done, problem is not None))[0]
        if failed:
            self._end(problem)
        return cast("T", done)

    def all_can(self, check: Callable[[], object]) -> None:
        """Let every rank check something, and end all of them where one cannot go on.

        Raises:
            ValueError: on rank 0, with what was wrong, and where. Elsewhere `SystemExit` with 2.
        """
        if self.world_size == 1:
            check()
            return
        problem = None
        try:
            check()
        except (ValueError, OSError, ImportError) as error:
            problem = str(error)
        problems = self.gather(problem)
        for rank, each in enumerate(problems):
            if each is not None:
                everywhere = problems == [each] * self.world_size
                self._end(ValueError(each if everywhere else f"on rank {rank}: {each}"))

    def agree_on(self, weights: Iterable[Tensor], when: str) -> None:
        """Make sure that every rank has the same weights, as they do where all compute alike.

        Raises:
            FloatingPointError: they differ.
        """
        if self.world_size == 1:
            return
        digest = hashlib.sha256()
        for weight in weights:
            digest.update(weight.detach().cpu().numpy().tobytes())
        digests = self.gather(digest.hexdigest())
        odd = [str(rank) for rank, each in enumerate(digests) if each != digests[0]]
        if odd:
            raise FloatingPointError(
                f"the weights of rank {', '.join(odd)} differ from those of rank 0 {when}: the machines must have the "
                "same processors, devices and versions of torch"
            )

    def hear_one_signal(self) -> None:
        """Ignore further signals, where torchrun sends several at once: it kills what takes too long to end."""
        if self.world_size > 1:
            _ignore_signals()

    def outlast_the_first(self) -> None:
        """Wait, on any rank but 0, until rank 0 has ended, whom torchrun would otherwise end with this process."""
        if not self.leads:
            with suppress(RankLostError):
                self.gather(None)

    def _end(self, problem: Exception | None) -> None:
        if self.leads:
            assert problem is not None
            raise problem
        self.outlast_the_first()
        raise SystemExit(2)


ALONE = Ranks()
"""A process on its own."""


@contextmanager
def torchrun() -> Iterator[Ranks]:
    """Meet the other processes that ``torchrun`` has started; without it, or with one only, there is nobody to meet.

    Raises:
        ValueError: they cannot be reached; the message is one sentence.
    """
    rank, world_size, local_rank = (_number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if world_size <= 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())  # what "cuda" means here
    try:
        dist.init_process_group("gloo", timeout=_LONGEST_WAIT)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"rank {rank} cannot reach the other processes: {str(error).splitlines()[0][:_LONGEST_REASON]}"
        ) from error
    yield Ranks(rank, world_size, local_rank)
    dist.destroy_process_group()  # not after an error: somebody may still wait


def wait_for_directory(path: Path, seconds: float = _LATE) -> None:
    """Wait until a directory that rank 0 has made is seen here, which on a network file system takes a while.

    Raises:
        ValueError: it is not seen in that time.
    """
    deadline = time.monotonic() + seconds
    while not path.is_dir():
        if time.monotonic() > deadline:
            raise ValueError(f"{path}, which rank 0 has made, is not seen here: all machines must share it")
        with suppress(OSError):
            next(path.parent.iterdir(), None)  # some file systems look anew only when the parent is listed
        time.sleep(0.1)


def _lost(message: str) -> RankLostError:
    _ignore_signals()  # torchrun is about to end this process, too, which is ending anyway and knows better why
    return RankLostError(message)


def _ignore_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _number(name: str) -> int:
    text = os.environ[name] if name in os.environ else ""
    return int(text) if text.isdecimal() else 0
