"""Files that torch saved, read as data: no code in them is run, and whatever is wrong with one names it."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch

from esper.leyline.printable import printable
from esper.leyline.run_info import RunInfoError, checked_record
from esper.simic.config import TrainingConfig

__all__ = ["load_saved", "named", "saved_config"]


def load_saved(path: str | os.PathLike[str], what: str) -> Mapping[str, Any]:
    """Return what a file holds, on the CPU.

    Args:
        path: the file.
        what: it should be, for the message.

    Raises:
        OSError: it cannot be read, or is no ordinary file.
        ValueError: torch cannot read it, or it holds something else than a mapping.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a str will do
        raise ValueError(f"{path} is no ordinary file")
    with open(path, "rb") as file, warnings.catch_warnings():  # noqa: PTH123 - as above
        warnings.simplefilter("ignore")  # about what somebody has made of it
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{path} is no {what}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no {what}")  # noqa: TRY004 - the file's fault, as above
    return content


@contextmanager
def named(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turn whatever is wrong with the content of a file into one sentence about it.

    Raises:
        ValueError: something was.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {printable(f'{error}'[:300])}") from error
    except Exception as error:
        raise ValueError(f"{path} was written by another version of esper, or is no {what}") from error


def saved_config(content: Mapping[str, Any], **changes: Any) -> TrainingConfig:
    """Return the configuration in a file's content, every option of the type that it must have.

    Args:
        content: of the file.
        **changes: options that have other values from here on.

    Raises:
        ValueError: an option is not what it should be, or cannot be used here, as when a device is missing.
        KeyError: there is none.
    """
    try:
        return cast("TrainingConfig", checked_record(TrainingConfig, {**content["config"], **changes}, "config."))
    except RunInfoError as error:
        raise ValueError(f"it was written by another version of esper: {error}") from error
