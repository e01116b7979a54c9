"""The page: one HTML file that needs nothing else, and says so to the browser."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib.resources import files

from esper.karn.report.plot import Arm, Plot, Section, Table, as_text
from esper.leyline.printable import printable_lines

__all__ = ["render"]

# Whatever the page would load from anywhere is refused by the browser, and shows as an error in its console.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


_LONGEST_SHORT = 20
"""Characters of a cell that stay on one line."""
_MOST_ROWS = 80
"""Rows of a table that is shown whole; a longer one scrolls."""


def render(
    title: str,
    subtitle: str,
    arms: Sequence[Arm],
    headlines: Sequence[str],
    sections: Sequence[Section],
    plotly_js: str,
) -> str:
    """Return the page.

    Args:
        title: what it is about, as text.
        subtitle: one sentence below it, as text.
        arms: what is overlaid; a key is shown when there are several.
        headlines: what each arm came to, as text.
        sections: in reading order.
        plotly_js: the library's source, inlined once.
    """
    body = "\n".join(_section(section, i) for i, section in enumerate(sections))
    links = " ".join(f'<a href="#s{i}">{_text(section.title)}</a>' for i, section in enumerate(sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_CONTENT_SECURITY_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{_text(as_text(title))} · esper report</title>
<style>{_file("page.css")}</style>
</head>
<body>
<header>
<h1>{_text(as_text(title))}</h1>
{_headlines(arms, headlines)}
<p>{_text(subtitle)}</p>
<nav>{links}</nav>
</header>
<main>
{_key(arms)}
{body}
</main>
<script>{plotly_js}</script>
<script>{_file("page.js")}</script>
</body>
</html>
"""


def _file(name: str) -> str:
    return files("esper.karn.report").joinpath(name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    """Return text as HTML: the one way for any of it into the page."""
    return html.escape(printable_lines(text))


def _headlines(arms: Sequence[Arm], headlines: Sequence[str]) -> str:
    names = [f"<b>{_text(as_text(arm.label))}</b> " if len(arms) > 1 else "" for arm in arms]
    return "\n".join(
        f'<p class="headline">{name}{_text(headline)}</p>' for name, headline in zip(names, headlines, strict=True)
    )


def _key(arms: Sequence[Arm]) -> str:
    if len(arms) == 1:
        return ""
    return (
        '<p class="key">'
        + " ".join(f"<span>{_stroke(arm)} {_text(as_text(arm.label))}</span>" for arm in arms)
        + "</p>"
    )


def _stroke(arm: Arm) -> str:
    dashes = {"solid": "", "dash": "9 5", "dot": "2 4", "dashdot": "9 4 2 4", "longdash": "14 4"}[arm.dash]
    return (
        f'<svg width="36" height="10" aria-hidden="true"><line x1="0" y1="5" x2="36" y2="5" stroke="{arm.colour}" '
        f'stroke-width="3" stroke-dasharray="{dashes}"/></svg>'
    )


def _section(section: Section, index: int) -> str:
    parts, smalls = [], []
    for part in section.parts:
        if isinstance(part, Plot) and part.small:
            smalls.append(_plot(part))
            continue
        if smalls:
            parts.append(_grid(smalls))
            smalls = []
        parts.append(_plot(part) if isinstance(part, Plot) else _table(part))
    if smalls:
        parts.append(_grid(smalls))
    missing = f'<p class="missing">{_text(section.missing)}</p>' if section.missing else ""
    return (
        f'<section id="s{index}">\n<h2>{_text(section.title)}</h2>\n<p class="says">{_text(section.says)}</p>\n'
        + "\n".join([missing, *parts])
        + "\n</section>"
    )


def _grid(plots: Sequence[str]) -> str:
    return '<div class="grid">\n' + "\n".join(plots) + "\n</div>"


def _plot(plot: Plot) -> str:
    spec = {"data": plot.traces, "layout": plot.layout, "linked": plot.linked, "small": plot.small}
    # "<" never stands in the JSON, so that no text in it can end the script element.
    drawn = json.dumps(spec, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    title = _text(as_text(plot.title))
    caption = f"<details><summary>{title}</summary>{_text(plot.meaning)}</details>" if plot.meaning else title
    least = f"min-width:{plot.least}px;" if plot.least else ""
    note = f'<p class="note">{_text(plot.note)}</p>' if plot.note else ""
    return (
        f'<figure><figcaption>{caption}</figcaption><div class="box">'
        f'<div class="plot" style="{least}height:{plot.height}px" role="img" aria-label="{title}">'
        f'<script type="application/json">{drawn}</script></div></div>{note}</figure>'
    )


def _cell(text: str) -> str:
    kind = " class=short" if len(text) <= _LONGEST_SHORT else ""
    return f"<td{kind}>{_text(text)}</td>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(as_text(cell))}</th>' for cell in table.head)
    rows = "\n".join(
        f'<tr{" class=marked" if i in table.marked else ""}><th scope="row">{_text(row[0])}</th>'
        + "".join(_cell(cell) for cell in row[1:])
        + "</tr>"
        for i, row in enumerate(table.rows)
    )
    caption = f'<p class="caption">{_text(as_text(table.caption))}</p>' if table.caption else ""
    kind = "text" if table.text else "numbers"
    long = " long" if len(table.rows) > _MOST_ROWS else ""
    return (
        f'{caption}<div class="box table{long}" tabindex="0"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )
