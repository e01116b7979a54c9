"""A damaged file is read, or refused by its parser's documented error in one line that names it; nothing else."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.mutations import FILES, meet

pytestmark = pytest.mark.no_cover  # what it runs has tests of its own, and the tracer would take a third of the time


@pytest.mark.parametrize("name", FILES)
def test_only_the_documented_error_leaves_the_parser_of(name: str) -> None:
    meet(FILES[name], 1_000)  # raises where a promise is broken; make soak damages each a hundred thousand times


ODD: list[Any] = [None, "x", 10**30, [[]]]


@pytest.mark.parametrize("name", ["policy.pt", "checkpoint.pt"])
def test_a_saved_file_with_a_value_of_another_kind_is_read_or_refused_by_name(tmp_path: Path, name: str) -> None:
    damaged, path = FILES[name], tmp_path / name
    whole = torch.load(BytesIO(damaged.whole), weights_only=True)
    for key, odd in [(key, odd) for key in [*whole, *whole["config"]] for odd in ODD]:
        content = {**whole, key: odd} if key in whole else {**whole, "config": {**whole["config"], key: odd}}
        torch.save(content, path)
        try:
            damaged.read(path)
        except ValueError as error:
            said = str(error)
        else:
            continue
        assert str(path) in said, said
        assert "\n" not in said
