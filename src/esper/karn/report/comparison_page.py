"""A comparison as one HTML page of a few kilobytes: drawn as SVG, no script, and nothing asked of the network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from esper.karn.comparison.results import ArmResult, Comparison, Curve
from esper.karn.comparison.tables import CURVES, TextTable, answers, arms_table, curve_of, curve_table, heading, tables
from esper.karn.formatting import number, tidy
from esper.karn.report.decimation import ticks
from esper.karn.report.markup import check_target, document, escaped
from esper.karn.report.plot import DASHES_DRAWN, colour_of, dash_of
from esper.leyline.atomic import atomic_write

__all__ = ["write_page"]

_SECURITY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 42
_PLACES: Final = 5
_TICKS: Final = 6


def write_page(comparison: Comparison, output: str | os.PathLike[str]) -> Path:
    """Write the page, whole or not at all, and return where it is.

    Raises:
        OSError: it cannot be written.
    """
    check_target(output, "compare.html")
    with atomic_write(output) as file:
        file.write(_page(comparison).encode("utf-8", "backslashreplace"))
    return Path(output)


def _page(comparison: Comparison) -> str:
    names = " · ".join(arm.name for arm in comparison.arms)
    style = files("esper.karn.report").joinpath("comparison.css").read_text(encoding="utf-8")
    sections = [*_sections(comparison)]
    body = f"""<header>
<h1>{escaped(names)}</h1>
<p class="quiet">{escaped(heading(comparison))}.</p>
{_answers(comparison)}
</header>
<main>
{"".join(sections)}
</main>"""
    return document(f"{tidy(names)} · esper compare", style=style, policy=_SECURITY, body=body)


def _answers(comparison: Comparison) -> str:
    return "\n".join(
        f'<p class="answer">{escaped(sentence)}</p>\n<p class="quiet">{escaped(improvement)}</p>'
        for sentence, improvement in answers(comparison)
    )


def _sections(comparison: Comparison) -> Iterator[str]:
    yield _section(
        "Arms", "Runs that differ by the seed alone are one arm.", [_table(arms_table(comparison), titled=False)]
    )
    drawn = [_figure(comparison, name) for name in CURVES if curve_table(comparison, name, _PLACES) is not None]
    if drawn:
        says = "By episodes completed: the mean over the runs of an arm, and its 95 % bootstrap interval as a band."
        yield _section("How did it go?", says, [f'<div class="curves">{"".join(drawn)}</div>'])
    made = list(tables(comparison))
    measures = [table for table in made if table.optional]
    says = (
        "Final is the mean over the last tenth of the batches, best the best batch; IQM the interquartile mean. "
        "Intervals are percentile bootstraps over runs, which are too narrow for few of them."
    )
    if measures:
        yield _section("What came out?", says, [f'<div class="curves">{"".join(map(_table, measures))}</div>'])
    for table in made:
        if not table.optional:
            yield _section(table.title, "", [_table(table, titled=False)])


def _section(title: str, says: str, parts: Sequence[str]) -> str:
    below = f'<p class="quiet">{escaped(says)}</p>\n' if says else ""
    return f"<section>\n<h2>{escaped(title)}</h2>\n{below}" + "\n".join(parts) + "\n</section>\n"


def _table(table: TextTable, *, titled: bool = True) -> str:
    title = f"<h3>{escaped(table.title)}</h3>" if titled else ""
    kinds = ["" if at in table.words else ' class="number"' for at in range(len(table.head))]
    head = "".join(f'<th scope="col"{kind}>{escaped(cell)}</th>' for cell, kind in zip(table.head, kinds, strict=True))
    rows = "\n".join(
        f'<tr><th scope="row">{escaped(row[0])}</th>'
        + "".join(f"<td{kind}>{escaped(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div>{title}<div class="box" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>\n'
        f"{rows}\n</tbody></table></div></div>\n"
    )


# ── curves ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _figure(comparison: Comparison, name: str) -> str:
    arms = [(at, arm) for at, arm in enumerate(comparison.arms) if curve_of(arm, name).episodes]
    curves = [curve_of(arm, name) for _, arm in arms]
    title = CURVES[name].name
    key = " ".join(f"<span>{_stroke(at)} {escaped(_full_name(arm))}</span>" for at, arm in arms)
    table = curve_table(comparison, name, _PLACES)
    points = "" if table is None else f"<details><summary>Points</summary>{_table(table, titled=False)}</details>"
    return (
        f'<figure><figcaption>{escaped(title[0].upper() + title[1:])}</figcaption><p class="key">{key}</p>'
        f"{_plot(arms, curves, name)}{points}</figure>"
    )


def _full_name(arm: ArmResult) -> str:
    return f"{arm.key} {arm.label}".strip()


def _stroke(at: int) -> str:
    return f'<svg aria-hidden="true"><line x1="0" y1="5" x2="36" y2="5" {_line(at)}/></svg>'


def _line(at: int) -> str:
    dashes = DASHES_DRAWN[dash_of(at)]
    return f'stroke="{colour_of(at)}" stroke-width="2.5" fill="none" stroke-dasharray="{dashes}"'


def _plot(arms: Sequence[tuple[int, ArmResult]], curves: Sequence[Curve], name: str) -> str:
    first, last = min(c.episodes[0] for c in curves), max(c.episodes[-1] for c in curves)
    low, high = min(min(c.low) for c in curves), max(max(c.high) for c in curves)
    x_ticks, y_ticks = ticks(first, last, _TICKS), ticks(low, high, _TICKS)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])

    def x(episodes: float) -> str:
        return f"{_LEFT + (episodes - first) / ((last - first) or 1) * (_WIDTH - _LEFT - _RIGHT):.1f}"

    def y(value: float) -> str:
        return f"{_HEIGHT - _BOTTOM - (value - low) / ((high - low) or 1) * (_HEIGHT - _BOTTOM - _TOP):.1f}"

    def points(curve: Curve, values: Sequence[float]) -> str:
        return " ".join(f"{x(at)},{y(value)}" for at, value in zip(curve.episodes, values, strict=True))

    parts = [f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(v)}" y2="{y(v)}"/>' for v in y_ticks]
    parts += [
        f'<text x="{_LEFT - 8}" y="{y(v)}" text-anchor="end" dominant-baseline="middle">{number(v)}</text>'
        for v in y_ticks
    ]
    ground = _HEIGHT - _BOTTOM
    parts += [f'<text x="{x(v)}" y="{ground + 18}" text-anchor="middle">{number(v)}</text>' for v in x_ticks]
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 4}" text-anchor="middle">episodes completed</text>')
    for (at, _), curve in zip(arms, curves, strict=True):
        there, back = points(curve, curve.low), points(curve, curve.high).split(" ")[::-1]
        parts.append(f'<polygon points="{there} {" ".join(back)}" fill="{colour_of(at)}" fill-opacity="0.16"/>')
    for (at, arm), curve in zip(arms, curves, strict=True):
        if len(curve.episodes) == 1:
            parts.append(f'<circle cx="{x(first)}" cy="{y(curve.mean[0])}" r="4" fill="{colour_of(at)}"/>')
        else:
            name_of = f"<title>{escaped(_full_name(arm))}</title>"
            parts.append(f'<polyline points="{points(curve, curve.mean)}" {_line(at)}>{name_of}</polyline>')
    label = escaped(f"{CURVES[name].name} by episodes, {len(arms)} arms")
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
