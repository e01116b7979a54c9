"""The first screen as HTML: it stands there before any script has run."""

from __future__ import annotations

from esper.karn.formatting import number, plural
from esper.karn.report.markup import escaped
from esper.karn.report.overview import ArmOverview, Overview
from esper.karn.report.sketch import draw_cells, draw_sketch
from esper.karn.report.strip import Strip
from esper.karn.report.table_html import table_html
from esper.karn.verdict import Finding, tally_text
from esper.leyline.limits import Status

__all__ = ["first_screen"]

_MOST_ALARMS = 3
"""Findings that are told in full; the section below has all."""
_LEGEND = '<i class="bad"></i>BAD <i class="watch"></i>WATCH <i class="ok"></i>OK'
_MOST_ROWS = 6
"""Rules whose course is drawn."""


def first_screen(overview: Overview) -> str:
    """Return verdicts, returns over health, and what came out and was kept beside them."""
    verdicts = "\n".join(map(_verdict, overview.arms))
    sketch = ""
    if overview.sketch is not None:
        says = f'<p class="trend">{escaped(overview.sketch.says)}</p>'
        sketch = f"<h2>Mean episode return</h2>{says}{draw_sketch(overview.sketch)}"
    strips = "\n".join(map(_strip, overview.arms))
    tables = "\n".join(map(table_html, overview.tables))
    return f"""<section id="verdict" tabindex="-1">
{verdicts}
<div class="split">
<div class="course">
{sketch}
<h2>Health over the run <span class="legend">{_LEGEND}</span></h2>
{strips}
</div>
<div class="came">
{tables}
</div>
</div>
</section>"""


def _verdict(arm: ArmOverview) -> str:
    status = arm.verdict.status
    name = f'<p class="arm">{escaped(arm.label)}</p>' if arm.label else ""
    alarms = arm.verdict.alarms
    told = "".join(_alarm(one, first=at == 0) for at, one in enumerate(alarms[:_MOST_ALARMS]))
    rest = f'<li><a href="#s0">All {number(len(alarms))} findings</a></li>' if len(alarms) > 1 else ""
    reasons = f" <span>{escaped(_sentence('; '.join(arm.learnt.reasons)))}</span>" if arm.learnt.reasons else ""
    tally = tally_text(arm.verdict.findings)
    said = (
        f'<ul class="alarms">{told}{rest}</ul>' if alarms else f'<p class="headline">{escaped(_sentence(arm.said))}</p>'
    )
    return f"""<div class="verdict {status.name.lower()}">
<p class="badge"><span aria-hidden="true">{status.value}</span> {status.name}</p>
<div>{name}{said}
<p class="learnt"><b>Did it learn? {escaped(_sentence(arm.learnt.word))}</b>{reasons} \
<b>Rules:</b> {escaped(tally)}.</p>
<p class="what">{escaped(arm.what)}</p></div>
</div>"""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _alarm(finding: Finding, *, first: bool) -> str:
    """Return what was found and what it has cost since; of the gravest also what to try."""
    since = f" Since then {finding.cost}." if finding.cost else ""
    advice = finding.advice
    why = "" if advice is None or not first else f'<span class="cause"> Usual cause: {escaped(advice.cause)}.</span>'
    remedy = "" if advice is None or not first else f"<span> Try first: {escaped(advice.remedy)}.</span>"
    return (
        f'<li class="{finding.status.name.lower()}"><b>{finding.status.value} {finding.status.name}</b> '
        f"{escaped(_sentence(finding.evidence) + since)}{why}{remedy}</li>"
    )


def _strip(arm: ArmOverview) -> str:
    """Return what the rules say over the run, of those that found something."""
    strip = arm.strip
    if not strip.batches:
        return '<p class="trend">No update and no batch.</p>'
    thing = "update" if strip.of_updates else "batch"
    tripped = strip.tripped
    rows = [_row(arm.label or "any rule", strip, strip.worst, arm.span, "")]
    rows += [
        _row(f"{row.finding.status.value} {row.finding.label}", strip, row.cells, arm.span, row.finding.evidence)
        for row in tripped[:_MOST_ROWS]
    ]
    each = 1 if strip.batches == len(strip.edges) else strip.batches / len(strip.edges)
    width = f"a {thing}" if each == 1 else f"the worst of about {number(each)} {plural(2, thing).split()[1]}"
    others = len(strip.rows) - len(tripped)
    told = (
        f"{plural(others, 'more rule')} found nothing" if tripped else f"None of {number(others)} rules found anything"
    )
    reach = f"All {plural(strip.batches, thing)}, each column {width}. {told}."
    return f"""<ul class="strip">{"".join(rows)}</ul>
<p class="trend">{escaped(reach)}</p>"""


def _row(name: str, strip: Strip, cells: tuple[Status, ...], span: tuple[float, float], says: str) -> str:
    counts = ", ".join(f"{cells.count(status)} {status.name}" for status in (Status.BAD, Status.WATCH, Status.OK))
    spoken = says or f"{counts} of {len(cells)} columns"
    return (
        f'<li title="{escaped(spoken)}"><span class="name">{escaped(name)}</span>{draw_cells(strip.edges, cells, span)}'
        f'<span class="spoken">{escaped(spoken)}</span></li>'
    )
