"""Make docs/rooms.svg: esper's rooms and who may import whom, as the import linter's contract in pyproject.toml says.

python docs/picture_rooms.py [-o docs/rooms.svg]
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import argparse
import tomllib
from html import escape
from pathlib import Path

WIDTH, BOX_HEIGHT, GAP, MARGIN = 880, 56, 26, 20
INK, PAPER, GREY = "#22313f", "#ffffff", "#6b7c8c"
STYLE = f"""
text {{ font: 12px system-ui, sans-serif; fill: {INK}; text-anchor: middle; }}
.room {{ font-weight: 600; font-size: 14px; }} .caption {{ fill: {GREY}; }}
path {{ fill: none; stroke: {GREY}; stroke-width: 1.4; }}
"""
CAPTIONS = {
    "cli": "the command esper",
    "commands": "one module a command",
    "integrations": "other people's trainers",
    "karn": "folds events; views and verdict",
    "simic": "environment, reward, PPO",
    "kasmina": "host and seed slots",
    "tamiyo": "the policy",
    "nissa": "the hub and its sinks",
    "leyline": "the contract: payloads, event, wire, position, rules",
}


HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    f'<path d="M0 0 L8 4 L0 8 z" style="fill: {GREY}; stroke: none"/></marker>'
)


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default=Path(__file__).with_name("rooms.svg"), type=Path)
    output: Path = parser.parse_args().output
    output.write_text(draw(), encoding="utf-8")
    print(output)  # noqa: T201 - a command


def layers() -> list[list[str]]:
    """Return the rooms from top to bottom, those of one layer side by side, as the linter holds them."""
    settings = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (each for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    return [[room.strip().removeprefix("esper.") for room in layer.split("|")] for layer in contract["layers"]]


def draw() -> str:
    """Return the picture as SVG."""
    stack = layers()
    height = MARGIN + len(stack) * (BOX_HEIGHT + GAP) - GAP + MARGIN
    parts = [part for row, rooms in enumerate(stack) for part in layer(row, rooms, last=row == len(stack) - 1)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
            "<title>Who may import whom: each layer those below it, never one above or beside it</title>",
            f"<style>{STYLE}</style><defs>{HEAD}</defs>",
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{PAPER}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def layer(row: int, rooms: list[str], *, last: bool) -> list[str]:
    """Return the boxes of one layer, and the arrow to the next."""
    top = MARGIN + row * (BOX_HEIGHT + GAP)
    width = (WIDTH - 2 * MARGIN - (len(rooms) - 1) * GAP) / len(rooms)
    parts = []
    for column, room in enumerate(rooms):
        left = MARGIN + column * (width + GAP)
        middle = left + width / 2
        box = f'x="{left:g}" y="{top}" width="{width:g}" height="{BOX_HEIGHT}" rx="9"'
        parts += [
            f'<rect {box} fill="{PAPER}" stroke="{INK}" stroke-width="1.6"/>',
            f'<text class="room" x="{middle:g}" y="{top + 24}">{escape(room)}</text>',
            f'<text class="caption" x="{middle:g}" y="{top + 42}">{escape(CAPTIONS[room])}</text>',
        ]
    if not last:
        parts.append(f'<path d="M{WIDTH / 2:g} {top + BOX_HEIGHT} v{GAP - 2}" marker-end="url(#head)"/>')
    return parts


if __name__ == "__main__":
    main()
