"""The page: one HTML file that needs nothing else, and says so to the browser."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import count, groupby
from typing import Any

from esper.karn.report.markup import document, escaped
from esper.karn.report.overview import Overview
from esper.karn.report.plot import DASHES_DRAWN, Arm, Fold, Plot, Section, Table, Trace, as_text
from esper.karn.report.screen import first_screen
from esper.karn.report.table_html import table_html

__all__ = ["render"]

# Whatever the page would load from anywhere is refused by the browser, and shows as an error in its console.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


_DIGITS = 8
"""Significant digits of a number that is drawn, and shown when the mouse is over it."""


def render(
    title: str,
    subtitle: str,
    arms: Sequence[Arm],
    overview: Overview,
    sections: Sequence[Section],
    plotly_js: str,
) -> str:
    """Return the page.

    Args:
        title: what it is about, as text.
        subtitle: how much of it there is, as text.
        arms: what is overlaid; a key is shown when there are several.
        overview: what stands on the first screen.
        sections: in reading order.
        plotly_js: the library's source.
    """
    numbered = _Numbered()
    parts = "\n".join(numbered.section(section, f"s{at}") for at, section in enumerate(sections))
    links = " ".join(f'<a href="#s{at}">{escaped(section.short)}</a>' for at, section in enumerate(sections))
    body = f"""<a class="skip" href="#verdict">Skip to the verdict</a>
<header>
<h1>{escaped(as_text(title))}</h1>
<p>{escaped(subtitle)}</p>
</header>
<nav aria-label="Sections"><div><a href="#verdict">Verdict</a> {links}</div>{_key(arms)}</nav>
<main>
{first_screen(overview)}
{parts}
</main>
<script id="plotly" type="text/plain">{_packed(plotly_js)}</script>
<script>{_file("page.js")}</script>"""
    return document(
        f"{as_text(title)} · esper report", style=_file("page.css"), policy=_CONTENT_SECURITY_POLICY, body=body
    )


@lru_cache(maxsize=1)  # of a small run, packing is nearly all that a page costs; the script is the same in every page
def _packed(source: str) -> str:
    """Return a script at a third of its size, so that the page can be sent by mail; the page unpacks it."""
    return base64.b64encode(gzip.compress(source.encode(), mtime=0)).decode()


def _file(name: str) -> str:
    return files("esper.karn.report").joinpath(name).read_text(encoding="utf-8")


def _key(arms: Sequence[Arm]) -> str:
    if len(arms) == 1:
        return ""
    return (
        '<p class="key">'
        + " ".join(f"<span>{_stroke(arm)} {escaped(as_text(arm.label))}</span>" for arm in arms)
        + "</p>"
    )


def _stroke(arm: Arm) -> str:
    return (
        f'<svg width="36" height="10" aria-hidden="true"><line x1="0" y1="5" x2="36" y2="5" stroke="{arm.colour}" '
        f'stroke-width="3" stroke-dasharray="{DASHES_DRAWN[arm.dash]}"/></svg>'
    )


class _Numbered:
    """Turns parts into HTML, each plot with a number of its own."""

    def __init__(self) -> None:
        self._numbers = count()

    def section(self, section: Section, name: str) -> str:
        missing = f'<p class="missing">{escaped(section.missing)}</p>' if section.missing else ""
        return (
            f'<section id="{name}">\n<h2>{escaped(section.title)}</h2>\n<p class="says">{escaped(section.says)}</p>\n'
            + "\n".join([missing, *self._parts(section.parts)])
            + "\n</section>"
        )

    def _parts(self, parts: Sequence[Plot | Table | Fold]) -> list[str]:
        drawn = []
        for small, some in groupby(parts, key=lambda part: isinstance(part, Plot) and part.small):
            texts = list(map(self._part, some))
            drawn += ['<div class="grid">\n' + "\n".join(texts) + "\n</div>"] if small else texts
        return drawn

    def _part(self, part: Plot | Table | Fold) -> str:
        if isinstance(part, Fold):
            inside = "\n".join(self._parts(part.parts))
            return f'<details class="fold"><summary>{escaped(as_text(part.title))}</summary>\n{inside}\n</details>'
        return self._plot(part) if isinstance(part, Plot) else table_html(part)

    def _plot(self, plot: Plot) -> str:
        texts: dict[str, int] = {}
        traces = [_drawn(trace, texts) for trace in plot.traces]
        spec = {
            "data": traces,
            "layout": _short(plot.layout),
            "linked": plot.linked,
            "small": plot.small,
            "texts": [*texts],
        }
        # "<" never stands in the JSON, so that no text in it can end the script element.
        drawn = json.dumps(spec, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        title = escaped(as_text(plot.title))
        caption = f"<details><summary>{title}</summary>{escaped(plot.meaning)}</details>" if plot.meaning else title
        least = f"min-width:{plot.least}px;" if plot.least else ""
        note = f'<p class="note">{escaped(plot.note)}</p>' if plot.note else ""
        trend = f"t{next(self._numbers)}"
        return (
            f'<figure><figcaption>{caption}</figcaption><p class="trend" id="{trend}">{escaped(plot.trend)}</p>'
            f'<div class="box"><div class="plot" style="{least}height:{plot.height}px" role="img" aria-label="{title}" '
            f'aria-describedby="{trend}"><script type="application/json">{drawn}</script></div></div>{note}</figure>'
        )


def _drawn(trace: Trace, texts: dict[str, int]) -> Trace:
    """Return a trace as the page keeps it: texts that stand behind many marks once, numbers no longer than is shown."""
    short: Trace = _short(trace)
    labels = trace["text"] if "text" in trace else None
    if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
        short["text"] = [texts.setdefault(label, len(texts)) for label in labels]
    return short


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list | tuple) else value
