"""Make docs/seed-life.svg: the stages of a seed's life, its transitions as `esper.leyline.stages` allows them.

python docs/picture_seed_life.py [-o docs/seed-life.svg]
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import argparse
from html import escape
from itertools import pairwise
from pathlib import Path

from esper.kasmina.schedules import AlphaSchedule
from esper.leyline.actions import AlphaCurve, Op
from esper.leyline.stages import NEXT_STAGES, SeedStage

BOX_WIDTH, BOX_HEIGHT, GAP, MARGIN = 122, 58, 74, 24
ROWS = {"alpha": 40, "life": 132, "way back": 286}
CAPTIONS = {
    SeedStage.DORMANT: "the slot is empty",
    SeedStage.GERMINATED: "built, untrained",
    SeedStage.TRAINING: "learns at alpha 0",
    SeedStage.BLENDING: "alpha rises",
    SeedStage.HOLDING: "at its target",
    SeedStage.FOSSILIZED: "kept for good",
    SeedStage.PRUNED: "removed",
    SeedStage.EMBARGOED: "the slot rests",
}
OPS = {
    SeedStage.GERMINATED: Op.GERMINATE,
    SeedStage.BLENDING: Op.ADVANCE,
    SeedStage.FOSSILIZED: Op.FOSSILIZE,
    SeedStage.PRUNED: Op.PRUNE,
}
"""The op of the policy that leads to a stage; every other stage is entered without one."""
COLOURS = {SeedStage.FOSSILIZED: "#2f7d4f", SeedStage.PRUNED: "#b3402e", SeedStage.EMBARGOED: "#b3402e"}
INK, PAPER, GREY = "#22313f", "#ffffff", "#6b7c8c"
STYLE = f"""
text {{ font: 12px system-ui, sans-serif; fill: {INK}; text-anchor: middle; }}
.stage {{ font-weight: 600; }} .caption, .note {{ fill: {GREY}; }} .op {{ font-size: 11px; }}
.left {{ text-anchor: start; }} .right {{ text-anchor: end; }}
path {{ fill: none; stroke: {INK}; stroke-width: 1.4; }}
.itself {{ stroke-dasharray: 5 4; }} .alpha {{ stroke-width: 2.5; }}
"""


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default=Path(__file__).with_name("seed-life.svg"), type=Path)
    output: Path = parser.parse_args().output
    output.write_text(draw(), encoding="utf-8")
    print(output)  # noqa: T201 - a command


def draw() -> str:
    """Return the picture as SVG; `ValueError` when the stages no longer form one line of life and one way back."""
    life = line(SeedStage.DORMANT)
    places = {stage: (column, ROWS["life"]) for column, stage in enumerate(life)}
    # a seed is pruned below the middle of its life, and what follows leads back below its beginning
    pruned, embargoed = line(SeedStage.PRUNED, SeedStage.DORMANT)
    places |= {pruned: (len(life) // 2, ROWS["way back"]), embargoed: (0, ROWS["way back"])}
    parts = [arrow(places, stage, after) for stage in SeedStage for after in SeedStage if after in NEXT_STAGES[stage]]
    parts += [box(stage, *places[stage]) for stage in SeedStage]
    parts += alpha(places)
    width = left(len(life) - 1) + BOX_WIDTH + MARGIN
    height = ROWS["way back"] + BOX_HEIGHT + MARGIN
    legend = left(4), ROWS["way back"] + 20
    parts += [
        f'<path d="M{legend[0]} {legend[1]} h40" marker-end="url(#head)"/>',
        text(legend[0] + 52, legend[1] + 4, "an op that the policy chose", "left"),
        f'<path class="itself" d="M{legend[0]} {legend[1] + 24} h40" marker-end="url(#head)"/>',
        text(legend[0] + 52, legend[1] + 28, "happens by itself", "left"),
    ]
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" style="fill: {INK}; stroke: none"/></marker>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{escape('A seed’s life: ' + ', '.join(stage.name for stage in life))}</title>",
            f"<style>{STYLE}</style><defs>{head}</defs>",
            f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def line(stage: SeedStage, end: SeedStage | None = None) -> list[SeedStage]:
    """Return the stages from one on, each with a single one after it besides PRUNED, up to ``end`` or the last."""
    stages = [stage]
    while after := NEXT_STAGES[stage] - {SeedStage.PRUNED, end}:
        (stage,) = after
        stages.append(stage)
    return stages


def left(column: int) -> int:
    """Return where a column begins."""
    return MARGIN + column * (BOX_WIDTH + GAP)


def text(x: float, y: float, words: str, kind: str) -> str:
    """Return a text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def box(stage: SeedStage, column: int, top: int) -> str:
    """Return a stage with its caption."""
    middle = left(column) + BOX_WIDTH / 2
    rect = (
        f'<rect x="{left(column)}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="9" fill="{PAPER}" '
        f'stroke="{COLOURS.get(stage, INK)}" stroke-width="2"/>'
    )
    return rect + text(middle, top + 25, stage.name, "stage") + text(middle, top + 43, CAPTIONS[stage], "caption")


def arrow(places: dict[SeedStage, tuple[int, int]], start: SeedStage, end: SeedStage) -> str:
    """Return a transition, with the op that asks for it where one does."""
    (column, top), (to_column, to_top) = places[start], places[end]
    x, to_x = left(column) + BOX_WIDTH / 2, left(to_column) + BOX_WIDTH / 2
    label = ""
    if top == to_top:
        side = 1 if to_column > column else -1
        y = top + BOX_HEIGHT / 2
        path = f"M{x + side * BOX_WIDTH / 2:g} {y:g} H{to_x - side * (BOX_WIDTH / 2 + 2):g}"
        label = text((x + to_x) / 2, y - 8, OPS[end].name, "op") if end in OPS else ""
    elif to_top > top:
        to_x += 14 * (column - to_column)
        half = (top + BOX_HEIGHT + to_top) / 2
        path = f"M{x:g} {top + BOX_HEIGHT} C{x:g} {half:g} {to_x:g} {half:g} {to_x:g} {to_top - 2}"
        label = text(x + 8, half, OPS[end].name, "op left") if end in OPS and column == to_column else ""
    else:
        path = f"M{x:g} {top} V{to_top + BOX_HEIGHT + 2}"
    return f'<path class="{"op" if end in OPS else "itself"}" d="{path}" marker-end="url(#head)"/>{label}'


def alpha(places: dict[SeedStage, tuple[int, int]]) -> list[str]:
    """Return alpha over the stages in which there is a seed."""
    base, rise, steps = ROWS["alpha"] + 62, 52, 24
    schedule = AlphaSchedule(1.0, steps, AlphaCurve.SIGMOID)
    start, blending = left(places[SeedStage.GERMINATED][0]), left(places[SeedStage.BLENDING][0])
    end = left(places[SeedStage.FOSSILIZED][0]) + BOX_WIDTH
    points = [
        (start, base),
        *((blending + BOX_WIDTH * n / steps, base - rise * schedule.alpha(n)) for n in range(steps)),
    ]
    points += [(blending + BOX_WIDTH, base - rise), (end, base - rise)]
    curve = " ".join(f"L{x:.1f} {y:.1f}" for _, (x, y) in pairwise(points))
    return [
        f'<path class="alpha" d="M{start} {base} {curve}"/>',
        text(start - 8, base + 4, "alpha 0", "note right"),
        text(end, base - rise - 8, "alpha at its target", "note right"),
    ]


if __name__ == "__main__":
    main()
