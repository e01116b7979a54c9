"""CONTRIBUTING says of the rooms what the import linter holds, and no file is too long to be read in one sitting."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "esper"
LONGEST = 400
"""Lines of a file."""
LONGER = {"leyline/telemetry.py"}
"""The contract, whose fields' meanings are most of it."""


def table() -> dict[str, str]:
    """What CONTRIBUTING says a room may import, from the bottom up."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = page.partition("\n| room |")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", rooms, re.MULTILINE))


def held() -> dict[str, set[str]]:
    """What the import linter lets a room import, from the bottom up."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    below: set[str] = set()
    found: dict[str, set[str]] = {}
    for layer in reversed(layers):
        rooms = [room.strip().removeprefix("esper.") for room in layer.split("|")]
        found |= {room: set(below) for room in rooms}
        below |= set(rooms)
    for each in contracts:
        for room in each["source_modules"] if each["type"] == "forbidden" else ():
            if room.removeprefix("esper.") in found:
                found[room.removeprefix("esper.")] -= {
                    name.removeprefix("esper.") for name in each["forbidden_modules"]
                }
    return found


def test_every_room_stands_in_the_table_and_what_is_no_room_does_not() -> None:
    rooms = {path.stem for path in SOURCE.iterdir() if not path.name.startswith("_") and path.suffix in {"", ".py"}}
    assert set(table()) == rooms == set(held())


def test_the_table_says_what_the_import_linter_holds() -> None:
    below: set[str] = set()
    for room, says in table().items():
        named = below if says == "all of the above" else set(re.findall(r"`(\w+)`", says))
        assert named == held()[room], room
        below = below | {room}


def test_no_file_is_too_long_to_be_read_in_one_sitting() -> None:
    lines = {str(file.relative_to(SOURCE)): len(file.read_text().splitlines()) for file in SOURCE.rglob("*.py")}
    assert {name for name, count in lines.items() if count > LONGEST} <= LONGER
